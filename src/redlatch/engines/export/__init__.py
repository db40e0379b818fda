"""Configurations for a proxy that somebody already runs: a snapshot as text, which counts once it is loaded.

model    Export: what is written down; checked(export)
tables   what nginx and Caddy ask alike: who may what, as lists of regular expressions
nginx    render(export) -> str
caddy    render(export) -> str
"""
