"""What a Node-RED behind the gateway starts with, and what changes while it runs: if in doubt it is closed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.behind.houses import (
    FLOWS,
    OTHER,
    OWN,
    SECRET,
    Behind,
    Plain,
    digest,
    known,
    publish_behind,
    send,
)
from tests.support.clients import Refused
from tests.support.netns import own_network
from tests.support.nodered import VERSIONS, NodeRed, node, write_settings
from tests.support.wait import until

from redlatch.engines.nodered import publish
from redlatch.errors import InvalidInput
from redlatch.files import write_atomic
from redlatch.settings import Settings

Make = Callable[..., Behind]
LAN = "192.168.77.5"
GARBLED = {
    "empty": b"",
    "no JSON": b"garbage",
    "null": b"null",
    "another format": b'{"format":2,"secret_sha256":"%b","keep_auth":false,"keep_host":false}',
    "short": b'{"format":1,"secret_sha256":"ab","keep_auth":false,"keep_host":false}',
    "half": b'{"format":1,"secret_sha256":"%b"}',
}


@pytest.fixture(params=VERSIONS)
def unstarted(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Makes what a Node-RED of either version starts with."""

    def make(body: str = "", after: str = "", arguments: tuple[str, ...] = (), **told: bool) -> Behind:
        settings = Settings(tmp_path / "home", system=False)
        publish_behind(settings, **told)
        user_dir = tmp_path / "node-red"
        file = write_settings(
            user_dir, published=settings.published, body=OWN + body, flows=FLOWS, entry="behind.js"
        )
        file.write_text(file.read_text() + after)
        return Behind(settings, NodeRed(request.param, user_dir, arguments=arguments))

    return make


def status(behind: Behind, secret: str = SECRET) -> int:
    return behind.ask("GET", "/look", known(secret=secret)).status


def put(behind: Behind, content: bytes | None) -> None:
    file = behind.settings.published / "behind.json"
    if content is None:
        file.unlink()
    else:
        write_atomic(file, content.replace(b"%b", digest(SECRET).encode()), mode=0o600)


@pytest.mark.parametrize("content", [None, *GARBLED.values()], ids=["missing", *GARBLED])
def test_who_knows_no_gateway_answers_nobody(unstarted: Make, content: bytes | None) -> None:
    """Without a whole behind.json at the start everybody is refused and the log says why, until there is one."""
    behind = unstarted()
    put(behind, content)
    with behind.node_red:
        for headers in (known("ann", "*"), {}):
            found = behind.ask("GET", "/", headers)
            assert (found.status, found.headers["content-type"]) == (503, "text/plain; charset=utf-8")
            assert b"redlatch gateway up" in found.body
            with behind.websocket("/comms", headers) as refused:
                assert refused.upgrade.status == 503
        assert "refuses everybody, the gateway too: behind.json" in behind.node_red.log()
        behind.publish()
        until(lambda: status(behind) == 200, what="the gateway is known")
        assert behind.ask("GET", "/settings", known("ann", "read")).json()["user"]["permissions"] == "read"


@pytest.mark.parametrize("content", [None, b"garbage"], ids=["missing", "garbage"])
def test_what_becomes_bad_closes(behind: Behind, content: bytes | None) -> None:
    """A file that is lost or garbled while Node-RED runs does not leave the old secret in force."""
    try:
        with Plain(behind.node_red.port) as connection:
            assert send(connection, "GET", "/look", known()).status == 200
            put(behind, content)
            until(lambda: status(behind) == 503, what="closed")
            assert send(connection, "GET", "/look", known()).status == 503
    finally:
        behind.publish()
        until(lambda: status(behind) == 200, what="open again")


def test_a_new_secret_counts_at_once(behind: Behind) -> None:
    """The first request with it is let in, and the old one no longer is."""
    try:
        behind.publish(secret=OTHER)
        assert status(behind, OTHER) == 200
        assert status(behind) == 403
    finally:
        behind.publish()
        assert status(behind) == 200
        assert status(behind, OTHER) == 403


def test_loopback_only(unstarted: Make) -> None:
    """Whatever uiHost says, in settings.js or on the command line, no other address is listened to."""
    behind = unstarted(arguments=("-D", "uiHost=0.0.0.0"))
    assert listens(behind) == ([True, False], 200)


