"""Devices: add, renew, revoke, rename, change the role."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations import authorities, roles
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, authority, changing, signer
from redlatch.pki import names as pki_names

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.keys import Key, PublicKey
    from redlatch.store import Certificate, Device, Reader, Transaction

DEFAULT_DAYS = 365
KeyKind = Literal["p256", "rsa2048"]
#: A device by its name, or by its id: a name that is free again may be another device's by now.
Ref = str | uuid.UUID


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate just issued. `key` is None when the device made its own (CSR); `server_cas` are the roots that
    the device must trust to recognise this Node-RED, the present one first and a second one while a rotation is
    under way; none where the server's certificate is publicly trusted.
    """

    device: Device
    certificate: x509.Certificate
    fingerprint: str
    serial: str
    not_after: datetime
    device_ca: x509.Certificate
    server_cas: tuple[x509.Certificate, ...]
    key: Key | None
    force: Force


Deliver = Callable[["Issued"], None]


def add(
    site: Site,
    name: str,
    *,
    role: str = "admin",
    owner: str | None = None,
    key_kind: KeyKind = "p256",
    days: int = DEFAULT_DAYS,
    csr: bytes | None = None,
    deliver: Deliver | None = None,
) -> Issued:
    """Adds a device and issues its first certificate.

    `deliver` gets the certificate and key before the change is committed (its `force` is still "recorded" of the
    version before): when it raises, nothing happened. A key that was handed over for a change that then fails
    opens nothing, because its fingerprint is in no snapshot.
    Errors: InvalidInput (name, role, days, CSR), Conflict (the name is taken).
    """
    name = pki_names.device_name(name)
    owner = pki_names.person_name(owner) if owner is not None else None
    with site.store.read() as view:
        roles.base_of(view, role)
    made = order(site, key_kind=key_kind, csr=csr)
    with changing(site) as tx:
        issued = added(site, tx, made, name=name, role=role, owner=owner, days=days)
        if deliver is not None:
            deliver(issued)
    return in_force(site, issued)


def renew(
    site: Site,
    device: Ref,
    *,
    key_kind: KeyKind = "p256",
    days: int = DEFAULT_DAYS,
    csr: bytes | None = None,
    deliver: Deliver | None = None,
) -> Issued:
    """Issues a further certificate for a device; the earlier ones stay good until their end or a revocation."""
    made = order(site, key_kind=key_kind, csr=csr)
    with changing(site) as tx:
        issued = _issue(site, tx, made, find(tx, device), days=days)
        if deliver is not None:
            deliver(issued)
    return in_force(site, issued)


@dataclass(frozen=True, slots=True)
class Order:
    """What a certificate takes, made before a transaction begins: the CA, and a key (None: the device's own)."""

    ca: Any
    public_key: PublicKey
    key: Key | None


def order(site: Site, *, key_kind: KeyKind = "p256", csr: bytes | None = None) -> Order:
    """Makes a key, or takes the one of a CSR. Errors: InvalidInput (CSR), PassphraseNeeded."""
    if csr is not None:
        from redlatch.pki.csr import public_key_from_csr

        return Order(authority(site, "device"), public_key_from_csr(csr), None)
    from redlatch.pki.keys import generate_key

    key = generate_key(key_kind)
    return Order(authority(site, "device"), key.public_key(), key)


def added(
    site: Site, tx: Transaction, made: Order, *, name: str, role: str, owner: str | None, days: int
) -> Issued:
    """Within a transaction: a new device with its first certificate. Names as `pki.names` gives them."""
    return _issue(site, tx, made, new_device(tx, name=name, role=role, owner=owner), days=days)


def new_device(tx: Transaction, *, name: str, role: str, owner: str | None) -> Device:
    """Within a transaction: a device that has no certificate yet. Names as `pki.names` gives them."""
    roles.base_of(tx, role)
    if tx.device_by_name(pki_names.name_key(name)) is not None:
        raise Conflict(
            f"a device named {name!r} exists already",
            hint="choose another name, or renew or revoke that device first",
        )
    device_id = str(uuid.uuid4())
    device = tx.add_device(
        device_id,
        name=name,
        name_key=pki_names.name_key(name),
        role=role,
        owner=owner,
        user_slug=_user_slug(tx, owner, name),
    )
    tx.record("device.added", device=device_id, name=name, role=role, owner=owner)
    return device


def renewed(site: Site, tx: Transaction, made: Order, *, device_id: str, days: int) -> Issued:
    """Within a transaction: a further certificate of a device. Conflict when it is revoked."""
    return _issue(site, tx, made, find(tx, uuid.UUID(device_id)), days=days)


@dataclass(frozen=True, slots=True)
class Changed:
    """A device after a change, and how far the change got."""

    device: Device
    force: Force
    certificates: int = 0


def revoke(site: Site, device: Ref, *, reason: str | None = None) -> Changed:
    """Shuts a device out: all its certificates, for good. Its name becomes free.

    Errors: NotFound, InvalidInput (a reason with control characters).
    """
    reason = pki_names.reason_text(reason) if reason else None
    with changing(site, shuts_out=True) as tx:
        found = find(tx, device)
        active = [one for one in tx.certificates(found.id) if one.revoked_at is None]
        tx.revoke_device(found.id, tx.now, reason)
        tx.record(
            "device.revoked",
            device=found.id,
            name=found.name,
            reason=reason,
            certificates=[one.fingerprint for one in active],
        )
        found = _by_id(tx, found.id)
    return Changed(found, enforce(site), len(active))


