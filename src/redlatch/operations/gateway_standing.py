"""How the gateway stands: whether it runs, what is in force, and whether Node-RED's own port can be reached past
it.

"Locked" is said of what was seen: a gateway in which the present snapshot is in force, in front of Node-REDs that
nobody but this machine reaches.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redlatch.engines.haproxy.model import Gateway, Upstream, listener
from redlatch.engines.nodered import claims, locate
from redlatch.engines.nodered.inspection import inspect_settings
from redlatch.errors import NotSetUp, RedlatchError
from redlatch.operations import engines, machine, ports
from redlatch.operations.publishing import running
from redlatch.operations.site import Config, Site
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.networks import compiled, parse

if TYPE_CHECKING:
    from redlatch.engines.haproxy.program import Program

_LOOKED_AT: Final = 500
_ENOUGH: Final = 5
_MANY: Final = 20
WAYS_OUT: Final = (
    "set the DNS record to DNS only (Cloudflare: the grey cloud): devices then reach this machine by themselves",
    "use a tunnel that passes TCP on and leaves TLS alone, so that the gateway ends TLS",
    "let that proxy ask for client certificates itself (Cloudflare: mTLS); redlatch then judges nobody it lets in",
)


@dataclass(frozen=True, slots=True)
class Reach:
    """One Node-RED behind the gateway. `runs`: whether it accepts connections now. `closed`: nobody but this
    machine reaches its own port, as was seen; None where that cannot be seen from here. `words` say it.
    """

    upstream: Upstream
    runs: bool
    closed: bool | None
    words: str


@dataclass(frozen=True, slots=True)
class Standing:
    """`locked`, and why not: `open_at` in words. `claim` is the gateway's, None while it does not run; `program`
    the HAProxy that is installed.
    """

    locked: bool
    gateway: Gateway
    claim: claims.InForce | None
    recorded: int
    program: Program | None
    reach: tuple[Reach, ...]
    open_at: tuple[str, ...]
    ends_tls: str
    warnings: tuple[str, ...]


def standing(site: Site, environ: Mapping[str, str]) -> Standing:
    """Looks, and changes nothing. NotSetUp where there is no gateway."""
    config = site.config()
    engine = engines.gateway(site.settings, config)
    gateway = config.gateway
    if engine is None or gateway is None:
        raise NotSetUp("this site has no gateway", hint="run: redlatch gateway up --help")
    warnings: list[str] = []
    claim = running(engine)
    with site.store.read() as view:
        recorded = view.site().revision
    reach = tuple(reached(one, config, environ) for one in gateway.upstreams)
    open_at = [one.words for one in reach if not one.closed]
    warnings += [f"{one.upstream.url} does not answer" for one in reach if not one.runs]
    if claim is None:
        warnings.append(
            "the gateway does not run, so nobody gets in through it; redlatch gateway up says how to start it"
        )
    program, missing = _program()
    warnings += missing
    ends_tls = ending_tls(_entries(site), gateway)
    if ends_tls:
        warnings += [ends_tls, *(f"a way out: {way}" for way in WAYS_OUT)]
    return Standing(
        locked=not open_at and _in_force(claim, recorded),
        gateway=gateway,
        claim=claim,
        recorded=recorded,
        program=program,
        reach=reach,
        open_at=tuple(open_at),
        ends_tls=ends_tls,
        warnings=tuple(warnings),
    )


def _in_force(claim: claims.InForce | None, recorded: int) -> bool:
    """A gateway that does not run lets nobody in; one that enforces something else may."""
    return claim is None or claim.version >= recorded


def _program() -> tuple[Program | None, list[str]]:
    from redlatch.engines.haproxy import program

    try:
        return program.find(), []
    except RedlatchError as error:
        return None, [f"{error.message}; {error.hint}"]


def _entries(site: Site) -> Sequence[claims.Access]:
    engine = engines.gateway(site.settings, site.config())
    try:
        return claims.read_access(engine.settings, engine.uid, limit=_LOOKED_AT) if engine is not None else ()
    except RedlatchError:  # a planted file; `log` tells of it
        return ()


# --- past the gateway


def reached(upstream: Upstream, config: Config, environ: Mapping[str, str]) -> Reach:
    """Whether that Node-RED's own port can be reached past the gateway.

    Seen for one on this machine: from the kernel's table of listening sockets, and from its settings.js where
    `redlatch gateway up` bound it to loopback. For one elsewhere nothing can be seen from here.
    """
    host, port = upstream.address
    if not is_here(host):
        words = (
            f"{upstream.url} is another machine's: redlatch cannot see from here who else reaches it. Let its "
            "firewall "
            "admit this machine only, or give it a network that only the gateway is in"
        )
        return Reach(upstream, _answers(host, port), None, words)
    listening = ports.listeners(port)
    beyond = [one for one in listening if one.beyond_loopback]
    if beyond:
        places = ", ".join(f"http://{_shown(one)}:{port}" for one in _places(beyond))
        remedy = _remedy(config, port)
        return Reach(upstream, True, closed=False, words=f"Node-RED can still be reached at {places}: {remedy}")
    if listening:
        return Reach(upstream, True, closed=True, words=f"{upstream.url} listens on loopback only")
    if _is_bound(config, port, environ):
        return Reach(
            upstream,
            False,
            closed=True,
            words=f"{upstream.url} does not run; its settings.js binds it to loopback",
        )
    words = (
        f"{upstream.url} does not run, and nothing says that it will listen on loopback only: "
        "start it, then run redlatch gateway status"
    )
    return Reach(upstream, False, closed=False, words=words)


def is_here(host: str) -> bool:
    """Whether a host or address is this machine's own."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address in machine.own_addresses()


