"""Judges from outside: OpenSSL in its strictest mode, pkilint, cryptography's verifier, NSS."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from tests.contract.pki.conftest import Made

from redlatch.pki.certificates import certificate_pem

KINDS = ["p256", "rsa2048"]


def openssl_verify(ca_file: str, purpose: str, file: str, *more: str) -> subprocess.CompletedProcess[str]:
    command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", ca_file, *more, file]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_accepts_the_server_for_its_names_alone(made: Made, kind: str) -> None:
    """-x509_strict accepts the server's certificate as a server, for its hosts and addresses and no other."""
    ca, file = made.server_ca_file, made.servers[kind].cert_file
    for more in (["-verify_hostname", "pi.local"], ["-verify_hostname", "pi"], ["-verify_ip", "192.168.1.4"]):
        assert openssl_verify(ca, "sslserver", file, *more).returncode == 0, more
    for more in (["-verify_hostname", "pi.lan"], ["-verify_ip", "192.168.1.5"]):
        assert openssl_verify(ca, "sslserver", file, *more).returncode != 0, more
    assert openssl_verify(ca, "sslclient", file).returncode != 0
    assert openssl_verify(made.device_ca_file, "sslserver", file).returncode != 0


@pytest.mark.parametrize("kind", KINDS)
def test_openssl_accepts_the_device_as_a_client_alone(made: Made, kind: str) -> None:
    """-x509_strict accepts a device as a client of the device CA, and in no other part."""
    file = made.devices[kind].cert_file
    assert openssl_verify(made.device_ca_file, "sslclient", file).returncode == 0
    assert openssl_verify(made.device_ca_file, "sslserver", file).returncode != 0
    assert openssl_verify(made.server_ca_file, "sslclient", file).returncode != 0
    assert openssl_verify(made.device_ca_file, "sslclient", made.strangers[kind].cert_file).returncode != 0
    later = str(int((made.now + timedelta(days=366)).timestamp()))
    assert openssl_verify(made.device_ca_file, "sslclient", file, "-attime", later).returncode != 0


def test_openssl_accepts_both_cas(made: Made) -> None:
    """Each CA verifies as a CRL signer and CA under itself."""
    for file in (made.server_ca_file, made.device_ca_file):
        for purpose in ("crlsign", "any"):
            assert openssl_verify(file, purpose, file).returncode == 0


def pkilint(file: str) -> list[tuple[str, str]]:
    program = Path(sys.executable).parent / "lint_pkix_cert"
    done = subprocess.run(
        [program, "lint", "-s", "WARNING", "-f", "JSON", file], capture_output=True, text=True, check=False
    )
    return [
        (finding["code"], finding.get("message") or "")
        for result in json.loads(done.stdout)["results"]
        for finding in result["finding_descriptions"]
    ]


def is_single_label(finding: tuple[str, str]) -> bool:
    """pkilint asks for two labels, which `pi`, `local` and `localhost` do not have."""
    code, message = finding
    return code == "pkix.invalid_domain_name_syntax" and "." not in message.rpartition(": ")[2]


@pytest.mark.parametrize("kind", KINDS)
def test_pkilint_finds_nothing(made: Made, kind: str) -> None:
    """RFC 5280 as pkilint reads it: no warning but that host names of one label are host names."""
    files = [made.server_ca_file, made.device_ca_file, made.servers[kind].cert_file, made.devices[kind].cert_file]
    findings = {file: [f for f in pkilint(file) if not is_single_label(f)] for file in files}
    assert findings == {file: [] for file in files}


def test_pkilint_finds_what_is_wrong(made: Made, tmp_path: Path) -> None:
    """The judge works: a serial of zero and a missing identifier are found."""
    key = made.device_ca.key
    assert key is not None
    from cryptography.hazmat.primitives.hashes import SHA256

    bad = (
        x509.CertificateBuilder()
        .issuer_name(made.device_ca.certificate.subject)
        .subject_name(made.device_ca.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(made.now)
        .not_valid_after(made.now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=False)
        .sign(key, SHA256())
    )
    (tmp_path / "bad.pem").write_bytes(certificate_pem(bad))
    assert pkilint(str(tmp_path / "bad.pem"))


@pytest.mark.parametrize("kind", KINDS)
def test_cryptography_accepts_the_server_for_its_names_alone(made: Made, kind: str) -> None:
    """The verifier of cryptography (WebPKI rules) accepts the server for its own host name."""
    policy = PolicyBuilder().store(Store([made.server_ca.certificate])).time(made.now)
    leaf = made.servers[kind].certificate
    assert policy.build_server_verifier(x509.DNSName("pi.local")).verify(leaf, [])
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("pi.lan")).verify(leaf, [])
    with pytest.raises(VerificationError):
        policy.build_client_verifier().verify(leaf, [])


@pytest.mark.parametrize("kind", KINDS)
def test_cryptography_accepts_the_device_as_a_client(made: Made, kind: str) -> None:
    """Its client verifier accepts a device, reads the URI as its name, and refuses a stranger's."""
    verifier = PolicyBuilder().store(Store([made.device_ca.certificate])).time(made.now).build_client_verifier()
    verified = verifier.verify(made.devices[kind].certificate, [])
    assert [str(name.value)[:24] for name in verified.subjects or []] == ["https://pi.local/device/"]
    with pytest.raises(VerificationError):
        verifier.verify(made.strangers[kind].certificate, [])
    late = PolicyBuilder().store(Store([made.device_ca.certificate])).time(made.now + timedelta(days=366))
    with pytest.raises(VerificationError):
        late.build_client_verifier().verify(made.devices[kind].certificate, [])
