"""Files: written so that a power cut leaves the old one or the new one, read so that nobody can trick us."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from redlatch.errors import FileProblem
from redlatch.settings import Settings

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_MANY = 32  # files: from there on one sync of all disks costs less than one for each file


@dataclass(frozen=True, slots=True)
class Owner:
    """Who a file shall belong to. None without an installation of root's: then it is the caller's."""

    uid: int
    gid: int


def own_user(settings: Settings) -> Owner | None:
    """Who store, CA keys and what is published belong to: redlatch's own user, root where there is none; None
    without an installation of root's.
    """
    if not settings.system:
        return None
    try:
        entry = pwd.getpwnam(settings.user)
    except KeyError:
        return Owner(0, 0)
    return Owner(entry.pw_uid, entry.pw_gid)


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
        _make(path, mode if mode & stat.S_ISGID else 0o700)
        # By descriptor and without following links: the folder checked is the folder changed.
        with held(path, itself=True) as folder:
            _bring(folder, mode, owner)


def _make(path: Path, mode: int) -> None:
    try:
        with held(path.parent) as place:
            _mkdir(path.name, mode, place)
    except FileExistsError:
        return
    except FileNotFoundError:
        if path.parent == path:
            raise
        _make(path.parent, 0o755)
        with held(path.parent) as place, contextlib.suppress(FileExistsError):
            _mkdir(path.name, mode, place)


def _mkdir(name: str, mode: int, place: int) -> None:
    if not mode & stat.S_ISGID:
        os.mkdir(name, mode, dir_fd=place)
        return
    # Group and setgid come from the folder above. The mode must be right from the start: whoever is not in that
    # group loses the bit with the first chmod (chmod(2)). Whatever else is made meanwhile says its own mode.
    before = os.umask(0o027)
    try:
        os.mkdir(name, mode & 0o777, dir_fd=place)
    finally:
        os.umask(before)


def _bring(descriptor: int, mode: int, owner: Owner | None) -> bool:
    """Gives an open file or folder its owner and mode, where they differ; whether they did. OSError."""
    state = os.fstat(descriptor)
    given = owner is not None and (state.st_uid, state.st_gid) != (owner.uid, owner.gid)
    if owner is not None and given:
        os.fchown(descriptor, owner.uid, owner.gid)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) == mode:
        return given
    os.fchmod(descriptor, mode)
    if mode & stat.S_ISGID and not os.fstat(descriptor).st_mode & stat.S_ISGID:
        # What is made in there would belong to another group, and Node-RED could not read it.
        raise PermissionError(errno.EPERM, "Its setgid bit cannot be set by this user")
    return True


@contextlib.contextmanager
def held(folder: Path, *, itself: bool = False) -> Iterator[int]:
    """A folder, open: what is done by its descriptor is done there, whatever takes its name meanwhile. OSError.

    A link on the way is followed only where nobody but root and the caller could have put it; with `itself` none
    may stand in the folder's own place. So root is not led away by who owns a folder that it works in.
    """
    descriptor = _walk(folder.absolute(), itself=itself)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(path: Path, *, itself: bool) -> int:
    parts = list(path.parts[1:])
    here = os.open(path.anchor, _FOLDER)
    links = 0
    try:
        while parts:
            name = parts.pop(0)
            try:
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=here)
            except OSError as error:
                # a link is ELOOP, or ENOTDIR where the kernel looks at O_DIRECTORY first
                if error.errno not in (errno.ELOOP, errno.ENOTDIR) or not _is_trusted(here, name):
                    raise
                links += 1
                if links > _MANY or (itself and not parts):
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
                target = Path(os.readlink(name, dir_fd=here))
                parts = [*target.parts[1:], *parts] if target.is_absolute() else [*target.parts, *parts]
                inner = os.open("/" if target.is_absolute() else ".", _FOLDER, dir_fd=here)
            os.close(here)
            here = inner
    except BaseException:
        os.close(here)
        raise
    return here


def _is_trusted(folder: int, name: str) -> bool:
    """Whether a name in an open folder is a link of root's or the caller's, in a folder that is theirs."""
    mine = (0, os.geteuid())
    state, link = os.fstat(folder), os.stat(name, dir_fd=folder, follow_symlinks=False)
    loose = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not state.st_mode & stat.S_ISVTX
    return stat.S_ISLNK(link.st_mode) and link.st_uid in mine and state.st_uid in mine and not loose


def sync_dir(path: Path) -> None:
    """Makes a rename or unlink in `path` durable. FileProblem."""
    with explained("write", path), held(path) as folder:
        os.fsync(folder)


def write_all(folder: Path, files: Mapping[str, bytes], *, mode: int, owner: Owner | None = None) -> None:
    """Writes files (name -> content) into `folder`: all of them are durable once it returns.

    As `write_atomic`, but that a power cut meanwhile may leave one torn: for what is verified when it is read.
    """
    if not files:
        return
    with explained("write", folder), held(folder) as place:
        for name, data in files.items():
            with explained("write", folder / name):
                _write(place, name, data, mode=mode, owner=owner, sync=len(files) <= _MANY)
        if len(files) > _MANY:
            os.sync()
        os.fsync(place)


def write_atomic(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """Replaces `path` by `data`: whoever reads sees the old content or the new, also after a power cut.

    The temporary file is made in the same folder (a file moved in from elsewhere would keep the wrong group)
    and gets its owner and mode before it gets its name.
    """
    with explained("write", path), held(path.parent) as place:
        _write(place, path.name, data, mode=mode, owner=owner, sync=True)
        os.fsync(place)


def write_soft(path: Path, data: bytes, *, mode: int, owner: Owner | None = None) -> None:
    """As `write_atomic`, without waiting for the disk: a power cut may leave the old content, or a torn file. For
    what is looked at before it is believed, and can be made anew.
    """
    with explained("write", path), held(path.parent) as place:
        _write(place, path.name, data, mode=mode, owner=owner, sync=False)


def _write(place: int, name: str, data: bytes, *, mode: int, owner: Owner | None, sync: bool) -> None:
    temporary = f".{name}.{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=place)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            _bring(stream.fileno(), mode, owner)
            stream.write(data)
            stream.flush()
            if sync:
                os.fsync(stream.fileno())
        os.replace(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=place)
        raise


def names_in(folder: Path) -> set[str]:
    """The names of what lies in a folder that somebody else may own; none where it is missing or no folder."""
    try:
        with held(folder, itself=True) as place:
            return set(os.listdir(place))  # noqa: PTH208 - pathlib knows no descriptors
    except OSError:
        return set()


def remove_from(folder: Path, names: Iterable[str]) -> None:
    """Removes files from a folder that somebody else may own, and nothing anywhere else, whatever the names and
    the folder turned into. What cannot be removed stays.
    """
    with contextlib.suppress(OSError), held(folder, itself=True) as place:
        for name in names:
            if "/" not in name:
                with contextlib.suppress(OSError):
                    os.unlink(name, dir_fd=place)


def read_own(path: Path, *, most: int = -1) -> bytes:
    """The content (its first `most` bytes) of a plain file in a folder that somebody else may own. OSError, also
    for a link or a FIFO.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a plain file", str(path))
        return stream.read(most)


