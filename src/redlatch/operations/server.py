"""The server's side: its names, its certificate, and keeping both right as addresses and dates change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch.engines.nodered import publish
from redlatch.errors import Conflict, FileProblem, InvalidInput, NotFound, PassphraseNeeded, RedlatchError
from redlatch.files import read_own, read_settled
from redlatch.operations import areas, authorities, credentials, engines, layout, machine
from redlatch.operations.engines import Engine
from redlatch.operations.publishing import Force, enforce, is_whole
from redlatch.operations.site import Config, Site, authority, changing, exclusive, set_config
from redlatch.pki import names as pki_names

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.authority import Authority
    from redlatch.pki.certificates import ServerPair

# Apple and the CA/Browser Forum's limit; with a daily timer that renews, shorter is better (facts of the field:
# a key that leaks from the published folder is good for 90 days, not for a year).
DAYS_BY_HAND = 397
DAYS_BY_TIMER = 90
RENEW_BEFORE = timedelta(days=30)
TIMER_UNIT = Path("/etc/systemd/system/redlatch-refresh.timer")

FOUND_PUBLIC = (
    ("/etc/letsencrypt/live", "fullchain.pem", "privkey.pem"),
    ("/var/lib/tailscale/certs", "*.crt", "*.key"),
)

_MOST_PEM = 1 << 20  # bytes; a chain has a few thousand


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What `refresh` did: `changes` in words (empty: nothing), and how far they got."""

    changes: tuple[str, ...]
    not_after: datetime
    force: Force


def refresh(site: Site, *, anew: bool = True, environ: Mapping[str, str] | None = None) -> Refreshed:
    """Brings certificate, names and addresses up to date, and publishes whatever a killed command left behind.

    The server certificate is renewed when it ends within 30 days, or lacks a name or a private address that this
    machine has now; a certificate of the operator's own is read anew from its files. Node-RED's guard picks the
    new one up without a restart. Run by a daily timer and by certbot's deploy hook; changes nothing when all is
    well. With `anew` every published part of the snapshot is compared with the store, and put right; with
    `environ` (where to find Node.js) settings and flows are looked at anew for what they serve.
    """
    config = site.config()
    found = engines.engines(site.settings, config) or engines.required(site)
    laid_out = layout.bring(site.settings, config.target)
    authorities.remove_orphans(site)
    pair = read_pair(*config.server_files) if config.server_files is not None else None
    hosts = allowed_hosts(config, pair.leaf if pair is not None else None)
    changes = list(laid_out)
    locked: PassphraseNeeded | None = None
    for engine in found:
        try:
            changes += [one for one in _renewed(site, engine, hosts, pair) if one not in changes]
        except PassphraseNeeded as error:
            if leaf_of(engine) is None:
                raise
            locked = error  # what needs no key is done all the same
    if hosts != config.hosts:
        changes = [*changes, "host names: " + ", ".join(hosts)]
    served: dict[str, Any] = {}
    if environ is not None:
        served, said = areas.reread(site, config, environ)
        changes = [*changes, *said]
    if changes:
        with changing(site) as tx:
            set_config(tx, hosts=hosts, **served)
            tx.record("site.changed", changes=changes)
    leaf = published_leaf(site)
    if leaf is None:
        raise FileProblem(
            "the published server certificate is missing or garbled", hint="run redlatch up to publish it anew"
        )
    if anew and not all(is_whole(one.settings) for one in found):
        changes = [*changes, "published the list of devices and networks anew"]
    force = enforce(site, anew=anew)
    if locked is not None:
        raise PassphraseNeeded(
            f"the server certificate, good until {leaf.not_valid_after_utc:%Y-%m-%d}, was not renewed: "
            f"{locked.message}",
            hint=locked.hint,
        )
    return Refreshed(tuple(changes), leaf.not_valid_after_utc, force)


