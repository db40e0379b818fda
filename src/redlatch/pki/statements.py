"""Statements that a CA signs besides certificates. Pure: the key is handed in.

A statement begins with a domain of its own (ASCII, ended by NUL). What a certificate or a CRL signs begins with
the DER of a SEQUENCE (0x30), so that neither signature can ever stand for the other.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from redlatch.errors import InvalidInput
from redlatch.pki.keys import Key

_DER_SEQUENCE = 0x30
_PSS = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)


def sign(key: Key, statement: bytes) -> bytes:
    """ECDSA with SHA-256 (DER), or RSASSA-PSS where the CA's key is RSA. InvalidInput for what could be DER."""
    if not statement or statement[0] == _DER_SEQUENCE:
        raise InvalidInput("a statement begins with its domain")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(statement, _PSS, SHA256())
    return key.sign(statement, ec.ECDSA(SHA256()))


def is_signed(certificate: x509.Certificate, statement: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of the certificate's key over `statement`."""
    key = certificate.public_key()
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, statement, ec.ECDSA(SHA256()))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, statement, _PSS, SHA256())
        else:
            return False
    except InvalidSignature:
        return False
    return True
