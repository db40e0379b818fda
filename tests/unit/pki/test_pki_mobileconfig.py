from __future__ import annotations

import plistlib
from datetime import datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from redlatch.errors import InvalidInput
from redlatch.pki.authority import Authority
from redlatch.pki.bundles import pkcs12
from redlatch.pki.certificates import ServerPair
from redlatch.pki.keys import Key, generate_key
from redlatch.pki.mobileconfig import identity_profile, root_profile

SITE = "3b0a4c2e-0c4d-4f38-8d6b-7a1f0f1f5a11"
DEVICE = "0b7a1d4e-6f3c-4d36-9a57-2b1f3a1c9e10"
PASSWORD = "hqmzt-wcjnb-ykrpe"
HOSTILE = [
    '<script>alert("x")</script>',
    "</string><key>PayloadRemovalDisallowed</key><true/><string>",
    'Bart\'s "phone" & co',
    "two\nlines\r\nand\ta tab",
    "\x1b[31mred\x07\x00",
    "\u202egnp.exe\u2066",
    "]]><![CDATA[",
    "&#x1b; &lt; %s %(x)s {0}",
    "📱 Küche",
    "\udcff\ufffe",
    "",
]


@pytest.fixture
def signer(server_ca: Authority, now: datetime) -> ServerPair:
    key = generate_key()
    return ServerPair(key, server_ca.issue_server(key.public_key(), ["pi.local"], now=now))


@pytest.fixture
def cert(device_ca: Authority, key: Key, now: datetime) -> x509.Certificate:
    return device_ca.issue_device(key.public_key(), device_id=DEVICE, name="phone", site_host="pi.local", now=now)


def content(signed: bytes) -> dict[str, Any]:
    """The plist within the CMS structure, whose signature tests/contract/pki checks."""
    begin, end = signed.index(b"<?xml"), signed.index(b"</plist>") + len(b"</plist>")
    parsed: dict[str, Any] = plistlib.loads(signed[begin:end])
    return parsed


def made(key: Key, cert: x509.Certificate, signer: ServerPair, **changed: Any) -> dict[str, Any]:
    p12 = pkcs12(key, cert, [], "phone", PASSWORD)
    arguments: dict[str, Any] = {
        "p12": p12, "password": PASSWORD, "certificate": cert, "device_id": DEVICE, "device": "Bart's phone",
        "site_id": SITE, "site": "pi.local", "server_cas": (), "signer": signer, **changed,
    }  # fmt: skip
    return content(identity_profile(**arguments))


def test_identity_and_root_are_inside(
    key: Key, cert: x509.Certificate, signer: ServerPair, server_ca: Authority
) -> None:
    """The .p12 opens with the password beside it, the root is the server CA, and the person may remove it all."""
    profile = made(key, cert, signer, server_cas=[server_ca.certificate])
    identity, root = profile["PayloadContent"]
    assert identity["PayloadType"] == "com.apple.security.pkcs12"
    opened = load_pkcs12(identity["PayloadContent"], identity["Password"].encode())
    assert opened.cert is not None
    assert opened.cert.certificate == cert
    assert root["PayloadType"] == "com.apple.security.root"
    assert root["PayloadContent"] == server_ca.certificate.public_bytes(Encoding.DER)
    assert profile["PayloadType"] == "Configuration"
    assert profile["PayloadRemovalDisallowed"] is False


def test_root_only_where_it_is_needed(key: Key, cert: x509.Certificate, signer: ServerPair) -> None:
    """With a public server certificate the profile holds the identity alone."""
    assert [one["PayloadType"] for one in made(key, cert, signer)["PayloadContent"]] == [
        "com.apple.security.pkcs12"
    ]


def test_a_renewal_replaces(
    key: Key, cert: x509.Certificate, signer: ServerPair, device_ca: Authority, now: datetime
) -> None:
    """One identifier per site; the identity in it is another payload when the certificate is another one."""
    first, again = made(key, cert, signer), made(key, cert, signer)
    assert first == again | {"PayloadContent": first["PayloadContent"]}
    assert first["PayloadContent"][0]["PayloadUUID"] == again["PayloadContent"][0]["PayloadUUID"]
    renewed = device_ca.issue_device(
        key.public_key(), device_id=DEVICE, name="phone", site_host="pi.local", now=now
    )
    later = made(key, renewed, signer, device="Bart's new name", p12=pkcs12(key, renewed, [], "x", PASSWORD))
    assert later["PayloadIdentifier"] == first["PayloadIdentifier"]
    assert later["PayloadUUID"] == first["PayloadUUID"]
    assert later["PayloadContent"][0]["PayloadUUID"] != first["PayloadContent"][0]["PayloadUUID"]


def test_the_root_alone_replaces_no_identity(
    key: Key, cert: x509.Certificate, signer: ServerPair, server_ca: Authority
) -> None:
    """Its profile has an identifier of its own, and nobody's key in it."""
    root = content(root_profile(server_cas=[server_ca.certificate], site_id=SITE, site="pi.local", signer=signer))
    assert root["PayloadIdentifier"] != made(key, cert, signer)["PayloadIdentifier"]
    assert [one["PayloadType"] for one in root["PayloadContent"]] == ["com.apple.security.root"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_inert(key: Key, cert: x509.Certificate, signer: ServerPair, name: str) -> None:
    """Markup stays text, what cannot be seen or turns text round is gone, lines are one, and nothing is added."""
    usual = made(key, cert, signer)
    profile = made(key, cert, signer, device=name, site=name)
    assert set(profile) == set(usual)
    assert profile["PayloadRemovalDisallowed"] is False
    (identity,) = profile["PayloadContent"]
    assert set(identity) == set(usual["PayloadContent"][0])
    for text in (profile["PayloadDisplayName"], profile["PayloadDescription"], identity["PayloadDisplayName"]):
        assert text.isprintable(), text
        assert not set("\u202e\u2066\n") & set(text)
    shown = " ".join(name.split())
    if shown.isprintable() and shown:
        assert shown in profile["PayloadDisplayName"]
    assert set(identity["PayloadCertificateFileName"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789-.")


def test_what_no_profile_is_made_of(key: Key, cert: x509.Certificate, signer: ServerPair) -> None:
    """An empty password, which phones refuse; an id that could be anything."""
    for changed in ({"password": ""}, {"device_id": "../x"}, {"site_id": "x\ny"}):
        with pytest.raises(InvalidInput):
            made(key, cert, signer, **changed)
