"""A piece of work in a child process, with strace beside it: what it writes, and how a write fails or kills it.

What is counted and made to fail are the system calls themselves, SQLite's too. A power cut is played afterwards,
by what the trace says was never synced: files lose what was not, renames are undone.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redlatch.errors import RedlatchError

STRACE: Final = shutil.which("strace")
_DATA: Final = ("write", "pwrite64", "writev", "pwritev", "ftruncate", "fallocate")
_SYNC: Final = ("fsync", "fdatasync", "sync", "syncfs")
_NAMES: Final = (
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat", "mkdir",
    "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "fchownat", "open", "openat", "creat",
)  # fmt: skip
# The question mark: a machine's kernel need not have all of them (arm64 has no rename).
_TRACED: Final = ",".join(f"?{name}" for name in (*_DATA, *_SYNC, *_NAMES))
_LINE: Final = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (.*)$")
_FD: Final = re.compile(r"^(?:\d+|AT_FDCWD)<(.*?)(?:\(deleted\))?>$")

DONE, REFUSED, BROKEN = 0, 3, 70


@dataclass(frozen=True)
class Call:
    """One system call: the `count`th of its name, with what it names (absolute paths), and its plain arguments."""

    name: str
    count: int
    paths: tuple[str, ...]
    arguments: tuple[str, ...]
    result: str

    @property
    def failed(self) -> bool:
        return self.result.startswith(("-1", "?"))

    @property
    def changes(self) -> bool:
        """Whether it writes, or makes or takes a name; opening what is there does neither."""
        return self.name not in ("open", "openat") or "O_CREAT" in " ".join(self.arguments)

    @property
    def is_data(self) -> bool:
        return self.name in _DATA

    def __str__(self) -> str:
        return f"{self.name} number {self.count} ({', '.join(self.paths)})"


@dataclass(frozen=True)
class Ran:
    """How the child ended (DONE, REFUSED, BROKEN, or minus a signal), and everything it called."""

    ended: int
    calls: tuple[Call, ...]
    said: str

    def below(self, root: Path) -> list[Call]:
        """The calls that change something in `root`."""
        return [one for one in self.calls if one.changes and any(_inside(path, root) for path in one.paths)]


def _inside(path: str, root: Path) -> bool:
    return path == str(root) or path.startswith(f"{root}/")


def run(work: Callable[[], object], logs: Path, inject: Sequence[str] = ()) -> Ran:
    """Does the work in a child. `inject` as strace takes it; `logs`: a folder for what both say."""
    assert STRACE is not None
    trace = logs / "trace"
    trace.unlink(missing_ok=True)
    said = mmap.mmap(-1, 1 << 16)  # no file: writing may be what fails
    child = os.fork()
    if child == 0:
        _child(work, said)
    os.waitpid(child, os.WUNTRACED)
    options = [part for one in inject for part in ("-e", f"inject={one}")]
    command = [STRACE, "-p", str(child), "-y", "-s", "0", "-o", str(trace), "-e", f"trace={_TRACED}", *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as beside:
        assert beside.stderr is not None
        first = beside.stderr.readline()
        if "attached" not in first:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise RuntimeError(f"strace cannot attach: {first}")
        os.kill(child, signal.SIGCONT)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        beside.stderr.read()
    return Ran(status, tuple(calls(trace.read_text(errors="replace"))), _text(said))


def _text(said: mmap.mmap) -> str:
    with said:
        return said[:].rstrip(b"\0").decode(errors="replace")


def _child(work: Callable[[], object], said: mmap.mmap) -> None:
    code = BROKEN
    try:
        sys.dont_write_bytecode = True
        os.kill(os.getpid(), signal.SIGSTOP)
        work()
        code = DONE
    except RedlatchError as error:
        code = REFUSED
        said.write(f"{error.message} ({error.hint})".encode()[: len(said)])
    except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
        said.write(traceback.format_exc().encode()[-len(said) :])
    finally:
        os._exit(code)


def calls(trace: str) -> Iterator[Call]:
    """The calls of a trace, counted as strace counts them for `when`."""
    counts: dict[str, int] = {}
    for line in trace.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name, inside, result = match.groups()
        counts[name] = counts.get(name, 0) + 1
        arguments = tuple(inside.split(", "))
        yield Call(name, counts[name], tuple(_paths(name, arguments)), arguments, result)


def _paths(name: str, arguments: Sequence[str]) -> Iterator[str]:
    """The absolute paths that a call names: a descriptor's, or a name beside the descriptor of its folder."""
    place: str | None = None
    for argument in arguments:
        if match := _FD.match(argument):
            place = match[1]
            if not name.endswith(("at", "at2")):
                yield place
        elif argument.startswith('"') and not name.startswith(("write", "pwrite")):
            path = argument.strip('"')
            yield os.path.normpath(path if place is None or path.startswith("/") else f"{place}/{path}")


# --- what is made to fail, and where


def killed_at(call: Call) -> list[str]:
    """SIGKILL on entering the call, which is not carried out."""
    return [f"{call.name}:error=EIO:signal=SIGKILL:when={call.count}"]


def failing_at(call: Call, error: str) -> list[str]:
    """The call fails once."""
    return [f"{call.name}:error={error}:when={call.count}"]


