"""The snapshot as files, made so that one change costs the same with ten devices as with a million.

`snapshot.json`, the head, says everything but the long lists: one line of JSON and one line with its SHA-256,
so that a torn one is never believed. Devices and networks lie beside it in files named by the SHA-256 of their
content, which the head names: it alone says what counts, and replacing it is the one step in which a change
happens. Devices are a tree by the digits of their fingerprints (a leaf holds up to 64 of them, a branch has 16
children), so that a change writes the few files from its leaf to the root; the same devices always make the
same tree.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, Protocol

from redlatch.errors import InvalidInput
from redlatch.policy.model import Areas, Entry, Rule, Snapshot
from redlatch.policy.networks import decode as decode_network
from redlatch.policy.networks import encode as encode_network

FORMAT: Final = 2
LEAF: Final = 64
_DIGITS: Final = "0123456789abcdef"
_ENTRY: Final = ("id", "role", "user", "not_before", "not_after")

Files = dict[str, bytes]  # digest -> content


def encode(snapshot: Snapshot) -> tuple[bytes, Files]:
    """The head and all files that it names. Cost: linear in devices and addresses; see `grow` for one change."""
    files: Files = {}
    root = grow(_Whole(snapshot.devices), files)
    networks = {name: _named(encode_network(network), files) for name, network in snapshot.networks.items()}
    return head(snapshot, devices=root, networks=networks), files


def head(snapshot: Snapshot, *, devices: str | None, networks: Mapping[str, str]) -> bytes:
    """The head's bytes: compact JSON, newline, lower-case hex SHA-256 of the JSON, newline.

    `devices` is the digest of the tree's root (None: no devices), `networks` name -> digest; what `snapshot`
    itself holds of both is not looked at.
    """
    body = {
        "format": FORMAT,
        "site": snapshot.site,
        "version": snapshot.version,
        "time": snapshot.time,
        "mode": snapshot.mode,
        "port": snapshot.port,
        "open_port": snapshot.open_port,
        "keep_auth": snapshot.keep_auth,
        "names": list(snapshot.names),
        "origins": list(snapshot.origins),
        "admin_root": snapshot.admin_root,
        "areas": asdict(snapshot.areas),
        "roles": dict(snapshot.roles),
        "rules": [asdict(rule) for rule in snapshot.rules],
        "networks": dict(networks),
        "devices": devices,
        "spool": snapshot.spool,
    }
    line = json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def digest(data: bytes) -> str:
    """The digest that `data` (a head) states; the guard reports the same in its claim."""
    return data.rstrip(b"\n").rpartition(b"\n")[2].decode("ascii", "replace")


class Source(Protocol):
    """Where the tree's content comes from: the store, or a mapping."""

    def entries(self, prefix: str, limit: int) -> Mapping[str, Entry]:
        """Up to `limit` entries whose fingerprints begin with `prefix`, in their order."""
        ...


class _Whole:
    def __init__(self, devices: Mapping[str, Entry]) -> None:
        self._devices = devices
        self._keys = sorted(devices)

    def entries(self, prefix: str, limit: int) -> Mapping[str, Entry]:
        begin = bisect_left(self._keys, prefix)
        inside = self._keys[begin : min(begin + limit, bisect_left(self._keys, prefix + "g"))]
        return {key: self._devices[key] for key in inside}


def grow(
    source: Source,
    files: Files,
    *,
    old: str | None = None,
    changed: Sequence[str] | None = None,
    read: Callable[[str], bytes | None] = lambda _: None,
    prefix: str = "",
) -> str | None:
    """The digest of the tree below `prefix`, its new files put into `files`; None for no device at all.

    `old` is the digest before and `changed` the fingerprints that came, went or changed since (None: unknown, so
    everything is made anew); `read` gives an old file's content. Cost of one change: the branches above its leaf.
    """
    if old is not None and changed is not None and not changed:
        return old
    entries = source.entries(prefix, LEAF + 1)
    if not entries:
        return None
    if len(entries) <= LEAF:
        return _named(_json({"leaf": {key: _row(one) for key, one in entries.items()}}), files)
    before = _children(read(old)) if old is not None and changed is not None else None
    children: list[str | None] = []
    for number, digit in enumerate(_DIGITS):
        inside = prefix + digit
        if before is None:
            children.append(grow(source, files, prefix=inside))
            continue
        here = [one for one in changed or () if one.startswith(inside)]
        child = before[number]
        if here:
            child = grow(source, files, old=child, changed=here, read=read, prefix=inside)
        children.append(child)
    return _named(_json({"branch": children}), files)


