"""redlatch's own figures in Prometheus' text format, answered on a Unix socket that HAProxy leads /redlatch to."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy.runtime import Runtime
from redlatch.errors import EngineError
from redlatch.files import explained
from redlatch.policy.model import Entry

_SOON: Final = 30 * 86400  # s
_SECONDS: Final = 0.2  # for a request to come: HAProxy sends it at once
_MOST: Final = 8192


@dataclass(slots=True)
class Sums:
    """Counters of all workers together, those that have ended included: a sum never falls."""

    _seen: dict[int, dict[str, int]] = field(default_factory=dict)
    _ended: Counter[str] = field(default_factory=Counter)

    def look(self, workers: Mapping[int, Mapping[str, int]]) -> dict[str, int]:
        """The sums; `workers`: pid -> name -> count of those that live."""
        for pid in self._seen.keys() - workers.keys():
            self._ended.update(self._seen.pop(pid))
        for pid, counts in workers.items():
            before = self._seen.setdefault(pid, {})
            for name, count in counts.items():
                before[name] = max(count, before.get(name, 0))
        total = Counter(self._ended)
        for counts in self._seen.values():
            total.update(counts)
        return dict(total)


class Counted:
    """What HAProxy counts, over all its workers."""

    def __init__(self) -> None:
        self._decisions, self._dropped = Sums(), Sums()
        self._ends: tuple[object, float, tuple[int, int | None, int]] | None = None

    def ends(self, devices: Mapping[str, Entry], now: float) -> tuple[int, int | None, int]:
        """As `ends`, looked at once a minute while they are the same: 100,000 devices take 50 ms."""
        if self._ends is None or self._ends[0] is not devices or now - self._ends[1] > 60:
            self._ends = devices, now, ends(devices, now)
        return self._ends[2]

    def look(self, runtime: Runtime, workers: Iterable[int]) -> tuple[dict[str, int], int]:
        """(decisions by reason, lines that the log lost). One that does not answer counts as before."""
        decisions: dict[int, dict[str, int]] = {}
        dropped: dict[int, dict[str, int]] = {}
        for pid in workers:
            decisions[pid], dropped[pid] = {}, {}
            with contextlib.suppress(EngineError, ValueError):
                decisions[pid] = runtime.table(pid, "reasons", "http_req_cnt")
                dropped[pid] = {"lines": int(runtime.info(pid).get("DroppedLogs", "0"))}
        return self._decisions.look(decisions), self._dropped.look(dropped).get("lines", 0)


@dataclass(frozen=True, slots=True)
class Figures:
    """What is told; times in Unix seconds. `soonest` is None without devices."""

    now: float
    version: int
    time: int
    devices: int
    soonest: int | None
    ending: int
    decisions: Mapping[str, int]
    dropped: int
    streams: int


def ends(devices: Mapping[str, Entry], now: float) -> tuple[int, int | None, int]:
    """(devices with a certificate in force, when the first one ends, how many end within 30 days)."""
    present: set[str] = set()
    soonest: int | None = None
    ending = 0
    for entry in devices.values():
        if entry.not_after < now:
            continue
        present.add(entry.id)
        soonest = entry.not_after if soonest is None else min(soonest, entry.not_after)
        ending += entry.not_after < now + _SOON
    return len(present), soonest, ending


def shown(figures: Figures) -> str:
    """The text format of Prometheus, version 0.0.4."""
    return "".join(f"{line}\n" for line in _lines(figures))


def _lines(figures: Figures) -> Iterator[str]:
    def one(name: str, kind: str, text: str, *values: tuple[str, float | int]) -> Iterator[str]:
        yield f"# HELP redlatch_{name} {text}"
        yield f"# TYPE redlatch_{name} {kind}"
        yield from (f"redlatch_{name}{labels} {_number(value)}" for labels, value in values)

    yield from one("devices", "gauge", "Devices that hold a certificate in force.", ("", figures.devices))
    if figures.soonest is not None:
        left = figures.soonest - figures.now
        yield from one(
            "certificate_expiry_seconds", "gauge", "Seconds until the first device's certificate ends.", ("", left)
        )
    yield from one(
        "certificates_ending", "gauge", "Certificates of devices that end within 30 days.", ("", figures.ending)
    )
    decisions = ((f'{{reason="{_label(name)}"}}', count) for name, count in sorted(figures.decisions.items()))
    yield from one("decisions_total", "counter", "Decisions by reason; ok let somebody in.", *decisions)
    yield from one("snapshot_version", "gauge", "The version of the snapshot in force.", ("", figures.version))
    age = max(0.0, figures.now - figures.time)
    yield from one("snapshot_age_seconds", "gauge", "Seconds since that snapshot was made.", ("", age))
    yield from one("log_dropped_total", "counter", "Lines that the access log lost.", ("", figures.dropped))
    yield from one("open_streams", "gauge", "Streams of devices that are open.", ("", figures.streams))


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


class Answering:
    """The socket; `answer` is called when it is readable. Only HAProxy's user, which is ours, gets to it."""

    def __init__(self, path: Path, text: Callable[[], str]) -> None:
        self._path = path
        self._text = text
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.setblocking(False)
        with explained("make the socket", path):
            path.unlink(missing_ok=True)
            before = os.umask(0o177)
            try:
                self._socket.bind(str(path))
            finally:
                os.umask(before)
            self._socket.listen(8)

    def fileno(self) -> int:
        """For select."""
        return self._socket.fileno()

    def answer(self) -> None:
        """Answers one request."""
        with contextlib.suppress(OSError):
            sock, _ = self._socket.accept()
            with sock:
                sock.settimeout(_SECONDS)
                head = b""
                while b"\r\n\r\n" not in head and len(head) < _MOST:
                    piece = sock.recv(_MOST)
                    if not piece:
                        return
                    head += piece
                body = self._text().encode()
                sock.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
                    + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
                    + body
                )

    def close(self) -> None:
        """Ends it; the name goes too."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
