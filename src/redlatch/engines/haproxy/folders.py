"""What HAProxy reads, a folder for each time that it reads it: `1/`, `2/`, ...; `current` is the one that counts.

A new folder is written and tried before `current` points to it, so that a full disk or a bad file leaves all as it
was. Nothing in here is ever believed after a restart: it is made anew from what is published.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from redlatch.engines.haproxy.program import Program
from redlatch.errors import EngineError
from redlatch.files import explained, make_dir, names_in

CONFIG = "haproxy.cfg"


class Folders:
    """The folders in `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.link = root / "current"

    def current(self) -> Path | None:
        """The folder that HAProxy read last."""
        try:
            folder = self.root / self.link.readlink()
        except OSError:
            return None
        return folder if folder.parent == self.root else None

    def next(self) -> Path:
        """The folder to write to; it does not exist yet."""
        numbers = [int(name) for name in names_in(self.root) if name.isascii() and name.isdecimal()]
        return self.root / str(max(numbers, default=0) + 1)

    def write(self, folder: Path, files: Mapping[str, bytes]) -> None:
        """Writes all files into the new folder, or nothing. FileProblem."""
        try:
            make_dir(folder, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            for name, data in files.items():
                path = folder / name
                with explained("write", path), os.fdopen(os.open(path, flags, 0o600), "wb") as stream:
                    stream.write(data)
        except BaseException:
            self.remove(folder)
            raise

    def switch(self, folder: Path) -> None:
        """Has `current` point to the folder. FileProblem."""
        temporary = self.root / ".current"
        with explained("write", self.link):
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            temporary.symlink_to(folder.name)
            temporary.replace(self.link)

    def remove(self, folder: Path) -> None:
        """Removes one; what cannot be removed stays."""
        shutil.rmtree(folder, ignore_errors=True)

    def clear(self) -> None:
        """Removes all of them: nothing reads them any more."""
        with contextlib.suppress(OSError):
            self.link.unlink()
        self.tidy()

    def tidy(self) -> None:
        """Removes all that do not count (any more)."""
        current = self.current()
        for name in names_in(self.root):
            if name.isascii() and name.isdecimal() and (current is None or name != current.name):
                self.remove(self.root / name)


def try_out(program: Program, folder: Path, *, log_fd: int, seconds: float = 120) -> None:
    """Has HAProxy read it all without running. EngineError with its own words where it does not take it."""
    try:
        answer = subprocess.run(
            [program.path, "-c", "-f", folder / CONFIG],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
            pass_fds=(log_fd,),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"haproxy cannot look at its configuration: {error}") from error
    if answer.returncode != 0:
        told = complaint((answer.stderr + answer.stdout).decode("utf-8", "replace"))
        raise EngineError(f"haproxy does not take its configuration: {told}")


def complaint(text: str) -> str:
    """What HAProxy says is wrong, in one line."""
    lines = [line for line in text.splitlines() if "[ALERT]" in line]
    told = "; ".join(line.partition(" : ")[2].strip() or line.strip() for line in lines)
    return told[:500] or (text.strip().splitlines() or ["it does not say why"])[-1][:500]
