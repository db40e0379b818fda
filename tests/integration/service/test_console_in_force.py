"""The console over a real Node-RED: what is said to be in force is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House
from tests.support.clients import Refused, WebSocket, request
from tests.support.consoling import Consoling, Key, serving, text_of
from tests.support.nodered import NodeRed
from tests.support.wait import until


@dataclass
class Locked:
    """A console over a locked Node-RED that runs."""

    console: Consoling
    node_red: NodeRed


@pytest.fixture(scope="module", params=["4.1", "5.0"])
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    house = House(tmp_path_factory.mktemp("house"), request.param)
    house.up()
    with house.node_red() as node_red, serving(house.open(), house.root) as console:
        console.keys |= {role: console.key(f"the {role}", role) for role in ("owner", "admin")}
        yield Locked(console, node_red)


def reaches(locked: Locked, key: Key) -> bool:
    try:
        return request(locked.node_red.port, "GET", "/", key).status == 200
    except Refused:
        return False


def test_a_revocation_is_in_force_and_cuts(locked: Locked) -> None:
    """From the button to Node-RED: the open websocket is closed, and the page says how many and how soon."""
    console = locked.console
    one = console.key("To be revoked", "admin")
    assert reaches(locked, one)
    with WebSocket(locked.node_red.port, "/comms", one) as editor:
        assert editor.is_open
        until(lambda: _looked(console, one) or None, what="Node-RED's word of the connection")
        assert "a websocket from 127.0.0.1" in text_of(console.get(f"/devices/{one.id}"))
        said = console.change(f"/devices/{one.id}/revoke", {"reason": "lost"})
        assert "● in force (done)" in said
        assert re.search(r"in force, says Node-RED: 1 connection closed \d+ ms later", said)
        assert editor.is_closed()
    assert not reaches(locked, one)


def _looked(console: Consoling, one: Key) -> bool:
    console.watch.look()
    return bool(console.watch.connections(one.id))


def test_a_key_by_file_opens_at_once(locked: Locked, tmp_path: Path) -> None:
    """What the page hands out is in force when it is shown."""
    import base64

    console = locked.console
    answer = console.post("/devices/new", {"name": "By file", "role": "admin", "format": "pem", "mark": "m"})
    assert "in force, says Node-RED" in text_of(answer)
    files = dict(re.findall(r'download="([^"]*)" href="data:[^;]*;base64,([^"]*)"', answer.body.decode()))
    both = tmp_path / "both.pem"
    both.write_bytes(base64.b64decode(files["cert.pem"]) + base64.b64decode(files["key.pem"]))

    @dataclass(frozen=True)
    class Device:
        cert_file: Path

    assert request(locked.node_red.port, "GET", "/", Device(both)).status == 200


def test_a_rule_is_in_force(locked: Locked) -> None:
    """A role that reached nothing reaches what the rule says, and nothing again when it is removed."""
    console = locked.console
    sensor = console.key("sensor", "thing")
    assert not reaches(locked, sensor)
    form = {"who": "named", "device": "sensor", "what": "area", "area": "editor-read"}
    assert "in force, says Node-RED" in console.change("/rules/new", form)
    assert reaches(locked, sensor)
    number = max(int(one) for one in re.findall(r'id="rule-(\d+)"', console.get("/rules").body.decode()))
    assert "in force, says Node-RED" in console.change(f"/rules/{number}/remove")
    assert not reaches(locked, sensor)


def test_all_is_well_is_said_when_it_is(locked: Locked) -> None:
    page = text_of(locked.console.get("/health", "admin"))
    assert "Locked, says Node-RED" in page
    assert "says Node-RED (" in page
    locked.console.watch.look()
    assert "GET /" in text_of(locked.console.get("/log"))
