"""The command line."""

from __future__ import annotations


def run() -> int:
    """Entry point; returns the exit code."""
    return 0
