"""Ends open streams that lost their right, and nobody else's."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import Final

from redlatch.engines.haproxy.runtime import Gone, Runtime, Session
from redlatch.engines.haproxy.streams import Streams
from redlatch.policy.model import Snapshot

# When a stream that nobody knows is looked at again, in seconds after the change; at the last it is ended.
_AGAIN: Final = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Cutter:
    """What was cut, and what is still looked at. Methods raise EngineError where HAProxy cannot be asked."""

    def __init__(self, runtime: Runtime, streams: Streams, read: Callable[[], None]) -> None:
        """`read` brings `streams` what the log has come to tell."""
        self._runtime = runtime
        self._streams = streams
        self._read = read
        self._unknown: dict[tuple[int, int], float] = {}  # (worker, stream) -> when the change was
        self._looks: list[float] = []

    def after(self, snapshot: Snapshot, workers: Iterable[int], only: Collection[str] | None) -> int:
        """Cuts what lost its right by a change (`only`: of these certificates); how many. What nobody knows yet is
        kept in mind: see `again`.
        """
        now = time.monotonic()
        cut = self._known(snapshot, only) if only is not None else set()
        closed = len(cut)
        for worker in workers:
            sessions = self._sessions(worker)
            self._read()
            left = [one for one in sessions if (worker, one.id) not in cut]
            found = self._streams.judge(worker, left, snapshot, int(time.time()), only=only)
            closed += self._shut(worker, found.lost)
            for one in found.unknown:
                self._unknown[worker, one.id] = now
        if self._unknown:
            self._looks = sorted({*self._looks, *(now + seconds for seconds in _AGAIN)})
        return closed

    def _known(self, snapshot: Snapshot, only: Collection[str]) -> set[tuple[int, int]]:
        """Those of these certificates whose place is known, at once: to ask for all of a thousand takes 20 ms."""
        cut = set()
        for known, place in list(self._streams.of(only)):
            try:
                session = self._runtime.session(known.worker, place)
                if session is not None and session.id == known.id:
                    found = self._streams.judge(known.worker, [session], snapshot, int(time.time()), only=only)
                    self._shut(known.worker, found.lost)
                    cut |= {(known.worker, one.id) for one in found.lost}
            except Gone:
                continue
        return cut

    def due(self) -> float | None:
        """When `again` shall be called (time.monotonic); None: not before the next change."""
        return self._looks[0] if self._looks else None

    def again(self, snapshot: Snapshot) -> int:
        """Looks once more at what nobody knew: cuts what turned out to have no right, and what is still unknown
        5 s after the change; how many.
        """
        now = time.monotonic()
        self._looks = [one for one in self._looks if one > now]
        closed = 0
        for worker in {worker for worker, _ in self._unknown}:
            sessions = {one.id: one for one in self._sessions(worker)}
            self._read()
            mine = [(number, at) for (of, number), at in self._unknown.items() if of == worker]
            open_ones = [sessions[number] for number, _ in mine if number in sessions]
            found = self._streams.judge(worker, open_ones, snapshot, int(time.time()))
            unknown = {one.id for one in found.unknown}
            late = [
                sessions[number] for number, at in mine if number in unknown and now >= at + _AGAIN[-1] - 0.001
            ]
            closed += self._shut(worker, [*found.lost, *late])
            gone = {one.id for one in late}
            for number, _ in mine:
                if number not in unknown or number in gone:
                    del self._unknown[worker, number]
        if not self._unknown:
            self._looks = []
        return closed

    def ended(self, snapshot: Snapshot, workers: Collection[int]) -> int:
        """Cuts what is open beyond its certificate's time; how many."""
        now = int(time.time())
        closed = 0
        for worker in self._streams.ended(snapshot.devices, max(now, snapshot.time)) & set(workers):
            found = self._streams.judge(worker, self._sessions(worker), snapshot, now)
            closed += self._shut(worker, found.lost)
        return closed

    def _sessions(self, worker: int) -> list[Session]:
        try:
            return self._runtime.sessions(worker)
        except Gone:
            return []

    def _shut(self, worker: int, sessions: Collection[Session]) -> int:
        if sessions:
            self._runtime.shut(worker, [one.pointer for one in sessions])
        return len(sessions)
