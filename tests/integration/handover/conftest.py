"""A real handover on loopback."""

from __future__ import annotations

import contextlib
import os
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import pytest
from tests.integration.handover.harness import PARCEL, Pki, Serve, Served

from redlatch.enrolment import TOKEN_BYTES, new_link
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import ServerPair, certificate_pem, server_pem
from redlatch.pki.keys import generate_key
from redlatch.service import handover, listener

NOW = datetime.now(UTC)


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


@pytest.fixture
def serve(pki: Pki) -> Iterator[Serve]:
    """Starts handovers; whatever still runs after the test is redeemed to its end."""
    running: list[Served] = []

    def start(
        issue: Callable[[str], handover.Parcel] = lambda _kind: PARCEL,
        *,
        address: str = "127.0.0.1",
        clock: Callable[[], datetime] | None = None,
        limits: listener.Limits | None = None,
        receipt_wait: float = 0.2,
        **link_options: Any,
    ) -> Served:
        link, token = new_link(
            "Bart's phone",
            "owner",
            now=datetime.now(UTC),
            randomness=os.urandom(TOKEN_BYTES),
            **link_options,
        )
        sockets = listener.bind([address])
        client = ssl.create_default_context(cadata=pki.ca_pem)
        served = Served(sockets[0].getsockname()[1], token, client)

        def serving() -> None:
            try:
                served.result.append(
                    handover.run(
                        link,
                        issue,
                        names=("localhost",),
                        formats=("p12", "p12-modern", "pem"),
                        sockets=sockets,
                        context=listener.server_context(pki.pem),
                        clock=clock,
                        limits=limits,
                        receipt_wait=receipt_wait,
                    )
                )
            except Exception as error:  # noqa: BLE001 - handed to the test
                served.result.append(error)

        served.thread = threading.Thread(target=serving, daemon=True)
        served.thread.start()
        running.append(served)
        return served

    yield start
    for served in running:
        for _ in range(100):
            if served.result:
                break
            with contextlib.suppress(OSError):  # ending this very moment, or still full of the test's connections
                answer = served.redeem()
                if answer.status == 200:
                    served.confirm(answer)
                break
        served.end()
