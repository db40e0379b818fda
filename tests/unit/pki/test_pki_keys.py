from __future__ import annotations

import subprocess
import time
from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput, PassphraseNeeded
from redlatch.pki.keys import Key, check_public_key, generate_key, load_private_key, private_key_pem


def same(one: object, other: Key) -> bool:
    return isinstance(one, type(other)) and one.private_numbers() == other.private_numbers()


def test_kinds_of_key() -> None:
    """p256 is a key on secp256r1, rsa2048 one of 2048 bits with exponent 65537; there is no other kind."""
    key = generate_key("p256")
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"
    key = generate_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    assert (key.key_size, key.public_key().public_numbers().e) == (2048, 65537)
    with pytest.raises(InvalidInput, match="not a kind of key"):
        generate_key("dsa")  # type: ignore[arg-type]


def test_plain_key_comes_back(key: Key) -> None:
    """Without a passphrase the file is plain PKCS#8; a passphrase given for nothing does no harm."""
    pem = private_key_pem(key, None)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert same(load_private_key(pem), key)
    assert same(load_private_key(pem, b"not needed"), key)


def test_encrypted_key_comes_back_only_with_its_passphrase(key: Key) -> None:
    """Under a passphrase the key opens with it, and asks for it when it is wrong, empty or missing."""
    pem = private_key_pem(key, "Paßwort ✓".encode())
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert same(load_private_key(pem, "Paßwort ✓".encode()), key)
    for wrong in (None, b"", b"wrong"):
        with pytest.raises(PassphraseNeeded):
            load_private_key(pem, wrong)


def test_encrypted_key_says_scrypt_and_aes(p256: Key) -> None:
    """The file carries the object identifiers of PBES2, scrypt with N = 16384 and AES-256-CBC."""
    der = b64decode(b"".join(private_key_pem(p256, b"x").splitlines()[1:-1]))
    for part in ("2a864886f70d01050d", "2b06010401da47040b", "60864801650304012a", "02024000020108020105020120"):
        assert bytes.fromhex(part) in der
    assert same(load_der_private_key(der, b"x"), p256)


def test_two_files_of_one_key_share_nothing(p256: Key) -> None:
    """Salt and IV are new each time."""
    assert private_key_pem(p256, b"x").splitlines()[3:] != private_key_pem(p256, b"x").splitlines()[3:]


def test_empty_passphrase_is_refused_when_writing(p256: Key) -> None:
    """A key that looks protected and is not is worse than a plain one."""
    with pytest.raises(InvalidInput, match="empty"):
        private_key_pem(p256, b"")


def test_keys_of_other_tools_are_read(key: Key) -> None:
    """SEC 1 and PKCS#1 files, and those under OpenSSL's own encryption, are read as well."""
    openssl = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    assert same(load_private_key(openssl), key)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(b"x"))
    assert same(load_private_key(locked, b"x"), key)
    with pytest.raises(PassphraseNeeded):
        load_private_key(locked)


def test_what_is_no_usable_key_is_refused(p256: Key) -> None:
    """Garbage, a public key, giant files and Ed25519 each raise InvalidInput."""
    odd = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    cut = private_key_pem(p256, None)[:-60]
    for pem in (b"", b"garbage", b"\xff" * 100, b"x" * 100_000, odd, cut):
        with pytest.raises(InvalidInput):
            load_private_key(pem)


@given(st.binary(max_size=300))
def test_garbage_between_the_markers_is_refused(data: bytes) -> None:
    """No bytes in a key file lead to anything but an error with a reason."""
    for label in (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"EC PRIVATE KEY"):
        pem = b"-----BEGIN " + label + b"-----\n" + b64encode(data) + b"\n-----END " + label + b"-----\n"
        with pytest.raises((InvalidInput, PassphraseNeeded)):
            load_private_key(pem, b"x")


def test_odd_exponents_are_refused() -> None:
    """Exponent 3 is weak in practice and a giant one makes every check of a signature expensive."""
    assert check_public_key(rsa.RSAPublicNumbers(65537, (1 << 2047) | 1).public_key())
    for exponent in (3, (1 << 33) + 1):
        with pytest.raises(InvalidInput, match="exponent"):
            check_public_key(rsa.RSAPublicNumbers(exponent, (1 << 2047) | 1).public_key())


