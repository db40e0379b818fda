"""Where `redlatch serve` listens, and the key and certificate that console and enrolment show.

The key is the service's own and lies where Node-RED's user reads nothing: flows, which can read Node-RED's key,
must not be able to pass for the console.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redlatch.engines.nodered import users
from redlatch.errors import FileProblem, InvalidInput, RedlatchError, UsageError
from redlatch.files import own_user, read_own, write_atomic
from redlatch.operations import machine, server
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import (
    LAN,
    LOOPBACK,
    Config,
    Service,
    Site,
    authority,
    changing,
    exclusive,
    set_config,
)

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.certificates import ServerPair

WORDS: Final = (LOOPBACK, LAN)
OWN: Final = ()  # server_files: back to a certificate of the site's own CA
_UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True)
class Planned:
    """What the service would be told: `changes` in words (empty: nothing), and what to know before."""

    service: Service
    changes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """What was changed, in words, and how far it got. The service follows within seconds, without a restart."""

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
        _own_pair(site, config, wanted)
    return Planned(wanted, tuple(_differences(present, wanted)), tuple(_warnings(wanted)))


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


def url(site: Site, which: str, *, host: str | None = None) -> str:
    """The address of "console" or "enrolment" in a browser: under `host`, else the best name that it has."""
    config = site.config()
    choice, port = of(config.service, which)
    if host is None:
        host = _best_host(site, config, choice)
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def of(service: Service, which: str) -> tuple[tuple[str, ...], int]:
    """(choice, port) of "console" or "enrolment"."""
    if which == "console":
        return service.console, service.console_port
    return service.enrolment, service.enrolment_port


def server_pem(site: Site) -> Path:
    """The file with key, certificate and chain of console and enrolment, made or renewed when it is time.

    The operator's certificate is copied from its files; where these cannot be read (the service may not read
    root's) the copy that root made serves until its end. Errors: FileProblem, InvalidInput, PassphraseNeeded where
    there is nothing that could serve.
    """
    try:
        renewed = renew(site)
    except RedlatchError:
        if not _serves(site):
            raise
        renewed = []
    if renewed:
        enforce(site)
    return site.settings.service_pem


def renew(site: Site) -> list[str]:
    """Makes or renews what `server_pem` gives, when it is missing, ends within 30 days, lacks a name or address
    that this machine has now, or is not what the configuration asks for; in words what was done. The caller
    enforces.
    """
    from redlatch.pki.certificates import fingerprint

    config = site.config()
    present = leaf(site)
    if config.service.server_files is not None:
        pair = _own_pair(site, config, config.service)
        if pair.leaf == present:
            return []
        _record(site, "server-certificate.adopted", pair.leaf, fingerprint=fingerprint(pair.leaf))
        _write(site, pair)
        return ["took over the certificate of console and enrolment"]
    why = _why_issue(site, config, present)
    if why:
        _issue(site, config)
    return [why] if why else []


def wanted(site: Site) -> bool:
    """Whether there is something to keep right: a certificate that was made once, or files that were named."""
    return site.settings.service_pem.exists() or site.config().service.server_files is not None


def leaf(site: Site) -> x509.Certificate | None:
    """The certificate that console and enrolment show now; None where there is none that can be read."""
    from redlatch.pki.certificates import load_certificates

    try:
        return load_certificates(read_own(site.settings.service_pem))[0]
    except (OSError, RedlatchError, IndexError):
        return None


def public(site: Site) -> bool:
    """Whether console and enrolment have a publicly trusted certificate: the roots that this machine trusts vouch
    for it, under one of the site's names.
    """
    return bool(public_names(site))


def public_names(site: Site) -> tuple[str, ...]:
    """The site's names under which the present certificate is publicly trusted. None for the site's own CA, also
    where somebody added it to the roots of this machine: other devices do not have it.
    """
    config = site.config()
    present = leaf(site)
    if config.service.server_files is None or present is None or _is_own(site, present):
        return ()
    return tuple(name for name in config.hosts if _trusted(site.settings.service_pem, name))


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
    for port in (service.console_port, service.enrolment_port):
        if port in taken:
            raise InvalidInput(f"port {port} is Node-RED's", hint="name another one")


def _own_pair(site: Site, config: Config, service: Service) -> ServerPair:
    """The operator's certificate and key for console and enrolment, checked. InvalidInput, FileProblem."""
    if service.server_files is None:
        raise FileProblem("there are no files of a certificate", hint="redlatch console --server-cert FILE")
    pair: ServerPair = server.read_pair(*service.server_files)
    if not any(_names(pair.leaf, host) for host in config.hosts):
        raise InvalidInput(
            "the certificate names none of this site's names: " + ", ".join(config.hosts),
            hint="take one for a name of this site, or add its name: redlatch name add HOST",
        )
    _refuse_shared(site, config, service.server_files[1], pair)
    return pair


