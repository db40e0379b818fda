"""Who reaches what: one request explained, and the map of everything."""

from __future__ import annotations

from redlatch.errors import RedlatchError
from redlatch.operations import reach, server
from redlatch.policy.model import METHODS
from redlatch.service.console.asking import Ask, Page, Way

_ABOUT = {
    "editor": "the editor, its plugins' routes, and every path that is not known to be anything else",
    "dashboard": "a dashboard, with its websockets",
    "http-in": "an http-in endpoint of a flow",
    "websocket": "a websocket of a flow",
    "static": "static files",
    "path": "a path that only a rule names",
}


def test(ask: Ask) -> Page:
    """What a request would get, and why. Sends nothing; asked by GET, for it changes nothing."""
    query = ask.query
    said = {
        "method": query.get("method", "GET"),
        "path": query.get("path") or "/",
        "device": query.get("device"),
        "address": query.get("address"),
        "websocket": query.has("websocket"),
        "origin": query.get("origin"),
        "open_port": query.has("open_port"),
    }
    found, error = None, None
    if query.has("look"):
        asked = reach.Asked(
            str(said["method"]),
            str(said["path"]),
            str(said["device"]) or None,
            str(said["address"]),
            websocket=bool(said["websocket"]),
            origin=str(said["origin"]) or None,
            open_port=bool(said["open_port"]),
        )
        try:
            found = reach.explain(ask.site, asked)
        except RedlatchError as problem:
            error = problem
    return Page(
        "rule_test.html",
        {
            "said": said,
            "methods": METHODS,
            "found": found,
            "error": error,
            "has_port": ask.site.config().open_port is not None,
        },
    )


def map_(ask: Ask) -> Page:
    """Everything that is known to be served, with who may reach it from where."""
    return Page(
        "map.html",
        {"map": reach.known(ask.site), "about": _ABOUT, "by_itself": server.renews_by_itself(ask.site)},
    )


WAYS = (Way("/rules/test", test), Way("/map", map_))
