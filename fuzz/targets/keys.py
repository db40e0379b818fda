"""Keys and certificates of an operator: opened in a bounded time or refused in words, and no secret in the words.

Input: a passphrase ("-": none), then the PEM file.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization

from fuzz.harness import Refused, attempt
from redlatch.pki import certificates, keys


def TestOneInput(data: bytes) -> None:
    passphrase, _, pem = data.partition(b"\n")
    given = None if passphrase == b"-" else passphrase
    key = attempt(keys.load_private_key, pem, given)
    pair = attempt(certificates.server_pair, pem, pem, given)
    assert isinstance(pair, Refused) or not isinstance(key, Refused), "a pair without its key"
    attempt(certificates.load_certificates, pem)
    if isinstance(key, Refused):
        return
    plain = keys.private_key_pem(key, None)
    again = keys.load_private_key(plain)
    assert _public(again) == _public(key), "another key"
    attempt(keys.check_public_key, key.public_key())


def _public(key: keys.Key) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
