"""What the guard inside Node-RED reports through the spool. All of it is a claim of Node-RED's user: read without
following links, capped, checked against a schema, shown as that user's word, never an input to a permission.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redlatch.files import read_untrusted
from redlatch.settings import Settings

_STATE_BYTES = 1 << 20
_LOG_BYTES = 8 << 20  # the guard rotates at 4 MiB
HEARTBEAT = 30.0  # s; the guard writes in-force.json at least that often


@dataclass(frozen=True, slots=True)
class InForce:
    """Node-RED's word about the snapshot it enforces. `ms`: file change noticed -> sockets cut;
    `closed`: how many.
    """

    site: str
    version: int
    digest: str
    pid: int
    started: datetime
    at: datetime
    port: int | None
    node_red: str | None
    guard: str | None
    closed: int
    ms: float | None
    problem: str | None
    server_not_after: datetime | None

    def fresh(self, now: datetime) -> bool:
        """Whether the guard has been heard of within two heartbeats."""
        return (now - self.at).total_seconds() < 2 * HEARTBEAT + 5


@dataclass(frozen=True, slots=True)
class Connection:
    """One open connection of a device."""

    device_id: str
    address: str
    since: datetime
    websocket: bool


@dataclass(frozen=True, slots=True)
class Access:
    """One line of the access log; `count` > 1 where refusals of one address were folded."""

    at: datetime
    address: str
    device_id: str | None
    fingerprint: str | None
    method: str | None
    path: str | None
    allow: bool
    reason: str
    upgrade: bool
    count: int


def printable(value: object, most: int = 300) -> str:
    """Text of a stranger's choosing, safe on a terminal: no control, format or bidirectional characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value)[:most])


def _when(value: object) -> datetime:
    """A Unix time of theirs; raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 32503680000:
        raise ValueError("no time")
    return datetime.fromtimestamp(value, UTC)


def _integer(value: object, least: int = 0) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 53:
        raise ValueError("no integer")
    return value


def _optional(value: object, most: int = 64) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("no text")
    return None if value is None else printable(value, most)


def _text(value: object, most: int = 300) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - one error for everything that is wrong with a claim
    return printable(value, most)


def _load(data: bytes) -> Any:
    return json.loads(data, parse_constant=lambda _: None)


def read_in_force(settings: Settings, uid: int) -> InForce | None:
    """The guard's last report; None when there is none, or it is not understood. FileProblem for a
    planted file.
    """
    data = read_untrusted(settings.spool / "in-force.json", owner_uid=uid, max_bytes=_STATE_BYTES)
    if data is None:
        return None
    try:
        raw = _load(data)
        if not isinstance(raw, dict) or raw.get("format") != 1:
            return None
        ms = raw.get("ms")
        port = raw.get("port")
        not_after = raw.get("server_not_after")
        return InForce(
            site=_text(raw.get("site"), 64),
            version=_integer(raw.get("version")),
            digest=_text(raw.get("digest"), 64),
            pid=_integer(raw.get("pid")),
            started=_when(raw.get("started")),
            at=_when(raw.get("at")),
            port=None if port is None else _integer(port),
            node_red=_optional(raw.get("node_red")),
            guard=_optional(raw.get("guard")),
            closed=_integer(raw.get("closed", 0)),
            ms=float(ms) if isinstance(ms, int | float) and not isinstance(ms, bool) and 0 <= ms < 1e9 else None,
            problem=_optional(raw.get("problem"), 500),
            server_not_after=None if not_after is None else _when(not_after),
        )
    except (ValueError, RecursionError, OverflowError):
        return None


def wait_in_force(
    settings: Settings,
    uid: int,
    version: int,
    timeout: float,
    *,
    site: str | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> InForce | None:
    """Waits until the guard says it enforces `version` or a later one (of `site`); None when it did not in time.

    Asks every 10 ms: the guard needs 18-25 ms from the rename to the cut, measured.
    """
    deadline = clock() + timeout
    while True:
        claim = read_in_force(settings, uid)
        if claim and claim.version >= version and (site is None or claim.site == site):
            return claim
        if clock() >= deadline:
            return None
        time.sleep(0.01)


def read_connections(settings: Settings, uid: int) -> list[Connection] | None:
    """Open connections by the guard's word; None when it has not reported any state."""
    data = read_untrusted(settings.spool / "connections.json", owner_uid=uid, max_bytes=_STATE_BYTES)
    if data is None:
        return None
    try:
        raw = _load(data)
        entries = raw.get("connections") if isinstance(raw, dict) and raw.get("format") == 1 else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entries, list):
        return None
    found = []
    for entry in entries[:1000]:
        try:
            found.append(
                Connection(
                    _text(entry["id"], 64),
                    _text(entry["from"], 64),
                    _when(entry["since"]),
                    entry["websocket"] is True,
                )
            )
        except (ValueError, TypeError, KeyError):
            continue
    return found