def full_from(call: Call, ran: Ran) -> list[str]:
    """The disk is full from this call on: nothing more gets on it, until the end of the process."""
    at = next(number for number, one in enumerate(ran.calls) if one is call)
    found = [] if call.is_data else [f"{call.name}:error=ENOSPC:when={call.count}"]
    for name in _DATA:
        later = [one for one in ran.calls[at:] if one.name == name]
        if not later:
            continue
        # what goes to another process takes no room; up to there it is
        pipe = next((one for one in later if any("pipe:" in path for path in one.paths)), None)
        if pipe is None:
            found.append(f"{name}:error=ENOSPC:when={later[0].count}+")
        elif pipe.count > later[0].count:
            found.append(f"{name}:error=ENOSPC:when={later[0].count}..{pipe.count - 1}")
    return found


# --- a power cut


@dataclass
class _File:
    """How much of a file is known to be on the disk, and what was written in place since."""

    synced: int
    size: int
    dirty: bool = False
    was_synced: bool = False
    places: list[tuple[int, int]] = field(default_factory=list)


class PowerCut:
    """What a power cut at the end of a run may take: written, never synced. `before` is a copy of `root` as it was
    when the run began.
    """

    def __init__(self, ran: Ran, root: Path, before: Path) -> None:
        self.root, self.before = root, before
        self.files: dict[str, _File] = {}
        #: Names that came and went since their folder was synced: (what, from, to).
        self.names: list[tuple[str, str, str]] = []
        for call in ran.calls:
            if not call.failed and "INJECTED" not in call.result:
                self._follow(call)

    def _was(self, path: str) -> Path:
        return self.before / Path(path).relative_to(self.root)

    def _file(self, path: str) -> _File:
        if path not in self.files:
            old = self._was(path)
            size = old.stat().st_size if old.is_file() else 0
            self.files[path] = _File(size, size)
        return self.files[path]

    def _follow(self, call: Call) -> None:
        if call.name == "sync":
            self._all_synced()
        if not call.paths or not all(_inside(path, self.root) for path in call.paths):
            return
        path = call.paths[0]
        if call.name in ("fsync", "fdatasync"):
            self._synced(path)
        elif call.is_data:
            self._wrote(call, path)
        elif call.name.startswith("rename"):
            # what is pending in a folder that moves goes along with it, where nobody here follows
            self.names = [one for one in self.names if not any(_inside(one[1], Path(at)) for at in call.paths[:2])]
            what = "exchange" if "RENAME_EXCHANGE" in call.arguments else "rename"
            self.names.append((what, *call.paths[:2]))
            if path in self.files:
                self.files[call.paths[1]] = self.files.pop(path)
        elif call.name.startswith("link"):
            self.names.append(("link", *call.paths[:2]))
            self.files[call.paths[1]] = self._file(path)
        elif call.name in ("unlink", "unlinkat"):
            self.names.append(("unlink", path, ""))
            self.files.pop(path, None)

    def _all_synced(self) -> None:
        self.names.clear()
        for file in self.files.values():
            file.synced, file.dirty, file.places = file.size, False, []

    def _synced(self, path: str) -> None:
        if path in self.files:
            file = self.files[path]
            file.synced, file.dirty, file.was_synced, file.places = file.size, False, True, []
        self.names = [one for one in self.names if str(Path(one[2] or one[1]).parent) != path]

    def _wrote(self, call: Call, path: str) -> None:
        file = self._file(path)
        file.dirty = True
        if call.name == "pwrite64":
            length, offset = (int(one) for one in call.arguments[-2:])
            if offset < file.synced:
                file.places.append((offset, min(length, file.synced - offset)))
            file.size = max(file.size, offset + length)
        elif call.name == "ftruncate":
            file.size = int(call.arguments[-1])
            file.synced = min(file.synced, file.size)
        else:
            file.size += int(call.result.split()[0])

    @property
    def dirty(self) -> list[Path]:
        return [Path(path) for path, file in self.files.items() if file.dirty and Path(path).is_file()]

    def variants(self) -> dict[str, Callable[[], None]]:
        """What it can do to the files in `root`, each by a name; nothing where all was synced."""
        found: dict[str, Callable[[], None]] = {}
        if self.dirty:
            found |= {
                "nothing of what was not synced": lambda: self._cut(lambda synced, _: synced),
                "half of what was not synced": lambda: self._cut(lambda synced, size: (synced + size) // 2),
                "all but the last byte": lambda: self._cut(lambda synced, size: max(synced, size - 1)),
            }
        if self.names:
            found["the last name undone"] = lambda: self._undo(self.names[-1:])
        if len(self.names) > 1:
            found["all names undone"] = lambda: self._undo(self.names)
        return found

    def _cut(self, keep: Callable[[int, int], int]) -> None:
        for path in self.dirty:
            file = self.files[str(path)]
            size = path.stat().st_size
            kept = keep(min(file.synced, size), size)
            with path.open("r+b") as stream:
                stream.truncate(kept)
                if kept == file.synced and not file.was_synced and self._was(str(path)).is_file():
                    old = self._was(str(path)).read_bytes()
                    for offset, length in file.places:
                        stream.seek(offset)
                        stream.write(old[offset : offset + length])

    def _undo(self, names: Sequence[tuple[str, str, str]]) -> None:
        for what, one, other in reversed(names):
            if what == "rename" and Path(other).exists():
                Path(other).rename(one)
                self._put_back(other)
            elif what == "exchange":
                aside = Path(f"{one}-aside")
                Path(one).rename(aside)
                Path(other).rename(one)
                aside.rename(other)
            elif what == "link":
                Path(other).unlink(missing_ok=True)
            elif what == "unlink":
                self._put_back(one)

    def _put_back(self, path: str) -> None:
        if self._was(path).is_file() and Path(path).parent.is_dir():
            shutil.copy2(self._was(path), path)
