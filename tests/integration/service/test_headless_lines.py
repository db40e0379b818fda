"""The lines that `device invite` prints, run by a shell as they stand, against a running service and Node-RED."""

from __future__ import annotations

import re
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.serving import Served

from redlatch.operations import links

#: What a microcontroller does with the header, but for printing it.
SKETCH = """#include <stdio.h>
#include "{header}"
int main(void) {{ return printf("%s%s%s", server_ca, client_cert, client_key) < 0; }}
"""
ANOTHER_PIN = "sha256//" + "A" * 43 + "="


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as found:
        yield found


@dataclass(frozen=True)
class Printed:
    """What an owner who sits at the terminal copies: the link, the pin, the lines for a shell."""

    number: int
    url: str
    pin: str
    lines: str


def printed(served: Served, name: str) -> Printed:
    """An invitation for an admin, whom a page could not serve here, as it is printed."""
    done = served.run("device", "invite", name, "--role", "admin", "--pinned")
    assert done.returncode == 0, done.stderr
    served.enrolment_is("open")
    text = done.stdout
    url, pin = re.findall(r"https://\S+/#[a-z2-7]{26}", text)[0], re.findall(r"sha256//\S{44}", text)[0]
    assert f"redlatch enroll - --pin {pin}" in text
    block = text.split("or without redlatch:\n")[1].split("\n\n")[0]
    lines = "\n".join(line.removeprefix("  ") for line in block.splitlines())
    number = int(re.findall(r"redlatch device withdraw (\d+)", text)[0])
    return Printed(number, url, pin, lines)


def shell(lines: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs lines as a person pastes them into a shell."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", lines],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def enroll(served: Served, folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`redlatch enroll` on another computer: without the site's home."""
    environ = {name: value for name, value in served.environ.items() if name != "REDLATCH_HOME"}
    return subprocess.run(
        [sys.executable, "-m", "redlatch", "enroll", "-", *arguments],
        cwd=folder, env=environ | {"HOME": str(folder)}, input=f"{url}\n",
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def opens_node_red(served: Served, folder: Path) -> bool:
    """Whether cert.pem and key.pem are let in, by a client that trusts the site's root and checks the name."""
    context = ssl.create_default_context(cafile=served.root_file)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    with urllib.request.urlopen(f"https://localhost:{served.port}/flows", context=context, timeout=20) as answer:
        return bool(answer.status == 200)


def state(served: Served, number: int) -> str:
    (found,) = [one for one in links.list_links(served.site) if one.id == number]
    return links.state(found, served.site.clock())


def test_curl_and_openssl(served: Served, tmp_path: Path) -> None:
    """They make a key that nobody else can read, fetch its certificate, and leave the token nowhere."""
    told = printed(served, "backup script")
    done = shell(told.lines, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"key.pem", "cert.pem"}
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    assert opens_node_red(served, tmp_path)
    assert state(served, told.number) == "used"


def test_curl_sends_nothing_to_another_server(served: Served, tmp_path: Path) -> None:
    """With the pin of another key curl ends before it sends the token: the link is still good."""
    told = printed(served, "deceived script")
    done = shell(told.lines.replace(told.pin, ANOTHER_PIN), tmp_path)
    assert "SSL: public key does not match pinned public key" in done.stderr
    assert not (tmp_path / "cert.pem").exists()
    assert state(served, told.number) == "open"


def test_redlatch_enroll(served: Served, tmp_path: Path) -> None:
    """The ready client: the same, and the files for a microcontroller, which a C compiler takes."""
    told = printed(served, "greenhouse")
    done = enroll(served, tmp_path, told.url, "--pin", told.pin, "--out", "mine", "--header")
    assert done.returncode == 0, done.stderr
    assert "greenhouse has a key" in done.stdout
    assert opens_node_red(served, tmp_path / "mine")
    (header,) = (tmp_path / "mine").glob("*.h")
    compiler = shutil.which("gcc")
    if compiler is not None:
        program = tmp_path / "sketch.c"
        program.write_text(SKETCH.format(header=header.name))
        line = [compiler, "-Wall", "-Wextra", "-Werror", f"-I{header.parent}", "-o", str(tmp_path / "sketch")]
        built = subprocess.run([*line, str(program)], capture_output=True, text=True, timeout=60, check=False)
        assert built.returncode == 0, built.stderr
        said = subprocess.run([str(tmp_path / "sketch")], capture_output=True, text=True, timeout=60, check=True)
        names = ("server-ca.pem", "cert.pem", "key.pem")
        assert said.stdout == "".join((tmp_path / "mine" / name).read_text() for name in names)


def test_redlatch_enroll_sends_nothing_to_another_server(served: Served, tmp_path: Path) -> None:
    """It says that this is not the server that was meant; no key is left behind, and the link is still good."""
    told = printed(served, "deceived greenhouse")
    done = enroll(served, tmp_path, told.url, "--pin", ANOTHER_PIN, "--out", "mine")
    assert done.returncode == 1
    assert "pin" in done.stderr
    assert not list(tmp_path.rglob("*.pem"))
    assert state(served, told.number) == "open"


def test_renewal_over_the_present_key(served: Served, tmp_path: Path) -> None:
    """`enroll --renew` asks the console with the key that it has, and the successor is let in."""
    told = printed(served, "long-lived script")
    assert enroll(served, tmp_path, told.url, "--pin", told.pin, "--out", "mine").returncode == 0
    before = (tmp_path / "mine/cert.pem").read_bytes()
    environ = {name: value for name, value in served.environ.items() if name != "REDLATCH_HOME"}
    line = ["enroll", "--renew", "--now", "--out", "mine", served.console]
    done = subprocess.run(
        [sys.executable, "-m", "redlatch", *line],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine/cert.pem").read_bytes() != before
    assert opens_node_red(served, tmp_path / "mine")
