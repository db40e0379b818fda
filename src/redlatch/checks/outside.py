"""The outside-in probe: every surface of every door, knocked at with every kind of key that must not work, and
with one that must.

What should come is what the rules say (operations.reach.explain); what came was seen over real TLS, from outside
of Node-RED's process. It never disturbs a plant: only GETs, bounded in number and time, kept apart from each
other; and since a GET may switch a light, what flows serve (http-in endpoints, their websockets) is only asked
for with what should be refused. Should the lock be broken there, the flow runs, as it would for any stranger.

From this machine it cannot see what a router, a firewall or a proxy in between does, nor networks other than its
own address: rules are taken for a peer at the address that is connected to.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redlatch.checks import knocking, looking
from redlatch.checks.knocking import ADMITTED, REFUSED, Client, Identity, Pace, Place, Request
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.errors import Conflict, NotPermitted, PassphraseNeeded, RedlatchError
from redlatch.operations import reach
from redlatch.operations.throwaways import Throwaways, left, revoke_left, throwaways

if TYPE_CHECKING:
    from redlatch.operations.site import Config, Site

MOST_OF_A_KIND: Final = 3  # of each kind of surface, at each door
SECONDS: Final = 90.0
_FEW_A_SECOND: Final = 5.0  # the guard lets an unknown address have 8 handshakes a second
_A_SECOND: Final = 40.0  # and a known one 100
_FOREIGN: Final = "evil.example"
_NAMED: Final = 4
NODE_RED: Final = "Node-RED"

NO_KEY, FOREIGN, REVOKED, ENDED, GOOD, FEW = (
    "no key",
    "foreign CA",
    "revoked",
    "ended",
    "a good key",
    "a dashboard's key",
)
KINDS: Final = (
    NO_KEY,
    FOREIGN,
    REVOKED,
    ENDED,
    *(f"revoked, resumed {tls}" for tls in knocking.TLS_VERSIONS),
    *(f"no key, resumed {tls}" for tls in knocking.TLS_VERSIONS),
    FEW,
    GOOD,
)
#: Whoever should be nobody; an "anyone" rule counts for them too.
_STRANGERS: Final = frozenset(KINDS) - {FEW, GOOD}


@dataclass(frozen=True, slots=True)
class Row:
    """One knock: at which door, for what, with which key, by which trick ("" for none); what should have come, and
    what came.
    """

    door: str
    surface: str
    path: str
    key: str
    trick: str
    expected: str
    seen: str

    @property
    def ok(self) -> bool:
        """Silence lets nobody in: it is as good as a refusal, and no admission."""
        if self.expected == ADMITTED:
            return self.seen == ADMITTED
        return self.seen in (REFUSED, knocking.SILENT, "sent on to https")

    @property
    def is_open(self) -> bool:
        """Whether somebody was let in who should not have been."""
        return not self.ok and self.expected == REFUSED


@dataclass(frozen=True, slots=True)
class Probed:
    """What was seen, and in words what was not looked at."""

    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Surface:
    """Something behind a door. `acts`: asking for it may do something, or nobody may be there to answer: it
    is asked for only with what should be refused.
    """

    kind: str
    path: str
    websocket: bool = False
    acts: bool = False


@dataclass(frozen=True, slots=True)
class _Door:
    """A place with what stands behind it. `keyless`: it asks nobody for a certificate. `surfaces` () for what is
    no door of Node-RED's: then `expects` says who comes in, by the name of the key.
    """

    name: str
    place: Place
    surfaces: tuple[_Surface, ...]
    keyless: bool = False
    expects: Callable[[str, Request], bool] | None = None


@dataclass
class _Run:
    """One run at one door: the keys, and what came of them."""

    site: Site
    door: _Door
    clients: Mapping[str, Client]
    devices: Mapping[str, str]
    pace: Pace
    deadline: float
    rows: list[Row] = field(default_factory=list)
    cut: bool = False

    def knock(self, surface: _Surface, key: str, trick: str, request: Request) -> None:
        """One knock, unless its time is over, or it would do something."""
        should = self._should(key, request)
        if surface.acts and should:
            return
        if time.monotonic() > self.deadline:
            self.cut = True
            return
        self.pace.wait()
        seen = knocking.ask(self.door.place, self.clients[key], request)
        expected = ADMITTED if should else REFUSED
        self.rows.append(Row(self.door.name, surface.kind, request.target, key, trick, expected, seen))

    def _should(self, key: str, request: Request) -> bool:
        if self.door.expects is not None:
            return self.door.expects(key, request)
        headers = dict(line.split(": ", 1) for line in request.headers)
        if headers.get("Sec-Fetch-Site") == "cross-site":  # a picture on another site's page: never
            return False
        asked = reach.Asked(
            "GET",
            request.target,
            device=self.devices.get(key),
            address=self.door.place.source,
            websocket=request.websocket,
            origin=headers.get("Origin"),
            host=request.host or self.door.place.host,
            open_port=self.door.keyless,
        )
        return reach.explain(self.site, asked).decision.allow


def probe(site: Site, environ: Mapping[str, str], *, with_devices: bool = True) -> Probed:
    """Knocks at every door of this site. Adds throw-away devices for it and revokes them at the end; without
    `with_devices`, or where the CA's key is not at hand, only what needs none is tried, and that is said.

    Errors: those of operations.reach.survey (known() where the settings cannot be looked at).
    """
    config = site.config()
    surfaces, left_out = _surfaces(site, environ)
    doors = [*_doors(config, surfaces), *_service(config)]
    up = [door for door in doors if knocking.listens(door.place)]
    left_out += [f"nothing listens at {door.name}, port {door.place.port}" for door in doors if door not in up]
    deadline = time.monotonic() + SECONDS
    rows: list[Row] = []
    with ExitStack() as stack:
        made: Throwaways | None = None
        if with_devices and up:
            try:
                made = stack.enter_context(throwaways(site))
            except (PassphraseNeeded, NotPermitted, Conflict) as error:
                left_out.append(f"every knock with a certificate of this site: {error.message}")
        elif not with_devices:
            left_out.append("every knock with a certificate of this site: not asked for")
        runs = [_prepared(site, door, made, deadline) for door in up]
        if made is not None:
            for run in runs:
                _arrive(run)
            made.revoke_gone()
        for run in runs:
            _all(run)
            rows += run.rows
            if run.cut:
                left_out.append(f"the rest of {run.door.name}: it took longer than {SECONDS:.0f} seconds")
    return Probed(tuple(rows), tuple(left_out))


# --- doors and what is behind them


def shut_doors(site: Site) -> list[tuple[str, int]]:
    """(name, port) of the doors at which devices come in and nothing listens."""
    doors = _doors(site.config(), ())
    return [(one.name, one.place.port) for one in doors if not knocking.listens(one.place)]


def _doors(config: Config, surfaces: tuple[_Surface, ...]) -> list[_Door]:
    """Those at which devices come in to Node-RED."""
    from redlatch.engines.haproxy.model import listener
    from redlatch.policy.networks import compiled, parse

    doors = []
    if config.target is not None and config.adopted and not config.behind:
        port = config.target.listen_port
        doors.append(_Door(NODE_RED, Place(_at(port), port), surfaces))
    if config.gateway is not None:
        trusted = compiled(parse(one) for one in config.gateway.trusted_proxies)
        for entry in config.gateway.listen:
            host, port = listener(entry)
            address = host if host and not ipaddress.ip_address(host).is_unspecified else _at(port)
            announced = config.gateway.accept_proxy and trusted.contains(Place(address, port).source)
            doors.append(_Door(f"gateway {entry}", Place(address, port, announced), surfaces))
    if config.open_port is not None:
        doors.append(_Door("open port", Place(_at(config.open_port), config.open_port), surfaces, keyless=True))
    return doors


def _service(config: Config) -> list[_Door]:
    """Console and enrolment, where they run now."""
    doors, service = [], config.service
    for port, name, expects in (
        (service.console_port, "console", _at_the_console),
        (service.enrolment_port, "enrolment", _at_enrolment),
    ):
        place = Place(_at(port), port)
        if knocking.listens(place):  # they run when they are needed, or not at all
            doors.append(_Door(name, place, (_Surface(name, "/"),), expects=expects))
    return doors


def _at(port: int) -> str:
    """The address at which this machine reaches its own port: loopback where it can be."""
    from redlatch.operations import ports

    found = [one.address for one in ports.listeners(port)]
    if not found or any(one.is_unspecified or (one.is_loopback and one.version == 4) for one in found):
        return "127.0.0.1"
    return str(found[0])


def _at_the_console(key: str, request: Request) -> bool:
    """Owners and admins; it goes by addresses, by its names, and by no other page's word."""
    return key == GOOD and not request.headers and _FOREIGN not in request.host


