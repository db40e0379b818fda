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

from redlatch.service import listener
from redlatch.service.listener import Limits, Listener, Request, Response


def wait_for_device(
    sockets: Sequence[socket.socket],
    context: ssl.SSLContext,
    accepts: Callable[[str], bool],
    *,
    timeout: float,
    limits: Limits | None = None,
) -> str | None:
    """The fingerprint (64 hex) of the first device that comes in and that `accepts`; None after `timeout` seconds.

    `context` must require a certificate of the device CA. Closes the sockets; KeyboardInterrupt on ctrl-c.
    """
    came_in: list[str] = []
    done = asyncio.Event()

    def handle(request: Request) -> Response:
        if request.certificate is None:
            return Response(403)
        fingerprint = hashlib.sha256(request.certificate).hexdigest()
        if not accepts(fingerprint):
            return Response(403, b"this certificate is not active here\n")
        if request.method != "GET" or request.target != "/":
            return Response(404)
        nonce = secrets.token_urlsafe(16)
        page = (resources.files("redlatch.service") / "pages" / "testport.html").read_text("utf-8")

        def sent(complete: bool) -> None:
            if complete:
                came_in.append(fingerprint)
                done.set()

        return Response(
            200,
            Template(page).substitute(nonce=nonce).encode(),
            "text/html; charset=utf-8",
            {
                "Content-Security-Policy": f"default-src 'none'; style-src 'nonce-{nonce}'; img-src data:; "
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            },
            after=sent,
        )

    async def serve() -> None:
        await Listener(sockets, context, handle, limits).serve(done, timeout)

    listener.run(serve())
    return came_in[0] if came_in else None