def _renewed(site: Site, engine: Engine, hosts: tuple[str, ...], pair: ServerPair | None) -> list[str]:
    """Brings the certificate of one engine up to date, in words. Each has a key of its own where the site's own CA
    issues them: what Node-RED's flows can read is not what the gateway shows.
    """
    present = leaf_of(engine)
    if pair is None:
        ca = authority(site, "server", signing=False)
        changes = why_renew(present, tuple(covered(ca, hosts)), site.clock())
        if not changes and present is not None and not issued_by(present, ca):
            changes = ["issued a server certificate from the new root"]
        if changes:
            issue(site, engine)
        return changes
    if pair.leaf == present:
        return []
    _publish_pair(site, engine, pair)
    return ["took over the renewed server certificate"]


def add_name(site: Site, host: str, *, new_root: bool = False) -> Refreshed:
    """Adds a host name of the operator's. A name outside the server CA's constraints needs a new server CA, which
    every device must install anew: only with `new_root`. The old one stays handed out until the rotation is ended.
    """
    host = pki_names.host_name(host)
    config = site.config()
    if host in config.names:
        raise Conflict(f"{host} is one of this site's names already", hint="redlatch name list shows all of them")
    replaced = config.server_files is None and not authority(site, "server", signing=False).covers(host)
    if replaced and not new_root:
        raise Conflict(
            f"the server CA of this site may not name {host}: it was made for its own and private names only",
            hint="add --new-root to make a new server CA; every device must then install the new root",
        )
    replaced = replaced and site.rehearsal is None
    passphrase = authorities.passphrase_of_keys(site) if replaced else None
    with changing(site) as tx:
        if replaced:
            # It signs at once, and the one before it stays trusted: the same as `ca rotate server` with
            # `--switch`.
            authorities.refuse_under_way(tx, "server")
            authorities.refuse_changed_lock(site, passphrase)
            authorities.create(site, tx, "server", authorities.names_of(config, host), passphrase)
        config = set_config(tx, names=(*config.names, host))
        tx.record("name.added", name=host)
    return refresh(site, anew=False)


def remove_name(site: Site, host: str) -> Refreshed:
    """Takes a host name of the operator's away: requests for it are refused from then on."""
    host = pki_names.host_name(host)
    config = site.config()
    if host not in config.names:
        raise NotFound(f"{host} is not one of the names you gave", hint="redlatch name list shows all of them")
    with changing(site) as tx:
        set_config(tx, names=tuple(name for name in config.names if name != host))
        tx.record("name.removed", name=host)
    return refresh(site, anew=False)


def issue(site: Site, engine: Engine) -> x509.Certificate:
    """Issues a server certificate for the present names and addresses, with a new key, and publishes it to
    `engine`.

    The key lives in memory and in the published file only.
    """
    from redlatch.pki.certificates import ServerPair, fingerprint, serial_hex
    from redlatch.pki.keys import generate_key

    config = site.config()
    ca = authority(site, "server")
    key = generate_key("p256")
    now = site.clock()
    leaf = ca.issue_server(
        key.public_key(),
        covered(ca, allowed_hosts(config, None)),
        [*machine.LOOPBACK, *machine.private_addresses()],
        now=now,
        days=DAYS_BY_TIMER if renews_by_itself(site) else DAYS_BY_HAND,
    )
    with changing(site) as tx:
        tx.record(
            "server-certificate.issued",
            fingerprint=fingerprint(leaf),
            serial=serial_hex(leaf),
            not_after=int(leaf.not_valid_after_utc.timestamp()),
        )
    _publish_pair(site, engine, ServerPair(key, leaf, ca.shown))
    return leaf


