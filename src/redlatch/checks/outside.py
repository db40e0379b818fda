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

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from redlatch.checks import doors, knocking
from redlatch.checks.doors import Door, Surface
from redlatch.checks.knocking import ADMITTED, REFUSED, Client, Identity, Pace, Request
from redlatch.errors import Conflict, NotPermitted, PassphraseNeeded
from redlatch.operations import reach
from redlatch.operations.throwaways import Throwaways, throwaways

if TYPE_CHECKING:
    from redlatch.operations.site import Site

SECONDS: Final = 90.0
_FEW_A_SECOND: Final = 5.0  # the guard lets an unknown address have 8 handshakes a second
_A_SECOND: Final = 40.0  # and a known one 100

NO_KEY, FOREIGN, REVOKED, ENDED, GOOD, FEW = (
    "no key",
    "foreign CA",
    "revoked",
    "ended",
    "a good key",
    "a dashboard's key",
)
NO_KEY_RESUMED: Final = tuple(f"no key, resumed {tls}" for tls in knocking.TLS_VERSIONS)
_REVOKED_RESUMED: Final = tuple(f"revoked, resumed {tls}" for tls in knocking.TLS_VERSIONS)
KINDS: Final = (
    NO_KEY,
    FOREIGN,
    REVOKED,
    ENDED,
    *_REVOKED_RESUMED,
    *NO_KEY_RESUMED,
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
        """Silence instead of a handshake lets nobody in: it is as good as a refusal, and no admission."""
        if self.expected == ADMITTED:
            return self.seen == ADMITTED
        return self.seen in (REFUSED, knocking.SILENT, "sent on to https")

    @property
    def is_open(self) -> bool:
        """Whether somebody was let in who should not have been."""
        return not self.ok and self.expected == REFUSED


@dataclass(frozen=True, slots=True)
class Probed:
    """What was seen, and in words what was not looked at. `unjudged` is what of that should have been looked at
    and could not: rows that are all as they should be prove nothing about it.
    """

    rows: tuple[Row, ...]
    left_out: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()


@dataclass
class _Run:
    """One run at one door: the keys, and what came of them."""

    site: Site
    door: Door
    clients: dict[str, Client]
    devices: Mapping[str, str]
    pace: Pace
    deadline: float
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unreached: Counter[str] = field(default_factory=Counter)
    cut: bool = False

    def knock(self, surface: Surface, key: str, trick: str, request: Request) -> None:
        """One knock, unless its time is over, or it would do something."""
        should = self.expects(key, request)
        if surface.acts and should:
            return
        if time.monotonic() > self.deadline:
            self.cut = True
            return
        self.pace.wait()
        seen = knocking.ask(self.door.place, self.clients[key], request)
        expected = ADMITTED if should else REFUSED
        self.saw(Row(self.door.name, surface.kind, request.target, key, trick, expected, seen))

    def saw(self, row: Row) -> None:
        """A knock that no door answered says nothing of the lock: Node-RED may have been restarted meanwhile."""
        if knocking.is_nobodys(row.seen):
            self.unreached[row.seen] += 1
        else:
            self.rows.append(row)

    def unjudged(self) -> Iterator[str]:
        """What could not be looked at here, in words."""
        for seen, count in self.unreached.items():
            yield f"{count} {'knock' if count == 1 else 'knocks'} at {self.door.name}: {seen}"
        if self.cut:
            yield f"the rest of {self.door.name}: it took longer than {SECONDS:.0f} seconds"

    def expects(self, key: str, request: Request) -> bool:
        if self.door.expects is not None:
            return self.door.expects(key == GOOD, request)
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
    surfaces, left_out = doors.surfaces_of(site, environ)
    there = [*doors.to_node_red(config, surfaces), *doors.of_service(config)]
    up = [door for door in there if knocking.listens(door.place)]
    unjudged = [f"nothing listens at {door.name}, port {door.place.port}" for door in there if door not in up]
    deadline = time.monotonic() + SECONDS
    rows: list[Row] = []
    with ExitStack() as stack:
        made: Throwaways | None = None
        if with_devices and up:
            try:
                made = stack.enter_context(throwaways(site))
            except (PassphraseNeeded, NotPermitted, Conflict) as error:
                unjudged.append(f"every knock with a certificate of this site: {error.message}")
        elif not with_devices:
            left_out.append("every knock with a certificate of this site: not asked for")
        runs = [_prepared(site, door, made, deadline) for door in up]
        if made is not None:
            for run in runs:
                unjudged += _arrive(run)
            made.revoke_gone()
        for run in runs:
            _all(run)
            rows += run.rows
            left_out += run.left_out
            unjudged += run.unjudged()
    return Probed(tuple(rows), (*left_out, *unjudged), tuple(unjudged))


# --- keys


def _prepared(site: Site, door: Door, made: Throwaways | None, deadline: float) -> _Run:
    clients = {NO_KEY: knocking.client(None), FOREIGN: knocking.client(_foreign(site, made))}
    devices: dict[str, str] = {}
    if made is not None:
        for key, one in ((GOOD, made.good), (FEW, made.few), (REVOKED, made.gone), (ENDED, made.ended)):
            clients[key] = knocking.client(Identity(one.key, one.certificate))
        gone = Identity(made.gone.key, made.gone.certificate)
        if not door.keyless:  # it has no certificate of anybody's in its sessions
            for key, tls in zip(_REVOKED_RESUMED, knocking.TLS_VERSIONS, strict=True):
                clients[key] = knocking.client(gone, resumes=tls)
        devices = {} if door.keyless else {GOOD: made.good.name, FEW: made.few.name}
    for tls in knocking.TLS_VERSIONS:
        clients[f"no key, resumed {tls}"] = knocking.client(None, resumes=tls)
    return _Run(site, door, clients, devices, Pace(_FEW_A_SECOND if made is None else _A_SECOND), deadline)


def _arrive(run: _Run) -> Iterator[str]:
    """The good device first: the guard knows the address then. What is to be resumed comes in while it may; what
    did not, or has no session, would be a handshake like any other: it is left out, and what of that should have
    been otherwise is returned in words.
    """
    first = Request(run.door.surfaces[0].path)
    run.pace.wait()
    knocking.ask(run.door.place, run.clients[GOOD], first)
    seen = {}
    for key in (one for one in _REVOKED_RESUMED if one in run.clients):
        run.pace.wait()
        seen[key] = knocking.ask(run.door.place, run.clients[key], first)
    out = {key for key, came in seen.items() if knocking.is_nobodys(came) or came in (REFUSED, knocking.SILENT)}
    for key, came in seen.items():
        if key not in out and run.clients[key].session is not None:
            continue
        del run.clients[key]
        words = f"{key}, at {run.door.name}"
        if key not in out:
            run.left_out.append(f"{words}: it was given nothing to resume")
        elif len(out) < len(seen):  # the console takes TLS 1.3 only
            run.left_out.append(f"{words}: it was let in by another version of TLS only")
        elif run.expects(GOOD, first):  # the good one has the same role
            yield f"{words}: it was not let in before it was revoked ({came})"
        else:
            run.left_out.append(f"{words}: no rule lets it in")


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
            if key not in run.clients or key in NO_KEY_RESUMED:
                continue
            if key not in _REVOKED_RESUMED or surface is run.door.surfaces[0]:
                run.knock(surface, key, "", Request(surface.path, surface.websocket))
    _strangers_again(run)
    for trick, surface, request in _tricks(run.door):
        for key in (NO_KEY, FEW, *((GOOD,) if request.host or request.headers else ())):
            if key in run.clients:
                run.knock(surface, key, trick, request)
    if not run.door.keyless and run.door.expects is None and not run.door.place.announced:
        _plainly(run)


def _strangers_again(run: _Run) -> None:
    """Strangers who resume a session, where a door gives them one; in mode strict none does."""
    surface = run.door.surfaces[0]
    for key in NO_KEY_RESUMED:
        run.pace.wait()
        knocking.ask(run.door.place, run.clients[key], Request(surface.path))
        if run.clients[key].session is None:
            run.left_out.append(f"{key}, at {run.door.name}: it was given nothing to resume")
        else:
            run.knock(surface, key, "", Request(surface.path))


def _plainly(run: _Run) -> None:
    surface = run.door.surfaces[0]
    run.pace.wait()
    seen = knocking.plain(run.door.place, surface.path)
    run.saw(Row(run.door.name, surface.kind, surface.path, NO_KEY, "plain http", REFUSED, seen))


def _tricks(door: Door) -> Iterable[tuple[str, Surface, Request]]:
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
        ("another page", f"https://{doors.FOREIGN_HOST}"),
        ("a page without origin", "null"),
        ("a page of a like name", f"https://{host}.{doors.FOREIGN_HOST}"),
    ):
        yield trick, first, Request(first.path, headers=(f"Origin: {origin}",))
    embedded = ("Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: no-cors", "Sec-Fetch-Dest: image")
    yield "a picture on another page", first, Request(first.path, headers=embedded)
    yield "foreign host", first, Request(first.path, host=doors.FOREIGN_HOST)
    for surface in door.surfaces:
        if surface.websocket and not surface.acts:
            foreign = (f"Origin: https://{doors.FOREIGN_HOST}",)
            yield "another page's websocket", surface, Request(surface.path, websocket=True, headers=foreign)


def _paths(flows: str, door: Door, host: str) -> Iterator[tuple[str, str]]:
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