def _at_enrolment(key: str, request: Request) -> bool:
    """Everybody gets the page, which does nothing without a token."""
    return not request.headers and _FOREIGN not in request.host


def _surfaces(site: Site, environ: Mapping[str, str]) -> tuple[tuple[_Surface, ...], list[str]]:
    try:
        things = reach.survey(site, environ).things
    except RedlatchError:  # who may not look at Node-RED's settings knows what they were
        things = reach.known(site).things
    found: dict[str, list[_Surface]] = {}
    for one in things:
        if one.kind == "port":
            continue
        for surface in _of(one):
            found.setdefault(one.kind, []).append(surface)
    left_out, chosen = [], []
    for kind, surfaces in found.items():
        most = MOST_OF_A_KIND * (3 if kind == "editor" else 1)
        chosen += surfaces[:most]
        if len(surfaces) > most:
            left_out.append(f"{len(surfaces) - most} of {len(surfaces)} surfaces of the kind {kind}")
    if not any(one.path.endswith("/comms") for one in chosen):
        chosen.append(_Surface("live data", "/comms", websocket=True))
    return tuple(chosen), left_out


def _of(thing: reach.Thing) -> Iterator[_Surface]:
    if thing.kind == "editor":
        root = thing.path.rstrip("/")
        yield _Surface("editor", f"{root}/")
        yield _Surface("flows", f"{root}/flows")
        yield _Surface("live data", f"{root}/comms", websocket=True)
        return
    plain = thing.path.replace(":", "x")
    if not plain.isascii() or not plain.isprintable() or " " in plain or "*" in plain:
        return  # no path that anybody asks for
    if thing.kind == "dashboard":
        yield _Surface("dashboard", plain)
        yield _Surface("dashboard", f"{plain.rstrip('/')}/socket.io/?EIO=4&transport=websocket", True, acts=True)
    elif thing.kind == "websocket":
        yield _Surface("websocket", plain, websocket=True, acts=True)
    else:  # a rule's path may be an endpoint's too
        yield _Surface(thing.kind, plain, acts=thing.kind in ("http-in", "path"))


