"""The access log that HAProxy writes by itself, through a descriptor that it was given: read as it grows, added
to, rotated.

HAProxy never opens the file, so it cannot be moved away under it: at 4 MiB it is copied to `access.1.jsonl` and
emptied, and the next line stands at its beginning (O_APPEND).
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from redlatch.files import explained

MOST: Final = 4 << 20
_PIECE: Final = 1 << 20
_TRIES: Final = 5


class AccessLog:
    """`access.jsonl` in `spool`, open for as long as this is. FileProblem where it cannot be opened."""

    def __init__(self, spool: Path, *, descriptor: int) -> None:
        """`descriptor`: the number that the file is opened as, for HAProxy to inherit under the same one."""
        self.path = spool / "access.jsonl"
        self._before = spool / "access.1.jsonl"
        self.descriptor = descriptor
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with explained("open", self.path):
            opened = os.open(self.path, flags, 0o640)
            try:
                if not stat.S_ISREG(os.fstat(opened).st_mode):
                    raise OSError("not a plain file")
                os.fchmod(opened, 0o640)  # the mode of open(2) is cut by the umask
                os.dup2(opened, descriptor, inheritable=False)
            finally:
                os.close(opened)
        self._offset = 0
        self._rest = b""

    def is_that_of(self, pid: int) -> bool:
        """Whether that process has this very file under this number."""
        try:
            theirs = Path(f"/proc/{pid}/fd/{self.descriptor}").stat()
        except OSError:
            return False
        mine = os.fstat(self.descriptor)
        return (theirs.st_dev, theirs.st_ino) == (mine.st_dev, mine.st_ino)

    def start(self) -> list[bytes]:
        """All lines of both files, oldest first."""
        lines: list[bytes] = []
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(self._before, flags), "rb") as stream:
                lines = stream.read(4 * MOST).splitlines()
        return lines + self.read()

    def read(self) -> list[bytes]:
        """The lines that came since the last call."""
        found = []
        while True:
            try:
                piece = os.pread(self.descriptor, _PIECE, self._offset)
            except OSError:
                break
            self._offset += len(piece)
            whole, newline, rest = (self._rest + piece).rpartition(b"\n")
            self._rest = rest[-_PIECE:]
            if newline:
                found += whole.split(b"\n")
            if len(piece) < _PIECE:
                break
        return found

    def append(self, records: Iterable[dict[str, Any]]) -> None:
        """Adds lines of our own. What cannot be written is forgotten."""
        data = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)
        if data:
            with contextlib.suppress(OSError):
                os.write(self.descriptor, data)

    def rotate(self, most: int = MOST) -> list[bytes]:
        """Begins anew where the file has grown beyond `most` bytes; the lines that `read` has not given yet.

        FileProblem when the copy cannot be written: then it goes on growing up to four times that, and is emptied.
        """
        size = os.fstat(self.descriptor).st_size
        if size < most:
            return []
        lines = self.read()
        try:
            with explained("write", self._before):
                self._copy()
        except BaseException:
            if size >= 4 * most:
                self._empty()
            raise
        lines += self.read()
        self._empty()
        return lines

    def _copy(self) -> None:
        temporary = self._before.with_name(f".{self._before.name}.{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(temporary, flags, 0o640), "wb") as stream:
                os.fchmod(stream.fileno(), 0o640)
                offset = 0
                while piece := os.pread(self.descriptor, _PIECE, offset):
                    stream.write(piece)
                    offset += len(piece)
                stream.flush()
                # What came while the last piece was written: from here to the emptying it is microseconds
                for _ in range(_TRIES):
                    piece = os.pread(self.descriptor, _PIECE, offset)
                    if not piece:
                        break
                    os.write(stream.fileno(), piece)
                    offset += len(piece)
            temporary.replace(self._before)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise

    def _empty(self) -> None:
        os.ftruncate(self.descriptor, 0)
        self._offset, self._rest = 0, b""

    def close(self) -> None:
        """Lets go of it; HAProxy keeps its own."""
        os.close(self.descriptor)
