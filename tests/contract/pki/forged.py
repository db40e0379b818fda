"""What a thief of the server CA's key would issue."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from tests.contract.pki.conftest import Made, Pair, write

from redlatch.pki import profiles


def dns(name: str) -> x509.GeneralName:
    return x509.DNSName(name)


def ip(address: str) -> x509.GeneralName:
    return x509.IPAddress(ip_address(address))


GOOD = dns("pi.local")
FINE = {
    "private names": [GOOD, dns("x.home.arpa"), dns("a.b.lan"), dns("pi"), dns("nodered.example.org")],
    "private addresses": [GOOD, ip("10.9.8.7"), ip("100.64.0.1"), ip("fd00::1"), ip("fe80::1"), ip("203.0.113.7")],
}
STOLEN = {
    "foreign host": [dns("bank.example")],
    "foreign host beside an own": [GOOD, dns("bank.example")],
    "wildcard": [GOOD, dns("*.example")],
    "sibling of an own domain": [GOOD, dns("evilnodered.example.org")],
    "parent of an own domain": [GOOD, dns("example.org")],
    "public IPv4 address": [GOOD, ip("8.8.8.8")],
    "neighbour of an own address": [GOOD, ip("203.0.113.8")],
    "public IPv6 address": [GOOD, ip("2001:db8::1")],
    "e-mail": [GOOD, x509.RFC822Name("me@bank.example")],
    "e-mail at a private name": [GOOD, x509.RFC822Name("me@pi.local")],
    "URI": [GOOD, x509.UniformResourceIdentifier("https://bank.example/")],
    "URI at a private name": [GOOD, x509.UniformResourceIdentifier("https://pi.local/")],
}
FREE = {
    "directory name": [
        GOOD,
        x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bank")])),
    ],
    "otherName (Windows logon)": [
        GOOD,
        x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x03a@b"),
    ],
}


def forge(made: Made, folder: Path, names: list[x509.GeneralName], common_name: str = "pi.local") -> Pair:
    """Issue with the CA's key what `issue_server` would not."""
    pair, ca = made.servers["p256"], made.server_ca
    assert ca.key is not None
    identifier = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .issuer_name(ca.certificate.subject)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .public_key(pair.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.now - timedelta(minutes=5))
        .not_valid_after(made.now + timedelta(days=30))
        .add_extension(profiles.LEAF_BASIC_CONSTRAINTS, critical=True)
        .add_extension(profiles.LEAF_KEY_USAGE, critical=True)
        .add_extension(profiles.SERVER_EXTENDED_KEY_USAGE, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(pair.key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return write(folder / "forged", builder.sign(ca.key, SHA256()), pair.key)
