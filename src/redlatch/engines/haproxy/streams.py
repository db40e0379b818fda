"""Which open streams are whose, and which of them have lost their right.

HAProxy tells of a stream when it lets it in (the access log: certificate, path, its own number for it) and of what
is open by that number (`show sess all`). A stream that the log does not tell of waits for its answer, or is a
later GET of a connection: that connection's certificate is known from its first request.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

from redlatch.engines.haproxy.runtime import Session
from redlatch.policy.decide import decide
from redlatch.policy.model import Entry, Facts, Snapshot

Key = TypeVar("Key")
Value = TypeVar("Value")

#: The frontend through which Node-RED is reached, and the name of its bind that asks nobody for a certificate.
DOOR: Final = "door"
OPEN: Final = "open"
_MOST: Final = 50_000  # of each kind that is remembered: 20 MB
_FRESH: Final = 10.0  # s; what was told of so lately may not be among the open ones yet


@dataclass(frozen=True, slots=True)
class Known:
    """What the log tells of a stream; `at` in Unix seconds."""

    worker: int
    id: int
    at: float
    source: str
    port: int
    device: str | None
    certificate: str | None
    method: str
    path: str
    websocket: bool


@dataclass(frozen=True, slots=True)
class Found:
    """Open streams of one worker after a change: those that lost their right, and those that nobody knows yet."""

    lost: list[Session]
    unknown: list[Session]


class Streams:
    """What the log has told of."""

    def __init__(self) -> None:
        self._websockets: dict[tuple[int, int], Known] = {}
        self._requests: dict[tuple[int, int], Known] = {}
        self._connections: dict[tuple[int, str, int], str | None] = {}
        self._places: dict[tuple[int, int], str] = {}  # where HAProxy had them when it was asked last

    def feed(self, lines: Iterable[bytes]) -> bool:
        """Lines of the log, oldest first; whether a websocket opened."""
        opened = False
        for line in lines:
            found = parse(line)
            if found is None:
                continue
            known, allowed = found
            # A port is used again: what is told last counts
            self._connections.pop((known.worker, known.source, known.port), None)
            self._connections[known.worker, known.source, known.port] = known.certificate
            if allowed:
                kind = self._websockets if known.websocket else self._requests
                kind[known.worker, known.id] = known
                opened = opened or known.websocket
        _forget(self._websockets)
        _forget(self._requests)
        _forget(self._connections)
        return opened

    def get(self, worker: int, number: int) -> Known | None:
        """What is known of a stream."""
        return self._websockets.get((worker, number)) or self._requests.get((worker, number))

    def whose(self, worker: int, session: Session) -> str | None:
        """The certificate with which the stream's connection came: "" where it showed none, None if unknown."""
        known = self.get(worker, session.id)
        if known is not None:
            return known.certificate or ""
        key = worker, session.source, session.port
        return (self._connections[key] or "") if key in self._connections else None

    def of(self, certificates: Collection[str]) -> Iterator[tuple[Known, str]]:
        """The known streams of these certificates whose place in HAProxy is known too, and that place."""
        for one in self._all():
            place = self._places.get((one.worker, one.id))
            if one.certificate in certificates and place is not None:
                yield one, place

    def ended(self, devices: Mapping[str, Entry], now: float) -> set[int]:
        """The workers in which a known stream's certificate is at its end, or listed no more."""
        found = set()
        for one in self._all():
            if one.device is not None and one.certificate is not None:
                entry = devices.get(one.certificate)
                if entry is None or not entry.not_before <= now <= entry.not_after:
                    found.add(one.worker)
        return found

    def judge(
        self,
        worker: int,
        sessions: Iterable[Session],
        snapshot: Snapshot,
        now: int,
        *,
        only: Collection[str] | None = None,
    ) -> Found:
        """Which streams may not be, by `policy.decide`; with `only`, none but these certificates' can be such."""
        lost, unknown = [], []
        verdicts: dict[object, bool] = {}
        for session in sessions:
            if session.frontend != DOOR:
                continue
            whose = self.whose(worker, session)
            if only is not None and whose is not None and whose not in only:
                continue
            known = self.get(worker, session.id)
            if known is not None:
                asked = (whose, known.method, known.path, known.websocket, known.source, session.listener == OPEN)
                if asked not in verdicts:
                    verdicts[asked] = may(known, snapshot, now, by_open_port=session.listener == OPEN)
                if not verdicts[asked]:
                    lost.append(session)
            elif (
                whose and not _is_listed(snapshot, whose, now) and not any(rule.anyone for rule in snapshot.rules)
            ):
                lost.append(session)
            else:
                unknown.append(session)
        return Found(lost, unknown)

    def open(self, sessions: Mapping[int, list[Session]], now: float) -> list[tuple[Known, Session]]:
        """The known ones among the open streams (worker -> them), oldest first. All others are forgotten."""
        present = {(worker, one.id): one for worker, ones in sessions.items() for one in ones}
        self._places = {key: one.pointer for key, one in present.items()}
        places = {(worker, one.source, one.port) for worker, ones in sessions.items() for one in ones}
        for kind in (self._websockets, self._requests):
            gone = [key for key, one in kind.items() if key not in present and one.at < now - _FRESH]
            for key in gone:
                del kind[key]
        if len(self._connections) > _MOST // 2:
            self._connections = {key: one for key, one in self._connections.items() if key in places}
        return [(one, present[one.worker, one.id]) for one in self._all() if (one.worker, one.id) in present]

    def _all(self) -> Iterator[Known]:
        yield from self._websockets.values()
        yield from self._requests.values()


def _forget(remembered: dict[Key, Value]) -> None:
    """The oldest beyond what is kept."""
    for key in list(islice(remembered, max(0, len(remembered) - _MOST))):
        del remembered[key]


def _is_listed(snapshot: Snapshot, certificate: str, now: int) -> bool:
    entry = snapshot.devices.get(certificate)
    return entry is not None and entry.not_before <= max(now, snapshot.time) <= entry.not_after


def may(known: Known, snapshot: Snapshot, now: int, *, by_open_port: bool = False) -> bool:
    """Whether the policy would let the stream in now. Host and origin were looked at when it came: they do not
    change.
    """
    facts = Facts(
        method=known.method,
        target=known.path,
        host="127.0.0.1",
        certificate=known.certificate,
        verified=known.device is not None,
        now=now,
        upgrade="websocket" if known.websocket else None,
        peer=known.source,
        by_open_port=by_open_port,
    )
    return decide(facts, snapshot).allow


def parse(line: bytes) -> tuple[Known, bool] | None:
    """A line of the log, and whether it tells of a stream that was let in; None for one that is none of HAProxy's,
    or not whole.
    """
    try:
        raw: dict[str, Any] = json.loads(line)
        known = Known(
            worker=_number(raw["pid"]),
            id=_number(raw["id"]),
            at=float(raw["at"]),
            source=_text(raw["from"]),
            port=_number(raw["port"]),
            device=_perhaps(raw.get("device")),
            certificate=_perhaps(raw["cert"]),
            method=_text(raw["method"]),
            path=_text(raw["path"]),
            websocket=raw["upgrade"] is True,
        )
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return known, raw.get("allow") is True


def _number(value: object) -> int:
    if type(value) is not int:
        raise TypeError("no number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _perhaps(value: object) -> str | None:
    return None if value is None else _text(value)
