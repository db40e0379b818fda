"""Who changed what, and whether the record of it is whole."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from redlatch.audit import KINDS
from redlatch.errors import Busy
from redlatch.service.console.asking import Ask, Page, Way
from redlatch.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redlatch.audit import Event

_SHOWN = 50
_HIDDEN = ("device", "name", "certificates")


class Told(NamedTuple):
    """An event in words. `subject` is what it is about, `device_id` where its page is."""

    number: int
    at: datetime
    actor: str
    sentence: str
    kind: str
    subject: str
    device_id: str
    details: tuple[tuple[str, str], ...]


def show(ask: Ask) -> Page:
    """The events before number `before`, the newest first."""
    before = ask.query.number("before", 0) or None
    with ask.site.store.read() as view:
        found = view.audit_before(before, _SHOWN + 1)
    events = [told(one.event) for one in found[:_SHOWN]]
    older = events[-1].number if len(found) > _SHOWN else None
    return Page("audit.html", {"events": events, "older": older, "first": before is None, "verified": None})


def verify(ask: Ask) -> Page:
    """Reads all events and follows their hashes. On a connection of its own: nobody waits for it."""
    if not ask.memory.verifying.acquire(blocking=False):
        raise Busy("the audit trail is being verified already", hint="wait a moment, then try again")
    try:
        with Store.open(ask.site.settings.database) as store, store.read() as view:
            found = view.verify_audit()
    finally:
        ask.memory.verifying.release()
    return Page("verified.html", {"found": found, "head": found.head.hex()})


def told(event: Event) -> Told:
    """The event in words."""
    data = dict(event.data)
    subject = data.get("name", data.get("what", data.get("origin", "")))
    return Told(
        event.seq,
        event.at,
        event.actor,
        KINDS.get(event.kind, event.kind),
        event.kind,
        subject if isinstance(subject, str) else "",
        str(data.get("device") or ""),
        tuple(_details(data)),
    )


def _details(data: Mapping[str, object]) -> list[tuple[str, str]]:
    shown = []
    for key, value in data.items():
        if value is None or key in _HIDDEN or (key == "what" and isinstance(value, str)):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        # A fingerprint is looked up by its beginning; the whole of it is in redlatch audit --json.
        shown.append((key.replace("_", " "), text[:16] if key in ("fingerprint", "serial") else text[:500]))
    return shown


WAYS = (Way("/audit", show), Way("/audit/verify", verify))
