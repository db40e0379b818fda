"""Chromium with the server CA in its certificate store."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from playwright.sync_api import Browser, Error, sync_playwright
from tests.contract.pki.conftest import Made, Pair
from tests.contract.pki.forged import FINE, FREE, STOLEN, forge
from tests.contract.pki.servers import process_server


@pytest.fixture(scope="module")
def chromium(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    for arguments in (["-N", "--empty-password"], ["-A", "-n", "ca", "-t", "C,,", "-i", made.server_ca_file]):
        subprocess.run(["certutil", "-d", f"sql:{store}", *arguments], check=True, capture_output=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * 127.0.0.1"],
            env={**os.environ, "HOME": str(home)},
        )
        yield browser
        browser.close()


def opens(browser: Browser, pair: Pair, host: str) -> str:
    """Serve the pair and return what Chromium says to it: "ok" or the name of its error."""
    command = [
        "openssl",
        "s_server",
        "-accept",
        "127.0.0.1:0",
        "-cert",
        pair.cert_file,
        "-key",
        pair.key_file,
        "-www",
    ]
    with process_server(command) as port:
        page = browser.new_page()
        try:
            answer = page.goto(f"https://{host}:{port}/", timeout=20_000)
        except Error as error:
            return error.message.split("net::")[-1].split(" ")[0]
        finally:
            page.close()
    return "ok" if answer is not None and answer.ok else "no answer"


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_chromium_opens_the_server_by_each_name(made: Made, chromium: Browser, kind: str) -> None:
    """With the root installed, Chromium opens host names, the single-label one and addresses without a warning."""
    for host in ("pi.local", "pi", "nodered.example.org", "127.0.0.1"):
        assert opens(chromium, made.servers[kind], host) == "ok", host
    assert opens(chromium, made.servers[kind], "other.local") == "ERR_CERT_COMMON_NAME_INVALID"
    assert opens(chromium, made.devices[kind], "pi.local").startswith("ERR_")


@pytest.mark.parametrize("what", [*FINE, *FREE])
def test_chromium_accepts_what_the_constraints_permit(
    made: Made, chromium: Browser, tmp_path: Path, what: str
) -> None:
    """Permitted names and the forms that the root leaves free do not disturb Chromium."""
    assert opens(chromium, forge(made, tmp_path, (FINE | FREE)[what]), "pi.local") == "ok"


@pytest.mark.parametrize("what", STOLEN)
def test_chromium_refuses_what_a_stolen_ca_key_makes(
    made: Made, chromium: Browser, tmp_path: Path, what: str
) -> None:
    """A name outside the constraints spoils the certificate although the root is trusted."""
    pair = forge(made, tmp_path, STOLEN[what])
    first = STOLEN[what][0]
    assert isinstance(first, x509.DNSName)
    assert opens(chromium, pair, first.value) == "ERR_CERT_INVALID"
