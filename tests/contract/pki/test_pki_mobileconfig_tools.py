"""OpenSSL verifies the signature of Apple's profiles, and everything in them opens with OpenSSL and NSS."""

from __future__ import annotations

import plistlib
import subprocess
from pathlib import Path

import pytest
from tests.contract.pki.conftest import Made

from redlatch.pki.bundles import generate_password, pkcs12
from redlatch.pki.certificates import ServerPair
from redlatch.pki.mobileconfig import identity_profile, root_profile

SITE = "3b0a4c2e-0c4d-4f38-8d6b-7a1f0f1f5a11"
DEVICE = "0b7a1d4e-6f3c-4d36-9a57-2b1f3a1c9e10"


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=60, check=False)


def verified(made: Made, profile: Path) -> subprocess.CompletedProcess[bytes]:
    # Apple does not ask for an e-mail certificate, which is OpenSSL's default purpose here
    return run(
        "openssl", "cms", "-verify", "-inform", "DER", "-in", profile, "-CAfile", made.server_ca_file,
        "-purpose", "any", "-binary",
    )  # fmt: skip


@pytest.mark.parametrize("server", ["p256", "rsa2048"])
@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_signed_profile(made: Made, tmp_path: Path, server: str, kind: str) -> None:
    """`openssl cms -verify` passes with the site's root, not with one byte changed. NSS opens the identity."""
    pair, password = made.devices[kind], generate_password()
    signer = ServerPair(made.servers[server].key, made.servers[server].certificate)
    p12 = pkcs12(pair.key, pair.certificate, [], "📱 <b>Küche</b>", password)
    signed = identity_profile(
        p12=p12, password=password, certificate=pair.certificate, device_id=DEVICE, device="📱 <b>Küche</b>",
        site_id=SITE, site="pi.local", server_cas=[made.server_ca.certificate], signer=signer,
    )  # fmt: skip
    file = tmp_path / "x.mobileconfig"
    file.write_bytes(signed)
    done = verified(made, file)
    assert done.returncode == 0, done.stderr
    identity, root = plistlib.loads(done.stdout)["PayloadContent"]
    file.write_bytes(signed.replace(b"Lets", b"Gets", 1))
    assert verified(made, file).returncode != 0

    inside, ca = tmp_path / "x.p12", tmp_path / "ca.der"
    inside.write_bytes(identity["PayloadContent"])
    ca.write_bytes(root["PayloadContent"])
    assert run("openssl", "x509", "-inform", "DER", "-in", ca, "-noout").returncode == 0
    opened = run(
        "openssl", "pkcs12", "-in", inside, "-nodes", "-passin", f"pass:{identity['Password']}", "-legacy"
    )
    assert opened.returncode == 0, opened.stderr
    database = f"sql:{tmp_path}"
    assert run("certutil", "-d", database, "-N", "--empty-password").returncode == 0
    imported = run("pk12util", "-d", database, "-i", inside, "-W", identity["Password"])
    assert imported.returncode == 0, imported.stderr


def test_signed_root(made: Made, tmp_path: Path) -> None:
    """The root alone, signed likewise."""
    signer = ServerPair(made.servers["p256"].key, made.servers["p256"].certificate)
    file = tmp_path / "root.mobileconfig"
    file.write_bytes(
        root_profile(server_cas=[made.server_ca.certificate], site_id=SITE, site="pi.local", signer=signer)
    )
    done = verified(made, file)
    assert done.returncode == 0, done.stderr
    assert len(plistlib.loads(done.stdout)["PayloadContent"]) == 1
