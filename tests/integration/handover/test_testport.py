"""The test port: a device that comes in with its certificate, over real TLS."""

from __future__ import annotations

import socket
import ssl
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.handover.conftest import Pki

from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem, fingerprint
from redlatch.pki.keys import generate_key, private_key_pem
from redlatch.service import sockets, testport
from redlatch.service.origin import server_context


class Waiting:
    """A test port under way in a thread."""

    def __init__(self, pki: Pki, accepts: Callable[[str], bool], timeout: float) -> None:
        bound = sockets.bind(["127.0.0.1"])
        self.port = bound[0].getsockname()[1]
        self.ca_pem = pki.ca_pem
        self.result: list[str | None] = []
        context = server_context(pki.pem, device_ca=pki.device_ca_pem)

        def wait() -> None:
            self.result.append(testport.wait_for_device(bound, context, accepts, timeout=timeout))

        self.thread = threading.Thread(target=wait, daemon=True)
        self.thread.start()

    def visit(self, certificate: Path | None, target: str = "/") -> bytes:
        """What a browser with that certificate gets; empty when it is refused before that."""
        client = ssl.create_default_context(cadata=self.ca_pem)
        if certificate is not None:
            client.load_cert_chain(certificate)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        try:
            with client.wrap_socket(raw, server_hostname="localhost") as tls:
                tls.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                received = b""
                while chunk := tls.recv(65536):
                    received += chunk
                return received
        except (ssl.SSLError, ConnectionError):
            return b""

    def end(self) -> str | None:
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.result[0]


def device(authority: Authority, folder: Path, name: str) -> tuple[Path, str]:
    """A file with key and certificate of a device, and its fingerprint."""
    key = generate_key("p256")
    certificate = authority.issue_device(
        key.public_key(), device_id=str(uuid.uuid4()), name=name, site_host="pi.local", now=datetime.now(UTC)
    )
    path = folder / f"{name}.pem"
    path.write_bytes(private_key_pem(key, None) + certificate_pem(certificate))
    return path, fingerprint(certificate)


def test_the_device_comes_in(pki: Pki, tmp_path: Path) -> None:
    """It sees a page that says so, the terminal gets its fingerprint, the port closes."""
    path, expected = device(pki.device, tmp_path, "phone")
    waiting = Waiting(pki, lambda found: found == expected, timeout=15)
    page = waiting.visit(path)
    assert page.startswith(b"HTTP/1.1 200")
    assert b"You are in" in page
    assert waiting.end() == expected
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", waiting.port), timeout=5)


def test_nobody_else_comes_in(pki: Pki, tmp_path: Path) -> None:
    """No certificate, a foreign CA of the same name, and a device that is not accepted: none ends the wait."""
    foreign, _ = device(Authority.create_device(str(uuid.uuid4()), now=datetime.now(UTC)), tmp_path, "foreign")
    revoked, _ = device(pki.device, tmp_path, "revoked")
    good, expected = device(pki.device, tmp_path, "good")
    waiting = Waiting(pki, lambda found: found == expected, timeout=15)
    assert waiting.visit(None) == b""
    assert waiting.visit(foreign) == b""
    assert waiting.visit(revoked).startswith(b"HTTP/1.1 403")
    assert waiting.visit(good, "/favicon.ico").startswith(b"HTTP/1.1 404")
    assert waiting.result == []
    assert waiting.visit(good).startswith(b"HTTP/1.1 200")
    assert waiting.end() == expected


def test_the_wait_is_bounded(pki: Pki) -> None:
    """Nobody came: None, and the port is closed."""
    assert Waiting(pki, lambda _: True, timeout=0.2).end() is None
