"""`up` and `device send` with a person at a terminal and a real device that takes its key."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from tests.cli.harness import Person
from tests.cli.terminal import Terminal


@pytest.fixture
def person(tmp_path: Path) -> Person:
    return Person.create(tmp_path)


class Device:
    """A phone: opens links as the page's script does, keeps its key, comes in with it."""

    def __init__(self, folder: Path) -> None:
        self.pem = folder / "device.pem"
        self.server: bytes = b""

    def redeem(self, url: str, kind: str = "p12") -> dict[str, Any]:
        """The parcel behind the link, confirmed as the page does it."""
        parts = urlsplit(url)
        found = self._post(parts.netloc, "/redeem", {"token": parts.fragment, "format": kind})
        self._post(parts.netloc, "/received", {"receipt": found["receipt"]})
        if found["password"]:
            content = base64.b64decode(found["files"][0]["base64"])
            key, certificate, _ = pkcs12.load_key_and_certificates(content, found["password"].encode())
            assert key is not None
            assert certificate is not None
            self.pem.write_bytes(
                key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                + certificate.public_bytes(Encoding.PEM)
            )
        return found

    def visit(self, url: str) -> bytes:
        """The page at `url`, with our key."""
        context = self._context()
        context.load_cert_chain(self.pem)
        connection = http.client.HTTPSConnection(urlsplit(url).netloc, context=context, timeout=20)
        connection.request("GET", "/")
        return connection.getresponse().read()

    def _post(self, host: str, path: str, document: dict[str, Any]) -> dict[str, Any]:
        connection = http.client.HTTPSConnection(host, context=self._context(), timeout=20)
        connection.connect()
        self.server = connection.sock.getpeercert(binary_form=True)
        headers = {"Content-Type": "application/json", "Origin": f"https://{host}"}
        connection.request("POST", path, json.dumps(document), headers)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status in (200, 204), body
        return json.loads(body) if body else {}

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # a phone that clicks through; the fingerprint is compared in the test
        return context


UP = ("up", "--user-dir", "node-red", "--no-passphrase", "--listen", "127.0.0.1")


def is_locked(person: Person) -> bool:
    return "redlatch" in (person.cwd / "node-red/settings.js").read_text()


def test_up_locks_after_the_first_device_has_come_in(person: Person, tmp_path: Path) -> None:
    """Plan, answer, link, key, test port, lock: in this order, and the fingerprint shown is the server's."""
    phone = Device(tmp_path)
    with Terminal(person, *UP) as terminal:
        terminal.expect(r"This will change:")
        terminal.expect(r"Do this\? \[y/N\]")
        terminal.type("y\n")
        terminal.expect(r"A name for your first device")
        terminal.type("Bart's phone\n")
        url = terminal.expect(r"https://127\.0\.0\.1:\d+/#[a-z2-7]{26}")[0]
        terminal.expect("▀|▄|█")  # the QR code
        shown = terminal.expect(r"((?:[0-9A-F]{2}:){15}[0-9A-F]{2})[^:]+?((?:[0-9A-F]{2}:){15}[0-9A-F]{2})")
        terminal.expect(r"could take the link")
        terminal.expect(r"scp \S+@127\.0\.0\.1:barts-phone\.p12")
        terminal.expect(r"Waiting for the device")
        assert not is_locked(person)
        parcel = phone.redeem(url)
        assert parcel["device"] == "Bart's phone"
        assert f"{shown[1]}:{shown[2]}".replace(":", "").lower() == hashlib.sha256(phone.server).hexdigest()
        terminal.expect(r"the page confirmed it")
        test_url = terminal.expect(r"https://127\.0\.0\.1:\d+/")[0]
        assert parcel["next"] == test_url
        assert not is_locked(person)
        assert b"You are in" in phone.visit(test_url)
        terminal.expect(r"Bart's phone came in")
        terminal.expect(r"The lock is in place")
        assert terminal.end() == 0
    assert is_locked(person)
    assert "owner" in person.run("device", "list").stdout
    assert "device.added" in person.run("audit").stdout


