"""What holds for every request of every origin, before an application sees it.

A client certificate is sent by the browser whoever's page asks for it, like a cookie: so foreign host names (DNS
rebinding) and whatever another origin's page starts are refused, another port of the same host included. A person
who follows a link is welcome. Who sends neither Origin nor Sec-Fetch-* is no browser, and is judged by certificate
or token alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from typing import Any

from redlatch.service.origin import App

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer: with it, browsers send `Origin: null` with the forms of our own pages (Fetch, 3.2.4).
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
#: What an answer may say otherwise.
_OWN = frozenset({b"cache-control", b"cross-origin-resource-policy"})
_READS = frozenset({"GET", "HEAD"})
#: h11's own limit is for heads that come in pieces; one that comes at once may be as long as a TLS record.
_TARGET_BYTES = 8192
_END = b"""addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(registration.unregister()));
"""


class Guarded:
    """Wraps an application.

    `names()` are the host names, lower case and without port, that this origin goes by (addresses always count),
    `ports()` its ports, `body_bytes` the longest body of a request.
    """

    def __init__(
        self,
        app: App,
        *,
        names: Callable[[], Collection[str]],
        ports: Callable[[], Collection[int]],
        body_bytes: int = 65536,
    ) -> None:
        self._app = app
        self._names = names
        self._ports = ports
        self._body_bytes = body_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        answer = _Answer(send)
        if (b"service-worker", b"script") in scope["headers"]:
            await _end_worker(answer)
            return
        problem = self._problem(scope)
        if problem is None:
            try:
                await self._app(scope, _Body(receive, self._body_bytes), answer)
            except TooLong:
                problem = 413, "that is too much"
        if problem is not None and not answer.begun:
            await _refuse(answer, *problem, told=(b"sec-fetch-site", b"same-site") in scope["headers"])

    def _problem(self, scope: Any) -> tuple[int, str] | None:
        """Status and words for a request that no application shall see."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in _ONCE:
                return 400, "a header came twice"
            headers[name] = value
        host = headers.get(b"host", b"").decode("latin-1").lower()
        method = scope["method"]
        length = headers.get(b"content-length", b"0")
        checks = (
            (
                len(scope["raw_path"]) + len(scope["query_string"]) <= _TARGET_BYTES,
                414,
                "that address is too long",
            ),
            (self._own_host(host), 421, "this name is not served here"),
            (method in _READS or method == "POST", 405, "only GET and POST"),
            (b"upgrade" not in headers, 400, "nothing is upgraded here"),
            (_same_origin(headers, host, method), 403, "a page of another site started this; nothing was done"),
            (length.isdigit() and len(length) < 12, 400, "the length makes no sense"),
            (length.isdigit() and int(length[:12]) <= self._body_bytes, 413, "that is too much"),
        )
        return next(((status, text) for fine, status, text in checks if not fine), None)

    def _own_host(self, host: str) -> bool:
        name, colon, port = host.rpartition(":")
        if not colon or host.endswith("]"):
            name, port = host, "443"  # browsers leave the default port out
        if not port.isascii() or not port.isdigit() or int(port) not in self._ports():
            return False
        if name in self._names():
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True


#: What could be read in two ways. (Host: h11 refuses a second one itself.)
_ONCE = frozenset({b"host", b"origin", b"content-length", b"content-type", b"authorization", b"sec-fetch-site"})


def _same_origin(headers: dict[bytes, bytes], host: str, method: str) -> bool:
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1").lower()
    if origin and origin != f"https://{host}":
        return False
    if not site or site == "same-origin":
        return True
    if method not in _READS:
        return False
    # Somebody typed or followed a link: the page is opened, and opening does nothing.
    mode = headers.get(b"sec-fetch-mode", b"").decode("latin-1").lower()
    target = headers.get(b"sec-fetch-dest", b"").decode("latin-1").lower()
    return site == "none" or (mode == "navigate" and target == "document")


def by_page(headers: Any) -> bool:
    """Whether a browser's page sent this (a Starlette `Headers`)."""
    return any(name in headers for name in ("origin", "sec-fetch-site", "sec-fetch-mode"))


class _Answer:
    """Adds the headers that every answer has; what it says itself of `_OWN` stays as it is."""

    def __init__(self, send: Any) -> None:
        self._send = send
        self.begun = False

    async def __call__(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            headers = [*message.get("headers", [])]
            given = {name.lower() for name, _ in headers} & _OWN
            headers += [one for one in (*_HEADERS, (b"cache-control", b"no-store")) if one[0] not in given]
            message = {**message, "headers": headers}
        await self._send(message)


class TooLong(Exception):
    """A body went on beyond what it may have."""


class _Body:
    """Counts a body that did not say how long it is."""

    def __init__(self, receive: Any, most: int) -> None:
        self._receive = receive
        self._left = most

    async def __call__(self) -> Any:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise TooLong
        return message


async def _end_worker(send: Any) -> None:
    """Nothing of ours is a service worker. One that somebody left on this origin, while he had its port, asks for
    its script again when a page is opened (past itself), and ends by it.
    """
    headers = [(b"content-type", b"text/javascript")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _END})


async def _refuse(send: Any, status: int, text: str, *, told: bool) -> None:
    """`told`: a page of another port of this host, as the editor with its sidebar is, learns that it was refused
    (it reads nothing of it); with same-origin that would look like no answer. Chromium finds no address same-site.
    """
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    if told:
        headers.append((b"cross-origin-resource-policy", b"cross-origin"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{text}\n".encode()})
