from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput
from redlatch.pki.csr import public_key_from_csr
from redlatch.pki.keys import Key, generate_key, private_key_pem

KEY = generate_key("p256")


def request_of(
    key: object = KEY, *extensions: x509.ExtensionType, name: str = "anything", encoding: Encoding = Encoding.PEM
) -> bytes:
    builder = x509.CertificateSigningRequestBuilder(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else [])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    digest = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return builder.sign(key, digest).public_bytes(encoding)  # type: ignore[arg-type]


DER = request_of(encoding=Encoding.DER)


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_public_key_is_taken(key: Key, encoding: Encoding) -> None:
    """A request in PEM or DER yields its key, with a subject or without."""
    assert public_key_from_csr(request_of(key, encoding=encoding)) == key.public_key()
    assert public_key_from_csr(request_of(key, name="", encoding=encoding)) == key.public_key()


def test_openssl_style_text_before_the_request_is_fine() -> None:
    """`openssl req -text` prints the request in words before the PEM block."""
    assert public_key_from_csr(b"Certificate Request:\n    Data:\n" + request_of()) == KEY.public_key()


def test_other_wishes_are_ignored() -> None:
    """Names and usages asked for are claims: an EKU or SAN of the sender's is neither copied nor an error."""
    wishes = (
        x509.SubjectAlternativeName([x509.DNSName("bank.example")]),
        x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CODE_SIGNING]),
        x509.BasicConstraints(ca=False, path_length=None),
    )
    assert public_key_from_csr(request_of(KEY, *wishes)) == KEY.public_key()


def test_wish_to_be_an_authority_is_refused() -> None:
    """CA:TRUE and keyCertSign are an attack or a mistake; either is worth saying."""
    signer = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    for wish in (x509.BasicConstraints(ca=True, path_length=None), signer):
        with pytest.raises(InvalidInput, match="certificate authority"):
            public_key_from_csr(request_of(KEY, wish))


def test_bad_self_signature_is_refused() -> None:
    """A request whose sender does not hold the key is refused, in either encoding."""
    changed = DER.replace(b"anything", b"anyth1ng")
    with pytest.raises(InvalidInput, match="signature"):
        public_key_from_csr(changed)
    pem = x509.load_der_x509_csr(changed).public_bytes(Encoding.PEM)
    with pytest.raises(InvalidInput, match="signature"):
        public_key_from_csr(pem)


def test_odd_keys_are_refused() -> None:
    """RSA-1024, Ed25519, P-521 and secp256k1 are refused with what to use instead."""
    for key in (
        rsa.generate_private_key(65537, 1024),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
    ):
        with pytest.raises(InvalidInput, match="key") as refused:
            public_key_from_csr(request_of(key))
        assert refused.value.hint


@pytest.mark.parametrize("name", ["phone\u202egnp", "a\nb", "a\0b", "\x1b[2J"])
def test_hidden_characters_are_refused(name: str) -> None:
    """Control and bidirectional characters in subject or SAN mark a request as hostile."""
    with pytest.raises(InvalidInput, match="U\\+"):
        public_key_from_csr(request_of(name=name))
    directory = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    with pytest.raises(InvalidInput, match="U\\+"):
        public_key_from_csr(request_of(KEY, x509.SubjectAlternativeName([directory])))


def test_control_characters_in_a_dns_name_are_refused() -> None:
    """An embedded NUL or newline in a subjectAltName is refused although it would never be copied."""
    with pytest.raises(InvalidInput):
        public_key_from_csr(request_of(KEY, x509.SubjectAlternativeName([x509.DNSName("a\0.local")])))


def test_private_key_in_the_file_is_pointed_out() -> None:
    """Who hands the key in with the request learns that it should have stayed where it was."""
    with pytest.raises(InvalidInput, match="private key"):
        public_key_from_csr(private_key_pem(KEY, None) + request_of())


def test_garbage_is_refused() -> None:
    """Empty, truncated, oversized and other PEM files raise InvalidInput."""
    certificate = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    for data in (
        b"",
        b"garbage",
        DER[:-1],
        DER + b"\0",
        b"\x30\x80",
        certificate,
        b"x" * 20_000,
        request_of()[:-40],
    ):
        with pytest.raises(InvalidInput):
            public_key_from_csr(data)


def test_giant_request_is_refused() -> None:
    """A valid request is refused where it has more names than any device needs."""
    for count, fine in ((100, True), (2000, False)):
        names = x509.SubjectAlternativeName([x509.DNSName(f"host{number}.lan") for number in range(count)])
        data = request_of(KEY, names)
        if fine:
            assert public_key_from_csr(data) == KEY.public_key()
        else:
            with pytest.raises(InvalidInput, match="too large"):
                public_key_from_csr(data)


@given(st.binary(max_size=500))
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    """No bytes lead to anything but InvalidInput."""
    with pytest.raises(InvalidInput):
        public_key_from_csr(data)


@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(position: int, flip: int) -> None:
    """The self-signature covers the whole request; a change of any byte is noticed, and never a crash."""
    changed = bytearray(DER)
    changed[position] ^= flip
    try:
        key = public_key_from_csr(bytes(changed))
    except InvalidInput:
        return
    # An ECDSA signature's own encoding is not signed; the key must still be the one that signed.
    assert key == KEY.public_key()
