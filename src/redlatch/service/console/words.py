"""What the console says about devices, certificates, accesses and changes: the command line's words."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from redlatch.engines.nodered.reasons import Reason, reason

if TYPE_CHECKING:
    from redlatch.engines.nodered.claims import Access
    from redlatch.operations.publishing import Force
    from redlatch.operations.site import Site
    from redlatch.store import Certificate, LinkRow

SOON = timedelta(days=30)


class State(NamedTuple):
    """A state in words, and which sign stands before it: good, warn, bad or off."""

    word: str
    sign: str


def device_state(revoked_at: datetime | None, not_after: datetime | None, now: datetime) -> State:
    """By the end of the device's last certificate in use (None: it has none)."""
    if revoked_at is not None:
        return State("revoked", "bad")
    if not_after is None:
        return State("without a key", "off")
    if not_after < now:
        return State("expired", "bad")
    return State("ends soon", "warn") if not_after - now < SOON else State("active", "good")


def certificate_state(one: Certificate, now: datetime) -> State:
    if one.revoked_at is not None:
        return State("revoked", "bad")
    if now < one.not_before:
        return State("not yet", "warn")
    if now > one.not_after:
        return State("expired", "off")
    return State("ends soon", "warn") if one.not_after - now < SOON else State("active", "good")


_LINK_SIGNS = {"open": "warn", "used": "good", "confirmed": "good", "withdrawn": "off", "expired": "off"}


def link_state(link: LinkRow, now: datetime) -> State:
    from redlatch.operations import links

    word = links.state(link, now)
    return State(word, _LINK_SIGNS[word])


def force(found: Force) -> str:
    """How far a change got, in a sentence; never further than it was seen."""
    note = f": {found.note}" if found.note else ""
    if found.state != "in-force":
        return f"{found.state}{note}"
    if found.closed and found.ms is not None:
        many = "1 connection" if found.closed == 1 else f"{found.closed:,} connections"
        return f"in force, says {found.by}: {many} closed {found.ms:.0f} ms later{note}"
    return f"in force, says {found.by}{note}"


@cache
def why(code: str) -> Reason:
    """The words of a decision's reason."""
    return reason(code)


class Line(NamedTuple):
    """One access in words. `device_id` is None for nobody known."""

    at: datetime
    allow: bool
    verdict: str
    why: str
    device_id: str | None
    who: str
    address: str
    what: str
    times: int


class Names:
    """Names of devices by their ids, looked up as they come: a log names few of them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[str, str | None] = {}

    def get(self, device_id: str | None) -> str | None:
        """The device's name, None for nobody known."""
        if device_id is None:
            return None
        if device_id not in self._known:
            with self._site.store.read() as view:
                device = view.device_by_id(device_id)
            self._known[device_id] = None if device is None else device.name
        return self._known[device_id]


def line(one: Access, names: Names) -> Line:
    """As `redlatch log` says it."""
    name = names.get(one.device_id)
    # A stranger refused in the handshake never got to ask for anything.
    what = f"{one.method} {one.path}{' websocket' if one.upgrade else ''}" if one.method else "a connection"
    return Line(
        one.at,
        one.allow,
        "admitted" if one.allow else "refused",
        "" if one.allow else why(one.reason).text,
        one.device_id if name is not None else None,
        name or (f"certificate {one.fingerprint}" if one.fingerprint else "nobody known"),
        one.address,
        what,
        one.count,
    )
