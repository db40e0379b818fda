"""The same page over a present certificate: GET and POST /renew, for the console's origin.

Whoever comes with a certificate in use gets a further one for the same device. The one it came with stays good
until its end, so that a renewal that is lost on the way shuts nobody out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import UUID

from starlette.applications import Starlette
from starlette.responses import Response

from redlatch.errors import RedlatchError
from redlatch.operations import devices
from redlatch.service import log
from redlatch.service.enrolment import answers, pages
from redlatch.service.enrolment.answers import Refused
from redlatch.service.enrolment.app import (
    Desk,
    failed,
    fetched,
    hand_over,
    has_arrived,
    offer,
    peer_of,
    ready,
    routes,
    static,
)
from redlatch.service.enrolment.receipts import Receipts
from redlatch.service.visitor import visitor

if TYPE_CHECKING:
    from starlette.requests import Request

    from redlatch.service.context import Context
    from redlatch.store import Device

_STATIC = "/renew/static/"


def renewal(context: Context, *, clock: Callable[[], float] = time.monotonic) -> Starlette:
    """The application for all paths of the console's origin that are /renew or begin with /renew/.

    It asks for a certificate in use and for no role: every device may renew its own key.
    """
    desk = Desk(context, Receipts(clock))

    async def device_of(request: Request) -> Device:
        der = request.scope.get("extensions", {}).get("tls", {}).get("certificate")
        found = await context.work(lambda: visitor(context.site, der))
        if found is None:
            raise Refused(403, "not-permitted", "this key is not in use (any more)", "ask for a new link")
        return found.device

    async def page(request: Request) -> Response:
        device = await device_of(request)
        about = await context.work(lambda: offer(desk, request.headers.get("host", ""), device.name, device.role))
        return Response(pages.render("renew", static=_STATIC, offer=about), media_type="text/html; charset=utf-8")

    async def renewed(request: Request) -> Response:
        device = await device_of(request)
        wanted = await ready(desk, await answers.wanted(request))
        site = replace(context.site, actor=f"console: {device.name}")
        try:
            issued = await context.carry_out(
                lambda: devices.renew(site, UUID(device.id), csr=wanted.csr, key_kind=wanted.key)
            )
        except RedlatchError as error:
            raise failed(error, peer_of(request)) from error
        log.info("key renewed", peer=peer_of(request), device=device.name, fingerprint=issued.fingerprint)
        return await hand_over(desk, request, issued, wanted, link=None, profiles="/renew/profile/")

    async def arrived(request: Request) -> Response:
        await device_of(request)
        return await has_arrived(desk)(request)

    return Starlette(
        routes=routes(
            {
                ("GET", "/renew"): page,
                ("POST", "/renew"): renewed,
                ("POST", "/renew/arrived"): arrived,
                ("GET", "/renew/profile/{ticket}"): fetched(desk),
                ("GET", _STATIC + "{name}"): static,
            }
        )
    )
