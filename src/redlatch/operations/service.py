"""Where `redlatch serve` listens with console and enrolment, and under which certificate."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy.model import listener
from redlatch.engines.nodered import dropin
from redlatch.errors import InvalidInput, UsageError
from redlatch.operations import machine, ports
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.service_key import own_pair, renew, server_pem
from redlatch.operations.site import LAN, LOOPBACK, Config, Service, Site, changing, set_config
from redlatch.settings import SYSTEM_HOME

__all__ = [
    "Configured",
    "Planned",
    "addresses",
    "configure",
    "of",
    "plan",
    "restart",
    "server_pem",
]

UNIT: Final = "redlatch.service"
WORDS: Final = (LOOPBACK, LAN)
OWN: Final = ()  # server_files: back to a certificate of the site's own CA


@dataclass(frozen=True, slots=True)
class Planned:
    """What the service would be told: `changes` in words (empty: nothing), and what to know before."""

    service: Service
    changes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """What was changed, in words, and how far it got; a service that runs listens there after `restart`."""

    service: Service
    changes: tuple[str, ...]
    warnings: tuple[str, ...]
    force: Force


def plan(
    site: Site,
    *,
    console: Sequence[str] | None = None,
    console_port: int | None = None,
    enrolment: Sequence[str] | None = None,
    enrolment_port: int | None = None,
    server_files: Sequence[str] | None = None,
) -> Planned:
    """What `configure` would do with the same arguments; changes nothing.

    Errors: InvalidInput (an address that is not this machine's, a port that is taken or none, a certificate that
    cannot be used), UsageError (a word beside an address), FileProblem.
    """
    config = site.config()
    present = config.service
    wanted = Service(
        console=present.console if console is None else _choice(console),
        console_port=present.console_port if console_port is None else console_port,
        enrolment=present.enrolment if enrolment is None else _choice(enrolment),
        enrolment_port=present.enrolment_port if enrolment_port is None else enrolment_port,
        server_files=present.server_files if server_files is None else _files(server_files),
    )
    _check_ports(config, wanted)
    if server_files:
        own_pair(site, config, wanted)
    return Planned(wanted, tuple(_differences(present, wanted)), tuple(_warnings(present, wanted)))


def configure(
    site: Site,
    *,
    console: Sequence[str] | None = None,
    console_port: int | None = None,
    enrolment: Sequence[str] | None = None,
    enrolment_port: int | None = None,
    server_files: Sequence[str] | None = None,
) -> Configured:
    """Says where console and enrolment listen and which certificate they show; None: as it is.

    `console` and `enrolment` are ("loopback",), ("lan",) or addresses of this machine; `server_files` certificate
    and key of the operator's, or OWN for one of the site's own CA. Errors: as `plan`.
    """
    planned = plan(
        site,
        console=console,
        console_port=console_port,
        enrolment=enrolment,
        enrolment_port=enrolment_port,
        server_files=server_files,
    )
    if planned.changes:
        with changing(site) as tx:
            _check_ports(
                Config.of(tx.site().config), planned.service
            )  # somebody else may have changed it meanwhile
            set_config(tx, service=planned.service)
            tx.record("service.changed", **asdict(planned.service))
    if server_files:  # as root now: the service may not read root's files
        renew(site)
    return Configured(planned.service, planned.changes, planned.warnings, enforce(site))


def addresses(choice: Sequence[str]) -> list[str]:
    """The addresses that a choice stands for now: those of the words change as this machine moves."""
    found: list[str] = []
    for one in choice:
        if one not in WORDS:
            found.append(one)
            continue
        found += [str(each) for each in machine.LOOPBACK if each.version == 4 or machine.has_ipv6()]
        if one == LAN:
            found += [str(each) for each in machine.private_addresses()]
    return list(dict.fromkeys(found))


def of(service: Service, which: str) -> tuple[tuple[str, ...], int]:
    """(choice, port) of "console" or "enrolment"."""
    if which == "console":
        return service.console, service.console_port
    return service.enrolment, service.enrolment_port


def restart(site: Site) -> str:
    """Has a service that runs listen where it was told to; in words what was done, or what a person has to do."""
    if site.settings.home == SYSTEM_HOME and dropin.try_restart(UNIT):
        return f"{UNIT} was restarted"
    return "it counts from the next start of redlatch serve"


# --- checks


def _choice(choice: Sequence[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(one.strip().lower() for one in choice))
    if not wanted:
        raise UsageError("say where to listen", hint="loopback, lan or an address of this machine")
    if len(wanted) > 1 and any(one in WORDS for one in wanted):
        raise UsageError(
            "loopback and lan stand for all of their addresses, so neither goes with another one",
            hint="name one of the two words, or only addresses",
        )
    return wanted if wanted[0] in WORDS else tuple(_address(one) for one in wanted)


def _address(text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is neither loopback nor lan, and no address", hint="as in 192.168.1.20 or fd00::20"
        ) from None
    if address.is_unspecified:
        raise InvalidInput(
            f"{text} would be every address of this machine, public ones too",
            hint="say lan for all of its private ones, or name those you mean",
        )
    if address not in machine.own_addresses():
        known = ", ".join(str(one) for one in machine.private_addresses()) or "none beside loopback"
        raise InvalidInput(f"{text} is no address of this machine", hint=f"private ones it has: {known}")
    return str(address)


def _files(files: Sequence[str]) -> tuple[str, str] | None:
    if not files:
        return None
    cert, key = files
    return str(Path(cert).absolute()), str(Path(key).absolute())


def _check_ports(config: Config, service: Service) -> None:
    for port in (service.console_port, service.enrolment_port):
        if not 1 <= port <= 65535:
            raise InvalidInput(f"{port} is no port", hint="a number from 1 to 65535")
    if service.console_port == service.enrolment_port:
        raise InvalidInput(
            f"console and enrolment cannot both have port {service.console_port}",
            hint="the one asks for a certificate, the other for none: name two ports",
        )
    taken = {config.port, config.open_port, config.target.listen_port if config.target else None}
    of_gateway = {listener(one)[1] for one in config.gateway.listen} if config.gateway is not None else set()
    for port in (service.console_port, service.enrolment_port):
        if port in of_gateway:
            raise InvalidInput(f"port {port} is the gateway's", hint="name another one")
    for port in (service.console_port, service.enrolment_port):
        if port in taken:
            raise InvalidInput(f"port {port} is Node-RED's", hint="name another one")


def _differences(present: Service, wanted: Service) -> list[str]:
    said = []
    for which in ("console", "enrolment"):
        (before, old), (after, new) = of(present, which), of(wanted, which)
        if (before, old) != (after, new):
            said.append(f"{which}: {_where(after, new)} (until now {_where(before, old)})")
    if present.server_files != wanted.server_files:
        own = "certificate of console and enrolment: one of this site's own CA"
        said.append(
            f"certificate of console and enrolment: {wanted.server_files[0]}" if wanted.server_files else own
        )
    return said


def _where(choice: tuple[str, ...], port: int) -> str:
    return f"{' '.join(choice)}, port {port}"


def _warnings(present: Service, service: Service) -> list[str]:
    said = []
    if present.console != (LOOPBACK,) and service.console == (LOOPBACK,):
        said.append(
            "console: nobody reaches it from another machine any more; redlatch console --listen lan undoes it"
        )
    for which in ("console", "enrolment"):
        choice, port = of(service, which)
        public_ones = [
            one for one in choice if one not in WORDS and not machine.is_private(ipaddress.ip_address(one))
        ]
        if public_ones:
            said.append(f"{which}: whoever is on the internet can knock at {', '.join(public_ones)}")
        if port < ports.first_unprivileged():
            said.append(f"{which}: only root may listen on port {port} here, and the service is not root")
    return said
