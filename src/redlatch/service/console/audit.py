"""Who changed what, and whether the record of it is whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from redlatch.audit import KINDS
from redlatch.errors import Busy
from redlatch.service.console import views, words
from redlatch.service.console.asking import Ask, Page, Way
from redlatch.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redlatch.audit import Event

_SHOWN = 50
_HIDDEN = ("device", "name", "certificates")
_KEYS = {"not_after": "until", "old": "before", "new": "now", "to": "to the address"}


class Told(NamedTuple):
    """An event in words. `subject` is what it is about, `device_id` where its page is."""

    number: int
    at: datetime
    actor: str
    sentence: str
    subject: str
    device_id: str
    details: tuple[tuple[str, str], ...]


def show(ask: Ask) -> Page:
    """The events before number `before`, the newest first."""
    before = ask.query.number("before", 0) or None
    with ask.site.store.read() as view:
        found = view.audit_before(before, _SHOWN + 1)
    names = words.Names(ask.site)
    events = [told(one.event, names) for one in found[:_SHOWN]]
    older = events[-1].number if len(found) > _SHOWN else None
    return Page("audit.html", {"events": events, "older": older, "first": before is None})


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


def told(event: Event, names: words.Names) -> Told:
    """The event in words."""
    data = dict(event.data)
    device_id = str(data.get("device") or "")
    subject = data.get("name", data.get("what", data.get("origin"))) or names.get(device_id)
    return Told(
        event.seq,
        event.at,
        event.actor,
        KINDS.get(event.kind, event.kind),
        subject if isinstance(subject, str) else "",
        device_id,
        tuple(_details(data)),
    )


def _details(data: Mapping[str, object]) -> list[tuple[str, str]]:
    """What else an event tells; of a fingerprint the beginning: `redlatch audit --json` has all of it."""
    shown = []
    for key, value in data.items():
        if value is None or value is False or key in _HIDDEN or (key == "what" and isinstance(value, str)):
            continue
        text = _text(value)
        if key in ("fingerprint", "serial"):
            text = text[:16]
        elif key == "not_after" and isinstance(value, int):
            text = views.day(datetime.fromtimestamp(value, UTC))
        shown.append((_KEYS.get(key, key.replace("_", " ")), text[:500]))
    return shown


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if value is True:
        return "yes"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


WAYS = (Way("/audit", show), Way("/audit/verify", verify))
