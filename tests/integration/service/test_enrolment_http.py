"""Enrolment over real TLS and a real store: each way with one accepted case and one refused."""

from __future__ import annotations

import base64
import json
import plistlib
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from tests.support.clients import Connection, Refused, Response, request
from tests.support.enrolling import Enrolling, enrolling, file_of, make_csr

from redlatch.operations import devices, hosts, links
from redlatch.operations.site import authority
from redlatch.pki.bundles import pem_files
from redlatch.pki.certificates import certificate_pem, fingerprint, load_certificates
from redlatch.pki.keys import load_private_key

PAGE = {"Origin": "https://localhost:{}", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}


@dataclass(frozen=True)
class Key:
    cert_file: Path


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


# --- what is handed over


@pytest.mark.parametrize("modern", [False, True])
def test_p12(at: Enrolling, name: str, modern: bool) -> None:
    """The file opens with the password beside it, holds the device's key, and the device is there."""
    answer = at.redeem(at.invite(name), "p12-modern" if modern else "p12")
    assert answer.status == 200
    told = answer.json()
    opened = load_pkcs12(file_of(answer, ".p12"), told["password"].encode())
    assert opened.cert is not None
    assert fingerprint(opened.cert.certificate) == told["fingerprint"]
    assert told["device"] == name
    assert answer.headers["cache-control"] == "no-store"
    root = x509.load_der_x509_certificate(file_of(answer, "server-ca.crt"))
    assert opened.additional_certs[0].certificate == root
    shown = devices.show(at.site, name)
    assert [one.fingerprint for one in shown.certificates] == [told["fingerprint"]]


def test_rsa_on_request(at: Enrolling, name: str) -> None:
    """For Androids that hide other keys; a kind that nobody knows is refused and uses nothing up."""
    token = at.invite(name)
    assert at.post("/redeem", {"token": token, "format": "p12", "key": "dsa"}).status == 400
    answer = at.post("/redeem", {"token": token, "format": "p12", "key": "rsa2048"})
    opened = load_pkcs12(file_of(answer, ".p12"), answer.json()["password"].encode())
    assert isinstance(opened.key, rsa.RSAPrivateKey)


def test_pem(at: Enrolling, name: str) -> None:
    """Key, certificate and root as PEM, without a password."""
    answer = at.redeem(at.invite(name), "pem")
    key, cert = load_private_key(file_of(answer, "key.pem")), load_certificates(file_of(answer, "cert.pem"))[0]
    assert key.public_key() == cert.public_key()
    assert answer.json()["password"] is None
    assert len(answer.json()["files"]) == 3