def rename(site: Site, device: Ref, new: str) -> Changed:
    """Gives a device another name; its certificates stay as they are (the name in them is a label only)."""
    new = pki_names.device_name(new)
    with changing(site) as tx:
        found = find(tx, device)
        other = tx.device_by_name(pki_names.name_key(new))
        if other is not None and other.id != found.id:
            raise Conflict(f"a device named {new!r} exists already", hint="choose another name")
        tx.rename_device(found.id, name=new, name_key=pki_names.name_key(new))
        tx.record("device.renamed", device=found.id, old=found.name, new=new)
        found = _by_id(tx, found.id)
    return Changed(found, enforce(site))


def set_role(site: Site, device: Ref, role: str) -> Changed:
    """Gives a device another role; its open connections are judged anew. Errors: NotFound, InvalidInput (role)."""
    with changing(site) as tx:
        roles.base_of(tx, role)
        found = find(tx, device)
        tx.set_role(found.id, role)
        tx.record("device.role-changed", device=found.id, name=found.name, old=found.role, new=role)
        found = _by_id(tx, found.id)
    return Changed(found, enforce(site))


@dataclass(frozen=True, slots=True)
class Shown:
    """A device with its certificates, newest first."""

    device: Device
    certificates: tuple[Certificate, ...]


def show(site: Site, device: Ref) -> Shown:
    """A device in use, or by its id a revoked one too."""
    with site.store.read() as view:
        found = _by_id(view, str(device)) if isinstance(device, uuid.UUID) else find(view, device)
        return Shown(found, _newest_first(view.certificates(found.id)))


def list_devices(site: Site) -> list[Shown]:
    """All devices in the order of their names, revoked ones last."""
    with site.store.read() as view:
        shown = [Shown(device, _newest_first(view.certificates(device.id))) for device in view.devices()]
    return sorted(shown, key=lambda one: (one.device.revoked_at is not None, pki_names.name_key(one.device.name)))


def find(view: Reader, name: Ref) -> Device:
    """The device of that name or id that is not revoked; NotFound, or Conflict by the id of a revoked one."""
    if isinstance(name, uuid.UUID):
        device = _by_id(view, str(name))
        if device.revoked_at is not None:
            raise Conflict(
                f"the device {device.name!r} is revoked already",
                hint="add it anew: its name is free; a revoked key stays out",
            )
        return device
    named = view.device_by_name(pki_names.name_key(name))
    if named is None:
        raise NotFound(f"there is no device named {name!r}", hint="redlatch device list shows all of them")
    return named


def _by_id(view: Reader, device_id: str) -> Device:
    device = view.device_by_id(device_id)
    if device is None:
        raise NotFound("the device is gone", hint="redlatch device list shows all of them")
    return device


def _newest_first(certificates: Any) -> tuple[Certificate, ...]:
    return tuple(sorted(certificates, key=lambda one: (one.issued_at, one.not_after), reverse=True))


def _user_slug(tx: Transaction, owner: str | None, name: str) -> str:
    """The Node-RED user name: one per owner, so that git identity and settings survive a new phone; never one that
    stands for somebody else.
    """
    wanted = pki_names.slug(owner or name)
    person = pki_names.name_key(owner) if owner else None

    def numbered(number: int) -> str:
        return wanted if number == 1 else f"{wanted[: 31 - len(str(number))]}-{number}"

    def fits(number: int) -> bool:
        holders = tx.devices_by_slug(numbered(number))
        mine = person is not None and any(one.owner and pki_names.name_key(one.owner) == person for one in holders)
        return mine or not holders

    if person is not None:  # few people share a slug, and theirs may be any of these
        return numbered(next(number for number in count(1) if fits(number)))
    # Thousands of sensors whose long names begin alike share one: what is looked at must not grow with them.
    free = 1
    while not fits(free):
        free *= 2
    taken = free // 2
    while free - taken > 1:
        middle = (free + taken) // 2
        taken, free = (taken, middle) if fits(middle) else (middle, free)
    return numbered(free)


def _issue(
    site: Site,
    tx: Transaction,
    made: Order,
    device: Device,
    *,
    days: int,
) -> Issued:
    from redlatch.pki import certificates

    if not 1 <= days <= DEFAULT_DAYS:
        raise InvalidInput(
            f"a device certificate cannot live for {days} days", hint=f"from 1 to {DEFAULT_DAYS}; renew it later"
        )
    config = Config.of(tx.site().config)
    certificate = made.ca.issue_device(
        made.public_key,
        device_id=device.id,
        name=device.name,
        site_host=f"{config.machine}.local",
        now=site.clock(),
        days=days,
    )
    fingerprint = certificates.fingerprint(certificate)
    serial = certificates.serial_hex(certificate)
    tx.add_certificate(
        fingerprint=fingerprint,
        device_id=device.id,
        authority_id=_authority_id(tx, made.ca),
        serial=serial,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=_der(certificate),
    )
    tx.record("certificate.issued", device=device.id, fingerprint=fingerprint, serial=serial)
    return Issued(
        device=device,
        certificate=certificate,
        fingerprint=fingerprint,
        serial=serial,
        not_after=certificate.not_valid_after_utc,
        device_ca=made.ca.certificate,
        server_cas=() if config.server_files else authorities.roots(tx),
        key=made.key,
        force=Force(tx.revision, "recorded"),
    )


def _authority_id(view: Reader, ca: Any) -> int:
    """The authority that signs within this transaction. Conflict when that is not the one whose key was loaded."""
    row = signer(view, "device")
    if row is None or row.certificate != _der(ca.certificate):
        raise Conflict("another device CA took over meanwhile", hint="run the command again")
    return row.id


def _der(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def in_force(site: Site, issued: Issued) -> Issued:
    """Publishes what was just issued; the same with how far that got."""
    return replace(issued, force=enforce(site))
