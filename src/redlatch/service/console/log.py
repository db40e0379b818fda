"""The access log, as it comes: the word of Node-RED and of the gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redlatch.operations import engines
from redlatch.service.console import words
from redlatch.service.console.asking import Ask, Fields, Page, Way

if TYPE_CHECKING:
    from redlatch.engines.nodered.claims import Access

_SHOWN = 200


def show(ask: Ask) -> Page:
    """The last accesses, the newest first."""
    watch = ask.context.watch
    number = watch.number
    fits = _filter(ask.query)
    speakers = engines.configured(ask.site.settings, ask.site.config())
    entries = [one for one in reversed(watch.recent()) if fits(one)][:_SHOWN]
    return Page(
        "log.html",
        _shown(ask, entries, number)
        | {
            "speakers": [(one.user, one.is_gateway) for one in speakers],
            "which": ask.query.get("show"),
            "device": ask.query.get("device"),
            "device_name": words.Names(ask.site).get(ask.query.get("device")) or "a device that is not known",
            "of": len(watch.recent()),
        },
    )


def rows(ask: Ask) -> Page:
    """What came since entry number `after`, for a page that is open."""
    watch = ask.context.watch
    number = watch.number
    after = ask.query.number("after", 0)
    fits = _filter(ask.query)
    entries = [one for one in reversed(watch.recent(after)) if fits(one)][:_SHOWN]
    page = Page("log_rows.html", _shown(ask, entries, number))
    # The service began anew since, and counts from the start.
    return Page(page.template, page.data, reload=True) if after > number else page


def _shown(ask: Ask, entries: list[Access], number: int) -> dict[str, Any]:
    names = words.Names(ask.site)
    asked = {"after": str(number), "show": ask.query.get("show"), "device": ask.query.get("device")}
    return {
        "lines": [words.line(one, names) for one in entries],
        "asked": {name: value for name, value in asked.items() if value},
    }


def _filter(query: Fields) -> Any:
    which, device = query.get("show"), query.get("device")

    def fits(one: Access) -> bool:
        return (which not in ("refused", "admitted") or one.allow == (which == "admitted")) and (
            not device or one.device_id == device
        )

    return fits


WAYS = (Way("/log", show), Way("/log/rows", rows))
