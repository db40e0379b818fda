"""Publishes what the guard reads, into a folder that Node-RED's user may read and not write.

The folder belongs to redlatch's own user and to Node-RED's group, which the setgid bit hands on to whatever is
made in it: so the service, which is in no group of Node-RED's, can publish as well as root. Root follows no link
in it.

Each file is replaced in one step; the guard's code lies in a folder named by its content, which a one-line
guard.js points to. So a running Node-RED never sees half a guard, and an update never changes code under it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Any

from redlatch.engines.nodered.users import User
from redlatch.errors import FileProblem, InvalidInput
from redlatch.files import (
    Owner,
    Rights,
    explained,
    give,
    make_dir,
    names_in,
    own_user,
    read_own,
    remove_from,
    sync_dir,
    write_all,
    write_atomic,
    write_soft,
)
from redlatch.policy.snapshot import decode_head
from redlatch.settings import Settings

_ENTRY = ("guard.js", "behind.js", "preload.js")
_NOT_PUBLISHED = frozenset({"inspect.js"})
_FOLDER = re.compile(r"guard-[0-9a-f]{12}")
_PART = re.compile(r"[0-9a-f]{64}", re.ASCII)


def guard_files() -> dict[str, bytes]:
    """Name -> content of everything that runs inside Node-RED: the guard, what stands in its place behind the
    gateway, and the guard's sidebar as `plugin/...`.
    """
    engine = resources.files("redlatch.engines.nodered")
    guard = dict(_below(engine.joinpath("behind"), "")) | dict(_below(engine.joinpath("guard"), ""))
    plugin = dict(_below(engine.joinpath("plugin"), "plugin/"))
    return {name: guard[name] for name in sorted(guard) if name not in _NOT_PUBLISHED} | plugin


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    """(prefix and path, content) of the files in a folder of the package."""
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _below(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith((".js", ".json", ".html")):
            yield prefix + entry.name, entry.read_bytes()


def guard_hash(files: dict[str, bytes] | None = None) -> str:
    """The first 12 hex digits of the SHA-256 over names, lengths and contents: which guard this is."""
    digest = hashlib.sha256()
    for name, content in sorted((guard_files() if files is None else files).items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def _owner(settings: Settings, group: int | None) -> Owner | None:
    """Whose published files are; the service's come out right by the folder they are made in."""
    own = own_user(settings)
    return Owner(own.uid, group) if own is not None and group is not None else None


def modes(settings: Settings) -> tuple[int, int]:
    """(folders, files): redlatch's for Node-RED's group to read, or the one person's own."""
    return (0o2750, 0o640) if settings.system else (0o700, 0o600)


def prepare(settings: Settings, user: User) -> None:
    """Makes `published` (for that user's group to read) and `spool` (that user's to write, redlatch's to read)."""
    folder_mode, _ = modes(settings)
    own = own_user(settings)
    make_dir(settings.published, mode=folder_mode, owner=_owner(settings, user.gid))
    make_dir(_parts(settings), mode=folder_mode, owner=_owner(settings, user.gid))
    make_dir(settings.spool, mode=folder_mode, owner=Owner(user.uid, own.gid) if own is not None else None)


def bring(settings: Settings, uid: int, group: int) -> int:
    """Brings what is there to the owners and modes that `prepare` gives, as root in an installation of root's; how
    many files and folders were not so. `uid`, `group`: Node-RED's. An earlier redlatch gave `published` to root
    and kept the claims for Node-RED's user alone.
    """
    own = own_user(settings)
    if own is None or os.geteuid() != 0:
        return 0
    folders, files = modes(settings)
    changed = 0
    for folder, owner, whose in (
        (settings.published, Owner(own.uid, group), (0, own.uid)),
        (settings.spool, Owner(uid, own.gid), (uid,)),
    ):
        if folder.exists():
            changed += give(folder, Rights(owner, folders, files), whose=whose)
    return changed


