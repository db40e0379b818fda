"""The key and certificate that console and enrolment show.

They are the service's own and lie where Node-RED's user reads nothing: flows, which can read Node-RED's key, must
not be able to pass for the console.
"""

from __future__ import annotations

import functools
import os
import ssl
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch.engines.nodered import users
from redlatch.errors import FileProblem, InvalidInput, RedlatchError
from redlatch.files import own_user, read_own, write_atomic
from redlatch.operations import authorities, engines, machine, server
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Config, Service, Site, authority, changing, exclusive

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.certificates import ServerPair
    from redlatch.pki.keys import Key

_NEW_ROOT = "issued a certificate from the new root for console and enrolment"


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
        pair = own_pair(site, config, config.service)
        if pair.leaf == present:
            return []
        _record(site, "server-certificate.adopted", pair.leaf, fingerprint=fingerprint(pair.leaf))
        _write(site, pair)
        return ["took over the certificate of console and enrolment"]
    why = _why_issue(site, config, present)
    if why:
        _issue(site, config, _kept_key(site, present, why))
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


def public_names(site: Site) -> tuple[str, ...]:
    """The site's names under which the present certificate is publicly trusted: the roots that this machine trusts
    vouch for it. None for the site's own CA, also where somebody added it to those: other devices do not have it.
    """
    config = site.config()
    present = leaf(site)
    if config.service.server_files is None or present is None or _is_own(site, present):
        return ()
    return trusted_names(site.settings.service_pem, config.hosts)


def trusted_names(pem: Path, hosts: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `hosts` under which a client with this machine's roots accepts what is in `pem`."""
    try:
        state = pem.stat()
    except OSError:
        return ()
    return _trusted_names(pem, hosts, (state.st_ino, state.st_mtime_ns), int(time.time()) // 600)


@functools.lru_cache(16)
def _trusted_names(pem: Path, hosts: tuple[str, ...], _file: object, _time: int) -> tuple[str, ...]:
    """Kept for the same file and ten minutes: loading a machine's roots takes longer than an answer should."""
    return tuple(name for name in hosts if _trusted(pem, name))


def own_pair(site: Site, config: Config, service: Service) -> ServerPair:
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
    engine = engines.node_red(site.settings, config)
    node_red = server.leaf_of(engine) if engine is not None else None
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


def _why_issue(site: Site, config: Config, present: x509.Certificate | None) -> str:
    if present is None:
        return "issued a certificate for console and enrolment"
    ca = authority(site, "server", signing=False)
    if not server.issued_by(present, ca):
        own = _is_own(site, present, ended=True)
        return _NEW_ROOT if own else "issued a certificate of this site's own CA for console and enrolment"
    why = server.why_renew(present, tuple(server.covered(ca, config.hosts)), site.clock())
    return why[0].replace("the server certificate", "the certificate of console and enrolment") if why else ""


def _kept_key(site: Site, present: x509.Certificate | None, why: str) -> Key | None:
    """The present key, where only the root is another one: who pinned it goes on knowing this service by it."""
    from redlatch.pki.keys import load_private_key

    if why != _NEW_ROOT or present is None:
        return None
    try:
        key = load_private_key(read_own(site.settings.service_pem))
    except (OSError, RedlatchError):
        return None
    return key if key.public_key() == present.public_key() else None


def _issue(site: Site, config: Config, kept: Key | None) -> None:
    from redlatch.pki.certificates import ServerPair, fingerprint
    from redlatch.pki.keys import generate_key

    ca = authority(site, "server")
    key = kept or generate_key("p256")
    made = ca.issue_server(
        key.public_key(),
        server.covered(ca, config.hosts),
        [*machine.LOOPBACK, *machine.private_addresses()],
        now=site.clock(),
        days=server.DAYS_BY_TIMER if server.renews_by_itself(site) else server.DAYS_BY_HAND,
    )
    _record(site, "server-certificate.issued", made, fingerprint=fingerprint(made))
    _write(site, ServerPair(key, made, ca.shown))


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


def _is_own(site: Site, certificate: x509.Certificate, *, ended: bool = False) -> bool:
    """Whether a server CA of this site issued it; with `ended` one that was taken out of use, too."""
    with site.store.read() as view:
        rows = view.authorities("server") if ended else authorities.trusted(view, "server")
    return any(server.issued_by(certificate, authorities.made_of(row)) for row in rows)


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
