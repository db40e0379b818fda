"""`redlatch export` from a real store, loaded by the real programs."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.export.proxies import PATH, Nginx
from tests.support.home import small_site

from redlatch.operations import devices, exporting
from redlatch.operations.site import Site
from redlatch.pki.certificates import fingerprint, load_certificates


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = small_site(tmp_path)
    made.settings.published.mkdir()
    return made


def redlatch(site: Site, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redlatch", "--home", str(site.settings.home), *arguments],
        env=os.environ | {"PATH": PATH}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_what_is_revoked_is_gone_from_the_next_export(site: Site) -> None:
    """By SHA-1 for nginx, by SHA-256 for Caddy; a device in use is in both, with its name."""
    kept = devices.add(site, "Bart's phone", role="viewer")
    lost = devices.add(site, "Lisa's phone", role="viewer")
    first = redlatch(site, "export", "caddy")
    assert first.returncode == 0, first.stderr
    assert "Bart's phone" in first.stdout
    assert "Lisa's phone" in first.stdout
    assert fingerprint(kept.certificate) in first.stdout
    assert "a later change counts there only" in first.stderr
    devices.revoke(site, "Lisa's phone")
    for program in ("caddy", "nginx"):
        text = redlatch(site, "export", program).stdout
        assert "Bart's phone" in text
        assert "Lisa's phone" not in text
        assert fingerprint(lost.certificate) not in text
    assert text.count('"SUCCESS:') == 1


def test_a_file_is_written_at_once_and_keeps_its_rights(site: Site, tmp_path: Path) -> None:
    """New: 0640. There: as it was. A link or folder in its place is an error, and so is a missing folder."""
    file = tmp_path / "redlatch.conf"
    done = redlatch(site, "export", "nginx", "--out", str(file), "--json")
    assert json.loads(done.stdout) == {"file": str(file), "text": None}
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    file.chmod(0o600)
    file.write_text("old")
    assert redlatch(site, "export", "nginx", "--out", str(file)).returncode == 0
    assert file.read_text().startswith("# Written by: redlatch export nginx")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(file)
    for place in (tmp_path / "link", tmp_path, tmp_path / "missing" / "x"):
        failed = redlatch(site, "export", "nginx", "--out", str(place), "--json")
        assert json.loads(failed.stdout)["error"]["code"] == "file", failed


@pytest.mark.parametrize(
    "arguments",
    [
        ("--to", "https://127.0.0.1:1880"),
        ("--to", "http://127.0.0.1:1880; }"),
        ("--listen", "443 ssl; }"),
        ("--server-cert", "/etc/ssl/$host.pem"),
        ("--server-key", "/etc/ssl/a\n.pem"),
    ],
)
def test_odd_options_are_refused(site: Site, arguments: tuple[str, str]) -> None:
    """Nothing is printed, and the error says what would be right."""
    for program in ("nginx", "caddy"):
        done = redlatch(site, "export", program, *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert "hint: " in done.stderr


def test_the_device_ca_and_the_real_nginx(site: Site, tmp_path: Path) -> None:
    """`export device-ca` gives the certificate, no key, and nginx takes file and CA as they come."""
    ca = tmp_path / "device-ca.pem"
    assert redlatch(site, "export", "device-ca", "--out", str(ca)).returncode == 0
    assert len(load_certificates(ca.read_bytes())) == 1
    assert b"PRIVATE" not in ca.read_bytes()
    assert exporting.device_ca(site) == ca.read_bytes() == redlatch(site, "export", "device-ca").stdout.encode()
    devices.add(site, "laptop", role="admin")
    server, key = tmp_path / "server.pem", tmp_path / "server.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-keyout", key, "-out", server],
        check=True, capture_output=True,
    )  # fmt: skip
    options = ("--listen", "127.0.0.1:8443", "--server-cert", str(server), "--server-key", str(key))
    made = redlatch(
        site, "export", "nginx", *options, "--device-ca", str(ca), "--out", str(tmp_path / "export.conf")
    )
    assert made.returncode == 0, made.stderr
    nginx = Nginx(tmp_path)
    nginx.wrap()
    assert nginx.check().returncode == 0, nginx.check().stderr
