"""What no honest device sends to enrolment: it is refused in words, soon, and uses no link up."""

from __future__ import annotations

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.support.clients import Connection, Refused, request
from tests.support.enrolling import Enrolling, enrolling, make_csr

from redlatch.operations import devices
from redlatch.pki import keys
from redlatch.pki.certificates import load_certificates
from redlatch.service.origin import Limits


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Enrolling]:
    with enrolling(tmp_path_factory.mktemp("site")) as served:
        yield served


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Each test's own device."""
    return request.node.name[:60]


def names(at: Enrolling) -> set[str]:
    return {one.device.name for one in devices.list_devices(at.site)}


def giant() -> bytes:
    """A request with an RSA key of 16,000 bits. Checking its signature is what its sender would want."""
    modulus = int.from_bytes(os.urandom(2000), "big") | 1 << 15999 | 1
    spki = (
        rsa.RSAPublicNumbers(65537, modulus)
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    )
    info = keys._sequence(keys._integer(0), keys._sequence(), spki, keys._der(0xA0, b""))
    sha256_rsa = keys._sequence(keys._oid("2a864886f70d01010b"), b"\x05\x00")
    return keys._sequence(info, sha256_rsa, keys._der(0x03, b"\x00" + os.urandom(1999)))


def tricks() -> Iterator[Any]:
    yield pytest.param(giant(), id="giant key")
    yield pytest.param(make_csr(ed25519.Ed25519PrivateKey.generate()), id="Ed25519")
    ca = x509.BasicConstraints(ca=True, path_length=None)
    yield pytest.param(make_csr(extensions=[ca]), id="CA:TRUE")
    yield pytest.param(make_csr(rsa.generate_private_key(65537, 1024)), id="weak key")
    good = make_csr()
    yield pytest.param(good[:-1] + bytes([good[-1] ^ 1]), id="bad self-signature")
    yield pytest.param(make_csr(subject="\u202egnp.exe"), id="bidi")
    yield pytest.param(make_csr(subject="a\x1b[31m\nb"), id="control characters")
    yield pytest.param(good + b"\0" * 20000, id="20 KB")
    yield pytest.param(b"\x30\x84\xff\xff\xff\xff", id="a length that lies")
    yield pytest.param(b"", id="nothing")
    yield pytest.param(make_csr(ec.generate_private_key(ec.SECP521R1())), id="P-521")


@pytest.mark.parametrize("csr", list(tricks()))
def test_bad_requests_use_nothing_up(at: Enrolling, name: str, csr: bytes) -> None:
    """Each is refused in words, as text to programs and JSON to pages, and the link is still good afterwards."""
    token = at.invite(name)
    answer = at.csr(token, csr)
    assert answer.status in (400, 413)
    assert answer.body.endswith(b"\n")
    assert answer.body.decode().strip().isprintable()
    page = at.post("/redeem", {"token": token, "csr": base64.b64encode(csr).decode() or "?"})
    assert page.status in (400, 413)
    assert page.json()["message"]
    assert name not in names(at)
    assert at.redeem(token).status == 200


def test_wishes_of_a_request_are_ignored(at: Enrolling, name: str) -> None:
    """Names and usages that it asks for are not in the certificate."""
    wishes = [
        x509.SubjectAlternativeName([x509.DNSName("bank.example")]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
    ]
    answer = at.csr(at.invite(name), make_csr(subject="bank.example", extensions=wishes))
    cert = load_certificates(answer.body)[0]
    assert b"bank.example" not in cert.public_bytes(Encoding.DER)
    usage = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


@pytest.mark.parametrize(
    ("body", "content"),
    [
        (b"[]", "application/json"),
        (b"{", "application/json"),
        (b'{"token": 1}', "application/json"),
        (b'{"token": "x", "format": "exe"}', "application/json"),
        (b'{"token": "x", "csr": ["y"]}', "application/json"),
        (b'{"token": "x", "csr": "not base64!"}', "application/json"),
        (b"[" * 30000, "application/json"),
        (b"token=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/json"),
    ],
)
def test_nonsense(at: Enrolling, body: bytes, content: str) -> None:
    """Is refused as such, by a JSON document with words."""
    answer = request(at.port, "POST", "/redeem", body=body, headers={"Content-Type": content})
    assert answer.status in (400, 415)
    assert answer.json()["message"]


def test_other_sites_get_nothing(at: Enrolling, name: str) -> None:
    """A page of another origin, another port of this host among them, redeems nothing; nor does a foreign host."""
    token = at.invite(name)
    for headers in (
        {"Origin": f"https://localhost:{at.port + 1}", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        assert at.redeem(token, headers=headers).status in (403, 421)
    assert at.redeem(token).status == 200


def test_large_upload(at: Enrolling, name: str) -> None:
    """50 MB are not read: announced they are refused at once, unannounced after a few KB."""
    token = at.invite(name)
    announced = {
        "Content-Length": str(50 << 20),
        "Content-Type": "application/pkcs10",
        "Authorization": f"Bearer {token}",
    }
    with Connection(at.port) as connection:
        assert connection.request("POST", "/redeem", headers=announced).status == 413
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    with Connection(at.port) as connection:
        head = (
            f"POST /redeem HTTP/1.1\r\nHost: localhost:{at.port}\r\nTransfer-Encoding: chunked\r\n"
            f"Content-Type: application/pkcs10\r\nAuthorization: Bearer {token}\r\n"
        )
        sent = 0
        try:
            connection.send(head.encode() + b"\r\n")
            connection.socket.settimeout(5)
            while sent < 50 << 20:
                connection.send(chunk)
                sent += len(chunk)
        except (Refused, TimeoutError):
            pass
        assert sent < 8 << 20
    assert at.redeem(token).status == 200


def test_slow_client(tmp_path: Path) -> None:
    """Who sends a byte now and then is dropped, and holds up nobody."""
    with enrolling(tmp_path, Limits(head=0.5, exchange=1, handshake=0.5)) as at:
        token = at.invite()
        raw = socket.create_connection(("127.0.0.1", at.port))
        half = Connection(at.port)
        head = f"Host: localhost:{at.port}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
        half.send(f"POST /redeem HTTP/1.1\r\n{head}\r\n{{".encode())
        assert at.redeem(token).status == 200
        assert half.is_closed(5)
        raw.settimeout(5)
        assert raw.recv(1) == b""
        raw.close()
