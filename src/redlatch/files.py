"""Files: written so that a power cut leaves the old one or the new one, read so that nobody can trick us."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redlatch.errors import FileProblem

_MANY = 32  # files: from there on one sync of all disks costs less than one for each file


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file shall belong to. None wherever redlatch does not run as root: then it is the caller's."""

    uid: int
    gid: int


@contextlib.contextmanager
def explained(what: str, path: Path) -> Iterator[None]:
    """Turns an OSError about `path` into words: full disk, no rights, missing."""
    try:
        yield
    except OSError as error:
        raise FileProblem(
            f"cannot {what} {path}: {(error.strerror or str(error)).lower()}", hint=_hint(error)
        ) from error


def _hint(error: OSError) -> str:
    return {
        errno.ENOSPC: "free some space on that disk, then run the same command again; nothing was changed",
        errno.EDQUOT: "free some of your quota, then run the same command again; nothing was changed",
        errno.EROFS: "the file system is mounted read-only; name another place with --home",
        errno.EACCES: "run the command as the user who may (with sudo for a system-wide installation), "
        "or name another place with --home",
        errno.EPERM: "run the command as the user who may (with sudo for a system-wide installation)",
        errno.ENOENT: "check the path",
        errno.ELOOP: "a symbolic link stands where a plain file is expected; remove it",
    }.get(error.errno or 0, "")


def make_dir(path: Path, *, mode: int, owner: Owner | None = None) -> None:
    """Creates `path` (parents 0755) or brings it to `mode` and `owner`; refuses anything that is no folder."""
    with explained("create the folder", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
        # By descriptor and without following links: the folder checked is the folder changed.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if owner is not None:
                os.fchown(descriptor, owner.uid, owner.gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def sync_dir(path: Path) -> None:
    """Makes a rename or unlink in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(folder: Path, files: Mapping[str, bytes], *, mode: int, owner: Owner | None = None) -> None:
    """Writes files (name -> content) into `folder`: all of them are durable once it returns.

    As `write_atomic`, but that a power cut meanwhile may leave one torn: for what is verified when it is read.
    """
    for name, data in files.items():
        with explained("write", folder / name):
            _write(folder / name, data, mode=mode, owner=owner, sync=len(files) <= _MANY)
    if files:
        with explained("write", folder):
            if len(files) > _MANY:
                os.sync()
            sync_dir(folder)


def write_atomic(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """Replaces `path` by `data`: whoever reads sees the old content or the new, also after a power cut.

    The temporary file is made in the same folder (a file moved in from elsewhere would keep the wrong group)
    and gets its owner and mode before it gets its name.
    """
    with explained("write", path):
        _write(path, data, mode=mode, owner=owner, sync=True)
        sync_dir(path.parent)


def write_soft(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """As `write_atomic`, without waiting for the disk: a power cut may leave the old content, or a torn file. For
    what is looked at before it is believed, and can be made anew.
    """
    with explained("write", path):
        _write(path, data, mode=mode, owner=owner, sync=False)


def _write(path: Path, data: bytes, *, mode: int, owner: Owner | None, sync: bool) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            if owner is not None:
                os.fchown(stream.fileno(), owner.uid, owner.gid)
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_new(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """Creates `path` for somebody to take away; never overwrites and never follows a link (O_EXCL)."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise FileProblem(
            f"{path} exists already", hint="name another file with --out, or move that one away"
        ) from error
    except OSError as error:
        raise FileProblem(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}", hint=_hint(error)
        ) from error
    try:
        with explained("write", path), os.fdopen(descriptor, "wb") as stream:
            if owner is not None:
                os.fchown(stream.fileno(), owner.uid, owner.gid)
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_plain(path: Path, *, max_bytes: int) -> bytes:
    """The content of a file that an operator named; FileProblem for what is none (a FIFO would hang, a device
    never end) and for more than `max_bytes`.
    """
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileProblem(f"{path} is no plain file", hint="name a text file")
            data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileProblem(
            f"{path} is larger than {max_bytes >> 20} MiB", hint="make two files of it, and two networks"
        )
    return data


def read_untrusted(path: Path, *, owner_uid: int, max_bytes: int) -> bytes | None:
    """The content of a file in a folder that somebody else may write; None when it is missing.

    Refuses links, FIFOs, devices, hard links and files of another owner, and reads at most `max_bytes`:
    otherwise Node-RED's user could make redlatch read a file of root's (or hang on a FIFO) by a name.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be trusted: {(error.strerror or str(error)).lower()}", hint=_hint(error)
        ) from error
    state = os.fstat(descriptor)
    # No name at all is well: it was replaced since it was opened, as the guard does with its claims.
    if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1 or state.st_uid != owner_uid:
        os.close(descriptor)
        raise FileProblem(
            f"{path} cannot be trusted: not a plain file of Node-RED's user",
            hint="somebody put something else in its place; remove it and look who may write there",
        )
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileProblem(f"{path} is larger than {max_bytes} bytes", hint="remove it; the guard writes a new one")
    return data
