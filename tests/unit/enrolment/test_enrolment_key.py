"""What key.js makes, under every Node.js that the tests have, is what OpenSSL, NSS and `cryptography` read."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from tests.support.nodered import VERSIONS, node

from redlatch.pki.authority import Authority
from redlatch.pki.csr import public_key_from_csr

HERE = Path(__file__).parent
KEY_JS = HERE.parents[2] / "src/redlatch/service/enrolment/static/key.js"
NOW = datetime.now(UTC)
NODES = [str(node(version)) for version in VERSIONS]


def run(*command: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=60, check=False)


class Page:
    """key.js in a Node.js of its own, asked as a page would ask it."""

    def __init__(self, program: str) -> None:
        self._process = subprocess.Popen(
            [program, str(HERE / "page.js"), str(KEY_JS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture(params=NODES)
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    opened = Page(request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def device_ca() -> Authority:
    return Authority.create_device("pi", now=NOW)


@pytest.fixture(scope="module")
def server_ca() -> Authority:
    return Authority.create_server("pi", ["pi"], now=NOW)


@pytest.mark.parametrize("program", [*NODES, *filter(None, [shutil.which("node")])])
@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.test.js")))
def test_its_own_tests(program: str, file: str) -> None:
    """All tests of the file pass."""
    done = subprocess.run(
        [program, "--test", "--test-reporter=tap", str(HERE / file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PATH": os.defpath},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# tests 0" not in done.stdout


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_request_verifies(page: Page, tmp_path: Path, kind: str) -> None:
    """OpenSSL and redlatch take the request; with one bit of its signature turned neither does."""
    for _ in range(8):  # r and s begin with a zero or with a set bit once in a while
        csr = base64.b64decode(page.ask(make=kind)["csr"])
        file = tmp_path / "x.csr"
        file.write_bytes(csr)
        verified = run("openssl", "req", "-inform", "DER", "-in", file, "-verify", "-noout")
        assert b"verify OK" in verified.stderr + verified.stdout
        assert isinstance(public_key_from_csr(csr), ec.EllipticCurvePublicKey) is (kind == "p256")
    file.write_bytes(csr[:-1] + bytes([csr[-1] ^ 1]))
    assert b"verify OK" not in run("openssl", "req", "-inform", "DER", "-in", file, "-verify", "-noout").stderr


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize(
    "name",
    ["Bart's phone", "Büro / Küche 📱", "<script>alert(1)</script>", "\x1b[31m\u202e\nx\x00", "\ud800 lone"],
)
def test_p12_opens(
    page: Page, tmp_path: Path, device_ca: Authority, server_ca: Authority, kind: str, root: bool, name: str
) -> None:
    """OpenSSL, NSS and `cryptography` open the file with its password alone, whatever the device is called."""
    csr = base64.b64decode(page.ask(make=kind)["csr"])
    public = public_key_from_csr(csr)
    cert = device_ca.issue_device(public, device_id=str(uuid4()), name="x", site_host="pi.local", now=NOW)
    trusted = [server_ca.certificate] if root else []
    made = page.ask(
        name=name,
        certificate=base64.b64encode(cert.public_bytes(Encoding.DER)).decode(),
        trusted=[base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in trusted],
    )
    file, secret = tmp_path / "x.p12", made["secret"]
    file.write_bytes(base64.b64decode(made["p12"]))

    opened = load_pkcs12(file.read_bytes(), secret.encode())
    assert opened.key is not None
    assert opened.cert is not None
    assert opened.cert.certificate == cert
    assert opened.key.public_key() == public
    assert [one.certificate for one in opened.additional_certs] == trusted
    shown = (opened.cert.friendly_name or b"").decode()
    assert shown
    assert shown.isprintable()

    read = run("openssl", "pkcs12", "-in", file, "-nodes", "-info", "-passin", f"pass:{secret}")
    assert read.returncode == 0, read.stderr
    assert b"MAC: sha256, Iteration 2048" in read.stderr
    assert read.stderr.count(b"AES-256-CBC, Iteration 20000, PRF hmacWithSHA256") == 2
    assert read.stdout.count(b"BEGIN CERTIFICATE") == 1 + len(trusted)
    assert run("openssl", "pkcs12", "-in", file, "-nodes", "-passin", "pass:wrong").returncode != 0

    database = f"sql:{tmp_path}"
    assert run("certutil", "-d", database, "-N", "--empty-password").returncode == 0
    assert run("pk12util", "-d", database, "-i", file, "-W", "wrong").returncode != 0
    imported = run("pk12util", "-d", database, "-i", file, "-W", secret)
    assert imported.returncode == 0, imported.stderr
    assert run("certutil", "-d", database, "-K").stdout.count(b"< 0>") == 1


def test_the_request_says_nothing_of_the_key(page: Page, device_ca: Authority) -> None:
    """Nothing of the private number is in what leaves the page; C and PEM hold the key that the file holds."""
    csr = base64.b64decode(page.ask(make="p256")["csr"])
    cert = device_ca.issue_device(
        public_key_from_csr(csr), device_id=str(uuid4()), name="x", site_host="pi.local", now=NOW
    )
    made = page.ask(name="x", trusted=[], certificate=base64.b64encode(cert.public_bytes(Encoding.DER)).decode())
    opened = load_pkcs12(base64.b64decode(made["p12"]), made["secret"].encode())
    assert isinstance(opened.key, ec.EllipticCurvePrivateKey)
    number = opened.key.private_numbers().private_value.to_bytes(32, "big")
    assert number in base64.b64decode(made["key"])
    assert not any(number[at : at + 8] in csr for at in range(25))
    body = "".join(line.strip()[1:-3] for line in made["header"].splitlines() if line.startswith('  "'))
    der = opened.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert base64.b64encode(der).decode() in body
