"""connections.json: who is connected, looked at as often as it costs little."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from typing import Final

from redlatch.engines.haproxy.report import Claims
from redlatch.engines.haproxy.runtime import Gone, Runtime
from redlatch.engines.haproxy.streams import Streams

_EVERY: Final = 2.0  # s
_SHARE: Final = 100  # of the time, one part in so many


class Listing:
    """The open streams of devices. `count`: how many there were when they were looked at last."""

    def __init__(self, runtime: Runtime, streams: Streams, claims: Claims) -> None:
        self.count = 0
        self._runtime = runtime
        self._streams = streams
        self._claims = claims
        self._changed = True
        self._looked = 0.0
        self._cost = 0.0

    def changed(self) -> None:
        """A websocket opened, or was cut."""
        self._changed = True

    def look(self, workers: Iterable[int]) -> None:
        """Writes it anew where that is due. EngineError where HAProxy cannot be asked."""
        now = time.monotonic()
        if not self._changed and now < self._looked + max(_EVERY, _SHARE * self._cost):
            return
        sessions = {}
        for pid in workers:
            with contextlib.suppress(Gone):
                sessions[pid] = self._runtime.sessions(pid)
        found = self._streams.open(sessions, time.time())
        self._changed, self.count = False, len(found)
        self._claims.connections(found)
        self._looked, self._cost = now, time.monotonic() - now
