"""A network of one's own for the duration of a test: addresses that look public, on a loopback that nobody else
sees.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_NEW_NETWORK = 0x40000000  # CLONE_NEWNET; os.unshare is Python 3.12's


def _call(name: str, *arguments: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@contextlib.contextmanager
def own_network(*addresses: str) -> Iterator[None]:
    """This thread, and what it starts, sees nothing but a loopback with 127.0.0.0/8 and `addresses`. Needs
    root.
    """
    before = os.open(Path("/proc/thread-self/ns/net"), os.O_RDONLY)
    try:
        _call("unshare", _NEW_NETWORK)
        try:
            for command in ("link set lo up", *(f"address add {one}/32 dev lo" for one in addresses)):
                subprocess.run(
                    ["ip", *command.split()],
                    check=True,
                    env={"PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
                )
            yield
        finally:
            _call("setns", before, _NEW_NETWORK)
    finally:
        os.close(before)