# --- keys


def _prepared(site: Site, door: _Door, made: Throwaways | None, deadline: float) -> _Run:
    clients = {NO_KEY: knocking.client(None), FOREIGN: knocking.client(_foreign(site, made))}
    devices: dict[str, str] = {}
    if made is not None:
        for key, one in ((GOOD, made.good), (FEW, made.few), (REVOKED, made.gone), (ENDED, made.ended)):
            clients[key] = knocking.client(Identity(one.key, one.certificate))
        gone = Identity(made.gone.key, made.gone.certificate)
        for tls in knocking.TLS_VERSIONS:
            clients[f"revoked, resumed {tls}"] = knocking.client(gone, resumes=tls)
        devices = {} if door.keyless else {GOOD: made.good.name, FEW: made.few.name}
    for tls in knocking.TLS_VERSIONS:
        clients[f"no key, resumed {tls}"] = knocking.client(None, resumes=tls)
    return _Run(site, door, clients, devices, Pace(_FEW_A_SECOND if made is None else _A_SECOND), deadline)


def _arrive(run: _Run) -> None:
    """The good device first: the guard knows the address then. What is to be resumed comes in while it may."""
    for key in (GOOD, *(f"revoked, resumed {tls}" for tls in knocking.TLS_VERSIONS)):
        run.pace.wait()
        knocking.ask(run.door.place, run.clients[key], Request(run.door.surfaces[0].path))


