"""The first page, and everything that wants attention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from redlatch.checks import report as reports
from redlatch.operations import links
from redlatch.service.console import chart, words
from redlatch.service.console.asking import Ask, Page, Way

if TYPE_CHECKING:
    from redlatch.checks.report import Kept, Line
    from redlatch.operations.status import Known

_FEW = 8
#: After that a report says little about today; the timer looks every six hours.
OLD: Final = timedelta(days=2)
_SIGNS: Final = {"open": "bad", "broken": "bad", "weak": "warn", "note": "off"}
STRANGERS = {
    "strict": "get nothing",
    "explain": "get a page that says why",
    "auto": "get a page that says why in private networks, elsewhere nothing",
}


def overview(ask: Ask) -> Page:
    """How the site stands, in words and one picture."""
    known = ask.memory.health(ask.context.site)
    watch = ask.context.watch
    names = words.Names(ask.site)
    connected: dict[str, int] = {}
    for one in watch.connections():
        connected[one.device_id] = connected.get(one.device_id, 0) + 1
    hours = watch.hours()
    return Page(
        "overview.html",
        {
            "known": known,
            "verdict": verdict(known),
            "strangers": STRANGERS[known.mode],
            "console": ask.context.console_url(ask.host),
            "enrolment": ask.context.enrolment_url(ask.host),
            "connected": [
                (device_id, names.get(device_id) or "a device that is not known", count)
                for device_id, count in list(connected.items())[:_FEW]
            ],
            "more_connected": max(0, len(connected) - _FEW),
            "hours": hours,
            "chart": chart.draw(hours),
            "refused": [words.line(one, names) for one in watch.refused(_FEW)],
            "open_links": links.open_links(ask.site)[:_FEW],
            "ending": (*known.ended, *known.ending)[:_FEW],
            "more_ending": max(0, len(known.ended) + len(known.ending) - _FEW),
        },
    )


def health(ask: Ask) -> Page:
    """All that is not as it should be, with its remedy."""
    known = ask.memory.health(ask.context.site)
    return Page(
        "health.html",
        {
            "known": known,
            "verdict": verdict(known),
            "strangers": STRANGERS[known.mode],
            "last": last_check(ask),
        },
    )


def last_check(ask: Ask) -> Last:
    """What `redlatch check` found, which root ran: this service may not look at most of it."""
    kept = reports.load(ask.site.settings)
    old = kept is not None and abs(ask.site.clock() - kept.at) > OLD
    return Last(kept, old, [(one, _SIGNS.get(one.severity, "warn")) for one in kept.findings] if kept else [])


@dataclass(frozen=True, slots=True)
class Last:
    """The last report, None where there is none; whether it is too old to go by; its findings, each with its
    sign.
    """

    kept: Kept | None
    old: bool
    findings: list[tuple[Line, str]]


def verdict(known: Known) -> tuple[str, str, str]:
    """(sign, headline, sentence): what can be said from here; whether settings.js still has the lock cannot."""
    if not known.adopted:
        return "bad", "Not locked", "Node-RED is open to whoever reaches it: run redlatch up on the machine."
    if known.claim is None and "gateway" in known.engines:
        return (
            "warn",
            "The gateway says nothing",
            "It does not run, so nobody gets in through it. On the machine: redlatch gateway status",
        )
    if known.claim is None:
        return (
            "warn",
            "Node-RED says nothing",
            "Either it does not run, or no guard runs in it. On the machine: redlatch status",
        )
    if known.claim.version != known.recorded or known.published != known.recorded or known.claim.problem:
        return (
            "warn",
            "Not everything is in force",
            "What was changed last may not count yet.",
        )
    who = "the gateway" if known.engines == ("gateway",) else "Node-RED"
    return "good", f"Locked, says {who}", "What was changed last is in force."


WAYS = (Way("/", overview), Way("/health", health))
