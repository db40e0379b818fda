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
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from typing import Any, Final, Protocol

from redlatch.errors import InvalidInput
from redlatch.policy.model import AREAS, METHODS, MODES, Areas, Entry, Rule, Snapshot
from redlatch.policy.networks import Network
from redlatch.policy.networks import decode as decode_network
from redlatch.policy.networks import encode as encode_network
from redlatch.policy.paths import is_canonical

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
    networks = {name: decode_network(_checked(key, read)) for name, key in body["networks"].items()}
    return snapshot_of(body, networks=networks, devices=_decoded_tree(body["devices"], read, ""))


def decode_head(data: bytes) -> dict[str, Any]:
    """The head's fields, each of the form that the guard takes; InvalidInput for anything else."""
    line, _, rest = data.partition(b"\n")
    if rest != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise InvalidInput("the snapshot is torn or garbled: its digest does not match")
    body = _loaded(line)
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise InvalidInput("the snapshot has a format that this redlatch does not know")
    if not all(name in body and fits(body[name]) for name, fits in _FIELDS.items()):
        raise _another_form()
    return body


def snapshot_of(
    body: Mapping[str, Any], *, networks: Mapping[str, Network], devices: Mapping[str, Entry]
) -> Snapshot:
    """The snapshot that `decode_head` gave the fields of, with what its files say. Fields that are not known are
    passed over, as the guard does: who adds one that decides something raises FORMAT.
    """
    kept = {name: body[name] for name in _FIELDS if name not in _LISTED}
    return Snapshot(
        **kept,
        names=tuple(body["names"]),
        origins=tuple(body["origins"]),
        areas=Areas(**{name: tuple(body["areas"][name]) for name in _AREA_NAMES}),
        rules=tuple(_rule(rule) for rule in body["rules"]),
        networks=networks,
        devices=devices,
    )


def node(data: bytes, prefix: str) -> dict[str, Entry] | list[str | None]:
    """A file of the tree: the devices of a leaf, or the digests of a branch's 16 children. `prefix` are the digits
    that lead to it. InvalidInput for what is neither.
    """
    body = _loaded(data)
    branch, leaf = (body.get("branch"), body.get("leaf")) if isinstance(body, dict) else (None, None)
    if isinstance(branch, list) and len(branch) == len(_DIGITS) and len(prefix) < 64:
        if all(one is None or _is_digest(one) for one in branch):
            return branch
    elif isinstance(leaf, dict) and all(
        _is_digest(key) and key.startswith(prefix) and _is_row(row) for key, row in leaf.items()
    ):
        return {key: Entry(**dict(zip(_ENTRY, row, strict=True))) for key, row in leaf.items()}
    raise _another_form()


# --- the forms, as guard/snapshot.js has them


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


def _is_port(value: object) -> bool:
    return value is None or (type(value) is int and 0 < value < 65536)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_rooted(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/")


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _is_table(value: object, fits: Callable[[object], bool]) -> bool:
    return isinstance(value, dict) and all(map(fits, value.values()))


def _is_areas(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), list) and all(map(_is_rooted, value[name])) for name in _AREA_NAMES
    )


def _is_rule(value: object) -> bool:
    return (
        isinstance(value, dict)
        and all(name in value and fits(value[name]) for name, fits in _RULE.items())
        and (value["area"] is None) != (value["path"] is None)
    )


def _is_row(value: object) -> bool:
    if not isinstance(value, list) or len(value) != len(_ENTRY):
        return False
    return all(map(_is_text, value[:3])) and all(map(_is_count, value[3:]))


_DIGEST: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_AREA_NAMES: Final = tuple(one.name for one in dataclass_fields(Areas))
_LISTED: Final = ("names", "origins", "areas", "rules", "networks", "devices")
_RULE: Final[Mapping[str, Callable[[Any], bool]]] = {
    "id": _is_count,
    "roles": _is_texts,
    "devices": _is_texts,
    "any_device": _is_flag,
    "anyone": _is_flag,
    "networks": _is_texts,
    "area": lambda value: value is None or (isinstance(value, str) and value in AREAS),
    "path": lambda value: value is None or (isinstance(value, str) and value != "/" and is_canonical(value)),
    "methods": lambda value: isinstance(value, list) and all(one in METHODS for one in value),
}
_FIELDS: Final[Mapping[str, Callable[[Any], bool]]] = {
    "site": lambda value: isinstance(value, str) and value != "",
    "version": _is_count,
    "time": _is_count,
    "mode": lambda value: value in MODES,
    "port": _is_port,
    "open_port": _is_port,
    "keep_auth": _is_flag,
    "names": _is_texts,
    "origins": _is_texts,
    "admin_root": lambda value: value is None or _is_rooted(value),
    "areas": _is_areas,
    "roles": lambda value: _is_table(value, _is_text),
    "rules": lambda value: isinstance(value, list) and all(map(_is_rule, value)),
    "networks": lambda value: _is_table(value, _is_digest),
    "devices": lambda value: value is None or _is_digest(value),
    "spool": _is_rooted,
}


def _loaded(data: bytes) -> Any:
    """JSON in plain UTF-8, as JavaScript reads it: no other encoding, no byte order mark, no NaN."""
    try:
        return json.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _another_form() from error


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _another_form() -> InvalidInput:
    return InvalidInput("the snapshot is not in the form that redlatch writes")


def _rule(body: Mapping[str, Any]) -> Rule:
    found: dict[str, Any] = {name: body[name] for name in _RULE}
    found |= {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Rule(**found)


def _decoded_tree(root: str | None, read: Callable[[str], bytes | None], prefix: str) -> dict[str, Entry]:
    if root is None:
        return {}
    found = node(_checked(root, read), prefix)
    if isinstance(found, dict):
        return found
    below: dict[str, Entry] = {}
    for digit, child in zip(_DIGITS, found, strict=True):
        below |= _decoded_tree(child, read, prefix + digit)
    return below


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
