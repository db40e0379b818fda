"""`redlatch device invite`, `links`, `withdraw`, `notify` as a person meets them, most of it without a service."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.cli.harness import Person


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Somebody with a site, and something that answers where the console would."""
    made = Person.create(tmp_path_factory.mktemp("person"))
    made.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
    return made


@pytest.fixture
def answering(person: Person, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The console's port is taken by something that answers: enough to say that the service runs."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = person.run("console", "--port", str(port), "--enrol-port", str(port - 1), "--yes")
        assert done.returncode == 0, done.stderr
        yield server


def documents(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def test_without_the_service_there_is_no_link(person: Person) -> None:
    """Said before there is one, with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert person.run("console", "--port", str(port), "--enrol-port", str(port - 1), "--yes").returncode == 0
    done = person.run("device", "invite", "Lamp", "--trust-lan")
    assert done.returncode == 1
    assert "the service does not run" in done.stderr
    assert "redlatch serve" in done.stderr
    assert documents(person.run("device", "links", "--json").stdout) == [[]]


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["Lamp"], "trust-needed", "--trust-lan"),
        (["Lamp", "--role", "admin", "--trust-lan"], "conflict", "is not safe here"),
        (["Lamp", "--role", "owner", "--trust-lan"], "conflict", "redlatch device send"),
        (["Lamp", "--remote", "--trust-lan"], "conflict", "outside your network"),
        (["Lamp", "--role", "nonsense", "--trust-lan"], "invalid-input", "nonsense"),
        (["Lamp", "--valid", "15 minutes", "--trust-lan"], "usage", "is no time"),
        (["Lamp", "--valid", "8d", "--trust-lan"], "invalid-input", "from 30s to 7d"),
        (["", "--trust-lan"], "invalid-input", ""),
        (["a\nb", "--trust-lan"], "invalid-input", ""),
        ([], "usage", "name one device"),
        (["Lamp", "--csv", "x.csv", "--sheet", "y.html"], "usage", "name one device"),
        (["--csv", "x.csv"], "usage", "both --csv and --sheet"),
    ],
)
def test_what_cannot_be_is_said_and_makes_no_link(
    person: Person, options: list[str], code: str, words: str
) -> None:
    done = person.run("device", "invite", *options, "--json")
    assert done.returncode in (1, 2), done.stdout
    (document,) = documents(done.stdout)
    assert document["error"]["code"] == code
    assert words in document["error"]["message"] + document["error"]["hint"]
    assert documents(person.run("device", "links", "--json").stdout) == [[]]


@pytest.mark.usefixtures("answering")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: the columns are missing"),
        (b"Lamp\nPhone\n", "line 1: the columns are lamp"),
        (b"name,colour\nLamp,red\n", "line 1"),
        (b"name,name\nLamp,Lamp\n", "line 1"),
        (b"name\n", "names no device"),
        (b"name\nLamp\n\nx\x1b[31m\n", "line 4"),
        (b"name,role\nLamp\n", "line 2: 1 columns where there should be 2"),
        (b'name\n"Lamp\n', "no CSV file"),
        (b"name\n\xff\xfe\n", "no CSV file in UTF-8"),
        (b"name,role\nLamp,thing\nLAMP,thing\n", "is there twice"),
        (b"name,role\nLamp,thing\nPhone,owner\n", "is not safe here"),
        (b"name\n" + b"x" * (1 << 20), "larger than 1 MB"),
    ],
)
def test_a_table_with_a_mistake_makes_no_link(person: Person, content: bytes, words: str, tmp_path: Path) -> None:
    table = person.cwd / "devices.csv"
    table.write_bytes(content)
    done = person.run("device", "invite", "--csv", "devices.csv", "--sheet", "sheet.html", "--trust-lan")
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert not (person.cwd / "sheet.html").exists()
    assert documents(person.run("device", "links", "--json").stdout) == [[]]


def test_fifty_devices_get_a_sheet_with_a_link_each(tmp_path: Path) -> None:
    """With a byte order mark and quotes, as spreadsheets save it; what stands in a name is text."""
    from tests.support.serving import served

    with served(tmp_path) as running:
        rows = "".join(f'"Sensor {number}, ""<script>alert(1)</script>""",thing,\r\n' for number in range(50))
        table, sheet = tmp_path / "devices.csv", tmp_path / "sheet.html"
        table.write_bytes(b"\xef\xbb\xbfname,role,owner\r\n" + rows.encode())
        done = running.run(
            "device", "invite", "--csv", str(table), "--sheet", str(sheet), "--trust-lan", "--valid", "24h"
        )
        assert done.returncode == 0, done.stderr
        assert sheet.stat().st_mode & 0o777 == 0o600
        page = sheet.read_text()
        urls = re.findall(r"<code>(https://\S+/#[a-z2-7]{26})</code>", page)
        assert (len(urls), len(set(urls)), page.count("<svg")) == (50, 50, 50)
        assert "<script" not in page
        again = running.run("device", "invite", "--csv", str(table), "--sheet", str(sheet), "--trust-lan")
        assert "exists already" in again.stderr
        (found,) = documents(running.run("device", "links", "--json").stdout)
        assert [one["state"] for one in found] == ["open"] * 50
        number = found[0]["link"]
        done = running.run("device", "withdraw", str(number))
        assert "is withdrawn" in done.stdout
        assert "withdrawn already" in running.run("device", "withdraw", str(number)).stderr
        shown = running.run("device", "links").stdout
        assert "withdrawn" in shown
        assert urls[0].split("#")[1] not in shown


def test_the_lines_for_a_computer_without_redlatch_name_no_token_in_a_command(tmp_path: Path) -> None:
    """Everybody on that computer may read command lines: the token stands in a file that only its user reads."""
    from tests.support.serving import served

    with served(tmp_path) as running:
        done = running.run("device", "invite", "Lamp", "--pinned")
        assert done.returncode == 0, done.stderr
        token = re.search(r"/#([a-z2-7]{26})", done.stdout)
        assert token is not None
        lines = [line for line in done.stdout.splitlines() if token[1] in line]
        assert [line.split()[0] for line in lines] == ["and", "(umask"]


def test_notices_are_chosen_and_shown(person: Person) -> None:
    program = person.cwd / "tell"
    program.write_text(f"#!/bin/sh\ncat > {person.cwd}/said\n")
    program.chmod(0o755)
    done = person.run(
        "notify", "--command", str(program), "--webhook", "https://ntfy.example.org/secret", "--json"
    )
    assert documents(done.stdout) == [
        {"command": str(program), "webhook": "ntfy.example.org", "audit_head": False}
    ]
    assert "secret" not in person.run("notify").stdout
    assert person.run("notify", "--command", str(program)).returncode == 0
    assert "a test notice was sent" in person.run("notify", "--try").stdout
    assert json.loads((person.cwd / "said").read_text())["event"] == "test"
    for bad in (["--webhook", "http://example.org"], ["--command", "tell"], ["--none", "--webhook", "https://x"]):
        assert person.run("notify", *bad).returncode == 2
    assert documents(person.run("notify", "--none", "--json").stdout) == [
        {"command": None, "webhook": None, "audit_head": False}
    ]