def parse_access(line: bytes) -> Access | None:
    """One line of the access log, or None when it is not understood (a cut line, nonsense)."""
    try:
        raw = _load(line)
        return Access(
            at=_when(raw["at"]),
            address=_text(raw["from"], 64),
            device_id=_optional(raw.get("device")),
            fingerprint=_optional(raw.get("fp")),
            method=_optional(raw["method"], 32),
            path=_optional(raw["path"], 256),
            allow=raw["allow"] is True,
            reason=_text(raw["reason"], 64),
            upgrade=raw.get("upgrade") is True,
            count=_integer(raw.get("count", 1), 1),
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None


def read_access(settings: Settings, uid: int, *, limit: int = 100) -> list[Access]:
    """The last `limit` entries, oldest first, over both files of the rotation."""
    found: list[Access] = []
    for name in ("access.jsonl", "access.1.jsonl"):
        data = read_untrusted(settings.spool / name, owner_uid=uid, max_bytes=_LOG_BYTES) or b""
        lines = data.splitlines()
        entries: list[Access] = []
        for line in reversed(lines):
            if len(found) + len(entries) >= limit:
                break
            if entry := parse_access(line):
                entries.append(entry)
        found = entries[::-1] + found
        if len(found) >= limit:
            break
    return found


class AccessTail:
    """The access log from its beginning (both files), then whatever comes, also when the log is rotated."""

    def __init__(self, settings: Settings, uid: int, *, new_only: bool = False) -> None:
        """`new_only`: leaves out what is there already."""
        self._settings = settings
        self._uid = uid
        self._inode: int | None = None
        self._offset = 0
        if new_only:
            self._inode, self._offset = self._position()
        else:
            self._before = self._data("access.1.jsonl")

    _before: bytes = b""

    def read(self) -> list[Access]:
        """Entries that came since the last call, oldest first. FileProblem for a planted file."""
        found, self._before = list(_entries(self._before)), b""
        try:
            state = (self._settings.spool / "access.jsonl").lstat()
        except FileNotFoundError:
            return found
        if state.st_ino == self._inode and state.st_size == self._offset:
            return found
        data = self._data("access.jsonl")
        if state.st_ino != self._inode or len(data) < self._offset:  # rotated, or started anew
            if self._inode is not None:
                found += _entries(self._data("access.1.jsonl")[self._offset :])
            self._inode, self._offset = state.st_ino, 0
        end = data.rfind(b"\n") + 1
        found += _entries(data[self._offset : end])
        self._offset = max(self._offset, end)
        return found

    def _position(self) -> tuple[int | None, int]:
        try:
            inode = (self._settings.spool / "access.jsonl").lstat().st_ino
        except FileNotFoundError:
            return None, 0
        return inode, self._data("access.jsonl").rfind(b"\n") + 1

    def _data(self, name: str) -> bytes:
        return read_untrusted(self._settings.spool / name, owner_uid=self._uid, max_bytes=_LOG_BYTES) or b""


def follow_access(settings: Settings, uid: int, *, wait: Callable[[], bool]) -> Iterator[Access]:
    """New entries as they come. `wait` sleeps between two looks (0.5 s is enough) and returns False to end."""
    tail = AccessTail(settings, uid, new_only=True)
    while wait():
        yield from tail.read()


def _entries(data: bytes) -> Iterator[Access]:
    for line in data.splitlines():
        if entry := parse_access(line):
            yield entry
