"""Fuzzing of everything that parses a stranger's or an operator's bytes: see README.md."""
