"""The doors of a site, and what stands behind each: what the probe from outside knocks at."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redlatch.checks import knocking
from redlatch.checks.knocking import Place, Request
from redlatch.errors import RedlatchError
from redlatch.operations import reach

if TYPE_CHECKING:
    from redlatch.operations.site import Config, Site

MOST_OF_A_KIND: Final = 3  # of each kind of surface, at each door
FOREIGN_HOST: Final = "evil.example"
NODE_RED: Final = "Node-RED"


@dataclass(frozen=True, slots=True)
class Surface:
    """Something behind a door. `acts`: asking for it may do something, or nobody may be there to answer: it
    is asked for only with what should be refused.
    """

    kind: str
    path: str
    websocket: bool = False
    acts: bool = False


@dataclass(frozen=True, slots=True)
class Door:
    """A place with what stands behind it. `keyless`: it asks nobody for a certificate. `surfaces` () for what is
    no door of Node-RED's: then `expects` says who comes in, by
    whether the key is the good one.
    """

    name: str
    place: Place
    surfaces: tuple[Surface, ...]
    keyless: bool = False
    expects: Callable[[bool, Request], bool] | None = None


def shut_doors(site: Site) -> list[tuple[str, int]]:
    """(name, port) of the doors at which devices come in and nothing listens."""
    found = to_node_red(site.config(), ())
    return [(one.name, one.place.port) for one in found if not knocking.listens(one.place)]


def to_node_red(config: Config, surfaces: tuple[Surface, ...]) -> list[Door]:
    """Those at which devices come in to Node-RED."""
    from redlatch.engines.haproxy.model import listener
    from redlatch.policy.networks import compiled, parse

    doors = []
    if config.target is not None and config.adopted and not config.behind:
        port = config.target.listen_port
        doors.append(Door(NODE_RED, Place(_at(port), port), surfaces))
    if config.gateway is not None:
        trusted = compiled(parse(one) for one in config.gateway.trusted_proxies)
        for entry in config.gateway.listen:
            host, port = listener(entry)
            address = host if host and not ipaddress.ip_address(host).is_unspecified else _at(port)
            announced = config.gateway.accept_proxy and trusted.contains(Place(address, port).source)
            doors.append(Door(f"gateway {entry}", Place(address, port, announced), surfaces))
    if config.open_port is not None:
        doors.append(Door("open port", Place(_at(config.open_port), config.open_port), surfaces, keyless=True))
    return doors


def of_service(config: Config) -> list[Door]:
    """Console and enrolment, where they run now."""
    doors, service = [], config.service
    for port, name, expects in (
        (service.console_port, "console", _at_the_console),
        (service.enrolment_port, "enrolment", _at_enrolment),
    ):
        place = Place(_at(port), port)
        if knocking.listens(place):  # they run when they are needed, or not at all
            doors.append(Door(name, place, (Surface(name, "/"),), expects=expects))
    return doors


def _at(port: int) -> str:
    """The address at which this machine reaches its own port: loopback where it can be."""
    from redlatch.operations import ports

    found = [one.address for one in ports.listeners(port)]
    if not found or any(one.is_unspecified or (one.is_loopback and one.version == 4) for one in found):
        return "127.0.0.1"
    return str(found[0])


def _at_the_console(good: bool, request: Request) -> bool:
    """Owners and admins; it goes by addresses, by its names, and by no other page's word."""
    return good and not request.headers and FOREIGN_HOST not in request.host


def _at_enrolment(_: bool, request: Request) -> bool:
    """Everybody gets the page, which does nothing without a token."""
    return not request.headers and FOREIGN_HOST not in request.host


def surfaces_of(site: Site, environ: Mapping[str, str]) -> tuple[tuple[Surface, ...], list[str]]:
    try:
        things = reach.survey(site, environ).things
    except RedlatchError:  # who may not look at Node-RED's settings knows what they were
        things = reach.known(site).things
    found: dict[str, list[Surface]] = {}
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
        chosen.append(Surface("live data", "/comms", websocket=True))
    return tuple(chosen), left_out


def _of(thing: reach.Thing) -> Iterator[Surface]:
    if thing.kind == "editor":
        root = thing.path.rstrip("/")
        yield Surface("editor", f"{root}/")
        yield Surface("flows", f"{root}/flows")
        yield Surface("live data", f"{root}/comms", websocket=True)
        return
    plain = thing.path.replace(":", "x")
    if not plain.isascii() or not plain.isprintable() or " " in plain or "*" in plain:
        return  # no path that anybody asks for
    if thing.kind == "dashboard":
        yield Surface("dashboard", plain)
        yield Surface("dashboard", f"{plain.rstrip('/')}/socket.io/?EIO=4&transport=websocket", True, acts=True)
    elif thing.kind == "websocket":
        yield Surface("websocket", plain, websocket=True, acts=True)
    else:  # a rule's path may be an endpoint's too
        yield Surface(thing.kind, plain, acts=thing.kind in ("http-in", "path"))
