"""One real site for a module of tests: a Node-RED 5.0 with flows of every kind, locked and running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.operations.conftest import House
from tests.support.nodered import NodeRed, write_settings

from redlatch.checks.model import Check, Found, Scene

FLOWS: list[dict[str, Any]] = [
    {"id": "t", "type": "tab", "label": "t"},
    {"id": "in", "type": "http in", "z": "t", "url": "/light/on", "method": "get", "wires": [["f"]]},
    {
        "id": "f",
        "type": "function",
        "z": "t",
        "func": "global.set('lit', (global.get('lit') || 0) + 1);\nmsg.payload = 'lit'; return msg;",
        "wires": [["out"]],
    },
    {"id": "out", "type": "http response", "z": "t", "wires": []},
    {"id": "ws", "type": "websocket-listener", "path": "/live", "wholemsg": "false"},
]


def scene(house: House) -> Scene:
    """A fresh look: nothing is remembered from the one before."""
    return Scene(house.open(), house.environ)


def found(house: House, check: Check) -> list[Found]:
    return list(check.look(scene(house)))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Locked, and not running."""
    made = House(tmp_path_factory.mktemp("checks"), "5.0")
    folder = made.root / "files"
    folder.mkdir()
    (folder / "a.txt").write_text("a file\n")
    body = f'uiPort: {made.port}, httpStatic: [{{path: "{folder}", root: "/files/"}}],'
    write_settings(made.user_dir, flows=FLOWS, body=body)
    made.up()
    return made


@pytest.fixture(scope="module")
def running(home: House) -> Iterator[NodeRed]:
    with home.node_red() as node_red:
        yield node_red
