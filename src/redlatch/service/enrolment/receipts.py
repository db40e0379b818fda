"""What is remembered of a handed-over key while its page is open: that it is out, whether its device came in."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

#: Seconds that a page may ask whether its device is in.
PATIENCE = 15 * 60.0
#: Seconds in which a profile may be fetched, once.
PROFILE_PATIENCE = 60.0
MOST = 1000
MOST_PROFILES = 64


@dataclass(slots=True)
class Receipt:
    """One key that was handed over. `link` is the number of its link (None: a renewal without one), `since`
    when its certificate began.
    """

    link: int | None
    fingerprint: str
    since: datetime
    until: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A signed profile that waits for Safari to fetch it."""

    name: str
    content: bytes
    until: float


class Receipts:
    """Bounded, in memory only: a restart forgets them, and with them nothing but a tick. One event loop."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._receipts: OrderedDict[str, Receipt] = OrderedDict()
        self._profiles: OrderedDict[str, Profile] = OrderedDict()

    def give(self, link: int | None, fingerprint: str, since: datetime) -> str:
        """A receipt, 128 bits, for the page that holds the key."""
        self._tidy()
        receipt = secrets.token_urlsafe(16)
        self._receipts[receipt] = Receipt(link, fingerprint, since, self._clock() + PATIENCE)
        while len(self._receipts) > MOST:
            self._receipts.popitem(last=False)
        return receipt

    def find(self, receipt: str) -> Receipt | None:
        self._tidy()
        return self._receipts.get(receipt)

    def lay_out(self, name: str, content: bytes) -> str:
        """Keeps a profile for a minute; returns the ticket, 128 bits, that fetches it once."""
        self._tidy()
        ticket = secrets.token_urlsafe(16)
        self._profiles[ticket] = Profile(name, content, self._clock() + PROFILE_PATIENCE)
        while len(self._profiles) > MOST_PROFILES:
            self._profiles.popitem(last=False)
        return ticket

    def fetch(self, ticket: str) -> Profile | None:
        """The profile, which is then gone from here."""
        self._tidy()
        return self._profiles.pop(ticket, None)

    def _tidy(self) -> None:
        now = self._clock()
        for kept in (self._receipts, self._profiles):
            for name in [name for name, one in kept.items() if one.until <= now]:
                del kept[name]