def publish_guard(settings: Settings, group: int | None) -> str:
    """Publishes the guard's code and returns its hash. `group`: the gid of Node-RED's user; None without root."""
    files = guard_files()
    name = f"guard-{guard_hash(files)}"
    folder_mode, file_mode = modes(settings)
    owner = _owner(settings, group)
    make_dir(settings.published, mode=folder_mode, owner=owner)
    before = _current(settings)
    folder = settings.published / name
    for inside in sorted({folder, *(parent for entry in files for parent in _folders(folder, entry))}):
        make_dir(inside, mode=folder_mode, owner=owner)
    for entry in files:
        if not _same(folder / entry, files[entry], file_mode, owner):
            write_atomic(folder / entry, files[entry], mode=file_mode, owner=owner)
    sync_dir(settings.published)
    for entry in _ENTRY:
        if entry in files:
            line = f'module.exports = require("./{name}/{entry}");\n'.encode("ascii")
            if not _same(settings.published / entry, line, file_mode, owner):
                write_atomic(settings.published / entry, line, mode=file_mode, owner=owner)
    # A Node-RED that runs may still load files of the guard it was started with: that one stays until the next
    # update.
    for old in names_in(settings.published):
        if _FOLDER.fullmatch(old) and old not in (name, before):
            shutil.rmtree(settings.published / old, ignore_errors=True)  # follows no link
    return name.removeprefix("guard-")


def publish_behind(
    settings: Settings, secret_sha256: str, keep_auth: bool, keep_host: bool, group: int | None
) -> bool:
    """Publishes what a Node-RED behind the gateway needs: the code, and behind.json with the digest of the secret
    (SHA-256 of the header's text, 64 hex digits). With `keep_auth` its own adminAuth stays, with `keep_host` its
    own uiHost (a container, whose network is the wall). False when all was there; a new secret counts at once,
    the rest from Node-RED's next start on. Raises InvalidInput, FileProblem.
    """
    if _PART.fullmatch(secret_sha256) is None:
        raise InvalidInput("the digest of the gateway's secret is no 64 hex digits")
    before = published_guard(settings)
    changed = publish_guard(settings, group) != before
    told = {"format": 1, "secret_sha256": secret_sha256, "keep_auth": keep_auth, "keep_host": keep_host}
    return publish_file(settings, "behind.json", json.dumps(told).encode("ascii") + b"\n", group) or changed


def _folders(root: Path, name: str) -> list[Path]:
    """The folders below `root` that lead to the file `name`."""
    return [root / parent for parent in PurePosixPath(name).parents if parent.name]


def _current(settings: Settings) -> str | None:
    try:
        match = _FOLDER.search(read_own(settings.published / "guard.js").decode("ascii"))
    except (OSError, ValueError):
        return None
    return match[0] if match else None


def published_guard(settings: Settings) -> str | None:
    """The hash of the guard that the next start of Node-RED loads, or None."""
    name = _current(settings)
    return name.removeprefix("guard-") if name else None


def _same(path: Path, content: bytes, mode: int, owner: Owner | None) -> bool:
    try:
        state = path.lstat()
        right = stat.S_ISREG(state.st_mode) and stat.S_IMODE(state.st_mode) == mode
        mine = owner is None or (state.st_uid, state.st_gid) == (owner.uid, owner.gid)
        return right and mine and read_own(path) == content
    except OSError:
        return False


def publish_file(settings: Settings, name: str, content: bytes, group: int | None) -> bool:
    """Replaces one published file; False when it was the same already. Raises FileProblem (disk full, rights)."""
    _, mode = modes(settings)
    owner = _owner(settings, group)
    path = settings.published / name
    if _same(path, content, mode, owner):
        return False
    write_atomic(path, content, mode=mode, owner=owner)
    return True


def publish_server(settings: Settings, pem: bytes, group: int | None) -> bool:
    """server.pem: private key (PKCS#8, unencrypted), leaf, chain, in one file so that they never disagree."""
    return publish_file(settings, "server.pem", pem, group)


def publish_device_ca(settings: Settings, pem: bytes, group: int | None) -> bool:
    """device-ca.pem: the CAs whose certificates the handshake accepts."""
    return publish_file(settings, "device-ca.pem", pem, group)


