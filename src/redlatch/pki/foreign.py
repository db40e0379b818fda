"""Certificates and authorities that were made elsewhere: read, put in order, and judged before anything trusts
them.

Refused is what some TLS stack would turn away later, device by device, and what strangers could get certificates
of. RFC 5280, 4.2.1.9 (basicConstraints), 4.2.1.3 (keyUsage), 4.2.1.10 (nameConstraints), 6.1 (path validation).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import MD5, SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from redlatch.errors import InvalidInput
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import UNREADABLE
from redlatch.pki.keys import Key, check_public_key
from redlatch.pki.names import hidden_character

_E = TypeVar("_E", bound=x509.ExtensionType)
_PURPOSE: Final = {"device": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}
_USAGE: Final = {"device": "clientAuth", "server": "serverAuth"}
#: A CA that ends sooner is not worth the work of moving every device to it.
LEAST_LEFT: Final = timedelta(days=30)
_MOST_ABOVE: Final = 6


def authority(
    kind: str,
    certificates: Sequence[x509.Certificate],
    key: Key,
    *,
    now: datetime,
    public: Collection[bytes] = (),
) -> Authority:
    """The CA among `certificates` that `key` belongs to, with its chain, checked.

    `kind` is "device" or "server", `public` the DER of roots that the world trusts. InvalidInput, naming what is
    wrong, for anything that engines, phones or browsers would turn away.
    """
    try:
        found = next((one for one in certificates if one.public_key() == key.public_key()), None)
        if found is None:
            raise InvalidInput(
                "the key belongs to none of these certificates"
                if certificates
                else "there is no certificate in it",
                hint="take both from the same CA: with easy-rsa pki/ca.crt and pki/private/ca.key",
            )
        chain = chain_of(found, certificates)
        check_chain(kind, found, chain, now=now, public=public)
        check_public_key(found.public_key())
        ends = min((found, *chain), key=lambda one: one.not_valid_after_utc)  # engines look at all of them
        if ends.not_valid_after_utc - now < LEAST_LEFT:
            which = "this CA" if ends is found else f"{_named(ends)}, above this CA,"
            raise InvalidInput(
                f"{which} ends on {ends.not_valid_after_utc:%Y-%m-%d}, and all its certificates with it",
                hint="renew it first, or use another one",
            )
        return Authority(found, key, chain)
    except UNREADABLE as error:
        raise InvalidInput("the CA's certificate cannot be read: it is malformed") from error


def device(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    *,
    now: datetime,
    public: Collection[bytes] = (),
) -> tuple[x509.Certificate, ...]:
    """Checks a single device certificate made elsewhere; what stands above it, its issuer first, its root last.

    InvalidInput, also for one that signed itself: HAProxy takes it as its own anchor, Node.js 24 does not
    (measured).
    """
    try:
        if certificate.not_valid_after_utc <= now:
            raise InvalidInput(f"the certificate ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
        if certificate.not_valid_before_utc > now:
            raise InvalidInput(
                f"the certificate is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}",
                hint="check the clock of this machine",
            )
        basic = _extension(certificate, x509.BasicConstraints)
        if basic is not None and basic.ca:
            raise InvalidInput(
                "this is the certificate of a CA, not of a device",
                hint="a CA with its key: redlatch ca import device FILE --key FILE",
            )
        _check_usage("device", certificate)
        usage = _extension(certificate, x509.KeyUsage)
        if usage is not None and not usage.digital_signature:
            raise InvalidInput(
                "the certificate may not sign (keyUsage without digitalSignature): no TLS client can use it"
            )
        check_public_key(certificate.public_key())
        _check_name(certificate)
        chain = chain_of(certificate, others)
        if not chain:
            raise InvalidInput(
                "the certificate signed itself, and Node.js takes no such one from a client",
                hint="give the device a key of this site's: redlatch device add NAME",
            )
        check_chain("device", chain[0], chain[1:], now=now, public=public)
    except UNREADABLE as error:
        raise InvalidInput("the certificate cannot be read: it is malformed") from error
    return chain


def chain_of(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """The issuers of a certificate, nearest first, up to a self-signed one; none when it is that itself.
    InvalidInput where one is missing: engines take whole chains only.
    """
    found: list[x509.Certificate] = []
    last = certificate
    check_signature(last)
    while not _signed_by(last, last):
        if len(found) >= _MOST_ABOVE:
            raise InvalidInput("the chain is longer than any that is in use")
        issuer = next((one for one in others if one not in found and one != last and _signed_by(last, one)), None)
        if issuer is None:
            raise InvalidInput(
                f"the chain is not whole: the certificate of {last.issuer.rfc4514_string()[:120]!r} is missing",
                hint="give its file too, and those above it up to a self-signed root",
            )
        found.append(issuer)
        last = issuer
        check_signature(last)  # by what is broken nothing can be put in order
    return tuple(found)


def check_chain(
    kind: str,
    ca: x509.Certificate,
    above: Sequence[x509.Certificate],
    *,
    now: datetime,
    public: Collection[bytes] = (),
) -> None:
    """Whether certificates of `ca` would be taken by TLS stacks that trust the last of `above`. InvalidInput."""
    for depth, one in enumerate((ca, *above)):
        name = _named(one)
        _check_name(one)
        basic = _extension(one, x509.BasicConstraints)
        if basic is None or not basic.ca:
            raise InvalidInput(
                f"{name} is no CA (basicConstraints without CA:TRUE)",
                hint="a single device's certificate: redlatch device adopt NAME FILE",
            )
        usage = _extension(one, x509.KeyUsage)
        if usage is None or not usage.key_cert_sign:
            raise InvalidInput(f"{name} may not sign certificates (keyUsage without keyCertSign)")
        if basic.path_length is not None and basic.path_length < depth:
            raise InvalidInput(f"{name} allows {basic.path_length} CAs below it, and there are {depth} (pathlen)")
        if not one.not_valid_before_utc <= now < one.not_valid_after_utc:
            raise InvalidInput(
                f"{name} is valid from {one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}",
                hint="check the clock of this machine; else renew that CA",
            )
        if _extension(one, x509.SubjectKeyIdentifier) is None:
            raise InvalidInput(
                f"{name} has no subjectKeyIdentifier",
                hint="strict verifiers refuse its certificates; make it anew",
            )
        check_public_key(one.public_key())
        _check_usage(kind, one)
        if kind == "device":
            _check_constraints(one, name)
        if one.public_bytes(Encoding.DER) in public:
            raise InvalidInput(
                f"{name} is a public root: certificates of it are given to strangers",
                hint="use a CA of your own",
            )


def check_signature(certificate: x509.Certificate) -> None:
    """Refuses MD5 and SHA-1: OpenSSL and browsers do, and the first is forged within a day. InvalidInput."""
    used = certificate.signature_hash_algorithm
    if isinstance(used, MD5 | SHA1):
        raise InvalidInput(
            f"{_named(certificate)} is signed with {used.name.upper()}, which is broken",
            hint="have it signed anew with SHA-256",
        )


def _check_usage(kind: str, certificate: x509.Certificate) -> None:
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is not None and {_PURPOSE[kind], ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}.isdisjoint(usage):
        raise InvalidInput(f"{_named(certificate)} is not for {kind}s (extendedKeyUsage without {_USAGE[kind]})")


def _check_constraints(certificate: x509.Certificate, name: str) -> None:
    """Names in a device's certificate are a URI and a subject of redlatch's."""
    found = _extension(certificate, x509.NameConstraints)
    trees = [] if found is None else [*(found.permitted_subtrees or ()), *(found.excluded_subtrees or ())]
    if any(isinstance(tree, x509.UniformResourceIdentifier | x509.DirectoryName) for tree in trees):
        raise InvalidInput(
            f"{name} restricts which subjects or URIs its certificates may name (nameConstraints)",
            hint="use a CA without such constraints for devices",
        )


def _named(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()[:80] or "the certificate"


def _check_name(certificate: x509.Certificate) -> None:
    for attribute in certificate.subject:
        hidden = hidden_character(str(attribute.value))
        if hidden is not None:
            raise InvalidInput(f"the certificate's subject contains {hidden}")


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