def test_no_changes_nothing(person: Person) -> None:
    """The answer "n": exit 1, no site, nothing locked."""
    with Terminal(person, *UP) as terminal:
        terminal.expect(r"Do this\?")
        terminal.type("n\n")
        terminal.expect(r"nothing was changed")
        assert terminal.end() == 1
    assert not is_locked(person)
    assert not (person.cwd / "site").exists()


@pytest.mark.parametrize("when", ["the link", "the test port"])
def test_ctrl_c_before_the_device_came_in_locks_nothing(person: Person, tmp_path: Path, when: str) -> None:
    """Exit code 130, no traceback, settings.js untouched; the next `up` goes on with the device that exists."""
    before = (person.cwd / "node-red/settings.js").read_bytes()
    with Terminal(person, *UP) as terminal:
        terminal.expect(r"Do this\?")
        terminal.type("y\n")
        terminal.expect(r"first device")
        terminal.type("\n")
        url = terminal.expect(r"https://127\.0\.0\.1:\d+/#[a-z2-7]{26}")[0]
        terminal.expect(r"Waiting for the device")
        if when == "the test port":
            Device(tmp_path).redeem(url)
            terminal.expect(r"nothing is locked")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "redlatch: interrupted" in terminal.shown
        assert "Traceback" not in terminal.shown
    assert (person.cwd / "node-red/settings.js").read_bytes() == before
    assert ("My first device" in person.run("device", "list").stdout) is (when == "the test port")


def test_up_with_devices_waits_for_one_of_them(person: Person, tmp_path: Path) -> None:
    """A device that has its key already is enough; one that was revoked is not."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    good, bad = Device(tmp_path), Device(tmp_path)
    bad.pem = tmp_path / "bad.pem"
    for device, name in ((good, "good"), (bad, "bad")):
        done = person.run("device", "add", name, "--format", "pem", "--out", name)
        assert done.returncode == 0
        folder = person.cwd / name
        device.pem.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    assert person.run("device", "revoke", "bad", "--force").returncode == 0
    person.run("down", "--yes")
    assert not is_locked(person)
    with Terminal(person, *UP) as terminal:
        terminal.expect(r"Do this\?")
        terminal.type("y\n")
        url = terminal.expect(r"https://127\.0\.0\.1:\d+/")[0]
        terminal.expect(r"nothing is locked")
        assert b"not active here" in bad.visit(url)
        assert b"You are in" in good.visit(url)
        assert terminal.end() == 0
    assert is_locked(person)


def test_send_in_json_is_a_link_and_how_it_ended(person: Person, tmp_path: Path) -> None:
    """One document a line; the device exists only after it took its key; its role is the link's."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    with Terminal(
        person, "device", "send", "Ada's tablet", "--role", "viewer", "--listen", "127.0.0.1", "--json"
    ) as terminal:
        link = json.loads(terminal.expect(r'\{"event": "link".*\}\n')[0])
        assert "no devices yet" in person.run("device", "list").stdout
        Device(tmp_path).redeem(link["urls"][0], "p12-modern")
        ended = json.loads(terminal.expect(r'\{"event": "ended".*\}\n')[0])
        terminal.type("\x03")  # which ends the waiting for the page; the key is handed over
        assert terminal.end() == 0
    assert (ended["state"], ended["name"], ended["role"]) == ("delivered", "Ada's tablet", "viewer")
    assert "password" not in ended
    shown = json.loads(person.run("device", "show", "Ada's tablet", "--json").stdout)
    assert [one["fingerprint"] for one in shown["certificates"]] == [ended["fingerprint"]]


