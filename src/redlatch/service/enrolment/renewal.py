"""The same page over a present certificate: GET and POST /renew, for the console's origin.

Whoever comes with a certificate in use gets a further one for the same device. The one it came with stays good
until its end, so that a renewal that is lost on the way shuts nobody out.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from starlette.responses import Response

from redlatch.errors import RedlatchError
from redlatch.operations import devices
from redlatch.pki.certificates import ServerPair
from redlatch.service.context import Context
from redlatch.service.enrolment import answers, pages
from redlatch.service.enrolment.app import (
    Desk,
    Told,
    failed,
    fetched,
    hand_over,
    has_arrived,
    offer,
    peer_of,
    routes,
    static,
)
from redlatch.service.enrolment.receipts import Receipts

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import Route

    from redlatch.store import Device


def renewal_routes(
    context: Context,
    server: Callable[[], ServerPair],
    device_of: Callable[[Request], Awaitable[Device]],
    *,
    static_at: str = "/renew/static/",
    told: Told = lambda _peer, _code: None,
    clock: Callable[[], float] = time.monotonic,
) -> list[Route]:
    """Routes for the console's origin. `device_of` gives the device whose certificate this connection showed, and
    raises what the console raises for one that is not in use (any more).
    """
    desk = Desk(context, server, Receipts(clock), told)

    async def page(request: Request) -> Response:
        device = await device_of(request)
        about = await context.work(lambda: offer(desk, request.headers.get("host", ""), device.name, device.role))
        return Response(
            pages.render("renew", static=static_at, offer=about), media_type="text/html; charset=utf-8"
        )

    async def renewed(request: Request) -> Response:
        device = await device_of(request)
        wanted = await answers.wanted(request)

        def renew() -> devices.Issued:
            return devices.renew(
                replace(desk.site, actor=f"console: {device.name}"),
                UUID(device.id),
                csr=wanted.csr,
                key_kind=wanted.key,
            )

        try:
            issued = await context.work(renew)
        except RedlatchError as error:
            raise failed(desk, error, peer_of(request)) from error
        return await hand_over(desk, request, issued, wanted, link=None, profiles="/renew/profile/")

    return routes(
        {
            ("GET", "/renew"): page,
            ("POST", "/renew"): renewed,
            ("POST", "/renew/arrived"): has_arrived(desk),
            ("GET", "/renew/profile/{ticket}"): fetched(desk),
            ("GET", static_at + "{name}"): static,
        }
    )
