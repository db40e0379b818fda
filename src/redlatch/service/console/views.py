"""From a page's data to what goes out: templates, static files, and the plain pages for those who may not look."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import escape
from starlette.responses import HTMLResponse, Response

from redlatch.operations import trials

if TYPE_CHECKING:
    from starlette.requests import Request

    from redlatch.errors import RedlatchError
    from redlatch.service.console.asking import Page
    from redlatch.service.context import Context
    from redlatch.service.visitor import Visitor

_HERE = Path(__file__).parent
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".txt": "text/plain"}

#: The menu: address, words.
MENU: Final = (
    ("/", "Overview"),
    ("/devices", "Devices"),
    ("/links", "Links"),
    ("/rules", "Rules"),
    ("/networks", "Networks"),
    ("/roles", "Roles"),
    ("/map", "Map"),
    ("/log", "Log"),
    ("/audit", "Audit"),
    ("/health", "Health"),
)


def problem(error: RedlatchError, status: int) -> Page:
    """An error in the words that the command line has for it."""
    from redlatch.service.console.asking import Page

    return Page("problem.html", {"error": error, "status": status}, status)


def response(page: Page, visitor: Visitor, context: Context, path: str) -> Response:
    """The page as this visitor may see it."""
    if page.status == 204:  # nothing new for a part of a page
        return Response(status_code=204)
    now = context.site.clock()
    text = (
        environment()
        .get_template(page.template)
        .render(
            **page.data,
            visitor=visitor,
            may_change=visitor.may_change,
            menu=MENU,
            path=path,
            here=_here(path),
            now=now,
            zone=now.astimezone().tzname(),
            on_trial=trials.show(context.site),
            versions={name: one.version for name, one in _files().items()},
        )
    )
    answer = HTMLResponse(text, page.status)
    if page.place:
        answer.headers["hx-push-url"] = page.place
    if page.reload:
        answer.headers["hx-refresh"] = "true"
    answer.headers["vary"] = "HX-Request, HX-Target"
    return answer


def plain(status: int, title: str, why: str, advice: str, *, known: bool = False, renew: bool = False) -> Response:
    """A page for those who may not look: without the console's menu. The connection ends with it.

    `known`: for a device in use, which may fetch how it looks; `renew`: and renew its key.
    """
    style = f"/static/console.css?v={_files()['console.css'].version}"
    look = f'<link rel="stylesheet" href="{style}">' if known else ""
    button = '<p><a class="button strong" href="/renew">Renew this device\'s key</a></p>' if renew else ""
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="color-scheme" content="light dark">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(title)}</title><link rel="icon" href="data:,">{look}</head>\n<body class="bare"><main>'
        f"<h1>{escape(title)}</h1>\n<p>{escape(why)}</p>\n<p>{escape(advice)}</p>\n{button}</main></body></html>\n"
    )
    return HTMLResponse(text, status, {"connection": "close"})


class _File(NamedTuple):
    content: bytes
    media_type: str
    version: str


@cache
def _files() -> dict[str, _File]:
    """What lies in static/, read once: three small files."""
    return {
        path.name: _File(
            content := path.read_bytes(), _TYPES[path.suffix], hashlib.sha256(content).hexdigest()[:12]
        )
        for path in sorted((_HERE / "static").iterdir())
        if path.suffix in _TYPES
    }


def static(request: Request) -> Response | None:
    """A file of static/, which a browser may keep when it names the version; None where there is none."""
    found = _files().get(request.url.path.removeprefix("/static/"))
    if found is None or request.method not in ("GET", "HEAD"):
        return None
    kept = request.query_params.get("v") == found.version
    caching = "private, max-age=31536000, immutable" if kept else "no-store"
    return Response(found.content, media_type=found.media_type, headers={"cache-control": caching})


def _here(path: str) -> str:
    """The entry of the menu that a path belongs to."""
    return f"/{path.split('/')[1]}"


@cache
def environment() -> Environment:
    """The templates: everything escaped, and an error for what a template misses."""
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters |= {
        "day": day,
        "minute": minute,
        "second": second,
        "iso": iso,
        "isolated": isolated,
        "several": several,
        "ago": ago,
        "url": urlencode,
    }
    return made


def day(moment: datetime) -> str:
    """The date, in UTC, as certificates have it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def minute(moment: datetime) -> str:
    """Date and time in this machine's time zone, which the foot of every page names."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def second(moment: datetime) -> str:
    """As `minute`, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def iso(moment: datetime) -> str:
    """For machines: ISO 8601 in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def isolated(text: str) -> str:
    """A name for places where no element can hold it (titles, labels): its direction ends with it."""
    return f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}"


def several(count: int, one: str, many: str = "") -> str:
    """As in: 1 device, 2 devices."""
    return f"1 {one}" if count == 1 else f"{count:,} {many or one + 's'}"


def ago(moment: datetime, now: datetime) -> str:
    """How long ago, or until then, in one unit."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 45:
        return "now"
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if abs(seconds) >= size or unit == "minute":
            text = several(max(1, round(abs(seconds) / size)), unit)
            return f"{text} ago" if seconds > 0 else f"in {text}"
    return ""
