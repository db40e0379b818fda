"""The commands beside a real Node-RED that runs: what is in force, what the log says, the proof."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.harness import Person
from tests.support.nodered import NodeRed, free_port, write_settings
from tests.support.wait import until


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Person, int]]:
    """A locked Node-RED 5.0 that runs, and its port."""
    person = Person.create(tmp_path_factory.mktemp("running"))
    port = free_port()
    write_settings(person.cwd / "node-red", body=f"uiPort: {port},")
    done = person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["restart_needed"] is True
    with NodeRed("5.0", person.cwd / "node-red", port=port):
        yield person, port


def connect(person: Person, port: int, name: str) -> ssl.SSLSocket:
    """An open connection of a device whose PEM files lie in the folder of its name."""
    context = ssl.create_default_context(cafile=person.cwd / name / "server-ca.pem")
    context.load_cert_chain(person.cwd / name / "cert.pem", person.cwd / name / "key.pem")
    raw = socket.create_connection(("127.0.0.1", port), timeout=20)
    return context.wrap_socket(raw, server_hostname="localhost")


def ask(connection: ssl.SSLSocket, port: int, path: str) -> bytes:
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
    return connection.recv(65536)


def test_revoke_says_what_it_saw(running: tuple[Person, int]) -> None:
    """Two open connections: in force by Node-RED's word, 2 closed, and they are closed when the command ends."""
    person, port = running
    added = person.run("device", "add", "laptop", "--format", "pem", "--json")
    assert json.loads(added.stdout)["force"]["state"] == "in-force"
    first, second = (connect(person, port, "laptop") for _ in range(2))
    for connection in (first, second):
        assert ask(connection, port, "/settings").startswith(b"HTTP/1.1 200")
    done = person.run("device", "revoke", "laptop", "--force")
    assert re.search(r"^in force, says Node-RED: 2 connections closed \d+ ms later$", done.stdout, re.MULTILINE)
    for connection in (first, second):
        connection.settimeout(5)
        try:
            while connection.recv(65536):
                pass
        except (ssl.SSLError, ConnectionError):
            pass  # cut, not closed politely
        connection.close()


def test_the_log_names_devices(running: tuple[Person, int]) -> None:
    """Who came in, by name, and with --json as a document."""
    person, port = running
    person.run("device", "add", "Bart's laptop", "--format", "pem", "--out", "bart")
    connect(person, port, "bart").close()
    with connect(person, port, "bart") as connection:
        assert ask(connection, port, "/settings").startswith(b"HTTP/1.1 200")

    def logged() -> bool:
        return "admitted  Bart's laptop  from 127.0.0.1  GET /settings" in person.run("log").stdout

    until(logged, seconds=20, what="the entry of Bart's laptop")
    entries = json.loads(person.run("log", "--json").stdout)["entries"]
    assert any(one["name"] == "Bart's laptop" and one["allow"] for one in entries)


def test_status_tells_all_three_versions(running: tuple[Person, int]) -> None:
    """Recorded, published and in force are the same when all is well."""
    person, _ = running
    found = json.loads(person.run("status", "--json").stdout)
    assert found["locked"] is True
    assert found["recorded"] == found["published"] == found["in_force"]


def test_prove_shows_refusals_and_admissions(running: tuple[Person, int]) -> None:
    """Every knock was answered as it should be; the devices of the test are revoked afterwards."""
    person, _ = running
    done = person.run("prove", "--json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {one["seen"] for one in rows if one["key"] == "no key"} <= {"refused", "sent on to https"}
    good = [one for one in rows if one["key"] == "a good key" and not one["trick"]]
    assert len(good) > 3
    assert {one["seen"] for one in good} == {"admitted"}
    assert "redlatch check" not in person.run("device", "list").stdout


def test_prove_expects_what_the_rules_say(running: tuple[Person, int]) -> None:
    """Where rules let this machine read without a key, and admins from elsewhere alone, that is what is right."""
    person, _ = running
    for line in (
        "network add elsewhere 203.0.113.0/24",
        "rule add --anyone --from localhost --area editor-read --yes",
        "rule add --role admin --from elsewhere --area all",
        "rule remove 2",
    ):
        done = person.run(*line.split())
        assert done.returncode == 0, done.stderr
    rows = json.loads(person.run("prove", "--json").stdout)["rows"]
    seen = {(one["surface"], one["key"]): one["seen"] for one in rows if not one["trick"]}
    assert seen["editor", "no key"] == seen["live data", "no key"] == "admitted"
    assert seen["editor", "a good key"] == "admitted"
    assert all(one["ok"] for one in rows)
    found = json.loads(person.run("rule", "list", "--json").stdout)["rules"]
    for rule in (one["id"] for one in found if one["id"] > 4 or one["networks"]):
        person.run("rule", "remove", str(rule), "--force")
    person.run("rule", "add", "--role", "admin", "--area", "all")


def test_prove_of_an_open_node_red_fails(tmp_path: Path) -> None:
    """Locked, but Node-RED was never restarted: strangers get in, the table says OPEN, exit code 1."""
    person = Person.create(tmp_path)
    port = free_port()
    write_settings(person.cwd / "node-red", body=f"uiPort: {port},")
    with NodeRed("5.0", person.cwd / "node-red", port=port):
        person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
        done = person.run("prove")
    assert done.returncode == 1
    assert "OPEN" in done.stdout
    assert "redlatch: " in done.stderr


def test_prove_without_node_red_says_so(tmp_path: Path) -> None:
    """Nothing listens: said at once with --wait 0."""
    person = Person.create(tmp_path)
    write_settings(person.cwd / "node-red", body=f"uiPort: {free_port()},")
    person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
    done = person.run("prove", "--wait", "0")
    assert (done.returncode, "nothing listens" in done.stderr) == (1, True)
