"""What the console itself remembers while it runs: nothing that would be missed after a restart."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from redlatch.operations import status

if TYPE_CHECKING:
    from redlatch.operations.site import Site
    from redlatch.operations.status import Known

_FRESH = 5.0
_MOST = 1000


class Memory:
    """Shared by all requests; threads take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._used: OrderedDict[str, None] = OrderedDict()
        self._known: tuple[float, Known] | None = None
        self.backs: OrderedDict[str, tuple[str, str]] = OrderedDict()
        #: Held by the one verification of the audit trail that runs.
        self.verifying = threading.Lock()

    def new_form(self) -> str:
        """A mark for a form whose answer shows a secret."""
        return secrets.token_urlsafe(12)

    def first_time(self, mark: str) -> bool:
        """Whether a form with this mark was not sent before: a reloaded answer must not make a second key."""
        with self._lock:
            mark = mark[:64]
            if mark in self._used:
                return False
            if mark:
                self._used[mark] = None
            while len(self._used) > _MOST:
                self._used.popitem(last=False)
            return True

    def not_used(self, mark: str) -> None:
        """The form came to nothing: it may be sent again."""
        with self._lock:
            self._used.pop(mark[:64], None)

    def goes_back(self, change: str, place: tuple[str, str]) -> None:
        """Keeps where to go after a change."""
        with self._lock:
            self.backs[change] = place
            while len(self.backs) > _MOST:
                self.backs.popitem(last=False)

    def health(self, site: Site) -> Known:
        """How the site stands, looked at when the last look is older than a few seconds: one look may read eight
        megabytes of Node-RED's log.
        """
        with self._looking:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH:
                self._known = time.monotonic(), status.known(site)
            return self._known[1]

    def forget_health(self) -> None:
        """After a change: the next look is a new one."""
        self._known = None
