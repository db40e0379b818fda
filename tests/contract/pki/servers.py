from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def process_server(command: list[str]) -> Iterator[int]:
    """Run a server that says `ACCEPT 127.0.0.1:PORT` once it listens."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := re.match(rb"ACCEPT 127\.0\.0\.1:(\d+)", line):
                    yield int(found[1])
                    break
            else:
                raise AssertionError(f"{command[0]} did not begin to listen")
        finally:
            server.kill()
