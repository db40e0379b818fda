"""`python -m redlatch`, and the entry point of the `redlatch` command."""

from __future__ import annotations


def main() -> int:
    """Runs the command line; returns its exit code."""
    from redlatch.cli import run

    return run()


if __name__ == "__main__":
    raise SystemExit(main())
