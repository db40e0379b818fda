"""Devices that a check knocks at the door with: added for it, revoked when it ends, both in the audit trail.

Their keys are in memory only and their certificates live a day, so a run that is killed leaves nothing that
works for anybody. What it leaves in the list of devices, the next run revokes.

The ended one is in the list of devices like the others, and its certificate is of the device CA, for which a
date in the past is written by hand: the operations issue none. So both the handshake, which looks at the
certificate's dates, and the list, which has them too, have a reason to refuse it; that it is refused shows that
one of them does.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redlatch.operations import devices
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Site, changing
from redlatch.pki import names as pki_names

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key
    from redlatch.store import Device, Transaction

_NAME: Final = re.compile(r"redlatch check ([0-9]{1,7})-[0-9a-f]{8} [a-z]+", re.ASCII)
_LONGEST: Final = timedelta(hours=1)
_REASON: Final = "it was for a test only"


@dataclass(frozen=True, slots=True)
class Throwaway:
    """One of them: its name, its key and its certificate."""

    name: str
    key: Key
    certificate: x509.Certificate


@dataclass(frozen=True, slots=True)
class Throwaways:
    """`good` has the role admin, `few` the role user; `gone` is good until `revoke_gone`, `ended` has ended."""

    site: Site
    good: Throwaway
    few: Throwaway
    gone: Throwaway
    ended: Throwaway

    def revoke_gone(self) -> None:
        """Shuts `gone` out, and waits, bounded, until that is in force."""
        _revoke(self.site, [self.gone.name])


@contextlib.contextmanager
def throwaways(site: Site) -> Iterator[Throwaways]:
    """All four, in force as far as publishing goes; revoked at the end, whoever else is there: a site that
    only they could change is the one that it was before. Revokes what an earlier run left.

    Errors: PassphraseNeeded, NotPermitted, StoreError (the CA's key), Conflict (the clock, a change on trial).
    """
    mark = f"redlatch check {os.getpid()}-{secrets.token_hex(4)}"
    revoke_left(site)
    orders = {kind: devices.order(site) for kind in ("admin", "user", "revoked", "ended")}
    try:
        with changing(site) as tx:
            made = {
                kind: _made(site, tx, f"{mark} {kind}", orders[kind], ended=kind == "ended") for kind in orders
            }
        enforce(site)
        yield Throwaways(site, made["admin"], made["user"], made["revoked"], made["ended"])
    finally:
        _revoke(site, [f"{mark} {kind}" for kind in orders])


def left(site: Site) -> list[str]:
    """Names of such devices whose run is over: its process is gone, or it began more than an hour ago."""
    with site.store.read() as view:
        return [one.name for one in view.devices() if one.revoked_at is None and _is_left(one, site.clock())]


def revoke_left(site: Site) -> list[str]:
    """Revokes them; their names."""
    names = left(site)
    if names:
        _revoke(site, names)
    return names


def _is_left(device: Device, now: datetime) -> bool:
    match = _NAME.fullmatch(device.name)
    if match is None:
        return False
    return now - device.created_at > _LONGEST or not Path(f"/proc/{match[1]}").exists()


def _made(site: Site, tx: Transaction, name: str, order: devices.Order, *, ended: bool) -> Throwaway:
    role = "user" if name.endswith(" user") else "admin"
    issued = devices.added(site, tx, order, name=name, role=role, owner=None, days=1)
    if issued.key is None:  # only with a CSR
        raise ValueError("a device of a test has its own key")
    certificate = issued.certificate
    if ended:
        certificate = _ended(certificate, order.ca, site.clock())
        _register(tx, issued.device.id, certificate, order)
        tx.revoke_certificate(issued.fingerprint, site.clock(), _REASON)
        tx.record("certificate.revoked", device=issued.device.id, fingerprint=issued.fingerprint, reason=_REASON)
    return Throwaway(name, issued.key, certificate)


def _ended(certificate: x509.Certificate, ca: Any, now: datetime) -> x509.Certificate:
    """The same certificate, over since yesterday."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    builder = (
        x509.CertificateBuilder()
        .issuer_name(certificate.issuer)
        .subject_name(certificate.subject)
        .public_key(certificate.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in certificate.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(ca.key, SHA256())


def _register(tx: Transaction, device_id: str, certificate: x509.Certificate, order: devices.Order) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from redlatch.pki import certificates

    fingerprint, serial = certificates.fingerprint(certificate), certificates.serial_hex(certificate)
    ca = order.ca.certificate.public_bytes(Encoding.DER)
    tx.add_certificate(
        fingerprint=fingerprint,
        device_id=device_id,
        authority_id=next(
            row.id for row in tx.authorities("device") if row.certificate == ca and row.retired_at is None
        ),
        serial=serial,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=certificate.public_bytes(Encoding.DER),
    )
    tx.record("certificate.issued", device=device_id, fingerprint=fingerprint, serial=serial)


def _revoke(site: Site, names: list[str]) -> None:
    """One transaction for all of them; those that are revoked already stay so. Never refused: a site that only
    they could change is the one that it was before them. Where none of them was made nothing is published.
    """
    with site.store.read() as view:
        made = {one.name for one in view.devices()}
    if made.isdisjoint(names):
        return
    with changing(site, weighed=False) as tx:
        for name in names:
            found = tx.device_by_name(pki_names.name_key(name))
            if found is None:
                continue
            fingerprints = [one.fingerprint for one in tx.certificates(found.id) if one.revoked_at is None]
            tx.revoke_device(found.id, site.clock(), _REASON)
            tx.record("device.revoked", device=found.id, name=name, reason=_REASON, certificates=fingerprints)
    enforce(site)