def publish_snapshot(settings: Settings, head: bytes, files: Mapping[str, bytes], group: int | None) -> bool:
    """snapshot.json and the parts that it names, as policy.snapshot makes them; False when it was there already.

    `files` (digest -> content) are those parts that may be missing or garbled. They are durable before the head is
    replaced: whoever reads sees the old snapshot or the new one, each whole. Raises FileProblem.
    """
    folder_mode, mode = modes(settings)
    owner = _owner(settings, group)
    folder = _parts(settings)
    make_dir(folder, mode=folder_mode, owner=owner)
    missing = {name: data for name, data in files.items() if not _same(folder / name, data, mode, owner)}
    write_all(folder, missing, mode=mode, owner=owner)
    return publish_file(settings, "snapshot.json", head, group)


def read_part(settings: Settings, digest: str) -> bytes | None:
    """A part of the snapshot by its digest; None when it is missing or is not what the digest says."""
    if not has_part(settings, digest):
        return None
    try:
        data = read_own(_parts(settings) / digest)
    except OSError:
        return None
    return data if hashlib.sha256(data).hexdigest() == digest else None


def has_part(settings: Settings, digest: str) -> bool:
    """Whether there is a part of this name, whatever is in it."""
    if _PART.fullmatch(digest) is None:
        return False
    try:
        return stat.S_ISREG((_parts(settings) / digest).lstat().st_mode)
    except OSError:
        return False


def parts(settings: Settings) -> set[str]:
    """The names of everything that lies among the parts of the snapshot."""
    return names_in(_parts(settings))


def remove_parts(settings: Settings, names: Iterable[str]) -> None:
    """Removes parts that no head names any more. What cannot be removed stays, and harms nobody."""
    remove_from(_parts(settings), names)


def _parts(settings: Settings) -> Path:
    return settings.published / "snapshot"


def snapshot_version(settings: Settings) -> int | None:
    """The version that snapshot.json states, from its first bytes: it is among the first keys."""
    try:
        found = re.search(rb'"version":(\d{1,18})[,}]', read_own(settings.published / "snapshot.json", most=256))
    except OSError:
        return None
    return int(found[1]) if found else None


def publish_sidebar(settings: Settings, content: bytes, group: int | None) -> bool:
    """sidebar.json: what the editor's sidebar lists, which decides nothing. False when it was the same already."""
    _, mode = modes(settings)
    owner = _owner(settings, group)
    path = settings.published / "sidebar.json"
    if _same(path, content, mode, owner):
        return False
    write_soft(path, content, mode=mode, owner=owner)
    return True


def sidebar_version(settings: Settings) -> int | None:
    """The version that sidebar.json states; None when it is missing or torn."""
    try:
        data = read_own(settings.published / "sidebar.json")
    except OSError:
        return None
    found = re.match(rb'\{"format":1,"version":(\d{1,18}),', data)
    return int(found[1]) if found and data.endswith(b"}\n") else None


def published_head(settings: Settings) -> dict[str, Any] | None:
    """The fields of snapshot.json; None when it is missing or garbled. Says nothing about its parts."""
    try:
        return decode_head(read_own(settings.published / "snapshot.json"))
    except (OSError, InvalidInput):
        return None


def unpublish(settings: Settings) -> None:
    """Removes published and spool, whatever lies in them; rmtree follows no links (Node-RED's user
    owns the spool).

    Each is moved aside first: a Node-RED that still runs goes on writing claims, and a folder that fills while
    it is emptied is not removed (seen with `install.sh --remove` under systemd).
    """
    for folder in (settings.published, settings.spool):
        aside = folder.with_name(f".{folder.name}.removed")
        with explained("remove", folder), contextlib.suppress(FileNotFoundError):
            if aside.is_dir():  # of a removal that was cut short
                shutil.rmtree(aside)
            if folder.is_symlink():
                folder.unlink()
                continue
            folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            if aside.exists():  # a write that was under way came in between; no other can follow
                shutil.rmtree(aside)


def untrusted_ancestors(path: Path) -> list[Path]:
    """Folders above `path` (itself included) that somebody but root may change: who may rename them may replace
    everything below. Sticky folders count as safe, as /tmp is for what root owns in it.
    """
    found = []
    place = path
    for folder in (place, *place.parents):
        try:
            state = folder.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileProblem(f"cannot look at {folder}: {error.strerror}") from error
        loose = state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not state.st_mode & stat.S_ISVTX
        if state.st_uid not in (0, os.geteuid()) or loose or stat.S_ISLNK(state.st_mode):
            found.append(folder)
    return found
