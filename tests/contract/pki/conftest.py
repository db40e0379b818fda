from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography import x509

from redlatch.pki.authority import Authority
from redlatch.pki.bundles import pem_files
from redlatch.pki.keys import Key, generate_key


@dataclass(frozen=True)
class Pair:
    """A certificate with its key, in memory and as files."""

    certificate: x509.Certificate
    key: Key
    folder: Path

    @property
    def cert_file(self) -> str:
        return str(self.folder / "cert.pem")

    @property
    def key_file(self) -> str:
        return str(self.folder / "key.pem")


@dataclass(frozen=True)
class Made:
    """A site made now: two CAs, and a server and a device certificate for each kind of key."""

    now: datetime
    server_ca: Authority
    device_ca: Authority
    servers: dict[str, Pair]
    devices: dict[str, Pair]
    strangers: dict[str, Pair]
    server_ca_file: str
    device_ca_file: str


def write(folder: Path, certificate: x509.Certificate, key: Key) -> Pair:
    folder.mkdir(parents=True)
    for name, data in pem_files(key, certificate, ()).items():
        (folder / name).write_bytes(data)
    return Pair(certificate, key, folder)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("pki")
    now = datetime.now(UTC)
    server_ca = Authority.create_server("pi", ["pi", "nodered.example.org", "203.0.113.7"], now=now)
    device_ca = Authority.create_device("pi", now=now)
    # The same subject, as an attacker would give it, and another key.
    stranger_ca = _with_subject_of(device_ca, now)
    write(folder / "server-ca", server_ca.certificate, server_ca.key or generate_key())
    write(folder / "device-ca", device_ca.certificate, device_ca.key or generate_key())

    def device(ca: Authority, key: Key) -> x509.Certificate:
        return ca.issue_device(
            key.public_key(), device_id=str(uuid4()), name="Bart's phone", site_host="pi.local", now=now
        )

    def server(key: Key) -> x509.Certificate:
        names, addresses = ["pi.local", "pi", "nodered.example.org"], ["127.0.0.1", "::1", "192.168.1.4"]
        return server_ca.issue_server(key.public_key(), names, addresses, now=now)

    def for_kinds(where: str, issue: Callable[[Key], x509.Certificate]) -> dict[str, Pair]:
        pairs = {}
        for kind in ("p256", "rsa2048"):
            key = generate_key(kind)  # type: ignore[arg-type]
            pairs[kind] = write(folder / where / kind, issue(key), key)
        return pairs

    return Made(
        now,
        server_ca,
        device_ca,
        for_kinds("server", server),
        for_kinds("device", lambda key: device(device_ca, key)),
        for_kinds("stranger", lambda key: device(stranger_ca, key)),
        str(folder / "server-ca/cert.pem"),
        str(folder / "device-ca/cert.pem"),
    )


def _with_subject_of(ca: Authority, now: datetime) -> Authority:
    from cryptography.hazmat.primitives.hashes import SHA256

    from redlatch.pki import profiles

    key = generate_key()
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(ca.certificate.subject)
        .subject_name(ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(ca.certificate.serial_number)
        .not_valid_before(ca.certificate.not_valid_before_utc)
        .not_valid_after(ca.certificate.not_valid_after_utc)
        .add_extension(profiles.CA_BASIC_CONSTRAINTS, critical=True)
        .add_extension(profiles.CA_KEY_USAGE, critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, SHA256())
    )
    return Authority(certificate, key)
