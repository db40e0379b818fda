"""What Node-RED and the gateway say, kept up to date while the service runs: connections, accesses, who was seen.

All of it is a claim of their users: shown as such, never an input to a permission.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from redlatch.engines.nodered import claims
from redlatch.errors import RedlatchError
from redlatch.operations import engines, publishing
from redlatch.operations.site import Site

if TYPE_CHECKING:
    from redlatch.engines.nodered.claims import Access, Connection, InForce

#: Accesses that are shown; a longer look back is `redlatch log`.
RECENT = 500
#: Hours of the picture.
HOURS = 48
#: Seconds between two notes of who was seen.
NOTE_SECONDS = 60.0
_MOST_UNNOTED = 20_000


@dataclass(frozen=True, slots=True)
class Hour:
    """Accepted and refused accesses in the hour that begins at `at`."""

    at: datetime
    accepted: int
    refused: int


class Watch:
    """Asked by pages, fed by `look` once a second (in a thread; one at a time)."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._tails: dict[tuple[str, int], claims.AccessTail] = {}
        self._recent: deque[Access] = deque(maxlen=RECENT)
        self._hours: Counter[tuple[int, bool]] = Counter()
        self._unnoted: dict[str, tuple[datetime, str]] = {}
        self._noted = time.monotonic()
        self._connections: tuple[Connection, ...] = ()
        self.in_force: InForce | None = None
        self.number = 0  # how many accesses were read, so that a page can ask for what is new

    def look(self) -> None:
        """Reads what is new. What cannot be read is as if it were not there."""
        found = engines.configured(self._site.settings, self._site.config())
        running = {one.name: publishing.running(one) for one in found}
        said = [one for one in running.values() if one is not None]
        # of two engines the one that lags
        self.in_force = min(said, key=lambda one: one.version) if len(said) == len(found) > 0 else None
        open_now: list[Connection] = []
        new: list[Access] = []
        tails = {}
        for one in found:
            key = (one.name, one.uid)
            tails[key] = self._tails.get(key) or claims.AccessTail(one.settings, one.uid)
            try:
                if running[one.name] is not None:
                    open_now += claims.read_connections(one.settings, one.uid) or []
                new += tails[key].read()
            except RedlatchError:
                continue
        self._tails = tails
        self._connections = tuple(open_now)
        for access in sorted(new, key=lambda one: one.at):
            self._take(access)
        self._forget_hours()
        if time.monotonic() - self._noted >= NOTE_SECONDS or len(self._unnoted) > _MOST_UNNOTED:
            self.note()

    def note(self) -> None:
        """Keeps in the store who was seen since the last note: one transaction for all of them."""
        self._noted = time.monotonic()
        now = self._site.clock()
        for one in self._connections:  # who is connected is seen, even if it asks for nothing
            self._unnoted[one.device_id] = (now, one.address)
        if not self._unnoted:
            return
        with self._site.store.write(self._site.actor, now) as tx:
            for device_id, (at, address) in self._unnoted.items():
                tx.see(device_id, min(at, now), address)
        self._unnoted.clear()

    def connections(self, device_id: str | None = None) -> tuple[Connection, ...]:
        """Open connections, of one device or of all."""
        return tuple(one for one in self._connections if device_id in (None, one.device_id))

    def seen(self, device_id: str) -> tuple[datetime, str] | None:
        """When and from where a device was let in since the last note; what was before is in the store."""
        return self._unnoted.get(device_id)

    def let_in(self, fingerprint: str, since: datetime) -> Access | None:
        """The first access that a certificate (64 hex digits) was allowed since then."""
        return next(
            (
                one
                for one in self._recent
                if one.allow and one.at >= since and one.fingerprint and fingerprint.startswith(one.fingerprint)
            ),
            None,
        )

    def recent(self, after: int = 0) -> Sequence[Access]:
        """The last accesses, oldest first; with `after` (an earlier `number`) those that came since."""
        new = self.number - after
        return list(self._recent)[-new:] if new > 0 else []

    def refused(self, limit: int) -> list[Access]:
        """The last refusals, newest first."""
        return [one for one in reversed(self._recent) if not one.allow][:limit]

    def hours(self) -> list[Hour]:
        """The last HOURS hours, oldest first, the present one last."""
        now = int(self._site.clock().timestamp()) // 3600
        zone = self._site.clock().tzinfo
        return [
            Hour(datetime.fromtimestamp(hour * 3600, zone), self._hours[(hour, True)], self._hours[(hour, False)])
            for hour in range(now - HOURS + 1, now + 1)
        ]

    def _take(self, one: Access) -> None:
        self._recent.append(one)
        self.number += 1
        self._hours[(int(one.at.timestamp()) // 3600, one.allow)] += one.count
        if one.allow and one.device_id is not None:
            self._unnoted[one.device_id] = (one.at, one.address)

    def _forget_hours(self) -> None:
        first = int(self._site.clock().timestamp()) // 3600 - HOURS
        for key in [key for key in self._hours if key[0] < first]:
            del self._hours[key]
