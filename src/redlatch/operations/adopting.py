"""A certificate that a device has already, from elsewhere: it gets in here, and its CA's key is not needed.

Smart cards, keys of an XCA or of a company. Its issuer is trusted at the handshake from then on, without a key:
other certificates of the same issuer get through that, and are refused, because they are not on the list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.errors import Conflict, InvalidInput
from redlatch.operations import authorities, devices, opening, rotation
from redlatch.operations.importing import public_roots
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Site, changing
from redlatch.pki import names as pki_names

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.store import AuthorityRow, Certificate, Device, Transaction


@dataclass(frozen=True, slots=True)
class Adopted:
    """A device with the certificate that it brought along; `issuer` is the name of what it is trusted by."""

    device: Device
    certificate: Certificate
    issuer: str
    new_anchor: bool
    force: Force


def adopt(
    site: Site,
    name: str,
    files: Sequence[Path],
    ask: Callable[[Path], bytes],
    *,
    role: str = "admin",
    owner: str | None = None,
    further: bool = False,
) -> Adopted:
    """Takes the first certificate of the files as that of a new device, or as a `further` one of a device that
    there is. The rest are its issuers, up to a self-signed root; those that this site trusts already may be left
    out.

    Errors: FileProblem, InvalidInput (what no engine would take), Conflict (the name, or the certificate is
    known).
    """
    from redlatch.pki import foreign
    from redlatch.pki.certificates import fingerprint, serial_hex

    name = pki_names.device_name(name)
    owner = pki_names.person_name(owner) if owner is not None else None
    opened = opening.read(files, ask)
    if not opened.certificates:
        raise InvalidInput(
            "there is no certificate in it", hint="name the device's certificate, a .pem or .crt file"
        )
    leaf, others = opened.certificates[0], [*opened.certificates[1:], *_known(site)]
    chain = foreign.device(leaf, others, now=site.clock(), public=public_roots())
    with changing(site) as tx:
        _refuse_known(tx, fingerprint(leaf))
        device = devices.find(tx, name) if further else devices.new_device(tx, name=name, role=role, owner=owner)
        row, new = _anchor(tx, chain[0], chain[1:])
        made = tx.add_certificate(
            fingerprint=fingerprint(leaf),
            device_id=device.id,
            authority_id=row.id,
            serial=serial_hex(leaf),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            der=authorities.der_of(leaf),
        )
        tx.record(
            "certificate.adopted",
            device=device.id,
            fingerprint=made.fingerprint,
            serial=made.serial,
            authority=authorities.fingerprint(row),
        )
    return Adopted(device, made, authorities.name_of(chain[0]), new, enforce(site))


@dataclass(frozen=True, slots=True)
class Ended:
    """What went with an authority that was taken out."""

    revoked: int
    cut: tuple[str, ...]
    force: Force


def end(site: Site, wanted: str, *, force: bool = False) -> Ended:
    """Stops trusting an authority that does not sign here, with all of its certificates; `wanted` is its
    fingerprint.

    Errors: NotFound, Conflict (it signs, or devices have nothing else and not `force`).
    """
    with changing(replace(site, insist=site.insist or force)) as tx:
        row = authorities.find(tx, wanted)
        if row.signing or row.kind != "device":
            raise Conflict(
                "this authority signs here, or did until another one took over",
                hint=f"redlatch ca rotate {row.kind} replaces it",
            )
        revoked, cut = rotation.retire(site, tx, row, force=force)
    return Ended(revoked, cut, enforce(site))


def _known(site: Site) -> list[x509.Certificate]:
    from cryptography import x509

    with site.store.read() as view:
        return [x509.load_der_x509_certificate(der) for der in authorities.anchors(view, "device")]


def _refuse_known(tx: Transaction, fingerprint: str) -> None:
    known = tx.certificate(fingerprint)
    if known is None:
        return
    device = tx.device_by_id(known.device_id)
    shown = repr(device.name) if device is not None else "another device"
    if known.revoked_at is not None:
        raise Conflict(
            f"this certificate was shut out here (it was that of {shown}), for good",
            hint="get another one for that device",
        )
    raise Conflict(f"this certificate is that of {shown} already")


def _anchor(
    tx: Transaction, issuer: x509.Certificate, above: Sequence[x509.Certificate]
) -> tuple[AuthorityRow, bool]:
    """What the certificate is trusted by, and whether it is new here."""
    from redlatch.pki.certificates import certificate_pem

    der = authorities.der_of(issuer)
    for row in authorities.trusted(tx, "device"):
        if row.certificate == der:
            return row, False
    chain = b"".join(map(certificate_pem, above))
    return tx.add_authority("device", certificate=der, key_file="", chain=chain, signing=False), True
