"""The one-shot https server behind `device send` and `up`: a link that works once hands a key to its device.

The page is the same for everybody and says nothing about site or device. Its token is in the URL's fragment, which
no server, log or link preview sees; only a POST from the page itself redeems it. The certificate is issued at that
moment, and the key exists in this process's memory only until the answer is sent.

What it cannot do: on a certificate that the device does not trust yet, somebody who controls the network could
serve a page of their own and take the link. Only the fingerprint, compared by a person, tells.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib import resources
from string import Template

from redlatch.enrolment import ATTEMPTS, Link, Refusal, redeem
from redlatch.service import listener
from redlatch.service.listener import Limits, Listener, Request, Response

#: Seconds that the page has to say that it holds the key. After that the state is "sent", no more.
RECEIPT_WAIT = 15.0

_REFUSED = {
    Refusal.WRONG: (403, "This link is not valid. Take the whole link from the terminal."),
    Refusal.EXPIRED: (410, "This link has expired. Start again in the terminal."),
    Refusal.USED: (410, "This link was used already. If that was not you, revoke the device in the terminal."),
    Refusal.LOCKED: (410, "Too many wrong links were tried. Start again in the terminal."),
}


@dataclass(frozen=True, slots=True)
class File:
    """One file for the device: a name that is safe on every system, and what is in it."""

    name: str
    media_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a redeemed link hands over. `password` opens the .p12; `next_url` is where to try the key."""

    device: str
    files: tuple[File, ...]
    password: str | None
    fingerprint: str
    not_after: datetime
    next_url: str | None = None


class State(StrEnum):
    """How far it got; never reported further than it was seen."""

    EXPIRED = "expired"  # nobody redeemed it
    LOCKED = "locked"  # too many wrong tokens
    LOST = "lost"  # issued, but the connection broke before all of it was sent
    SENT = "sent"  # every byte was sent, the page did not confirm
    DELIVERED = "delivered"  # the page confirmed that it holds the key


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the handover ended, and the address that redeemed the link (None: nobody did)."""

    state: State
    peer: str | None
    wrong_tokens: int


class Handover:
    """The handler of one link. `issue(format)` is called at most once, when the token was redeemed."""

    def __init__(
        self,
        link: Link,
        issue: Callable[[str], Parcel],
        *,
        names: Collection[str],
        formats: Collection[str],
        port: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._link = link
        self._issue = issue
        self._names = frozenset(names)
        self._formats = formats
        self._port = port
        self._clock = clock
        self._receipt = secrets.token_urlsafe(16)
        self._peer: str | None = None
        self._state = State.EXPIRED
        self.error: Exception | None = None
        self.redeemed = asyncio.Event()  # nothing more can be redeemed
        self.done = asyncio.Event()  # nothing more will happen

    @property
    def outcome(self) -> Outcome:
        return Outcome(self._state, self._peer, self._link.failures)

    def handle(self, request: Request) -> Response:
        """Answers one request. Foreign hosts and origins are refused before anything else is looked at."""
        if not self._own_host(request.headers.get("host", "")):
            return _text(421, "this name is not served here")
        path = request.target.partition("?")[0]
        if request.method == "GET":
            return self._asset(path)
        if path not in ("/redeem", "/received") or request.method != "POST":
            return _text(405 if path in (*_ASSETS, "/redeem", "/received") else 404, "")
        if not _same_origin(request):
            return _text(403, "another site cannot redeem a link")
        if request.headers.get("content-type") != "application/json":
            return _text(415, "")
        return self._post(path, request)

    def _post(self, path: str, request: Request) -> Response:
        try:
            sent = json.loads(request.body)
            if path == "/received":
                return self._received(str(sent["receipt"]))
            token, kind = str(sent["token"]), str(sent.get("format", "p12"))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return _text(400, "")
        return self._redeem(token, kind, request.peer)

    def _redeem(self, token: str, kind: str, peer: str) -> Response:
        if kind not in self._formats:
            return _json(400, {"error": "unknown-format", "message": "This kind of file is not known."})
        # No await between this step and the next state: of two simultaneous POSTs exactly one gets past it.
        self._link, refusal = redeem(self._link, token, now=self._clock())
        if refusal is not None:
            status, message = _REFUSED[refusal]
            over = self._link.failures >= ATTEMPTS and self._peer is None
            if over:
                self._state = State.LOCKED
            answer = {"error": refusal.value, "message": message}
            return _json(status, answer, self._finish if over else None)
        self._peer = peer
        self._state = State.LOST
        self.redeemed.set()
        try:
            parcel = self._issue(kind)
        except Exception as error:  # noqa: BLE001 - whatever it is belongs to the terminal, not to the network
            self.error = error
            return _json(500, {"error": "failed", "message": "It failed. Look at the terminal."}, self._finish)
        return _json(200, _document(parcel, self._receipt), self._sent)

    def _received(self, receipt: str) -> Response:
        if self._peer is None or not secrets.compare_digest(receipt.encode(), self._receipt.encode()):
            return _text(403, "")
        self._state = State.DELIVERED
        return Response(204, after=self._finish)

    def _sent(self, complete: bool) -> None:
        if self._state is not State.LOST:
            return  # the page's receipt was quicker
        if complete:
            self._state = State.SENT
        else:
            self.done.set()

    def _finish(self, _complete: bool) -> None:
        self.done.set()

    def _own_host(self, host: str) -> bool:
        """Names of this site and any address, with our port: a foreign name is DNS rebinding."""
        name, colon, port = host.rpartition(":")
        if self._port == 443 and (not colon or host.endswith("]")):
            name, port = host, "443"  # browsers leave the default port out
        if port != str(self._port):
            return False
        if name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
        except ValueError:
            return False
        return True

    def _asset(self, path: str) -> Response:
        if path not in _ASSETS:
            return _text(404, "")
        name, media_type = _ASSETS[path]
        nonce = secrets.token_urlsafe(16)
        text = (resources.files("redlatch.service") / "pages" / name).read_text("utf-8")
        if path == "/":
            text = Template(text).substitute(nonce=nonce)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY"}
        return Response(200, text.encode(), media_type, headers)


_ASSETS = {
    "/": ("handover.html", "text/html; charset=utf-8"),
    "/handover.css": ("handover.css", "text/css; charset=utf-8"),
    "/handover.js": ("handover.js", "text/javascript; charset=utf-8"),
}


def _same_origin(request: Request) -> bool:
    """A browser's POST comes from our own page. What sends neither header is no browser: its token decides."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    own = f"https://{request.headers.get('host', '')}"
    return (origin is None or origin.lower() == own.lower()) and site in (None, "same-origin")


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode())