@pytest.mark.parametrize("bits", [1024, 2047, 4097, 8192])
def test_rsa_sizes_out_of_range_are_refused(bits: int) -> None:
    """RSA has 2048 to 4096 bits: below is broken, above burdens the server with each handshake."""
    with pytest.raises(InvalidInput, match=f"{bits} bits"):
        check_public_key(rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) | 1).public_key())


def test_key_files_have_pem_lines_of_64(p256: Key) -> None:
    """Strict PEM parsers (RFC 7468) want lines of exactly 64 characters but the last."""
    lines = private_key_pem(p256, b"x").decode().splitlines()
    assert {len(line) for line in lines[1:-2]} == {64}
    assert load_pem_private_key(private_key_pem(p256, b"x"), b"x")


@pytest.mark.parametrize(
    "options",
    [
        ("-v2", "aes-256-cbc", "-iter", "2000001"),
        ("-v1", "PBE-SHA1-3DES", "-iter", "2147483647"),
        ("-v2", "aes-256-cbc", "-iter", "2147483647"),
    ],
)
def test_a_file_that_asks_for_endless_rounds_is_refused_at_once(p256: Key, options: tuple[str, ...]) -> None:
    """The rounds stand in the file, and whoever made it chose them (all of them were done)."""
    few = _by_openssl(p256, (*options[:-1], "100000"))
    key = load_private_key(few, b"secret")
    assert key.public_key() == p256.public_key()
    # Not made by openssl, which would do them: the same file with another number in it
    many = _with_rounds(few, 100_000, int(options[-1]))
    begin = time.process_time()
    with pytest.raises(InvalidInput, match="more rounds"):
        load_private_key(many, b"secret")
    assert time.process_time() - begin < 0.5


def test_scrypt_that_takes_too_long_is_refused_at_once(p256: Key) -> None:
    """OpenSSL bounds the memory that scrypt takes, and not its time: p may be anything."""
    pem = private_key_pem(p256, b"secret")
    with pytest.raises(InvalidInput, match="more rounds"):
        load_private_key(_with_rounds(pem, 5, 120), b"secret")
    assert load_private_key(pem, b"secret").public_key() == p256.public_key()


def test_an_encrypted_key_that_cannot_be_read_is_refused(p256: Key) -> None:
    """Cut short or of another form, it is what a wrong passphrase is."""
    der = _body(private_key_pem(p256, b"secret"))
    odd = (
        b"",
        b"\x30",
        der[:30],
        der[:-40],
        b"\x1f\x01" + der,
        b"\x30\x85" + der,
        b"\x04\x00",
        b"\x30\x02\x04\x00",
    )
    for data in odd:
        body = b64encode(data)
        pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"
        with pytest.raises(PassphraseNeeded):
            load_private_key(pem, b"secret")


def _by_openssl(key: Key, options: tuple[str, ...]) -> bytes:
    return subprocess.run(
        ["openssl", "pkcs8", "-topk8", *options, "-passout", "pass:secret"],
        input=private_key_pem(key, None), capture_output=True, check=True,
    ).stdout  # fmt: skip


def _body(pem: bytes) -> bytes:
    return b64decode(b"".join(pem.split(b"-----")[2].split()))


def _with_rounds(pem: bytes, before: int, after: int) -> bytes:
    """The file with another INTEGER in it, and the lengths of what it is in put right."""
    old, new = (b"\x02%c%b" % (len(one), one) for one in (_integer(before), _integer(after)))
    der = _body(pem)
    at = der.index(old)
    grown = len(new) - len(old)
    fixed = bytearray(der[:at] + new + der[at + len(old) :])
    place, end = 0, at
    while place < end:  # every SEQUENCE around it
        tag, length, size = fixed[place], fixed[place + 1], 2
        if length & 0x80:
            size += length & 0x7F
            length = int.from_bytes(fixed[place + 2 : place + size], "big")
        if place + size <= at < place + size + length:
            written = length + grown
            if size == 2:
                fixed[place + 1] = written
            else:
                fixed[place + 2 : place + size] = written.to_bytes(size - 2, "big")
            place += size if tag == 0x30 else size + length
        else:
            place += size + length
    body = b64encode(bytes(fixed))
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + body + b"\n-----END ENCRYPTED PRIVATE KEY-----\n"


def _integer(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")
