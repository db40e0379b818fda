"""Certificate signing requests: claims, of which only the public key is ever used (RFC 2986)."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from redlatch.errors import InvalidInput
from redlatch.pki.authority import authority_subject
from redlatch.pki.keys import Key, PublicKey, check_public_key
from redlatch.pki.names import hidden_character
from redlatch.pki.profiles import CA_BASIC_CONSTRAINTS, CA_KEY_USAGE

MAX_CSR: Final = 16 * 1024
"""Bytes. A request with an RSA-4096 key and a dozen names has under 3 KB."""

_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def public_key_from_csr(data: bytes) -> PublicKey:
    """Return the public key of a PKCS#10 request in PEM or DER, after checking its self-signature.

    Nothing else of the request is used: names, usages and validity come from the profile. Raises InvalidInput
    for garbage, a bad self-signature, keys that `check_public_key` refuses, a request to become a CA, and
    names with control or bidirectional characters.
    """
    if len(data) > MAX_CSR:
        raise InvalidInput(f"a signing request of {len(data)} bytes is too large", hint="at most 16 KB")
    if b"PRIVATE KEY-----" in data:
        raise InvalidInput(
            "this file holds a private key, not only a signing request",
            hint="the key stays on the device; hand in what `openssl req -new -key key.pem` prints",
        )
    try:
        csr = x509.load_pem_x509_csr(data) if b"-----BEGIN " in data else x509.load_der_x509_csr(data)
        # The key first: checking the signature of a giant key is what its sender would want.
        key = check_public_key(csr.public_key())
        if not csr.is_signature_valid:
            raise InvalidInput(
                "the signing request's own signature is wrong",
                hint="it was changed on the way, or its sender does not hold the key",
            )
        _refuse_claims(csr)
    except _UNREADABLE as error:
        raise InvalidInput(
            "this is not a certificate signing request",
            hint="make one with: openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
            " -keyout key.pem -subj /CN=device",
        ) from error
    return key


def authority_request(key: Key, site: str, kind: str) -> bytes:
    """Return the request (PEM) of a CA of `kind` ("server" or "device") whose certificate is signed elsewhere.

    It asks for what redlatch gives its own CAs: CA, path length 0, keyCertSign and cRLSign.
    """
    made = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(authority_subject(site, kind, key.public_key()))
        .add_extension(CA_BASIC_CONSTRAINTS, critical=True)
        .add_extension(CA_KEY_USAGE, critical=True)
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def _refuse_claims(csr: x509.CertificateSigningRequest) -> None:
    """Refuse what an honest tool never asks for: it is an attack or a mistake, and better said than dropped."""
    for extension in csr.extensions:
        value = extension.value
        if (isinstance(value, x509.BasicConstraints) and value.ca) or (
            isinstance(value, x509.KeyUsage) and (value.key_cert_sign or value.crl_sign)
        ):
            raise InvalidInput(
                "the signing request asks to become a certificate authority",
                hint="make it without CA:TRUE and without keyCertSign",
            )
        if isinstance(value, x509.SubjectAlternativeName):
            for name in value:
                _refuse_hidden(name.value)
    _refuse_hidden(csr.subject)


def _refuse_hidden(name: object) -> None:
    """Refuse control and bidirectional characters in a string or in any attribute of a distinguished name."""
    if isinstance(name, x509.Name):
        for attribute in name:
            _refuse_hidden(attribute.value)
    elif isinstance(name, str) and (hidden := hidden_character(name)) is not None:
        raise InvalidInput(f"a name in the signing request contains {hidden}", hint="use plain text")