def issued_by(leaf: x509.Certificate, ca: Authority) -> bool:
    """Whether a certificate is of this CA, by its signature."""
    from cryptography.exceptions import InvalidSignature

    try:
        leaf.verify_directly_issued_by(ca.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def allowed_hosts(config: Config, leaf: x509.Certificate | None) -> tuple[str, ...]:
    """Every name by which this site may be called: the machine's, the operator's, the public certificate's."""
    named = _dns_names(leaf) if leaf is not None else ()
    return tuple(dict.fromkeys((*machine.names(config.machine), *config.names, *named)))


def renews_by_itself(site: Site) -> bool:
    """Whether the daily timer is installed (root with systemd), and can use the keys: those under a passphrase
    only where systemd hands it over.
    """
    if not (site.settings.system and TIMER_UNIT.exists()):
        return False
    return not authorities.are_locked(site) or credentials.is_handed_over()


def read_pair(cert: str, key: str) -> ServerPair:
    """A ServerPair from the operator's files. Errors: FileProblem; InvalidInput when they do not match."""
    from redlatch.pki.certificates import server_pair

    cert_pem, key_pem = (read_settled(Path(one), max_bytes=_MOST_PEM) for one in (cert, key))
    return server_pair(cert_pem, key_pem)


def found_public_certificates() -> list[tuple[str, str]]:
    """Certificates of certbot and Tailscale on this machine that the present user may read: (cert, key) paths."""
    found = []
    for folder, cert_pattern, key_name in FOUND_PUBLIC:
        for cert in sorted(Path(folder).glob(cert_pattern if "*" in cert_pattern else f"*/{cert_pattern}")):
            key = cert.with_suffix(".key") if "*" in key_name else cert.parent / key_name
            if os.access(cert, os.R_OK) and os.access(key, os.R_OK):
                found.append((str(cert), str(key)))
    return found


def published_leaf(site: Site) -> x509.Certificate | None:
    """The server certificate that is published now; of several engines' the one that ends first, None where one of
    them has none that can be read.
    """
    found = [leaf_of(one) for one in engines.engines(site.settings, site.config())]
    present = [one for one in found if one is not None]
    if not present or len(present) < len(found):
        return None
    return min(present, key=lambda one: one.not_valid_after_utc)


def leaf_of(engine: Engine) -> x509.Certificate | None:
    """The server certificate that is published for one engine, None where there is none that can be read."""
    from redlatch.pki.certificates import load_certificates

    try:
        return load_certificates(read_own(engine.settings.published / "server.pem"))[0]
    except (OSError, RedlatchError, IndexError):
        return None


def _publish_pair(site: Site, engine: Engine, pair: ServerPair) -> None:
    from redlatch.pki.certificates import server_pem

    with exclusive(site.settings):
        publish.publish_server(engine.settings, server_pem(pair), engine.gid)


def why_renew(leaf: x509.Certificate | None, hosts: tuple[str, ...], now: datetime) -> list[str]:
    """Why a certificate of the site's own CA is to be issued anew, in words; nothing where it need not be."""
    if leaf is None:
        return ["issued a server certificate"]
    if leaf.not_valid_after_utc - now < RENEW_BEFORE or now < leaf.not_valid_before_utc:
        return ["renewed the server certificate before its end"]
    lacks = missing(leaf, hosts)
    return [f"renewed the server certificate for {', '.join(lacks)}"] if lacks else []


def missing(leaf: x509.Certificate, hosts: tuple[str, ...], *, addresses: bool = True) -> list[str]:
    """Which of these host names, and with `addresses` of this machine's private addresses, a certificate does not
    name.
    """
    from cryptography import x509

    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [*map(str, machine.private_addresses() if addresses else ()), *hosts]
    known = set(san.get_values_for_type(x509.IPAddress))
    found = [str(one) for one in machine.private_addresses() if addresses and one not in known]
    names = {name.lower() for name in san.get_values_for_type(x509.DNSName)}
    return found + [name for name in hosts if name not in names and f"*.{name.partition('.')[2]}" not in names]


def _dns_names(leaf: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in san.get_values_for_type(x509.DNSName) if not name.startswith("*"))


def covered(ca: Authority, hosts: tuple[str, ...]) -> list[str]:
    """The names the server CA may name; a machine renamed since gets a certificate without its new name, and
    `status` says so, rather than one that browsers refuse.
    """
    found = [host for host in hosts if ca.covers(host)]
    if not found:
        raise InvalidInput("none of this site's names is one that its server CA may name")
    return found
