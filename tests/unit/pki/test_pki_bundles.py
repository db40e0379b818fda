from __future__ import annotations

import math
import re
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from redlatch.errors import InvalidInput
from redlatch.pki.authority import Authority
from redlatch.pki.bundles import generate_password, pem_files, pkcs12
from redlatch.pki.certificates import load_certificates
from redlatch.pki.keys import Key, generate_key, load_private_key

DEVICE = "0b7a1d4e-6f3c-4d36-9a57-2b1f3a1c9e10"


@pytest.fixture
def cert(device_ca: Authority, key: Key, now: datetime) -> x509.Certificate:
    return device_ca.issue_device(
        key.public_key(), device_id=DEVICE, name="Bart's phone", site_host="pi.local", now=now
    )


def test_password_carries_the_strength_of_the_file() -> None:
    """Three groups of five letters out of 24: over 60 bits, ASCII, without l and o."""
    made = [generate_password() for _ in range(200)]
    assert len(set(made)) == 200
    assert all(re.fullmatch(r"[a-km-np-z]{5}-[a-km-np-z]{5}-[a-km-np-z]{5}", password) for password in made)
    letters = set("".join(made)) - {"-"}
    assert len(letters) == 24
    assert 15 * math.log2(len(letters)) > 60


@pytest.mark.parametrize("modern", [False, True])
def test_pkcs12_comes_back(server_ca: Authority, key: Key, cert: x509.Certificate, modern: bool) -> None:
    """The file holds key, certificate, the CA given and the friendly name, under the password alone."""
    data = pkcs12(key, cert, [server_ca.certificate], "Bart's phone", "hqmzt-wcjnb-ykrpe", modern=modern)
    read = load_pkcs12(data, b"hqmzt-wcjnb-ykrpe")
    assert read.key is not None
    assert read.key.private_numbers() == key.private_numbers()  # type: ignore[union-attr]
    assert read.cert is not None
    assert (read.cert.certificate, read.cert.friendly_name) == (cert, b"Bart's phone")
    assert [extra.certificate for extra in read.additional_certs] == [server_ca.certificate]
    with pytest.raises(ValueError, match="assword"):
        load_pkcs12(data, b"wrong")


def test_algorithms_are_what_the_device_can_read(key: Key, cert: x509.Certificate) -> None:
    """Compatible means 3DES and SHA-1 throughout, modern AES-256 and SHA-256 throughout."""
    triple_des, aes256 = bytes.fromhex("2a864886f70d010c0103"), bytes.fromhex("60864801650304012a")
    sha1_mac, sha256_mac = bytes.fromhex("300906052b0e03021a0500"), bytes.fromhex("300d06096086480165030402010500")
    compatible = pkcs12(key, cert, [], "x", "secret")
    modern = pkcs12(key, cert, [], "x", "secret", modern=True)
    assert triple_des in compatible
    assert sha1_mac in compatible
    assert aes256 not in compatible
    assert aes256 in modern
    assert sha256_mac in modern
    assert triple_des not in modern


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Bart's phone 📱", "Bart's phone"),
        ("❤️ tablet ☎", "tablet"),
        ("👩‍👩‍👧", "redlatch device"),
        ("Büro", "Büro"),
        ("日本語", "日本語"),
        ("1️⃣ phone", "1 phone"),
        ("टैबलेट", "टैबलेट"),
        ("<b> + $", "<b> + $"),
    ],
)
def test_friendly_name_has_no_emoji(key: Key, cert: x509.Certificate, name: str, expected: str) -> None:
    """A friendlyName is a BMPString: emoji and what is beyond the BMP are left out, and something remains."""
    read = load_pkcs12(pkcs12(key, cert, [], name, "secret"), b"secret")
    assert read.cert is not None
    assert read.cert.friendly_name == expected.encode()


def test_weak_password_and_foreign_key_are_refused(key: Key, cert: x509.Certificate) -> None:
    """Empty and non-ASCII passwords fail on phones; a key that does not match crashed pyca once."""
    for password in ("", "Paßwort"):
        with pytest.raises(InvalidInput, match="ASCII"):
            pkcs12(key, cert, [], "x", password)
    with pytest.raises(InvalidInput, match="belong together"):
        pkcs12(generate_key(), cert, [], "x", "secret")


def test_pem_files(server_ca: Authority, key: Key, cert: x509.Certificate) -> None:
    """A script gets key.pem, cert.pem and server-ca.pem; what is not there gets no file."""
    files = pem_files(key, cert, [server_ca.certificate])
    assert set(files) == {"key.pem", "cert.pem", "server-ca.pem"}
    assert load_private_key(files["key.pem"]).public_key() == cert.public_key()
    assert load_certificates(files["cert.pem"]) == [cert]
    assert load_certificates(files["server-ca.pem"]) == [server_ca.certificate]
    assert set(pem_files(None, cert, ())) == {"cert.pem"}
