"""What every certificate of a site looks like: lifetimes, usages and the limits of the server CA.

Sources are named beside each figure. What no verifier catches (a leaf without basicConstraints or
extKeyUsage, a CA without cRLSign, serial 1, a leaf that outlives its issuer, a 900-day leaf) is asserted in
tests/unit/pki.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

CA_DAYS: Final = 3652
"""Ten years: the server root is installed by hand on every device, the device CA is named by every server."""

SERVER_DAYS: Final = 397
"""Longest life of a server certificate: CA/Browser Forum BR 6.3.2; Apple refuses private ones over 825 days."""

DEVICE_DAYS: Final = 365
"""Longest life of a device certificate."""

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""How far notBefore lies back: the clocks of a device and of a Raspberry Pi without battery differ."""

SERIAL_BITS: Final = 158
"""Serial = 2^158 + 158 random bits: always positive and exactly 20 octets (RFC 5280, 4.1.2.2)."""

RSA_BITS: Final = range(2048, 4097)
"""Below: broken. Above: a handshake on a Pi costs tenths of a second."""

ORGANIZATION: Final = "redlatch"
"""The O of every subject, so that people find them in a list of certificates."""

COMMON_NAME_BYTES: Final = 64
"""ub-common-name (RFC 5280, appendix A.1), counted in UTF-8 octets, the strictest reading."""

PRIVATE_DOMAINS: Final = (
    "home.arpa",  # RFC 8375
    "internal",  # reserved for private use by ICANN, 2024-07-29
    "lan",  # not reserved, but what home routers hand out; not delegated either
    "local",  # RFC 6762, multicast DNS
    "localhost",  # RFC 6761
)
"""DNS subtrees that the server CA may always name."""

PRIVATE_NETWORKS: Final = (
    IPv4Network("10.0.0.0/8"),  # RFC 1918
    IPv4Network("172.16.0.0/12"),  # RFC 1918
    IPv4Network("192.168.0.0/16"),  # RFC 1918
    IPv4Network("169.254.0.0/16"),  # RFC 3927, link-local
    IPv4Network("127.0.0.0/8"),  # RFC 1122, loopback
    IPv4Network("100.64.0.0/10"),  # RFC 6598, carrier-grade NAT; Tailscale's addresses
    IPv6Network("fc00::/7"),  # RFC 4193, unique local
    IPv6Network("fe80::/10"),  # RFC 4291, link-local
    IPv6Network("::1/128"),  # RFC 4291, loopback
)
"""Networks whose addresses the server CA may always name, so that a new DHCP address needs no new root."""

NOBODY: Final = "nobody.invalid"
"""A host that cannot exist (RFC 6761): the only one permitted in e-mail addresses and URIs.

RFC 5280, 4.2.1.10 restricts a form of name only where a subtree of that form is given, and OpenSSL takes an
excluded empty subtree of these two forms for "matches nothing". So: one permitted subtree that nobody can use.
"""


def _key_usage(**wanted: bool) -> x509.KeyUsage:
    bits = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**(bits | wanted))


CA_BASIC_CONSTRAINTS: Final = x509.BasicConstraints(ca=True, path_length=0)
LEAF_BASIC_CONSTRAINTS: Final = x509.BasicConstraints(ca=False, path_length=None)

CA_KEY_USAGE: Final = _key_usage(key_cert_sign=True, crl_sign=True)
LEAF_KEY_USAGE: Final = _key_usage(digital_signature=True)
RSA_SERVER_KEY_USAGE: Final = _key_usage(digital_signature=True, key_encipherment=True)

SERVER_EXTENDED_KEY_USAGE: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
DEVICE_EXTENDED_KEY_USAGE: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
