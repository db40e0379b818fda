"""What forms that change who gets in have in common: whom it would cut, insisting on it, making it on trial."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from redlatch.errors import RedlatchError
from redlatch.operations import trials, weighing
from redlatch.service.console.asking import Ask, Begin, Outcome, Page, Way

if TYPE_CHECKING:
    from redlatch.operations.site import Site

#: What a form offers: seconds, words. The operation knows the limits.
LENGTHS: Final = (
    (0, "for good"),
    (120, "on trial for 2 minutes"),
    (600, "on trial for 10 minutes"),
    (3600, "on trial for an hour"),
)
_HOME: Final = ("/", "the overview")


def look(ask: Ask, operation: Callable[[Site], object], *, triable: bool = True) -> dict[str, Any]:
    """What a form shows of a change before it is made: what it would do to whom, weighed and not made."""
    return {"weighed": weighing.rehearse(ask.site, operation), **choices(triable=triable)}


def refused(ask: Ask, operation: Callable[[Site], object], *, triable: bool = True) -> dict[str, Any] | None:
    """As `look`, for a form that was sent: what to show again when it locks somebody out and nobody insists."""
    if ask.form.has("insist"):
        return None
    try:
        would = look(ask, operation, triable=triable)
    except RedlatchError:  # the change itself says so
        return None
    return would if would["weighed"].lost else None


def choices(*, triable: bool = True) -> dict[str, Any]:
    """What a form shows that cannot know yet what it would do."""
    return {"lengths": LENGTHS if triable else ()}


def begin(
    ask: Ask, title: str, operation: Callable[[Site], Outcome], back: tuple[str, str], *, triable: bool = True
) -> Begin:
    """The change as the form asks for it: by a ticked box although it locks somebody out, or on trial."""
    seconds = ask.form.number("try", 0, most=3600) if triable else 0
    trial = trials.length(timedelta(seconds=seconds)) if seconds else None
    return Begin(title, operation, back, insist=ask.form.has("insist"), trial=trial)


# --- the change on trial


def show(ask: Ask) -> Page:
    """The change on trial and how long it lasts; for htmx only that."""
    data = {"trial": trials.show(ask.site), "kept": trials.was_kept(ask.site)}
    return Page("trial_state.html" if ask.part == "trial" else "trial.html", data)


def keep(ask: Ask) -> Begin:
    """Keeps it: over a connection that began after the change, by somebody who still manages."""

    def operation(site: Site) -> Outcome:
        # whatever comes of it, the next one comes over a new connection
        ask.context.renew_connections()
        ended = trials.keep(site, connected=ask.visitor.connected)
        return Outcome(f"kept: {ended.what}", None)

    return Begin("Keep the change", operation, ("/trial", "the change on trial"))


def undo(_: Ask) -> Begin:
    """Takes it back now."""

    def operation(site: Site) -> Outcome:
        ended = trials.undo(site)
        stayed = tuple(f"this stays: {one}" for one in ended.stayed)
        return Outcome(f"taken back: {ended.what}", ended.force, stayed)

    return Begin("Take the change back", operation, _HOME)


WAYS = (
    Way("/trial", show),
    Way("/trial/keep", None, keep),
    Way("/trial/undo", None, undo),
)