def _json(status: int, document: object, after: Callable[[bool], None] | None = None) -> Response:
    return Response(status, json.dumps(document).encode(), "application/json", after=after)


def _document(parcel: Parcel, receipt: str) -> dict[str, object]:
    return {
        "device": parcel.device,
        "files": [
            {
                "name": file.name,
                "type": file.media_type,
                "base64": base64.b64encode(file.content).decode("ascii"),
            }
            for file in parcel.files
        ],
        "password": parcel.password,
        "fingerprint": parcel.fingerprint,
        "not_after": parcel.not_after.isoformat(),
        "next": parcel.next_url,
        "receipt": receipt,
    }


def steady_clock() -> Callable[[], datetime]:
    """The time from now on, immune to a clock that is set meanwhile (a Pi without a clock battery jumps years)."""
    start, began = datetime.now(UTC), time.monotonic()
    return lambda: start + timedelta(seconds=time.monotonic() - began)


def fingerprint(pem: bytes) -> str:
    """SHA-256 of the first certificate in a PEM, as browsers show it: AB:CD:..."""
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    body = pem.partition(begin)[2].partition(end)[0]
    digest = hashlib.sha256(base64.b64decode(body)).hexdigest().upper()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def run(
    link: Link,
    issue: Callable[[str], Parcel],
    *,
    names: Collection[str],
    formats: Collection[str],
    sockets: Sequence[socket.socket],
    context: ssl.SSLContext,
    clock: Callable[[], datetime] | None = None,
    limits: Limits | None = None,
    receipt_wait: float = RECEIPT_WAIT,
) -> Outcome:
    """Serves `link` on `sockets` until it is delivered, dead or expired, then closes them.

    `names` are the host names (without port) that this site goes by, `formats` what `issue` may be asked for.

    Raises what `issue` raised (nothing was handed over then), and KeyboardInterrupt on ctrl-c.
    """
    now = clock or steady_clock()

    async def serve() -> Handover:
        port = sockets[0].getsockname()[1]
        handover = Handover(link, issue, names=names, formats=formats, port=port, clock=now)
        serving = Listener(sockets, context, handover.handle, limits)
        remaining = max(0.0, (link.expires - now()).total_seconds())

        async def lifetime() -> None:
            try:
                async with asyncio.timeout(remaining):
                    await handover.redeemed.wait()
                await asyncio.sleep(receipt_wait)
            except TimeoutError:
                pass
            handover.done.set()

        ending = asyncio.create_task(lifetime())
        try:
            # Expiry is for whoever has not begun; an answer under way is still sent and confirmed.
            await serving.serve(handover.done, remaining + receipt_wait + 30)
        finally:
            ending.cancel()
        return handover

    handover = listener.run(serve())
    if handover.error is not None:
        raise handover.error
    return handover.outcome
