"""Changes as operations make them, for tests and for the processes they kill."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

from redlatch.store import Certificate, Device, Store, Transaction

SITE = "6f6b2c1e-5a44-4f0c-9a52-7f3f3f0a1c11"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def device_id(name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"


def add_authority(tx: Transaction, kind: str = "device") -> int:
    row = tx.add_authority(kind, certificate=b"DER of a CA", key_file=f"{kind}.pem")
    tx.record("ca.created", authority=kind)
    return row.id


def add_device(tx: Transaction, name: str, *, role: str = "admin", owner: str | None = None) -> Device:
    device = tx.add_device(
        device_id(name),
        name=name,
        name_key=name.casefold(),
        role=role,
        owner=owner,
        user_slug=(owner or name)[:32],
    )
    tx.record("device.added", device=device.id, name=name)
    return device


def add_certificate(tx: Transaction, device: str, number: int = 1) -> Certificate:
    der = b"DER " + device.encode() + number.to_bytes(4) + b"." * 500
    certificate = tx.add_certificate(
        fingerprint=hashlib.sha256(der).hexdigest(),
        device_id=device,
        authority_id=1,
        serial=hashlib.sha256(der).hexdigest()[:38],
        not_before=NOW - timedelta(minutes=5),
        not_after=NOW + timedelta(days=365),
        der=der,
    )
    tx.record("certificate.issued", device=device, fingerprint=certificate.fingerprint)
    return certificate


def add(store: Store, name: str) -> tuple[Device, Certificate]:
    """What `redlatch device add` writes."""
    with store.write("bart", NOW) as tx:
        device = add_device(tx, name)
        return device, add_certificate(tx, device.id)
