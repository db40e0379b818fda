"""What a device takes home: PKCS#12 for browsers and phones, PEM files for scripts."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import PrivateFormat
from cryptography.hazmat.primitives.serialization import pkcs12 as _pkcs12

from redlatch.errors import InvalidInput
from redlatch.pki.certificates import certificate_pem
from redlatch.pki.keys import Key, private_key_pem

# Lower case letters without l and o: a phone's keyboard needs no shifting, and nothing looks like a digit.
_LETTERS: Final = "abcdefghijkmnpqrstuvwxyz"
_GROUPS: Final = 3
_GROUP_LENGTH: Final = 5


def generate_password() -> str:
    """Return a password such as "hqmzt-wcjnb-ykrpe": 68 bits, ASCII.

    The MAC of a PKCS#12 file has 2048 rounds whatever else is set, so the password carries the strength.
    """
    groups = ("".join(secrets.choice(_LETTERS) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def pkcs12(
    key: Key,
    cert: x509.Certificate,
    ca: Sequence[x509.Certificate],
    friendly_name: str,
    password: str,
    *,
    modern: bool = False,
) -> bytes:
    """Return key, certificate and further certificates as a PKCS#12 file (RFC 7292).

    Compatible by default: 3DES and SHA-1, which Apple, Android up to 13 and old Windows demand (measured and
    reported in their trackers); `modern` is AES-256 and SHA-256. `ca` is what the device should trust (the
    server CA or nothing), never the device CA. Emoji are left out of the friendly name. Raises InvalidInput
    for an empty or non-ASCII password and for a key that does not match.
    """
    if not password or not password.isascii():
        raise InvalidInput("a PKCS#12 file needs an ASCII password", hint="phones refuse an empty one")
    if key.public_key() != cert.public_key():
        raise InvalidInput("the certificate and the private key do not belong together")
    scheme = PrivateFormat.PKCS12.encryption_builder()
    if modern:
        scheme = scheme.key_cert_algorithm(_pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(SHA256())
    else:
        scheme = scheme.key_cert_algorithm(_pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(SHA1())  # noqa: S303
    name = _friendly(friendly_name).encode()
    return _pkcs12.serialize_key_and_certificates(name, key, cert, list(ca), scheme.build(password.encode()))


def pem_files(key: Key | None, cert: x509.Certificate, server_cas: Sequence[x509.Certificate]) -> dict[str, bytes]:
    """Return the files for a script by name: cert.pem and, where given, key.pem (plain) and server-ca.pem with the
    server's roots.
    """
    files = {"cert.pem": certificate_pem(cert)}
    if key is not None:
        files["key.pem"] = private_key_pem(key, None)
    if server_cas:
        files["server-ca.pem"] = b"".join(map(certificate_pem, server_cas))
    return files


def c_header(pem: Mapping[str, bytes]) -> bytes:
    """Return PEM texts as C strings, variable name -> text, for microcontrollers: as key.js writes it."""
    lines = [
        "// A key and its certificate: whoever has this file can do what the device may.",
        "#pragma once",
        "#ifndef PROGMEM",
        "#define PROGMEM",
        "#endif",
        "",
    ]
    for name, text in pem.items():
        body = [f'  "{line}\\n"' for line in text.decode("ascii").strip().splitlines()]
        lines += [f"static const char {name}[] PROGMEM =", *body, "  ;", ""]
    return "\n".join(lines).encode()


def _friendly(name: str) -> str:
    """Leave out emoji and what is beyond the BMP (a friendlyName is a BMPString); never empty."""
    kept = "".join(
        c
        for c in unicodedata.normalize("NFC", name)
        if c <= "\uffff" and unicodedata.category(c) not in ("So", "Cf") and c not in "\ufe0e\ufe0f\u20e3"
    )
    return " ".join(kept.split()) or "redlatch device"