def test_send_to_a_device_that_exists_gives_it_a_further_key(person: Person, tmp_path: Path) -> None:
    """Its role stays, whatever --role says; PEM on request."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    person.run("device", "add", "script", "--role", "viewer")
    with Terminal(person, "device", "send", "SCRIPT", "--role", "owner", "--listen", "127.0.0.1") as terminal:
        url = terminal.expect(r"https://127\.0\.0\.1:\d+/#[a-z2-7]{26}")[0]
        parcel = Device(tmp_path).redeem(url, "pem")
        terminal.expect(r"The key of script was sent to 127\.0\.0\.1, and the page confirmed it")
        terminal.expect(r"ctrl-c ends that")
        assert terminal.end() == 0  # by itself: nobody asks any more
    assert {file["name"] for file in parcel["files"]} == {"key.pem", "cert.pem", "server-ca.pem"}
    assert parcel["password"] is None
    shown = json.loads(person.run("device", "show", "script", "--json").stdout)
    assert (shown["role"], len(shown["certificates"])) == ("viewer", 2)


def test_send_that_is_interrupted_adds_no_device(person: Person, tmp_path: Path) -> None:
    """Nobody took the key, so there is none; its port is closed and its link is no longer open."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    with Terminal(person, "device", "send", "x", "--listen", "127.0.0.1") as terminal:
        url = terminal.expect(r"https://127\.0\.0\.1:\d+/#[a-z2-7]{26}")[0]
        terminal.expect(r"Waiting for the device")
        terminal.type("\x03")
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown
    assert "no devices yet" in person.run("device", "list").stdout
    assert [one["state"] for one in json.loads(person.run("device", "links", "--json").stdout)] == ["withdrawn"]
    with pytest.raises(ConnectionRefusedError):
        Device(tmp_path).redeem(url)


def test_send_that_is_withdrawn_elsewhere_says_so(person: Person) -> None:
    """By the console or another terminal: exit 1, and nothing was issued."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    with Terminal(person, "device", "send", "x", "--listen", "127.0.0.1") as terminal:
        terminal.expect(r"Waiting for the device")
        person.run("device", "withdraw", "1")
        terminal.expect(r"the link was withdrawn before anybody took the key")
        assert terminal.end() == 1


def test_colour_only_where_it_is_wanted(person: Person) -> None:
    """On a terminal yes; with NO_COLOR or TERM=dumb no."""
    person.run("up", "--user-dir", "node-red", "--no-passphrase", "--yes")
    for environ, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        with Terminal(person, "status", **environ) as terminal:
            assert terminal.end() == 0
            assert ("\x1b[" in terminal.shown) is coloured


def test_a_passphrase_is_asked_for_without_echo(person: Person) -> None:
    """Twice when the keys are made, and again when they are used; two that differ change nothing."""
    up = ("up", "--user-dir", "node-red", "--listen", "127.0.0.1")
    for second, code in (("wrong", 2), ("secret-words", None)):
        with Terminal(person, *up) as terminal:
            terminal.expect(r"Do this\?")
            terminal.type("y\n")
            terminal.expect(r"A passphrase for the CA keys.*: ")
            terminal.type("secret-words\n")
            terminal.expect(r"The same passphrase again: ")
            terminal.type(f"{second}\n")
            if code is None:
                terminal.expect(r"first device")
            else:
                assert terminal.end() == code
                assert not (person.cwd / "site").exists()
            assert "secret-words" not in terminal.shown
    with Terminal(person, "device", "add", "phone") as terminal:
        terminal.expect(r"Passphrase of the CA keys: ")
        terminal.type("secret-words\n")
        terminal.expect(r"phone has a key")
        assert terminal.end() == 0
        assert "secret-words" not in terminal.shown


def test_a_long_list_shows_how_far_it_is(person: Person, tmp_path: Path) -> None:
    """One line that is rewritten and wiped; not where nobody watches, and not with --json."""
    person.run("up", "--user-dir", "node-red", "--yes", "--no-passphrase")
    (tmp_path / "list.txt").write_text("".join(f"10.{n >> 8}.{n & 255}.0/24\n" for n in range(65536)))
    with Terminal(person, "network", "add", "long", "--file", "list.txt") as terminal:
        terminal.expect(r"\r\x1b\[Kreading list\.txt: \d+ %")
        terminal.expect(r"\r\x1b\[K\x1b\[1m65,536 entries added")
        assert terminal.end() == 0
    assert "reading" not in person.run("network", "add", "again", "--file", "list.txt").stderr


def test_giving_a_new_authority_up_says_that_its_key_goes(person: Person) -> None:
    """Where it was signed elsewhere by a request, nobody else has that key."""
    person.run(*UP, "--yes")
    person.run("ca", "rotate", "device", "--yes")
    with Terminal(person, "ca", "rotate", "device", "--cancel") as terminal:
        terminal.expect(
            r"Its key here is removed for good, and unless you brought it along\s+there is no other copy"
        )
        terminal.type("n\n")
        assert terminal.end() == 1
    assert "trusted" in person.run("ca", "list").stdout
