"""Private keys: made, written and read.

A key under a passphrase is PKCS#8 with PBES2, scrypt and AES-256-CBC (RFC 5958, RFC 8018, RFC 7914).
`cryptography` itself only writes PBKDF2 with 2048 rounds, which a graphics card guesses at by the million.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

from redlatch.errors import InvalidInput, PassphraseNeeded
from redlatch.pki.profiles import RSA_BITS
from redlatch.pki.rounds import check_rounds

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
KeyKind = Literal["p256", "rsa2048"]

# N = 32768 and more exceeds the 32 MiB that OpenSSL and Node.js allow scrypt (measured).
SCRYPT_N: Final = 16384
SCRYPT_R: Final = 8
SCRYPT_P: Final = 5

MAX_KEY_FILE: Final = 64 * 1024


def generate_key(kind: KeyKind = "p256") -> Key:
    """Make a private key: P-256, or RSA-2048 for what cannot use or does not show elliptic curves.

    Raises InvalidInput for any other kind.
    """
    if kind == "p256":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise InvalidInput(f"{kind!r} is not a kind of key", hint="use p256 or rsa2048")


def private_key_pem(key: Key, passphrase: bytes | None) -> bytes:
    """Return the key as PKCS#8 PEM: plain without a passphrase, else under scrypt and AES-256-CBC.

    An empty passphrase raises InvalidInput: it would look protected and not be.
    """
    if passphrase is None:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    if not passphrase:
        raise InvalidInput("the passphrase is empty", hint="give at least one character")
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return _pem("ENCRYPTED PRIVATE KEY", _encrypt(plain, passphrase))


def load_private_key(pem: bytes, passphrase: bytes | None = None) -> Key:
    """Read a PEM private key: PKCS#8, SEC 1 or PKCS#1, plain or encrypted.

    A passphrase that is not needed is not used. Raises PassphraseNeeded when it is missing or wrong,
    InvalidInput for everything that is no private key, of a type that TLS clients do not share, or under a
    passphrase with more rounds than anybody waits for.
    """
    if len(pem) > MAX_KEY_FILE:
        raise InvalidInput(f"a private key file of {len(pem)} bytes is none")
    encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in pem or b"Proc-Type: 4,ENCRYPTED" in pem
    if encrypted and not passphrase:
        raise PassphraseNeeded("the private key is encrypted", hint="give its passphrase")
    try:
        check_rounds(pem)
        key: PrivateKeyTypes = serialization.load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise PassphraseNeeded(
                "the private key does not open with this passphrase",
                hint="check the passphrase; if it is right, the file is damaged",
            ) from error
        raise InvalidInput(
            "this is not a private key in PEM form", hint="it begins with -----BEGIN PRIVATE KEY-----"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput(
            f"a key of type {type(key).__name__} is of no use here",
            hint="use P-256 or RSA: browsers and phones have no other in common",
        )
    return key


def check_public_key(key: PublicKeyTypes) -> PublicKey:
    """Return the key if it may be certified: P-256, P-384, or RSA of 2048 to 4096 bits. Else InvalidInput.

    Ed25519 fails in NSS, Chromium, Firefox and iOS (measured), P-521 in Chromium.
    """
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
        raise InvalidInput(f"the key is on the curve {key.curve.name}", hint="use P-256 (prime256v1)")
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size not in RSA_BITS:
            raise InvalidInput(
                f"the RSA key has {key.key_size} bits", hint="use P-256, or RSA with 2048 to 4096 bits"
            )
        # A giant exponent makes every check of a signature as slow as making one (RFC 8017 sets no bound).
        if not 65537 <= key.public_numbers().e < 1 << 32:
            raise InvalidInput("the RSA key has an odd public exponent", hint="use 65537, as every tool does")
        return key
    raise InvalidInput("the key is neither P-256 nor RSA", hint="browsers and phones have no other in common")


def _encrypt(plain: bytes, passphrase: bytes) -> bytes:
    """EncryptedPrivateKeyInfo (RFC 5958, 3) with PBES2 (RFC 8018, A.4) and scrypt (RFC 7914, 7), as DER."""
    salt, iv = secrets.token_bytes(16), secrets.token_bytes(16)
    secret = Scrypt(salt=salt, length=32, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P).derive(passphrase)
    padder = PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(iv)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    scrypt = _sequence(
        _oid("2b06010401da47040b"),  # 1.3.6.1.4.1.11591.4.11
        _sequence(_octets(salt), _integer(SCRYPT_N), _integer(SCRYPT_R), _integer(SCRYPT_P), _integer(32)),
    )
    aes256_cbc = _sequence(_oid("60864801650304012a"), _octets(iv))  # 2.16.840.1.101.3.4.1.42
    pbes2 = _sequence(_oid("2a864886f70d01050d"), _sequence(scrypt, aes256_cbc))  # 1.2.840.113549.1.5.13
    return _sequence(pbes2, _octets(sealed))


def _pem(label: str, der: bytes) -> bytes:
    body = b64encode(der)
    lines = [body[start : start + 64] for start in range(0, len(body), 64)]
    return b"\n".join([f"-----BEGIN {label}-----".encode(), *lines, f"-----END {label}-----".encode(), b""])


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _sequence(*items: bytes) -> bytes:
    return _der(0x30, b"".join(items))


def _octets(value: bytes) -> bytes:
    return _der(0x04, value)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(content: str) -> bytes:
    return _der(0x06, bytes.fromhex(content))
