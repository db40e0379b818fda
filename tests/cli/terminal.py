"""A person at a real terminal (a pty): reads what is shown, types answers, presses ctrl-c."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from typing import Self

from tests.cli.harness import AS_SOMEBODY, Person


class Terminal:
    """One command on a pty of its own (ctrl-c is a signal there). `expect` waits for text; `type` answers."""

    def __init__(self, person: Person, *arguments: str, **environ: str) -> None:
        self.shown = ""
        self._seen = 0
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *AS_SOMEBODY, sys.executable, "-m", "redlatch", *arguments],
            cwd=person.cwd,
            env=person.environ | {"TERM": "xterm"} | environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def expect(self, pattern: str, seconds: float = 60) -> re.Match[str]:
        """The first match in what was not yet expected; AssertionError with all that was shown otherwise."""
        deadline = time.monotonic() + seconds
        while True:
            if found := re.compile(pattern).search(self.shown, self._seen):
                self._seen = found.end()
                return found
            if time.monotonic() > deadline or not self._read(deadline):
                raise AssertionError(f"{pattern!r} was not shown:\n{self.shown}")

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self, seconds: float = 60) -> int:
        """Everything until it ends; the exit code."""
        deadline = time.monotonic() + seconds
        while self._read(deadline):
            pass
        return self.process.wait(max(1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other side is closed
            return False
        self.shown += data.decode(errors="replace").replace("\r\n", "\n")
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)
