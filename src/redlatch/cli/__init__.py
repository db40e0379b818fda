"""The command line: click in front of the operations. Commands are loaded when they are called, not before."""

from __future__ import annotations

from collections.abc import Sequence


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs one command (`arguments` without the program's name, default: this process's). Returns the exit code:

    0 done, 1 it failed, 2 the call itself is at fault, 130 interrupted.
    """
    from redlatch.cli.root import run as run_root

    return run_root(arguments)