def test_profile(at: Enrolling, name: str, tmp_path: Path) -> None:
    """In the answer, and once under its ticket; a second time, or asked for by HEAD, there is nothing."""
    answer = at.redeem(at.invite(name), "mobileconfig")
    ticket = answer.json()["profile"]
    assert request(at.port, "HEAD", ticket).status == 404
    fetched = request(at.port, "GET", ticket)
    assert fetched.status == 200
    assert fetched.headers["content-type"] == "application/x-apple-aspen-config"
    assert fetched.headers["content-disposition"].endswith('.mobileconfig"')
    assert fetched.body == file_of(answer, ".mobileconfig")
    begin = fetched.body.index(b"<?xml")
    profile = plistlib.loads(fetched.body[begin : fetched.body.index(b"</plist>") + 8])
    assert [one["PayloadType"] for one in profile["PayloadContent"]] == [
        "com.apple.security.pkcs12",
        "com.apple.security.root",
    ]
    signed, root = tmp_path / "signed", tmp_path / "root"
    signed.write_bytes(fetched.body)
    root.write_bytes(certificate_pem(authority(at.site, "server", signing=False).certificate))
    check = ["openssl", "cms", "-verify", "-inform", "DER", "-in", signed, "-CAfile", root, "-purpose", "any"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    assert request(at.port, "GET", ticket).status == 404
    assert request(at.port, "GET", "/profile/" + "a" * 22).status == 404


def test_a_profile_that_cannot_be_signed_uses_nothing_up(
    at: Enrolling, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The server's key is looked at before the link is: afterwards the link still gives a .p12."""
    token = at.invite(name)
    with monkeypatch.context() as broken:
        broken.setattr(hosts, "enrolment_shows", lambda _: hosts.Shown(tmp_path / "missing", ()))
        answer = at.redeem(token, "mobileconfig")
    assert (answer.status, answer.json()["error"]) == (500, "no-profile")
    assert at.redeem(token).status == 200


def test_own_key_of_a_page(at: Enrolling, name: str) -> None:
    """A request in base64 or PEM comes back as a certificate for that key, and no key is in the answer."""
    for number, pem in enumerate((False, True)):
        key = ec.generate_private_key(ec.SECP256R1())
        der = make_csr(key)
        text = base64.b64encode(der).decode()
        if pem:
            text = f"-----BEGIN CERTIFICATE REQUEST-----\n{text}\n-----END CERTIFICATE REQUEST-----\n"
        token = at.invite(f"{name} {number}")
        answer = at.post("/redeem", {"token": token, "csr": text})
        (cert,) = load_certificates(file_of(answer, "cert.pem"))
        assert cert.public_key() == key.public_key()
        assert b"PRIVATE" not in answer.body
        assert {one["name"] for one in answer.json()["files"]} == {"cert.pem", "server-ca.pem"}


def test_own_key_of_a_program(at: Enrolling, name: str) -> None:
    """application/pkcs10 with a bearer: PEM comes back, the certificate first, then the root."""
    key = ec.generate_private_key(ec.SECP256R1())
    token = at.invite(name, "admin", pinned=True)
    refused = at.csr("a" * 26, make_csr(key))
    assert (refused.status, refused.headers["content-type"]) == (403, "text/plain; charset=utf-8")
    assert refused.body.decode().count("\n") == 1
    answer = at.csr(token, make_csr(key))
    assert answer.status == 200
    cert, root = load_certificates(answer.body)
    assert cert.public_key() == key.public_key()
    assert root.subject == root.issuer


def test_a_pinned_link_is_for_no_page(at: Enrolling, name: str) -> None:
    """A browser's page cannot look at it or use it; what sends no such header can."""
    token = at.invite(name, "owner", pinned=True)
    page = {key: value.format(at.port) for key, value in PAGE.items()}
    for path in ("/offer", "/redeem"):
        answer = at.post(path, {"token": token, "format": "p12"}, headers=page)
        assert (answer.status, answer.json()["error"]) == (403, "command-line-only")
    assert at.post("/offer", {"token": token}).json()["pinned"] is True


def test_offer_uses_nothing_up(at: Enrolling, name: str) -> None:
    """It says whose key it will be; redeemed afterwards, and refused after that."""
    token = at.invite(name)
    for _ in range(3):
        told = at.post("/offer", {"token": token}).json()
    assert (told["device"], told["role"], told["base"], told["root"], told["public"]) == (
        name,
        "user",
        "user",
        True,
        False,
    )
    assert told["next"].startswith("https://localhost:")
    assert told["pin"].startswith("sha256//")
    assert at.redeem(token).status == 200
    assert at.post("/offer", {"token": token}).status == 410


def test_the_page_says_that_it_holds_the_key(at: Enrolling, name: str) -> None:
    """The receipt confirms the link; a receipt that was never given confirms nothing."""
    answer = at.redeem(at.invite(name))
    assert at.post("/received", {"receipt": "x" * 22}).status == 404
    link = next(one for one in links.list_links(at.site) if one.name == name)
    assert link.confirmed_at is None
    assert at.post("/received", {"receipt": answer.json()["receipt"]}).status == 204
    link = next(one for one in links.list_links(at.site) if one.name == name)
    assert link.confirmed_at is not None


def test_the_tick_comes_when_the_device_does(at: Enrolling, name: str) -> None:
    """By Node-RED's word about this certificate, and no other one's."""
    answer, other = at.redeem(at.invite(name)), at.redeem(at.invite(f"{name} 2"))
    receipt = {"receipt": answer.json()["receipt"]}
    assert at.post("/arrived", receipt).json() == {"in": False, "at": None, "from": None}
    at.let_in(other.json()["fingerprint"])
    assert at.post("/arrived", receipt).json()["in"] is False
    at.let_in(answer.json()["fingerprint"])
    assert at.post("/arrived", receipt).json()["from"] == "192.168.1.23"
    assert at.post("/arrived", {"receipt": "x"}).status == 404
    # Many pages of one household wait at the same time, and an address may have few connections
    assert at.post("/arrived", receipt, headers={"Connection": "keep-alive"}).headers["connection"] == "close"
    assert at.context.enrolment_held


def test_root(at: Enrolling) -> None:
    """Public by nature, as DER and as a profile; signed, and with no key in it."""
    root = request(at.port, "GET", "/root.crt")
    assert root.headers["content-type"] == "application/x-x509-ca-cert"
    assert x509.load_der_x509_certificate(root.body).subject
    profile = request(at.port, "GET", "/root.mobileconfig")
    assert b"com.apple.security.root" in profile.body
    assert b"pkcs12" not in profile.body


# --- what is not


def test_expired(at: Enrolling, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its end a link is refused, and says so."""
    token = at.invite(name, seconds=30)
    later, real = at.site.clock() + timedelta(seconds=31), links.latest
    monkeypatch.setattr(links, "latest", lambda site, view: max(real(site, view), later))
    answer = at.redeem(token)
    assert (answer.status, answer.json()["error"]) == (410, "expired")
    assert name not in names(at)


@pytest.mark.parametrize("token", ["a" * 26, "a" * 25, "", "a" * 5000, "ä" * 26, "../../x", "\ud800" * 26])
def test_unknown_and_truncated(at: Enrolling, token: str) -> None:
    """Nothing but a link that was given is one; nothing is said about others."""
    answer = at.redeem(token)
    assert answer.status in (403, 429)
    assert answer.json()["error"] in ("wrong-token", "too-many")


def test_used(at: Enrolling, name: str) -> None:
    """Twice, one after the other and at the same moment: one certificate."""
    token = at.invite(name)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: at.redeem(token).status, range(10)))
    assert sorted(answers) == [200, *[410] * 9]
    assert len(devices.show(at.site, name).certificates) == 1
    assert at.redeem(token).json()["error"] == "already-used"


def test_withdrawn(at: Enrolling, name: str) -> None:
    """What was withdrawn opens nothing."""
    token = at.invite(name)
    links.withdraw(at.site, next(one for one in links.list_links(at.site) if one.name == name).id)
    assert at.redeem(token).json()["error"] == "withdrawn"


def test_a_thousand_guesses_lock_nobody_out(at: Enrolling, name: str) -> None:
    """They are answered with 429 soon; the right token works from elsewhere, and even from the same address."""
    token, other = at.invite(name), at.invite(f"{name} 2")
    body = json.dumps({"token": "b" * 26}).encode()
    headers = {"Content-Type": "application/json"}

    def guess(_: int) -> list[int]:
        with Connection(at.port, source="127.0.0.66") as connection:
            return [connection.request("POST", "/offer", headers=headers, body=body).status for _ in range(125)]

    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = [status for part in pool.map(guess, range(8)) for status in part]
    assert set(found) == {403, 429}
    assert found.count(403) <= 11 + (time.monotonic() - begin)
    assert at.redeem(token, source="127.0.0.67").status == 200
    assert at.redeem(other, source="127.0.0.66").status == 200


# --- names


HOSTILE = [
    '<script>alert("x")</script>',
    'Bart\'s "phone" \\ & $(id) `id`',
    "naïve 📱 ключ 日本",
    "a; filename=evil.exe",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_inert(at: Enrolling, hostile: str) -> None:
    """In JSON, in file names, headers and profile; what no name may be never gets that far."""
    answer = at.redeem(at.invite(hostile), "mobileconfig")
    assert answer.json()["device"] == hostile
    for one in answer.json()["files"]:
        assert set(one["name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")
    fetched = request(at.port, "GET", answer.json()["profile"])
    disposition = fetched.headers["content-disposition"]
    assert disposition.isascii()
    assert disposition.count(";") == 1
    assert b"<script>" not in fetched.body
    again = at.redeem(at.invite(hostile), "p12")
    assert load_pkcs12(file_of(again, ".p12"), again.json()["password"].encode()).cert is not None


# --- renewal, over a present certificate


def key_of(at: Enrolling, tmp_path: Path, answer: Response) -> Key:
    opened = load_pkcs12(file_of(answer, ".p12"), answer.json()["password"].encode())
    assert opened.cert is not None
    files = pem_files(opened.key, opened.cert.certificate, ())  # type: ignore[arg-type]
    path = tmp_path / "device.pem"
    path.write_bytes(files["cert.pem"] + files["key.pem"])
    return Key(path)


def test_renewal(at: Enrolling, name: str, tmp_path: Path) -> None:
    """A device in use gets a further certificate, by its page and by a program; a revoked one does not."""
    device = key_of(at, tmp_path, at.redeem(at.invite(name)))
    page = request(at.console_port, "GET", "/renew", device)
    assert page.status == 200
    assert f"&#34;device&#34;: &#34;{name[:5]}".encode() in page.body
    assert request(at.console_port, "GET", "/renew/static/key.js", device).status == 200
    answer = at.renew(device, b'{"format": "p12"}')
    assert answer.status == 200
    program = at.renew(device, make_csr(), "application/pkcs10")
    assert load_certificates(program.body)[0].subject
    assert len(devices.show(at.site, name).certificates) == 3
    devices.revoke(at.site, name)
    for refused in (at.renew(device, b'{"format": "p12"}'), request(at.console_port, "GET", "/renew", device)):
        assert refused.status == 403
    with pytest.raises(Refused):
        request(at.console_port, "GET", "/renew")
