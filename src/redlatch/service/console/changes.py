"""How far a change has got: recorded, published, in force. Each state is said when it was seen, none earlier."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redlatch.errors import NotFound
from redlatch.service.console import words
from redlatch.service.console.asking import Ask, Page, Way

if TYPE_CHECKING:
    from redlatch.service.context import Change

_STEPS = ("recorded", "published", "in-force")
_HOME = ("/", "the overview")


def show(ask: Ask) -> Page:
    """A change; for htmx only what is new of it."""
    change = ask.context.changes.get(ask.values["change"])
    if change is None:
        raise NotFound(
            "this change is not known any more", hint="what was recorded stands in the audit trail, for good"
        )
    found = page(change, ask.memory.backs.get(change.id, _HOME))
    if ask.part != "change":
        return found
    return Page("change_state.html", found.data, 204 if ask.query.get("seen") == found.data["seen"] else 200)


def page(change: Change, back: tuple[str, str]) -> Page:
    """The page of a change as it is now."""
    done = change.done.is_set()
    force = change.force
    reached = -1 if force is None else _STEPS.index(force.state)
    data: dict[str, Any] = {
        "change": change,
        "done": done,
        "seen": "done" if done else force.state if force is not None else "begun",
        "back": back,
        "sentence": getattr(change.result, "sentence", ""),
        "notes": getattr(change.result, "notes", ()),
        "trial": getattr(change.result, "trial", None),
        "steps": [
            (name.replace("-", " "), "done" if number <= reached else "" if done else "waiting")
            for number, name in enumerate(_STEPS)
        ]
        if force is not None or not done
        else [],
        "outcome": words.force(force) if done and force is not None and change.error is None else "",
        "good": force is None or force.state == "in-force",
    }
    return Page("change.html", data, place=f"/changes/{change.id}")


WAYS = (Way("/changes/{change}", show),)
