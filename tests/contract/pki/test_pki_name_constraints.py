"""Whoever steals the server CA's key: what each verifier refuses of the certificates made with it.

Enforced by OpenSSL, cryptography, NSS and Chromium (test_pki_chromium.py): DNS names, IP addresses, e-mail
addresses and URIs; by OpenSSL and NSS also a host in the CN of a certificate without names. Enforced by none,
because the root leaves them free: directory names and otherNames, from which no TLS client takes a host
(`test_what_stays_free`).
"""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from tests.contract.pki.conftest import Made, Pair
from tests.contract.pki.forged import FINE, FREE, GOOD, STOLEN, forge

from redlatch.pki import profiles
from redlatch.pki.certificates import certificate_pem


def openssl_accepts(made: Made, pair: Pair) -> bool:
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", made.server_ca_file]
    done = subprocess.run([*command, pair.cert_file], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or "permitted subtree violation" in done.stderr, done.stderr
    return done.returncode == 0


def cryptography_accepts(made: Made, pair: Pair) -> bool:
    policy = PolicyBuilder().store(Store([made.server_ca.certificate])).time(made.now)
    names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    first = names[0]
    assert isinstance(first, x509.DNSName)
    try:
        policy.build_server_verifier(first).verify(pair.certificate, [])
    except VerificationError:
        return False
    return True


def nss_accepts(made: Made, pair: Pair, folder: Path) -> bool:
    database = f"sql:{folder}"
    for arguments in (
        ["-N", "--empty-password"],
        ["-A", "-n", "ca", "-t", "C,,", "-i", made.server_ca_file],
        ["-A", "-n", "leaf", "-t", ",,", "-i", pair.cert_file],
    ):
        subprocess.run(["certutil", "-d", database, *arguments], check=True, capture_output=True)
    command = ["certutil", "-d", database, "-V", "-u", "V", "-n", "leaf"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    # Debian 13's NSS gives no better reason for a chain that the constraints break; the accepted cases, under the
    # same root, hold it apart from a root that is not known.
    reasons = ("not permitted to issue a certificate with this name", "issuer is not recognized")
    assert "certificate is valid" in said or any(reason in said for reason in reasons), said
    return "certificate is valid" in said


def everybody(made: Made, pair: Pair, folder: Path) -> dict[str, bool]:
    return {
        "openssl": openssl_accepts(made, pair),
        "cryptography": cryptography_accepts(made, pair),
        "nss": nss_accepts(made, pair, folder),
    }


@pytest.mark.parametrize("what", FINE)
def test_private_names_are_accepted(made: Made, tmp_path: Path, what: str) -> None:
    """What the constraints permit, every verifier accepts."""
    assert everybody(made, forge(made, tmp_path, FINE[what]), tmp_path) == dict.fromkeys(
        ("openssl", "cryptography", "nss"), True
    )


@pytest.mark.parametrize("what", STOLEN)
def test_stolen_ca_key_can_name_nothing_else(made: Made, tmp_path: Path, what: str) -> None:
    """A certificate for anything else is refused by every verifier although the root is trusted."""
    assert everybody(made, forge(made, tmp_path, STOLEN[what]), tmp_path) == dict.fromkeys(
        ("openssl", "cryptography", "nss"), False
    )


def test_host_in_the_common_name_is_refused(made: Made, tmp_path: Path) -> None:
    """Where an old client still takes the host from the CN, OpenSSL and NSS hold it to the constraints too."""
    pair = forge(made, tmp_path, [], common_name="bank.example")
    assert not openssl_accepts(made, pair)
    assert not nss_accepts(made, pair, tmp_path)


@pytest.mark.parametrize("what", FREE)
def test_what_stays_free(made: Made, tmp_path: Path, what: str) -> None:
    """Directory names and otherNames are not restricted: a verifier that begins to is worth knowing of."""
    assert everybody(made, forge(made, tmp_path, FREE[what]), tmp_path) == dict.fromkeys(
        ("openssl", "cryptography", "nss"), True
    )


def test_stolen_ca_key_cannot_make_another_ca(made: Made, tmp_path: Path) -> None:
    """Path length 0: a CA below the root, and what it names, is refused."""
    ca = made.server_ca
    below = made.servers["p256"]
    assert ca.key is not None
    middle = (
        x509.CertificateBuilder()
        .issuer_name(ca.certificate.subject)
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "middle")]))
        .public_key(below.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.now)
        .not_valid_after(made.now + timedelta(days=30))
        .add_extension(profiles.CA_BASIC_CONSTRAINTS, critical=True)
        .add_extension(profiles.CA_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(below.key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.certificate.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
        .sign(ca.key, SHA256())
    )
    (tmp_path / "middle.pem").write_bytes(certificate_pem(middle))
    leaf = (
        x509.CertificateBuilder()
        .issuer_name(middle.subject)
        .subject_name(x509.Name([]))
        .public_key(below.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.now)
        .not_valid_after(made.now + timedelta(days=30))
        .add_extension(profiles.LEAF_BASIC_CONSTRAINTS, critical=True)
        .add_extension(x509.SubjectAlternativeName([GOOD]), critical=True)
        .add_extension(profiles.SERVER_EXTENDED_KEY_USAGE, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(below.key.public_key()), critical=False)
        .sign(below.key, SHA256())
    )
    (tmp_path / "leaf.pem").write_bytes(certificate_pem(leaf))
    command = ["openssl", "verify", "-CAfile", made.server_ca_file, "-untrusted", tmp_path / "middle.pem"]
    done = subprocess.run([*command, tmp_path / "leaf.pem"], capture_output=True, text=True, check=False)
    assert "path length constraint exceeded" in done.stderr
    verifier = PolicyBuilder().store(Store([ca.certificate])).time(made.now)
    with pytest.raises(VerificationError):
        verifier.build_server_verifier(x509.DNSName("pi.local")).verify(leaf, [middle])
