"""Certificates: how they are named, written and read, and the pair that a server presents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from redlatch.errors import InvalidInput
from redlatch.pki.keys import Key, load_private_key, private_key_pem

MAX_PEM_FILE: Final = 1024 * 1024
_E = TypeVar("_E", bound=x509.ExtensionType)

#: What cryptography raises for content that is no certificate, or a broken one.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def fingerprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of the certificate's DER as 64 lower-case hex digits: a device's identity."""
    return certificate.fingerprint(SHA256()).hex()


def serial_hex(certificate: x509.Certificate) -> str:
    """Return the serial number as 40 lower-case hex digits, the form `openssl x509 -serial` has in capitals."""
    return f"{certificate.serial_number:040x}"


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Return every certificate of a PEM file in its order; at least one. Raises InvalidInput for all else."""
    if len(pem) > MAX_PEM_FILE:
        raise InvalidInput(f"a certificate file of {len(pem)} bytes is too large", hint="at most 1 MB")
    try:
        return x509.load_pem_x509_certificates(pem)
    except UNREADABLE as error:
        raise InvalidInput(
            "this is not a certificate in PEM form", hint="it begins with -----BEGIN CERTIFICATE-----"
        ) from error


@dataclass(frozen=True, slots=True)
class ServerPair:
    """What a server presents: its key, its certificate, and the issuers in order, each signing the one before."""

    key: Key = field(repr=False)
    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...] = ()


def server_pair(
    cert_pem: bytes, key_pem: bytes, passphrase: bytes | None = None, *, now: datetime | None = None
) -> ServerPair:
    """Read a server's certificate, chain and key, and check that browsers can use them.

    `now` (default: this machine's clock) must lie before the certificate's end; one that begins later is
    accepted, for a clock may be slow. Certificates of the file that do not belong to the chain are dropped.
    Raises InvalidInput when the two do not match, when it is expired, names no host (browsers do not read the
    CN, RFC 9525) or is not for servers; PassphraseNeeded when the key is locked.
    """
    certificates = load_certificates(cert_pem)
    key = load_private_key(key_pem, passphrase)
    leaf = certificates[0]
    try:
        if leaf.public_key() != key.public_key():
            raise InvalidInput(
                "the certificate and the private key do not belong together",
                hint=_why_no_match(certificates, key),
            )
        _check_server(leaf, now or datetime.now(UTC))
        return ServerPair(key, leaf, _chain(leaf, certificates[1:]))
    except UNREADABLE as error:
        raise InvalidInput("the certificate cannot be read: it is malformed") from error


def server_pem(pair: ServerPair) -> bytes:
    """Return one PEM file: the key unencrypted (PKCS#8), then the certificate and its chain. Keep it 0640."""
    return private_key_pem(pair.key, None) + b"".join(map(certificate_pem, (pair.leaf, *pair.chain)))


def _check_server(leaf: x509.Certificate, now: datetime) -> None:
    if leaf.not_valid_after_utc <= now:
        raise InvalidInput(
            f"the certificate expired on {leaf.not_valid_after_utc:%Y-%m-%d}", hint="renew it, then try again"
        )
    names = _extension(leaf, x509.SubjectAlternativeName)
    if names is None or not (names.get_values_for_type(x509.DNSName) or names.get_values_for_type(x509.IPAddress)):
        raise InvalidInput(
            "the certificate names no host in subjectAltName: every browser refuses it",
            hint="leave --server-cert out and redlatch makes one that is right",
        )
    usage = _extension(leaf, x509.ExtendedKeyUsage)
    allowed = {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}
    signs = _extension(leaf, x509.KeyUsage)
    if (usage is not None and allowed.isdisjoint(usage)) or (signs is not None and not signs.digital_signature):
        raise InvalidInput("the certificate is not for servers", hint="it needs the usage serverAuth")


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _chain(leaf: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the issuers of `leaf` found among `others`, nearest first, whatever their order in the file."""
    chain: list[x509.Certificate] = []
    left, last = list(others), leaf
    while (issuer := next((c for c in left if _issued_by(last, c)), None)) is not None:
        chain.append(issuer)
        left.remove(issuer)
        last = issuer
    return tuple(chain)


def _issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return certificate != issuer


def _why_no_match(certificates: Sequence[x509.Certificate], key: Key) -> str:
    if any(certificate.public_key() == key.public_key() for certificate in certificates[1:]):
        return "the server's own certificate comes first in the file, its issuers after it"
    return "take both from the same folder: with certbot, fullchain.pem and privkey.pem"
