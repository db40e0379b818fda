"""The enrolment origin: one page, and what it (or a program) posts to.

Nothing here decides whether a link is good: `operations.links` does, in one transaction. A GET changes nothing,
but for a profile that its page has just made and Safari fetches once.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from redlatch.enrolment import Refusal
from redlatch.errors import Busy, Conflict, InvalidInput, RedlatchError
from redlatch.operations import authorities, links, roles
from redlatch.operations.site import Config, Site, authority
from redlatch.pki import mobileconfig
from redlatch.pki.certificates import ServerPair, server_pair
from redlatch.service import log
from redlatch.service.context import Context
from redlatch.service.enrolment import answers, pages
from redlatch.service.enrolment.answers import Refused, Wanted
from redlatch.service.enrolment.guesses import Guesses
from redlatch.service.enrolment.receipts import Receipts
from redlatch.service.security import by_page

if TYPE_CHECKING:
    from cryptography import x509
    from starlette.requests import Request

    from redlatch.operations.devices import Issued

Handler = Callable[["Request"], Awaitable[Response]]
_STATUS = {Refusal.WRONG: 403, Refusal.AWAY: 403, Refusal.PINNED: 403}
#: Seconds that the port stays open for a page: while its person is away in the settings of a phone, after each
#: time that it asked, and when it was told that its device is in.
_HOLD = 300.0
_HOLD_ASKED = 60.0
_HOLD_IN = 5.0


@dataclass(frozen=True, slots=True)
class Desk:
    """What hands keys over."""

    context: Context
    receipts: Receipts

    @property
    def site(self) -> Site:
        return self.context.site

    def signer(self) -> ServerPair:
        """The pair that the enrolment page shows: it signs profiles."""
        pem = self.context.shown().pem.read_bytes()
        return server_pair(pem, pem)


def invitations(
    context: Context,
    *,
    clock: Callable[[], float] = time.monotonic,
    only: int | None = None,
    taken: Callable[[links.Redeemed, bool], None] = lambda _done, _answered: None,
) -> Starlette:
    """The application of the enrolment origin.

    `only` is the number of the one link that is served (None: all that are not another origin's). `taken` hears of
    each link that was used, and whether its answer could be made and its client was still there for it.
    """
    desk = Desk(context, Receipts(clock))
    site, work = context.site, context.work
    guesses = Guesses(clock)

    def refused(error: links.LinkRefused, peer: str) -> Refused:
        log.info("link refused", peer=peer, why=error.refusal.value)
        if error.refusal is Refusal.WRONG and guesses.wrong(peer):
            return Refused(429, "too-many", "too many wrong links came from this address", "wait a minute")
        return Refused(_STATUS.get(error.refusal, 410), error.refusal.value, error.message, error.hint)

    async def offered(request: Request) -> Response:
        sent = await answers.document_of(request)
        token = answers.text_of(sent, "token")
        try:
            link = await work(
                lambda: links.look(site, token, peer=peer_of(request), by_page=by_page(request.headers), only=only)
            )
        except links.LinkRefused as error:
            raise refused(error, peer_of(request)) from error
        about = await work(lambda: offer(desk, request.headers.get("host", ""), link.name, link.role))
        return JSONResponse(about | {"expires": link.expires_at.isoformat(), "pinned": link.pinned})

    async def redeemed(request: Request) -> Response:
        wanted = await ready(desk, await answers.wanted(request))
        peer = peer_of(request)

        def redeem() -> links.Redeemed:
            return links.redeem(
                site,
                wanted.token,
                peer=peer,
                by_page=by_page(request.headers),
                only=only,
                csr=wanted.csr,
                key_kind=wanted.key,
            )

        with context.holding_enrolment():
            try:
                done = await context.carry_out(redeem)
            except links.LinkRefused as error:
                raise refused(error, peer) from error
            except RedlatchError as error:
                raise failed(error, peer) from error
            log.info(
                "link redeemed", peer=peer, device=done.issued.device.name, fingerprint=done.issued.fingerprint
            )
            answered = False
            try:
                answer = await hand_over(
                    desk, request, done.issued, wanted, link=done.link.id, profiles="/profile/"
                )
                answered = not await request.is_disconnected()
            finally:
                taken(done, answered)
            return answer

    async def received(request: Request) -> Response:
        receipt = desk.receipts.find(answers.text_of(await answers.document_of(request), "receipt"))
        if receipt is None:
            raise Refused(404, "unknown-receipt", "this receipt is not known")
        if (number := receipt.link) is not None:
            await work(lambda: links.confirmed(site, number))
        return Response(status_code=204)

    async def page(_request: Request) -> Response:
        return Response(pages.render(), media_type="text/html; charset=utf-8")

    async def root(request: Request) -> Response:
        return await work(lambda: _root(desk, request.url.path))

    return Starlette(
        routes=routes(
            {
                ("GET", "/"): page,
                ("GET", "/static/{name}"): static,
                ("POST", "/offer"): offered,
                ("POST", "/redeem"): redeemed,
                ("POST", "/received"): received,
                ("POST", "/arrived"): has_arrived(desk),
                ("GET", "/profile/{ticket}"): fetched(desk),
                ("GET", "/root.crt"): root,
                ("GET", "/root-2.crt"): root,
                ("GET", "/root.mobileconfig"): root,
            }
        )
    )


def offer(desk: Desk, host: str, device: str, role: str) -> dict[str, Any]:
    """What a page says before a key is made: whose it will be, and what this browser has to trust besides."""
    with desk.site.store.read() as view:
        config = Config.of(view.site().config)
        base = roles.base_of(view, role)
    needed = config.server_files is None
    root = authority(desk.site, "server", signing=False).root if needed else None
    return {
        "device": device,
        "role": role,
        "base": base,
        "formats": list(answers.FORMATS),
        "root": root is not None,
        "root_name": None if root is None else _common_name(root),
        "public": bool(desk.context.shown().known_as),
        "pin": desk.context.pin(),
        "site": _site_host(config),
        "next": desk.context.next_url or node_red_url(config, host),
    }


async def ready(desk: Desk, wanted: Wanted) -> Wanted:
    """Makes sure, before a link is used up, that its answer can be made: a profile takes a signature."""
    if wanted.kind == "mobileconfig":
        try:
            await desk.context.work(desk.signer)
        except (OSError, RedlatchError) as error:
            log.error("no profile can be signed", why=getattr(error, "message", str(error)))
            raise Refused(
                500, "no-profile", "the server cannot make a profile just now", "take the .p12 file instead"
            ) from error
    return wanted


async def hand_over(
    desk: Desk, request: Request, issued: Issued, wanted: Wanted, *, link: int | None, profiles: str
) -> Response:
    """The answer for whoever asked. The key is in it and, for a minute, in a profile; then nowhere else."""
    host = request.headers.get("host", "")
    if wanted.as_text:
        renew = await desk.context.work(lambda: desk.context.console_url(_name_of(host)) + "/renew")
        return Response(answers.text(issued), headers={answers.RENEW: renew}, media_type=answers.PEM)

    def make() -> tuple[dict[str, bytes], str, str | None]:
        with desk.site.store.read() as view:
            row = view.site()
        config = Config.of(row.config)
        made, password = answers.files(
            issued, wanted.kind, site_id=row.uuid, site=_site_host(config), signer=desk.signer()
        )
        return made, password, desk.context.next_url or node_red_url(config, host)

    made, password, next_url = await desk.context.work(make)
    profile = ""
    if wanted.kind == "mobileconfig":
        ((name, content),) = made.items()
        profile = profiles + desk.receipts.lay_out(name, content)
    receipt = desk.receipts.give(link, issued.fingerprint, issued.certificate.not_valid_before_utc)
    if link is not None:
        desk.context.hold_enrolment(receipt, _HOLD)
    return JSONResponse(
        answers.answer(issued, made, password, receipt=receipt, next_url=next_url, profile=profile)
    )


def has_arrived(desk: Desk) -> Handler:
    """POST {"receipt"}: whether the device got in with the key that this receipt is for."""

    async def handler(request: Request) -> Response:
        shown = answers.text_of(await answers.document_of(request), "receipt")
        receipt = desk.receipts.find(shown)
        if receipt is None:
            raise Refused(404, "unknown-receipt", "this receipt is not known")
        seen = desk.context.watch.let_in(receipt.fingerprint, receipt.since)
        if receipt.link is not None:
            desk.context.hold_enrolment(shown, _HOLD_ASKED if seen is None else _HOLD_IN)
        if seen is None:
            return JSONResponse({"in": False, "at": None, "from": None})
        return JSONResponse({"in": True, "at": seen.at.isoformat(), "from": seen.address})

    return handler


def fetched(desk: Desk) -> Handler:
    """GET with the ticket of a profile: Safari hands Settings what it navigated to, not a blob of a script."""

    async def handler(request: Request) -> Response:
        # HEAD would use it up and show nothing
        profile = desk.receipts.fetch(request.path_params["ticket"]) if request.method == "GET" else None
        if profile is None:
            raise Refused(
                404,
                "gone",
                "this file was fetched already, or it is too late",
                "go back to the page, or ask for a new link",
            )
        return _file(profile.name, profile.content, mobileconfig.MEDIA_TYPE)

    return handler


async def static(request: Request) -> Response:
    """A file of the page."""
    found = pages.static_files().get(request.path_params["name"])
    if found is None:
        raise Refused(404, "not-found", "there is nothing here")
    return Response(found[0], media_type=found[1])


def failed(error: RedlatchError, peer: str) -> Refused:
    """The words for a failure that used nothing up; what is wrong with the machine itself is not the network's."""
    log.warning("no key was made", peer=peer, code=error.code, why=error.message)
    if isinstance(error, InvalidInput):
        return Refused.of(error, 400)
    if isinstance(error, Conflict):
        return Refused.of(error, 409)
    if isinstance(error, Busy):
        return Refused(503, error.code, "the server is busy just now", "try again in a moment")
    return Refused(
        500,
        error.code,
        "the server could not make the key; nothing was used up",
        "tell whoever runs this Node-RED",
    )


def peer_of(request: Request) -> str:
    """The address at the other end of the connection; no header is believed."""
    return request.client.host if request.client is not None else ""


def answering(handler: Handler) -> Handler:
    """Turns Refused into its answer: JSON for pages, one line of text for programs that sent a CSR."""

    async def answered(request: Request) -> Response:
        try:
            response = await handler(request)
        except (Refused, RedlatchError) as raised:
            error = raised if isinstance(raised, Refused) else failed(raised, peer_of(request))
            headers = {"retry-after": "60"} if error.status == 429 else {}
            if error.status in (413, 415):  # the rest of the body is not waited for
                headers["connection"] = "close"
            if answers.media_type(request) == answers.PKCS10:
                line = f"{error.message}: {error.hint}\n" if error.hint else f"{error.message}\n"
                return Response(line, error.status, headers, "text/plain; charset=utf-8")
            document = {"error": error.code, "message": error.message, "hint": error.hint}
            return JSONResponse(document, error.status, headers)
        if request.url.path.endswith("/arrived"):
            # Asked every two seconds: kept alive, each page that waits would hold one of the few connections that
            # an address may have, and a household behind one router has one address.
            response.headers["connection"] = "close"
        return response

    return answered


def node_red_url(config: Config, host: str) -> str | None:
    """Where to open Node-RED: by the name or address that this page was opened by, for that one works here.

    A public certificate names no address, so then, as for foreign names, by the site's own name.
    """
    port = config.address_port
    if port is None:
        return None
    name = _name_of(host)
    own = name.lower() in config.hosts or (config.server_files is None and _is_address(name))
    return f"https://{name.lower() if own else _site_host(config)}:{port}/"


def _name_of(host: str) -> str:
    """The Host header without its port."""
    return host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host


def _site_host(config: Config) -> str:
    if config.server_files is not None and config.hosts:
        return config.hosts[0]
    local = [name for name in config.hosts if name.endswith(".local")]
    return next(iter([*config.names, *local, *config.hosts]), config.machine)


def _common_name(certificate: x509.Certificate) -> str:
    from cryptography.x509.oid import NameOID

    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _root(desk: Desk, path: str) -> Response:
    with desk.site.store.read() as view:
        row, roots = view.site(), authorities.roots(view)
    config = Config.of(row.config)
    if config.server_files is not None:
        raise Refused(404, "not-needed", "no device needs this server's root: its certificate is a public one")
    if path == "/root-2.crt":
        if len(roots) < 2:
            raise Refused(404, "not-needed", "this server has one root only")
        return _file("server-ca-2.crt", answers.der(roots[1]), answers.type_of("server-ca-2.crt"))
    if path.endswith(".crt"):
        return _file("server-ca.crt", answers.der(roots[0]), answers.type_of("server-ca.crt"))
    profile = mobileconfig.root_profile(
        server_cas=roots, site_id=row.uuid, site=_site_host(config), signer=desk.signer()
    )
    return _file("server-ca.mobileconfig", profile, mobileconfig.MEDIA_TYPE)


def _file(name: str, content: bytes, media_type: str) -> Response:
    # Names are slugs: nothing in them needs quoting (RFC 6266, 4.1)
    return Response(
        content, media_type=media_type, headers={"content-disposition": f'attachment; filename="{name}"'}
    )


def routes(handlers: Mapping[tuple[str, str], Handler]) -> list[Route]:
    """(method, path) -> handler, as routes that turn Refused into an answer."""
    return [Route(path, answering(handler), methods=[method]) for (method, path), handler in handlers.items()]