def _answers(host: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def _places(listening: Sequence[ports.Listener]) -> list[machine.Address]:
    """Addresses under which others reach those sockets; every address of this machine for one that is bound to
    all.
    """
    own = [one for one in machine.own_addresses() if not one.is_loopback]
    found: list[machine.Address] = []
    for one in listening:
        here = [address for address in own if address.version == 4 or one.address.version == 6]
        found += here if one.address.is_unspecified else [one.address]
    return list(dict.fromkeys(found)) or [one.address for one in listening]


def _shown(address: machine.Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _remedy(config: Config, port: int) -> str:
    if config.behind and config.target is not None and config.target.listen_port == port:
        return "restart it, its settings.js binds it to loopback from the next start on"
    return 'set uiHost: "127.0.0.1" in its settings.js and restart it, or let a firewall keep others off that port'


def _is_bound(config: Config, port: int, environ: Mapping[str, str]) -> bool:
    """Whether settings.js, loaded as its user, has redlatch's lines that bind this Node-RED to loopback."""
    target = config.target
    if target is None or not config.behind or target.listen_port != port:
        return False
    try:
        found = inspect_settings(
            locate.locate(
                user_dir=Path(target.user_dir), settings_file=Path(target.settings_file), environ=environ
            )
        )
    except RedlatchError:
        return False
    return found.ok and found.guarded and found.bound


# --- in front of the gateway


def ending_tls(entries: Sequence[claims.Access], gateway: Gateway) -> str:
    """What there is to say when a proxy in front seems to end TLS: connections come from such a proxy, and not
    one of them brings a certificate. "" where nothing speaks for it.
    """
    if gateway.trusted_proxies and not gateway.accept_proxy and len(entries) >= _MANY:
        # whom such a proxy speaks for is what the log says, so it cannot be told which of them came through it
        if not any(one.fingerprint for one in entries):
            return (
                f"none of the last {len(entries)} connections brought a certificate, and a proxy is trusted "
                "to say who comes: it seems to end TLS itself, and then no device's certificate arrives here"
            )
        return ""
    trusted = compiled(parse(one) for one in gateway.trusted_proxies)
    known = (BUILTIN["cloudflare"], trusted)
    through = [one for one in entries if any(network.contains(one.address) for network in known)]
    if len(through) < _ENOUGH or any(one.fingerprint for one in through):
        return ""
    cloudflare = all(BUILTIN["cloudflare"].contains(one.address) for one in through)
    whose = "Cloudflare" if cloudflare else "a trusted proxy"
    return (
        f"none of the last {len(through)} connections that came through {whose} brought a certificate: it seems "
        "to end "
        "TLS itself, and then no device's certificate arrives here"
    )


def listening_at(gateway: Gateway) -> tuple[str, ...]:
    """Where it listens, for a person."""
    return tuple(f"{host or 'all addresses'}, port {port}" for host, port in map(listener, gateway.listen))