def reachable(root: str | None, read: Callable[[str], bytes | None]) -> set[str]:
    """The digests of all files of the tree; InvalidInput when one is missing or garbled."""
    if root is None:
        return set()
    children = _children(_checked(root, read))
    found = {root}
    for child in children or ():
        found |= reachable(child, read)
    return found


def replaced(old: str | None, new: str | None, read: Callable[[str], bytes | None]) -> set[str]:
    """The digests that the tree `old` has and `new` has no more, found without looking at what they share.

    `read` gives the files of both. Where a branch became a leaf, or a leaf a branch, one and the same leaf can
    stand in both trees, in different places: it stays.
    """
    return _differing(old, new, read) - _differing(new, old, read)


def _differing(one: str | None, other: str | None, read: Callable[[str], bytes | None]) -> set[str]:
    """The digests that the tree `one` has where `other` has another."""
    if one is None or one == other:
        return set()
    here = _children(read(one))
    there = _children(read(other)) if other is not None else None
    found = {one}
    for number, child in enumerate(here or ()):
        found |= _differing(child, there[number] if there is not None else None, read)
    return found


def decode(data: bytes, read: Callable[[str], bytes | None]) -> Snapshot:
    """Reads what `encode` wrote, with `read` for the files it names; InvalidInput for anything else."""
    body = decode_head(data)
    try:
        body.pop("format")
        areas = Areas(**{name: tuple(paths) for name, paths in body.pop("areas").items()})
        rules = tuple(_rule(rule) for rule in body.pop("rules"))
        networks = {name: decode_network(_checked(key, read)) for name, key in body.pop("networks").items()}
        devices = _decoded_tree(body.pop("devices"), read)
        lists: dict[str, Any] = {key: tuple(body.pop(key)) for key in ("names", "origins")}
        return Snapshot(**body, **lists, areas=areas, rules=rules, networks=networks, devices=devices)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput("the snapshot is not in the form that redlatch writes") from error


def decode_head(data: bytes) -> dict[str, Any]:
    """The head's fields, its digest checked; InvalidInput for anything else."""
    line, _, rest = data.partition(b"\n")
    if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise InvalidInput("the snapshot is torn or garbled: its digest does not match")
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the snapshot is not in the form that redlatch writes") from error
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise InvalidInput("the snapshot has a format that this redlatch does not know")
    return body


def _rule(body: dict[str, Any]) -> Rule:
    made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in body.items()}
    return Rule(**made)


def _decoded_tree(root: str | None, read: Callable[[str], bytes | None]) -> dict[str, Entry]:
    if root is None:
        return {}
    node = json.loads(_checked(root, read))
    if "leaf" in node:
        return {key: Entry(**dict(zip(_ENTRY, row, strict=True))) for key, row in node["leaf"].items()}
    found: dict[str, Entry] = {}
    for child in node["branch"]:
        found |= _decoded_tree(child, read)
    return found


def _checked(key: str, read: Callable[[str], bytes | None]) -> bytes:
    data = read(key)
    if data is None or hashlib.sha256(data).hexdigest() != key:
        raise InvalidInput("a part of the snapshot is missing or garbled")
    return data


def _children(data: bytes | None) -> list[str | None] | None:
    """A branch's children; None for a leaf, or for what is no node at all (then everything is made anew)."""
    try:
        children = json.loads(data or b"null")["branch"]
    except (ValueError, TypeError, KeyError):
        return None
    return children if isinstance(children, list) and len(children) == 16 else None


def _named(data: bytes, files: Files) -> str:
    key = hashlib.sha256(data).hexdigest()
    files[key] = data
    return key


def _json(node: object) -> bytes:
    return json.dumps(node, separators=(",", ":"), ensure_ascii=True).encode()


def _row(entry: Entry) -> list[object]:
    return [getattr(entry, name) for name in _ENTRY]
