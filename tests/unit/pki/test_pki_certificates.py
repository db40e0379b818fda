from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput, PassphraseNeeded
from redlatch.pki import profiles
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem, fingerprint, load_certificates, server_pair, server_pem
from redlatch.pki.keys import Key, generate_key, load_private_key, private_key_pem


def signed(
    subject: str,
    key: Key,
    issuer: tuple[x509.Certificate, Key] | None,
    *extensions: x509.ExtensionType,
    now: datetime,
    days: int = 90,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer[0].subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer[1] if issuer else key, SHA256())


SAN = x509.SubjectAlternativeName([x509.DNSName("pi.example.org")])
CA = x509.BasicConstraints(ca=True, path_length=None)


def test_fingerprint_is_the_digest_of_the_der(device_ca: Authority) -> None:
    """The identity is what OpenSSL, Node and HAProxy compute too: lower-case hex of SHA-256 over the DER."""
    der = device_ca.certificate.public_bytes(Encoding.DER)
    assert fingerprint(device_ca.certificate) == sha256(der).hexdigest()


def test_server_file_comes_back(server_ca: Authority, key: Key, now: datetime) -> None:
    """server.pem holds the key, the leaf and the chain in this order, and reads back as the same pair."""
    leaf = server_ca.issue_server(key.public_key(), ["pi.local"], now=now)
    chain = certificate_pem(leaf) + certificate_pem(server_ca.certificate)
    pair = server_pair(chain, private_key_pem(key, None), now=now)
    pem = server_pem(pair)
    assert load_certificates(pem) == [leaf, server_ca.certificate]
    assert pem.index(b"PRIVATE KEY") < pem.index(b"CERTIFICATE")
    assert load_private_key(pem).private_numbers() == key.private_numbers()
    again = server_pair(pem, pem, now=now)
    assert (again.leaf, again.chain) == (pair.leaf, pair.chain)
    assert "key" not in repr(pair).lower()


def test_public_certificate_with_chain_in_any_order_is_taken(now: datetime) -> None:
    """The issuers are put in order, and certificates that do not belong to the chain are dropped."""
    root_key, middle_key, key = generate_key(), generate_key(), generate_key()
    root = signed("root", root_key, None, CA, now=now)
    middle = signed("middle", middle_key, (root, root_key), CA, now=now)
    foreign = signed("middle", generate_key(), None, CA, now=now)
    leaf = signed("leaf", key, (middle, middle_key), SAN, now=now)
    pem = b"".join(map(certificate_pem, (leaf, root, foreign, middle)))
    assert server_pair(pem, private_key_pem(key, None), now=now).chain == (middle, root)


def test_locked_key_needs_its_passphrase(server_ca: Authority, p256: Key, now: datetime) -> None:
    """A person's own server key may be encrypted; without the passphrase it is asked for."""
    leaf = certificate_pem(server_ca.issue_server(p256.public_key(), ["pi.local"], now=now))
    locked = private_key_pem(p256, b"secret")
    assert server_pair(leaf, locked, b"secret", now=now)
    with pytest.raises(PassphraseNeeded):
        server_pair(leaf, locked, now=now)


def test_key_of_another_certificate_is_refused(
    server_ca: Authority, p256: Key, rsa2048: Key, now: datetime
) -> None:
    """Certificate and key that do not match are refused; an issuer put first is pointed out."""
    leaf = server_ca.issue_server(p256.public_key(), ["pi.local"], now=now)
    for other in (generate_key(), rsa2048):
        with pytest.raises(InvalidInput, match="belong together"):
            server_pair(certificate_pem(leaf), private_key_pem(other, None), now=now)
    turned = certificate_pem(server_ca.certificate) + certificate_pem(leaf)
    with pytest.raises(InvalidInput, match="belong together") as refused:
        server_pair(turned, private_key_pem(p256, None), now=now)
    assert "comes first" in refused.value.hint


def test_expired_certificate_is_refused(server_ca: Authority, p256: Key, now: datetime) -> None:
    """A second before its end it is taken, at its end it is not; without `now` this machine's clock counts."""
    leaf = server_ca.issue_server(p256.public_key(), ["pi.local"], now=now, days=1)
    files = certificate_pem(leaf), private_key_pem(p256, None)
    assert server_pair(*files, now=now + timedelta(seconds=86399))
    with pytest.raises(InvalidInput, match="expired on 2026-03-02"):
        server_pair(*files, now=now + timedelta(days=1))
    old = signed("old", p256, None, SAN, now=datetime.now(UTC) - timedelta(days=100))
    with pytest.raises(InvalidInput, match="expired"):
        server_pair(certificate_pem(old), files[1])
    fresh = signed("fresh", p256, None, SAN, now=datetime.now(UTC))
    assert server_pair(certificate_pem(fresh), files[1])


def test_certificate_that_browsers_refuse_is_refused(device_ca: Authority, p256: Key, now: datetime) -> None:
    """Without a host in subjectAltName, for clients only or not for signing, a certificate serves nobody."""
    key = private_key_pem(p256, None)
    uri = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("https://pi.local/")])
    client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    for extensions, why in (
        ([], "names no host"),
        ([uri], "names no host"),
        ([SAN, client], "not for servers"),
        ([SAN, profiles.CA_KEY_USAGE], "not for servers"),
    ):
        with pytest.raises(InvalidInput, match=why):
            server_pair(certificate_pem(signed("pi", p256, None, *extensions, now=now)), key, now=now)
    for extensions in ([SAN], [SAN, profiles.SERVER_EXTENDED_KEY_USAGE, profiles.LEAF_KEY_USAGE]):
        assert server_pair(certificate_pem(signed("pi", p256, None, *extensions, now=now)), key, now=now)


@given(st.binary(max_size=300))
def test_garbage_is_no_certificate(data: bytes) -> None:
    """No bytes lead to anything but InvalidInput, between the markers neither."""
    marked = b"-----BEGIN CERTIFICATE-----\n" + b64encode(data) + b"\n-----END CERTIFICATE-----\n"
    for pem in (data, marked):
        with pytest.raises(InvalidInput):
            load_certificates(pem)


def test_oversized_file_is_refused() -> None:
    """A file of megabytes is not parsed."""
    with pytest.raises(InvalidInput, match="too large"):
        load_certificates(b"x" * 2_000_000)
