"""A network of its own, with addresses that are nobody's: where a stranger from the Internet comes from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")

_HOLDS = 'ip link set lo up; for one; do ip address add "$one" dev lo; done; echo ready; exec cat'


@contextmanager
def elsewhere(*addresses: str) -> Iterator[Sequence[str]]:
    """Yields the command that runs what follows it in a network with 127.0.0.1, `addresses` and no way out."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-ec", _HOLDS, "sh", *addresses],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
    finally:
        holder.communicate(timeout=10)


def starter(command: Sequence[str], program: str, file: Path) -> Path:
    """A `file` that starts `program` there, for who can start one file only."""
    file.write_text(f'#!/bin/sh\nexec {" ".join(command)} {program} "$@"\n')
    file.chmod(0o755)
    return file