def bring(path: Path, mode: int, *, owner: Owner | None = None) -> None:
    """Gives one plain file or folder its mode and owner, by descriptor: whatever takes its name meanwhile, a link
    or a second name of another file, stays as it is. FileProblem.
    """
    with explained("change the rights of", path), held(path.parent) as place:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, dir_fd=place)
        try:
            state = os.fstat(descriptor)
            if not stat.S_ISDIR(state.st_mode) and not (stat.S_ISREG(state.st_mode) and state.st_nlink == 1):
                raise OSError(errno.EINVAL, "Not a plain file", str(path))
            _bring(descriptor, mode, owner)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Rights:
    """What a folder and all in it shall be: owner, and the modes of folders and files."""

    owner: Owner
    folders: int
    files: int


def give(folder: Path, rights: Rights, *, whose: Container[int]) -> int:
    """Brings a folder and all plain files and folders in it to `rights`; how many were not so.

    For root, in folders that others may change: by descriptor, following no link, and only what belongs to one of
    `whose` (uids) under a single name; what is something else stays as it is. FileProblem.
    """
    with explained("change the owner of", folder), held(folder, itself=True) as place:
        return _give(place, rights, whose, deep=8)


def _give(place: int, rights: Rights, whose: Container[int], *, deep: int) -> int:
    changed = int(_bring(place, rights.folders, rights.owner))
    for name in os.listdir(place):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            descriptor = os.open(name, flags, dir_fd=place)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):  # gone, a link, a socket
                continue
            raise
        try:
            state = os.fstat(descriptor)
            if state.st_uid not in whose:
                continue
            if stat.S_ISREG(state.st_mode) and state.st_nlink == 1:
                changed += _bring(descriptor, rights.files, rights.owner)
            elif stat.S_ISDIR(state.st_mode) and deep:
                changed += _give(descriptor, rights, whose, deep=deep - 1)
        finally:
            os.close(descriptor)
    return changed


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
                with contextlib.suppress(PermissionError):  # FAT, as on most sticks, has no owners (fs/fat/file.c)
                    os.fchown(stream.fileno(), owner.uid, owner.gid)
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_settled(path: Path, *, max_bytes: int) -> bytes:
    """The content of a file that an operator named once and root reads ever after. FileProblem.

    Links are followed only where nobody but root and the caller could have put them (certbot's are such): in a
    folder of Node-RED's user a link could lead to a key that only root may read, which would then be published.
    """
    with explained("read", path):
        descriptor = _open_settled(path, links=_MANY)
        with os.fdopen(descriptor, "rb") as stream:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                raise FileProblem(f"{path} is no plain file with one name", hint="name the file itself")
            data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise FileProblem(f"{path} is larger than {max_bytes >> 10} KiB", hint="is it the right file?")
    return data


def _open_settled(path: Path, *, links: int) -> int:
    with held(path.parent) as place:
        try:
            return os.open(
                path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, dir_fd=place
            )
        except OSError as error:
            if error.errno != errno.ELOOP or not links or not _is_trusted(place, path.name):
                raise
            target = Path(os.readlink(path.name, dir_fd=place))
    return _open_settled(path.parent / target, links=links - 1)


def read_plain(path: Path, *, max_bytes: int, hint: str = "is it the right file?") -> bytes:
    """The content of a file that an operator named; FileProblem for what is none (a FIFO would hang, a device
    never end) and for more than `max_bytes`, with `hint`.
    """
    with explained("read", path):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileProblem(f"{path} is no plain file", hint="name a file")
            data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        most = f"{max_bytes >> 20} MiB" if max_bytes >> 20 else f"{max_bytes >> 10} KiB"
        raise FileProblem(f"{path} is larger than {most}", hint=hint)
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
