"""A server and a device authority; a site that is locked, for links in the foreground."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House

from redlatch.operations.site import Site
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import ServerPair, certificate_pem, server_pem
from redlatch.pki.keys import generate_key

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Pki:
    server: Authority
    device: Authority
    pem: Path
    ca_pem: str
    device_ca_pem: str


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """A server CA with a certificate for loopback, and a device CA."""
    server = Authority.create_server(str(uuid.uuid4()), ["localhost"], now=NOW)
    key = generate_key("p256")
    leaf = server.issue_server(
        key.public_key(), ["localhost"], [ip_address("127.0.0.1"), ip_address("::1")], now=NOW
    )
    pem = tmp_path_factory.mktemp("server") / "server.pem"
    pem.write_bytes(server_pem(ServerPair(key, leaf, ())))
    device = Authority.create_device(str(uuid.uuid4()), now=NOW)
    return Pki(
        server,
        device,
        pem,
        certificate_pem(server.certificate).decode(),
        certificate_pem(device.certificate).decode(),
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site as `up` leaves it; no service ran there yet."""
    house = House(tmp_path_factory.mktemp("site"), "5.0")
    house.up()
    yield house.open()
    house.open().store.close()
