"""What other tools make of the files: OpenSSL and Node.js of keys and requests, OpenSSL and NSS of PKCS#12."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tests.contract.pki.conftest import Made
from tests.support.nodered import node

from redlatch.errors import InvalidInput
from redlatch.pki.bundles import generate_password, pkcs12
from redlatch.pki.certificates import fingerprint
from redlatch.pki.csr import public_key_from_csr
from redlatch.pki.keys import load_private_key, private_key_pem

KINDS = ["p256", "rsa2048"]
NODE_KEY = """
const { createPrivateKey, createPublicKey } = require("crypto");
const key = createPrivateKey({ key: require("fs").readFileSync(process.argv[1]), passphrase: process.argv[2] });
process.stdout.write(createPublicKey(key).export({ type: "spki", format: "pem" }));
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_encrypted_key_opens_in_openssl_and_node(made: Made, tmp_path: Path, kind: str) -> None:
    """scrypt with N = 16384 stays under the memory both allow; a wrong passphrase opens it in neither."""
    key = made.devices[kind].key
    file = tmp_path / "key.pem"
    file.write_bytes(private_key_pem(key, b"correct horse"))
    for command in (
        ["openssl", "pkey", "-in", file, "-pubout", "-passin", "pass:{}"],
        [node("4.1"), "-e", NODE_KEY, file, "{}"],
        [node("5.0"), "-e", NODE_KEY, file, "{}"],
    ):
        opened, refused = (
            run(*(str(part).replace("{}", passphrase) for part in command))
            for passphrase in ("correct horse", "wrong")
        )
        assert load_pem_public_key(opened.stdout) == key.public_key(), opened.stderr
        assert refused.returncode != 0


@pytest.mark.parametrize("kind", KINDS)
def test_key_encrypted_by_openssl_opens_here(made: Made, tmp_path: Path, kind: str) -> None:
    """`openssl pkcs8 -topk8` with scrypt and with PBKDF2 writes what load_private_key reads."""
    pair = made.devices[kind]
    for way in (["-scrypt"], ["-v2", "aes-256-cbc"]):
        out = tmp_path / "out.pem"
        done = run("openssl", "pkcs8", "-topk8", *way, "-in", pair.key_file, "-out", out, "-passout", "pass:x")
        assert done.returncode == 0, done.stderr
        assert load_private_key(out.read_bytes(), b"x").public_key() == pair.key.public_key()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modern", [False, True])
def test_pkcs12_opens_in_openssl(made: Made, tmp_path: Path, kind: str, modern: bool) -> None:
    """`openssl pkcs12` reads both forms, the compatible one in legacy mode as well, under the password alone."""
    pair, password = made.devices[kind], generate_password()
    file = tmp_path / "device.p12"
    file.write_bytes(
        pkcs12(pair.key, pair.certificate, [made.server_ca.certificate], "Bart's phone", password, modern=modern)
    )
    for mode in ([], ["-legacy"]):
        read = run("openssl", "pkcs12", "-in", file, "-nodes", "-info", "-passin", f"pass:{password}", *mode)
        assert read.returncode == 0, read.stderr
        assert load_private_key(read.stdout).public_key() == pair.key.public_key()
        assert read.stdout.count(b"BEGIN CERTIFICATE") == 2
        assert b"friendlyName: Bart's phone" in read.stdout
        assert (b"pbeWithSHA1And3-KeyTripleDES-CBC" in read.stderr) is not modern
        assert (b"AES-256-CBC" in read.stderr) is modern
        assert run("openssl", "pkcs12", "-in", file, "-nodes", "-passin", "pass:wrong", *mode).returncode != 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("name", ["Bart's phone", "Büro / Küche", "📱"])
def test_pkcs12_imports_into_nss(made: Made, tmp_path: Path, kind: str, modern: bool, name: str) -> None:
    """The store of Firefox and Chromium takes certificate, key and name, and not with a wrong password."""
    pair, password = made.devices[kind], generate_password()
    file, database = tmp_path / "device.p12", f"sql:{tmp_path}"
    file.write_bytes(
        pkcs12(pair.key, pair.certificate, [made.server_ca.certificate], name, password, modern=modern)
    )
    assert run("certutil", "-d", database, "-N", "--empty-password").returncode == 0
    assert run("pk12util", "-d", database, "-i", file, "-W", "wrong").returncode != 0
    imported = run("pk12util", "-d", database, "-i", file, "-W", password)
    assert imported.returncode == 0, imported.stderr
    keys = run("certutil", "-d", database, "-K").stdout.decode()
    assert keys.count("< 0>") == 1
    label = "redlatch device" if name == "📱" else name
    assert label in keys
    shown = run("certutil", "-d", database, "-L", "-n", label, "-a").stdout
    from cryptography.x509 import load_pem_x509_certificate

    assert fingerprint(load_pem_x509_certificate(shown)) == fingerprint(pair.certificate)


@pytest.mark.parametrize(
    "new_key",
    [
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
        ["-newkey", "rsa:2048"],
        ["-newkey", "rsa:4096"],
    ],
)
def test_request_made_by_openssl_is_taken(tmp_path: Path, new_key: list[str]) -> None:
    """`openssl req -new` as PEM or DER yields its key."""
    for form in ("PEM", "DER"):
        out, key = tmp_path / "device.csr", tmp_path / "key.pem"
        done = run(
            "openssl", "req", "-new", *new_key, "-nodes", "-keyout", key, "-out", out, "-outform", form,
            "-subj", "/CN=device", "-addext", "subjectAltName=DNS:x.local",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert public_key_from_csr(out.read_bytes()) == load_private_key(key.read_bytes()).public_key()


@pytest.mark.parametrize(
    "wrong",
    [
        ["-newkey", "rsa:1024"],
        ["-newkey", "ed25519"],
        ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp521r1"],
        ["-newkey", "rsa:2048", "-addext", "basicConstraints=CA:TRUE"],
        ["-newkey", "rsa:2048", "-addext", "keyUsage=keyCertSign"],
    ],
)
def test_bad_request_made_by_openssl_is_refused(tmp_path: Path, wrong: list[str]) -> None:
    """RSA-1024, Ed25519, P-521, CA:TRUE and keyCertSign are refused as OpenSSL writes them."""
    out = tmp_path / "device.csr"
    done = run(
        "openssl", "req", "-new", *wrong, "-nodes", "-keyout", tmp_path / "k", "-out", out, "-subj", "/CN=x"
    )
    assert done.returncode == 0, done.stderr
    with pytest.raises(InvalidInput):
        public_key_from_csr(out.read_bytes())