def _foreign(site: Site, made: Throwaways | None) -> Identity:
    """A certificate of a CA that is not ours, in which every name is one of ours."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    from redlatch.operations.site import authority
    from redlatch.pki.keys import generate_key

    ours = authority(site, "device", signing=False).certificate
    like = made.good.certificate if made is not None else ours
    key = generate_key()
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ours.subject)
        .subject_name(like.subject)
        .public_key(key.public_key())
        .serial_number(like.serial_number)
        .not_valid_before(like.not_valid_before_utc)
        .not_valid_after(like.not_valid_after_utc)
    )
    for extension in like.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return Identity(key, builder.sign(generate_key(), SHA256()))


# --- what is tried


def _all(run: _Run) -> None:
    for surface in run.door.surfaces:
        for key in KINDS:
            if key in run.clients and not ("resumed" in key and surface is not run.door.surfaces[0]):
                run.knock(surface, key, "", Request(surface.path, surface.websocket))
    for key in (f"no key, resumed {tls}" for tls in knocking.TLS_VERSIONS):  # now they have what can be resumed
        run.knock(run.door.surfaces[0], key, "", Request(run.door.surfaces[0].path))
    for trick, surface, request in _tricks(run.door):
        for key in (NO_KEY, FEW, *((GOOD,) if request.host or request.headers else ())):
            if key in run.clients:
                run.knock(surface, key, trick, request)
    if not run.door.keyless and run.door.expects is None and not run.door.place.announced:
        _plainly(run)


def _plainly(run: _Run) -> None:
    surface = run.door.surfaces[0]
    run.pace.wait()
    seen = knocking.plain(run.door.place, surface.path)
    run.rows.append(Row(run.door.name, surface.kind, surface.path, NO_KEY, "plain http", REFUSED, seen))


def _tricks(door: _Door) -> Iterable[tuple[str, _Surface, Request]]:
    """Ways around: paths that a router may read otherwise, other pages' requests, foreign names, made-up headers.

    Paths lead to the flows, which do nothing when they are read, from within a dashboard where there is one.
    """
    host = door.place.host
    first = door.surfaces[0]
    if door.expects is None:
        flows = next((one for one in door.surfaces if one.kind == "flows"), first)
        yield from ((trick, flows, Request(path)) for trick, path in _paths(flows.path, door, host))
        spoofed = ("X-Redlatch-Role: owner", "X-Redlatch-Permission: *", "X-Redlatch-User: owner")
        yield "made-up identity", flows, Request(flows.path, headers=spoofed)
        forwarded = ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "CF-Connecting-IP: 127.0.0.1")
        yield "made-up address", flows, Request(flows.path, headers=forwarded)
    for trick, origin in (
        ("another page", f"https://{_FOREIGN}"),
        ("a page without origin", "null"),
        ("a page of a like name", f"https://{host}.{_FOREIGN}"),
    ):
        yield trick, first, Request(first.path, headers=(f"Origin: {origin}",))
    embedded = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image")
    yield "a picture on another page", first, Request(first.path, headers=embedded)
    yield "foreign host", first, Request(first.path, host=_FOREIGN)
    for surface in door.surfaces:
        if surface.websocket and not surface.acts:
            foreign = (f"Origin: https://{_FOREIGN}",)
            yield "another page's websocket", surface, Request(surface.path, websocket=True, headers=foreign)


def _paths(flows: str, door: _Door, host: str) -> Iterator[tuple[str, str]]:
    inside = next((one.path for one in door.surfaces if one.kind == "dashboard"), "").rstrip("/")
    yield "capitals", flows.upper()
    yield "slash at the end", f"{flows}/"
    yield "doubled slash", f"/{flows}"
    yield "encoded letter", flows.replace("f", "%66", 1)
    yield "encoded slash", f"{inside}/..%2f{flows.lstrip('/')}"
    yield "encoded backslash", f"{inside}/..%5c{flows.lstrip('/')}"
    yield "dots", f"{inside}/x/../..{flows}"
    yield "encoded dots", f"{inside}/%2e%2e{flows}"
    yield "semicolon", f"{inside}/..;{flows}"
    yield "dot at the end", f"{flows}."
    yield "whole address", f"https://{host}{flows}"


# --- what is found


def probed(scene: Scene) -> Probed:
    """What one run saw, for all checks of this scene and for whoever shows the table. Errors as `probe`."""
    known: Probed | None = scene.__dict__.get("outside")
    if known is None:
        known = scene.__dict__["outside"] = probe(scene.site, scene.environ, with_devices=scene.devices)
    return known


def _look_open(scene: Scene) -> Iterator[Found]:
    for place, words in _by_place(row for row in _rows(scene) if row.is_open):
        yield Found(f"{place} lets in who should be refused: {words}", place)


def _look_shut(scene: Scene) -> Iterator[Found]:
    shut = [row for row in _rows(scene) if not row.ok and not row.is_open]
    if not shut and not scene.devices:
        raise Unknown("only strangers knocked; by hand, redlatch check knocks with devices too")
    for place, words in _by_place(shut):
        yield Found(f"{place} refuses who should come in: {words}", place)


def _by_place(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """(surface of a door, what came with which keys): a door that stands open is one finding for each of them."""
    found: dict[str, list[str]] = {}
    for row in rows:
        trick = f" ({row.trick}: {row.path})" if row.trick else ""
        place = f"{row.surface} at {row.door}"
        found.setdefault(place, []).append(f"{row.key}{trick}: {row.seen}")
    for place, words in found.items():
        more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
        yield place, "; ".join(words[:_NAMED]) + more


def _rows(scene: Scene) -> tuple[Row, ...]:
    found = probed(scene)
    if not found.rows:
        raise Unknown("; ".join(found.left_out) or "this site has no door yet")
    return found.rows


def _look_shut_doors(scene: Scene) -> Iterator[Found]:
    claim = looking.guard(scene)
    for name, port in shut_doors(scene.site):
        words = f"nothing listens on port {port}, at which devices come in ({name})"
        if name == NODE_RED and claim is not None and claim.port not in (None, port):
            yield Found(f"{words}: it listens on port {claim.port} by now", name, "redlatch up")
        else:
            yield Found(words, name)


def _look_left(scene: Scene) -> Iterator[Found]:
    for name in left(scene.site):
        yield Found(f"{name!r} was left by a check that was killed", name, fix=lambda: revoke_left(scene.site))


CHECKS: Final = (
    Check(
        "door-shut",
        "nothing listens at a door",
        Severity.BROKEN,
        "Where nothing listens nobody gets in, no device either.",
        "start what should listen there; redlatch status says more",
        _look_shut_doors,
        ("store-unusable", "gateway-stopped"),
    ),
    Check(
        "outside-open",
        "somebody was let in who should not be",
        Severity.OPEN,
        "From outside, over real TLS, a request was answered that the rules refuse. A stranger could do the same.",
        "take Node-RED off the network, then run: redlatch up, and restart Node-RED (or: redlatch gateway up)",
        _look_open,
        ("store-unusable", "door-shut"),
    ),
    Check(
        "outside-shut",
        "a device was refused that should come in",
        Severity.BROKEN,
        "From outside, over real TLS, a good certificate was refused where the rules let it in.",
        "redlatch refresh publishes everything anew; redlatch log shows the reason that the engine gave",
        _look_shut,
        ("store-unusable", "door-shut"),
    ),
    Check(
        "test-device-left",
        "a check left a device behind",
        Severity.WEAK,
        "A check adds devices for its knocks and revokes them at its end. One was killed before that; the keys "
        "are gone with it.",
        "redlatch check --fix, or: redlatch device revoke NAME",
        _look_left,
    ),
)
