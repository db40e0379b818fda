"""The access log: HAProxy writes its lines into a named pipe, and what comes out of it is put into access.jsonl.

Not into the file itself: HAProxy (2.6, 2.8) takes O_APPEND off the descriptor that it is given, and then writes on
at its old place in a file that was emptied. The pipe stays open in HAProxy when this process dies; what is written
meanwhile, up to 1 MiB, waits in it for the next one. What it has no room for HAProxy drops, and counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import stat
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from redlatch.errors import FileProblem
from redlatch.files import explained

MOST: Final = 4 << 20  # bytes; then a new file is begun, and this one is access.1.jsonl
_PIPE: Final = 1 << 20  # what anybody may have (pipe(7), pipe-max-size)
_PIECE: Final = 1 << 16
_KEPT: Final = 16 << 20  # bytes that nobody has asked for yet


class AccessLog:
    """`access.jsonl` in `spool`, and the pipe to it, until `close`. FileProblem where they cannot be opened."""

    def __init__(self, spool: Path, pipe: Path, *, descriptor: int, most: int = MOST) -> None:
        """`descriptor`: the number that the pipe is opened as, for HAProxy to inherit under the same one."""
        self.path = spool / "access.jsonl"
        self.descriptor = descriptor
        self.dropped = 0  # lines that could not be written
        self.problem: str | None = None
        self._before = spool / "access.1.jsonl"
        self._most = most
        self._lock = threading.Lock()
        self._new = bytearray()
        self._file = self._opened()
        self._is_whole = self._ends_whole()
        with explained("open", pipe):
            if not _is_pipe(pipe):
                pipe.unlink(missing_ok=True)
                os.mkfifo(pipe, 0o600)
            # For reading and writing: it never ends, and a line finds a reader whoever lives
            opened = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.dup2(opened, descriptor, inheritable=False)
            os.close(opened)
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
        self._wake, self._end = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._follow, name="access log", daemon=True)

    def is_that_of(self, pid: int) -> bool:
        """Whether that process has this very pipe under this number."""
        try:
            theirs = Path(f"/proc/{pid}/fd/{self.descriptor}").stat()
        except OSError:
            return False
        mine = os.fstat(self.descriptor)
        return (theirs.st_dev, theirs.st_ino) == (mine.st_dev, mine.st_ino)

    def start(self) -> list[bytes]:
        """All lines that are there, oldest first; from now on what comes is written down."""
        lines: list[bytes] = []
        for path in (self._before, self.path):
            with contextlib.suppress(OSError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                with os.fdopen(os.open(path, flags), "rb") as stream:
                    lines += stream.read(4 * MOST).splitlines()
        self._thread.start()
        return lines

    def read(self) -> list[bytes]:
        """The lines that came since the last call, up to this moment."""
        with self._lock:
            self._drain()
            whole, newline, rest = bytes(self._new).rpartition(b"\n")
            self._new = bytearray(rest)
        return whole.split(b"\n") if newline else []

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Adds lines of our own."""
        data = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)
        if data:
            with self._lock:
                self._write(data if self._is_whole else b"\n" + data)

    def close(self) -> None:
        """Ends it; HAProxy keeps its end of the pipe."""
        os.write(self._end, b"x")
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            self._drain()
        for descriptor in (self.descriptor, self._file, self._wake, self._end):
            os.close(descriptor)

    # --- with the lock held, but for the thread's first lines

    def _follow(self) -> None:
        """In a thread of its own, so that a reload of some seconds loses nothing."""
        poll = select.poll()
        poll.register(self.descriptor, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while all(descriptor != self._wake for descriptor, _ in poll.poll()):
            with self._lock:
                self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = os.read(self.descriptor, _PIECE)
            except OSError:  # nothing more
                return
            if len(self._new) < _KEPT:
                self._new += data
            self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            with explained("write", self.path):
                if self._is_whole and os.fstat(self._file).st_size >= self._most:
                    self._rotate()
                left = data[os.write(self._file, data) :]
                if left:
                    left = left[os.write(self._file, left) :]  # says why: the disk is full
        except FileProblem as error:
            self.dropped += data.count(b"\n")
            self.problem = error.message
            self._is_whole = self._ends_whole()
        else:
            self._is_whole = data.endswith(b"\n")
            self.problem = None

    def _rotate(self) -> None:
        self.path.replace(self._before)
        opened = self._opened()
        os.close(self._file)
        self._file = opened

    def _opened(self) -> int:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with explained("open", self.path):
            opened = os.open(self.path, flags, 0o640)
            try:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise OSError("not a plain file")  # noqa: TRY301 - put into words around it
                os.fchmod(opened, 0o640)  # the mode of open(2) is cut by the umask
            except BaseException:
                os.close(opened)
                raise
        return opened

    def _ends_whole(self) -> bool:
        size = os.fstat(self._file).st_size
        return size == 0 or os.pread(self._file, 1, size - 1) == b"\n"


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(path.lstat().st_mode)
    except OSError:
        return False
