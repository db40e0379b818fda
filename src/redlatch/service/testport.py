"""The test port: before `up` locks, the first device comes in here with its certificate, as it will later.

A device without a certificate of this site does not get past the handshake, exactly as at the locked Node-RED.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import socket
import ssl
from collections.abc import Callable, Sequence
from importlib import resources
from string import Template
from typing import Any

from redlatch.operations.machine import is_inside
from redlatch.service import sockets
from redlatch.service.origin import Origin


def wait_for_device(
    bound: Sequence[socket.socket],
    context: ssl.SSLContext,
    accepts: Callable[[str], bool],
    *,
    timeout: float,
) -> str | None:
    """The fingerprint (64 hex) of the first device that comes in and that `accepts`; None after `timeout` seconds.

    `context` must require a certificate of the device CA. Closes the sockets; KeyboardInterrupt on ctrl-c.
    """
    came_in: list[str] = []
    done = asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        der = scope["extensions"]["tls"]["certificate"]
        fingerprint = "" if der is None else hashlib.sha256(der).hexdigest()
        if not fingerprint or not accepts(fingerprint):
            await _answer(send, 403, b"this certificate is not active here\n")
        elif scope["method"] != "GET" or scope["path"] != "/":
            await _answer(send, 404)
        else:
            nonce = secrets.token_urlsafe(16)
            page = (resources.files("redlatch.service") / "pages" / "testport.html").read_text("utf-8")
            await _answer(send, 200, Template(page).substitute(nonce=nonce).encode(), nonce)
            came_in.append(fingerprint)
            done.set()

    async def serve() -> None:
        origin = Origin(app, lambda: context, admit=is_inside)
        origin.open(bound)
        try:
            async with asyncio.timeout(timeout):
                await done.wait()
        except TimeoutError:
            pass
        finally:
            await origin.close(patience=2)

    sockets.run(serve())
    return came_in[0] if came_in else None


async def _answer(send: Any, status: int, body: bytes = b"", nonce: str = "") -> None:
    policy = f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; base-uri 'none'; "
    headers = {
        "content-type": "text/html; charset=utf-8" if nonce else "text/plain; charset=utf-8",
        "content-length": str(len(body)),
        "connection": "close",
        "cache-control": "no-store",
        "content-security-policy": policy + "form-action 'none'; frame-ancestors 'none'",
        "x-content-type-options": "nosniff",
        "cross-origin-resource-policy": "same-origin",
    }
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
