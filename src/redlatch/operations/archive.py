"""What is inside a backup: a plain tar (POSIX ustar) of a manifest, the store and the CA keys. Pure: no I/O.

Read as if a stranger had written it: whoever knows a recipient's public key can make a file that opens. Nothing is
unpacked by tarfile, no header but that of a plain file is taken, every name stands in a list, every size has a
bound, and nothing is compressed, so that no file grows when it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from redlatch.audit import Head
from redlatch.errors import RedlatchError

FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
STORE: Final = "redlatch.db"
KEYS: Final = "keys/"

#: A store of a million devices has 1.1 GB; all of a backup is in memory at once.
MOST_BYTES: Final = 1 << 30
_MOST = {MANIFEST: 1 << 18, STORE: MOST_BYTES}
_MOST_KEY = 1 << 16
_MOST_MEMBERS = 200
_BLOCK = 512
_END_OF_TAR = 1 << 33  # a header has eleven octal digits for the time: until 2242
_KEY = re.compile(r"keys/[A-Za-z0-9][A-Za-z0-9._-]{0,90}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_WORD = re.compile(r"[ -~]{1,64}", re.ASCII)


class BadBackup(RedlatchError):
    """A file that is no backup, or not a whole one."""

    code = "bad-backup"


class BackupTooNew(BadBackup):
    """A backup that a newer redlatch made."""

    code = "backup-too-new"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. `at` is when it was made, `head` the end of its audit chain."""

    redlatch: str
    site: str
    schema: str
    at: datetime
    machine: str
    head: Head


@dataclass(frozen=True, slots=True)
class Archive:
    """A backup, opened: the store's one file, and the CA keys by their file's name, as they were on the disk."""

    manifest: Manifest
    store: bytes
    keys: Mapping[str, bytes]


def pack(archive: Archive) -> bytes:
    """The tar of a backup. BadBackup for what would not be read again."""
    members = {STORE: archive.store} | {KEYS + name: data for name, data in sorted(archive.keys.items())}
    said = archive.manifest
    if not 0 <= said.at.timestamp() < _END_OF_TAR:
        raise BadBackup(f"a backup cannot be of {said.at:%Y}", hint="put this machine's clock right")
    manifest = {
        "format": FORMAT,
        "redlatch": said.redlatch,
        "site": said.site,
        "schema": said.schema,
        "at": int(said.at.timestamp()),
        "machine": said.machine,
        "head": {"seq": said.head.seq, "hash": said.head.hash.hex()},
        "members": {name: {"size": len(data), "sha256": _sha256(data)} for name, data in members.items()},
    }
    blocks: list[bytes] = []
    for name, data in ({MANIFEST: json.dumps(manifest, indent=1).encode() + b"\n"} | members).items():
        _check_member(name, len(data))
        header = tarfile.TarInfo(name)
        header.size, header.mode, header.mtime = len(data), 0o600, int(said.at.timestamp())
        blocks += [header.tobuf(tarfile.USTAR_FORMAT), data, bytes(-len(data) % _BLOCK)]
    return b"".join([*blocks, bytes(2 * _BLOCK)])


def unpack(data: bytes) -> Archive:
    """Reads `pack` again: names, sizes and hashes are what the manifest says. BadBackup, BackupTooNew."""
    members = _members(data)
    manifest, listed = _manifest(members.pop(MANIFEST, b""))
    if set(listed) != set(members):
        raise BadBackup("the backup is not whole: its files are not those that its manifest lists")
    for name, content in members.items():
        said = listed[name]
        if said != {"size": len(content), "sha256": _sha256(content)}:
            raise BadBackup(f"the backup is damaged: {name} is not what its manifest says")
    if STORE not in members:
        raise BadBackup("the backup holds no store")
    keys = {name.removeprefix(KEYS): content for name, content in members.items() if name != STORE}
    return Archive(manifest, members[STORE], keys)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check_member(name: str, size: int) -> None:
    most = _MOST.get(name, _MOST_KEY if _KEY.fullmatch(name) else 0)
    if not most:
        raise BadBackup("the backup holds a file that no redlatch puts there")
    if not 0 <= size <= most:
        raise BadBackup(f"{name} is larger than a backup may hold ({most >> 10} KiB)")


def _members(data: bytes) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    place = 0
    while data[place : place + _BLOCK].strip(b"\0"):
        try:
            header = tarfile.TarInfo.frombuf(data[place : place + _BLOCK], "ascii", "strict")
        except (tarfile.HeaderError, ValueError, UnicodeError) as error:
            raise BadBackup("this is no backup of redlatch's, or it is cut off") from error
        if header.type != tarfile.REGTYPE:
            raise BadBackup("the backup holds something that is no plain file")
        _check_member(header.name, header.size)
        begin = place + _BLOCK
        if header.name in found or len(found) >= _MOST_MEMBERS:
            raise BadBackup("the backup holds a file twice, or too many of them")
        if begin + header.size > len(data):
            raise BadBackup("the backup is cut off")
        found[header.name] = data[begin : begin + header.size]
        place = begin + header.size + -header.size % _BLOCK
    if data[place:].strip(b"\0") or len(data) < place + 2 * _BLOCK:
        raise BadBackup("the backup is cut off, or something was put behind it")
    return found


def _manifest(data: bytes) -> tuple[Manifest, Mapping[str, Any]]:
    try:
        said = json.loads(data)
        version = said["format"]
        if isinstance(version, int) and version > FORMAT:
            raise BackupTooNew(
                f"a newer redlatch made this backup (format {version}, this one knows {FORMAT})",
                hint="install that version of redlatch, or a later one, and restore with it",
            )
        head = Head(said["head"]["seq"], bytes.fromhex(said["head"]["hash"]))
        texts = {name: said[name] for name in ("redlatch", "site", "schema", "machine")}
        at, listed = said["at"], said["members"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadBackup("the manifest of the backup is missing or garbled") from error
    good = (
        version == FORMAT
        and all(isinstance(one, str) and _WORD.fullmatch(one) for one in texts.values())
        and _UUID.fullmatch(texts["site"])
        and texts["schema"].isdecimal()
        and type(head.seq) is int
        and len(head.hash) == 32
        and type(at) is int
        and 0 <= at < _END_OF_TAR
        and isinstance(listed, dict)
    )
    if not good:
        raise BadBackup("the manifest of the backup is garbled")
    return Manifest(**texts, at=datetime.fromtimestamp(at, UTC), head=head), listed