def _refuse_shared(site: Site, config: Config, key: str, pair: ServerPair) -> None:
    """A key that Node-RED's user can read lets its flows pass for the console."""
    hint = "get a certificate with a key of its own; with certbot: --cert-name redlatch-console -d HOST"
    node_red = server.published_leaf(site)
    if node_red is not None and node_red.public_key() == pair.leaf.public_key():
        raise InvalidInput("this key is the one that Node-RED serves, and its flows can read it", hint=hint)
    user = users.user_by_uid(config.target.uid) if config.target is not None else None
    if user is None or user.uid in (0, os.geteuid()) or os.geteuid() != 0:
        return  # without root there is one user only; the service reads nothing that root did not copy for it
    if users.may_reach(user, Path(key)):
        raise InvalidInput(f"Node-RED's user {user.name} may read the key {key}", hint=f"chmod 600 {key}")


def _names(certificate: x509.Certificate, host: str) -> bool:
    from cryptography import x509

    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    patterns = {name.lower() for name in san.get_values_for_type(x509.DNSName)}
    return host in patterns or f"*.{host.partition('.')[2]}" in patterns


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


def _warnings(service: Service) -> list[str]:
    said = []
    for which in ("console", "enrolment"):
        choice, port = of(service, which)
        public_ones = [
            one for one in choice if one not in WORDS and not machine.is_private(ipaddress.ip_address(one))
        ]
        if public_ones:
            said.append(f"{which}: whoever is on the internet can knock at {', '.join(public_ones)}")
        if port < _first_unprivileged():
            said.append(f"{which}: only root may listen on port {port} here, and the service is not root")
    return said


def _first_unprivileged() -> int:
    try:
        return int(_UNPRIVILEGED.read_text("ascii"))
    except (OSError, ValueError):
        return 1024


def _best_host(site: Site, config: Config, choice: tuple[str, ...]) -> str:
    names = public_names(site)
    if names:
        return names[0]
    if choice == (LOOPBACK,):
        return "localhost"
    if choice == (LAN,):
        return config.hosts[1] if len(config.hosts) > 1 else config.machine
    return choice[0]


# --- the certificate


def _why_issue(site: Site, config: Config, present: x509.Certificate | None) -> str:
    if present is None:
        return "issued a certificate for console and enrolment"
    if not _is_own(site, present):
        return "issued a certificate of this site's own CA for console and enrolment"
    ca = authority(site, "server", signing=False)
    why = server.why_renew(present, tuple(server.covered(ca, config.hosts)), site.clock())
    return why[0].replace("the server certificate", "the certificate of console and enrolment") if why else ""


def _issue(site: Site, config: Config) -> None:
    from redlatch.pki.certificates import ServerPair, fingerprint
    from redlatch.pki.keys import generate_key

    ca = authority(site, "server")
    key = generate_key("p256")
    made = ca.issue_server(
        key.public_key(),
        server.covered(ca, config.hosts),
        [*machine.LOOPBACK, *machine.private_addresses()],
        now=site.clock(),
        days=server.DAYS_BY_TIMER if server.renews_by_itself(site) else server.DAYS_BY_HAND,
    )
    _record(site, "server-certificate.issued", made, fingerprint=fingerprint(made))
    _write(site, ServerPair(key, made, ()))


def _record(site: Site, kind: str, made: x509.Certificate, **data: Any) -> None:
    from redlatch.pki.certificates import serial_hex

    with changing(site) as tx:
        tx.record(
            kind,
            **data,
            serial=serial_hex(made),
            not_after=int(made.not_valid_after_utc.timestamp()),
            used_by="service",
        )


def _write(site: Site, pair: ServerPair) -> None:
    from redlatch.pki.certificates import server_pem as pem_of

    with exclusive(site.settings):
        write_atomic(site.settings.service_pem, pem_of(pair), mode=0o600, owner=own_user(site.settings))


def _is_own(site: Site, certificate: x509.Certificate) -> bool:
    """Whether the site's present server CA issued it."""
    from cryptography.exceptions import InvalidSignature

    ca = authority(site, "server", signing=False)
    try:
        certificate.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _serves(site: Site) -> bool:
    """Whether the present file is what the configuration asks for, and in date."""
    present = leaf(site)
    if present is None or not present.not_valid_before_utc <= site.clock() < present.not_valid_after_utc:
        return False
    return _is_own(site, present) == (site.config().service.server_files is None)


def _trusted(pem: Path, name: str) -> bool:
    """Whether a client with this machine's roots accepts it under `name`: a handshake with itself, in memory."""
    try:
        accepting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        accepting.load_cert_chain(pem)
        asking = ssl.create_default_context()
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = asking.wrap_bio(to_client, to_server, server_hostname=name)
        accepted = accepting.wrap_bio(to_server, to_client, server_side=True)
        waiting = [partial(client.do_handshake), partial(accepted.do_handshake)]
        for _ in range(8):  # TLS 1.3 needs three turns
            waiting = [step for step in waiting if not _done(step)]
    except (OSError, ValueError):
        return False
    return not waiting


def _done(step: partial[None]) -> bool:
    try:
        step()
    except ssl.SSLWantReadError:
        return False
    return True
