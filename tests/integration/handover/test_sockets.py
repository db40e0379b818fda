"""Where is listened, and with what: ports, private addresses, the server's file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.handover.conftest import Pki

from redlatch.errors import EngineError, FileProblem, InvalidInput
from redlatch.operations.machine import is_inside
from redlatch.service import sockets
from redlatch.service.origin import server_context


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("192.168.1.20", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("8.8.8.8", False),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("2a00:1450::1", False),
        ("::ffff:192.168.1.20", True),
        ("::ffff:8.8.8.8", False),
        ("0.0.0.0", False),
        ("::", False),
        ("garbage", False),
    ],
)
def test_who_is_private(address: str, private: bool) -> None:
    """Mapped addresses count as what they map to; zone ids do not matter; the unspecified address is nobody."""
    assert is_inside(address) is private


def test_a_public_address_is_not_listened_on_unless_told() -> None:
    """Neither a public nor the unspecified address by default; told, it is tried."""
    for address in ("0.0.0.0", "::", "8.8.8.8"):
        with pytest.raises(InvalidInput):
            sockets.bind([address])
    for sock in sockets.bind(["0.0.0.0"], told=True):
        sock.close()


def test_all_addresses_share_one_port() -> None:
    """One URL scheme, several addresses: the port is the same on each; a taken one is an error."""
    bound = sockets.bind(["127.0.0.1", "127.0.0.2", "::1"])
    try:
        (port,) = {sock.getsockname()[1] for sock in bound}
        with pytest.raises(EngineError, match="cannot listen"):
            sockets.bind(["127.0.0.1"], port)
    finally:
        for sock in bound:
            sock.close()


def test_a_garbled_server_file_is_an_error_with_a_hint(pki: Pki, tmp_path: Path) -> None:
    """Missing, empty or without a key: said before anything listens."""
    bad = tmp_path / "server.pem"
    for content in (None, b"", pki.ca_pem.encode()):
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(FileProblem) as caught:
            server_context(bad)
        assert caught.value.hint
