"""What somebody who is refused by the gateway gets to read: the same words as the guard's (guard/page.js).

Nothing of the request is in it but the reason code, which is one of ours.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from redlatch.engines.nodered.reasons import Reason, reasons

HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
# Contrast is at least 7:1 in light and dark; nothing is loaded from elsewhere
_STYLE: Final = (
    ":root{color-scheme:light dark;--ink:#1d1d1f;--soft:#555;--paper:#fff;--key:#8f0000}"
    "@media(prefers-color-scheme:dark){:root{--ink:#eee;--soft:#b5b5b5;--paper:#161618;--key:#ffb3ab}}"
    "body{font:1.06em/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0}"
    "main{max-width:34em;margin:0 auto;padding:12vh 1.25em 2em}"
    "h1{font-size:1.7em;line-height:1.2;margin:0 0 .6em;padding-left:.5em;border-left:.2em solid var(--key)}"
    "p{margin:0 0 1em}p:first-of-type{font-weight:600}.code{color:var(--soft);font-size:.85em}"
)
# Chromium goes on without a certificate at an address where it once had none, until it is restarted. The guard has
# it asked again by a handshake that fails; HAProxy cannot choose that by address.
_REMEMBERED: Final = (
    "Have you just installed it? Close all windows of the browser and open it again: it remembers that it had "
    "none."
)
_FORGETTABLE: Final = ("no-certificate", "expired")
_DOWN: Final = "Node-RED does not answer"
_DOWN_NEXT: Final = (
    "You were let in, but the Node-RED behind this gateway is not running, or is just starting. Try again."
)


def files(folder: Path) -> dict[str, bytes]:
    """File name -> content: both forms of the page, its words by reason, and what stands for a dead Node-RED."""
    codes = {code: one for code, one in reasons().items() if code != "ok"}
    asked = "%[var(txn.reason),map_str({}/why-{}.map)]"
    lines = [asked.format(folder, "text"), asked.format(folder, "next"), ""]
    return {
        "why.html": _page("Not let in", asked.format(folder, "html"), "%[var(txn.reason)]").encode(),
        "why.txt": "\n".join(lines).encode(),
        "why-text.map": _map({code: f"refused: {one.text} ({code})" for code, one in codes.items()}),
        "why-next.map": _map({code: one.next for code, one in codes.items()}),
        "why-html.map": _map({code: _paragraphs(code, one) for code, one in codes.items()}),
        "down.http": _down(),
    }


def _map(table: Mapping[str, str]) -> bytes:
    return "".join(f"{key} {value}\n" for key, value in table.items()).encode("ascii")


def _paragraphs(code: str, reason: Reason) -> str:
    parts = [
        f"{reason.text[0].upper()}{reason.text[1:]}.",
        reason.next,
        *([_REMEMBERED] if code in _FORGETTABLE else []),
    ]
    return "".join(f"<p>{html.escape(part)}</p>" for part in parts)


def _page(title: str, paragraphs: str, code: str) -> str:
    """As a log format: what is % in CSS would be doubled; there is none."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{title}</h1>{paragraphs}"
        f'<p class="code">Reason: <code>{code}</code></p></main></body></html>\n'
    )


def _down() -> bytes:
    """A whole answer, as errorfile wants it."""
    body = _page(_DOWN, f"<p>{_DOWN}.</p><p>{_DOWN_NEXT}</p>", "upstream-down").encode()
    head = {
        **HEADERS,
        "Content-Type": "text/html; charset=utf-8",
        "Content-Length": str(len(body)),
        "Retry-After": "5",
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"HTTP/1.1 503 Service Unavailable\r\n{lines}\r\n".encode() + body