def test_a_container_keeps_its_address(unstarted: Make) -> None:
    """With keep_host the network is the container's wall, and the secret still the door's."""
    assert listens(unstarted(keep_host=True)) == ([True, True], 200)


def listens(behind: Behind) -> tuple[list[bool], int]:
    """Whether it answers on loopback and on another address; and with what to who knows the secret."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a network of its own")
    answers = []
    with own_network(LAN), behind.node_red:
        for address in ("127.0.0.1", LAN):
            try:
                with Plain(behind.node_red.port, address=address) as connection:
                    assert connection.request("GET", "/look").status == 403
                answers.append(True)
            except Refused:
                answers.append(False)
        return answers, status(behind)


UNDONE = {
    "on the command line": {"arguments": ("-D", "adminAuth=false", "-D", "requireHttps=true")},
    "by a launcher": {"after": "module.exports.adminAuth = null; module.exports.https = null;\n"},
    "by a copy": {"after": "module.exports = {...module.exports, adminAuth: null};\n"},
    "by https": {"body": "https: {key: 1}, httpsRefreshInterval: 1,"},
}


@pytest.mark.parametrize("way", UNDONE)
def test_what_is_set_afterwards_does_not_count(unstarted: Make, way: str) -> None:
    """Single sign-on and plain http stay, whatever is set after our lines."""
    behind = unstarted(**UNDONE[way])
    with behind.node_red:
        assert behind.ask("GET", "/settings", known("bob", "read")).json()["user"]["username"] == "bob"
        assert behind.ask("GET", "/settings", known()).status == 401
        assert behind.ask("GET", "/settings", {}).status == 403


def ends(red: NodeRed) -> int:
    """Starts a Node-RED that has to end by itself without having served; its exit code."""
    red.launch()
    code = red.wait()
    with pytest.raises((ConnectionError, Refused)):
        Plain(red.port)
    return code


def test_no_port_without_having_taken_over(unstarted: Make) -> None:
    """Settings that are not ours any more stop Node-RED before its port opens."""
    behind = unstarted(after="module.exports = {uiPort: 1, flowFile: 'flows.json'};\n")
    assert ends(behind.node_red) == 78
    assert "[redlatch] Node-RED stopped before it opened its port" in behind.node_red.log()


@pytest.mark.parametrize("what", ["behind.js", "gate.js", "expected.js", "auth.js", "preload.js", "the folder"])
def test_no_start_without_its_files(unstarted: Make, what: str) -> None:
    """When one of them is gone Node-RED ends with an error instead of starting without it."""
    behind = unstarted()
    folder = next(behind.settings.published.glob("guard-*"))
    if what == "behind.js":
        (behind.settings.published / what).unlink()
    elif what == "the folder":
        shutil.rmtree(folder)
    else:
        (folder / what).unlink()
    assert ends(behind.node_red) != 0


def test_the_drop_ins_preload_lets_it_listen(unstarted: Make) -> None:
    """With the systemd drop-in's preload it starts; without its lines it does not."""
    behind = unstarted()
    behind.node_red.env["NODE_OPTIONS"] = f"--require={behind.settings.published / 'preload.js'}"
    with behind.node_red:
        assert status(behind) == 200
    write_settings(behind.node_red.user_dir, flows=FLOWS)
    assert ends(behind.node_red) == 78


def test_loading_settings_starts_nothing(unstarted: Make) -> None:
    """A container's health check loads settings.js too: it sees plain http, nothing listens, the process ends."""
    behind = unstarted(body="https: {},", keep_host=True)
    script = "const s = require(process.argv[1]); console.log('https' in s, s.uiHost, s.requireHttps);"
    for version in VERSIONS:
        ran = subprocess.run(
            [node(version), "-e", script, behind.node_red.user_dir / "settings.js"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
        assert ran.stdout == "false 0.0.0.0 undefined\n"


def test_no_other_digest_is_published(tmp_path: Path) -> None:
    """What is no digest is refused before anything is written."""
    settings = Settings(tmp_path / "home", system=False)
    with pytest.raises(InvalidInput, match="digest"):
        publish.publish_behind(settings, "AB" * 32, keep_auth=False, keep_host=False, group=None)
    assert not settings.published.exists()
