"""One real site for all of these tests: a Node-RED 5.0 with flows of every kind, locked and running."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.conftest import House, Key
from tests.support.nodered import NodeRed, write_settings

from redlatch.checks.model import Check, Found, Scene
from redlatch.operations.site import Config, changing

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
SECRET = 'credentialSecret: "a long text of somebody\'s own",'


def house(root: Path, *, body: str = SECRET) -> House:
    """Not locked yet."""
    made = House(root, "5.0")
    (root / "files").mkdir()
    (root / "files/a.txt").write_text("a file\n")
    static = f'httpStatic: [{{path: "{root / "files"}", root: "/files/"}}],'
    write_settings(made.user_dir, flows=FLOWS, body=f"uiPort: {made.port}, {static} {body}")
    return made


class Home:
    """The running site, and what checks see of it."""

    def __init__(self, made: House, node_red: NodeRed) -> None:
        self.house, self.node_red = made, node_red
        self.admin: Key = made.key("laptop", role="owner")

    @property
    def settings_file(self) -> Path:
        return self.house.settings_file

    def scene(self, **changes: Any) -> Scene:
        """A fresh look, at a site with `changes`."""
        return Scene(replace(self.house.open(), **changes), self.house.environ)

    def found(self, check: Check, **changes: Any) -> list[Found]:
        return list(check.look(self.scene(**changes)))

    @contextlib.contextmanager
    def wrote(self, path: Path, text: str) -> Iterator[None]:
        """What a file says is another text for a while; one that was not there is gone afterwards."""
        before = path.read_bytes() if path.exists() else None
        path.write_text(text)
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_bytes(before)

    @contextlib.contextmanager
    def configured(self, **changes: Any) -> Iterator[None]:
        """The site's configuration is another one for a while."""
        site = self.house.open()
        before = {name: site.config().stored()[name] for name in changes}
        self._configure(changes)
        try:
            yield
        finally:
            self._configure(before)

    def _configure(self, changes: dict[str, Any]) -> None:
        with changing(self.house.open()) as tx:
            tx.set_config({**Config.of(tx.site().config).stored(), **changes})
            tx.record("site.changed", changes=sorted(changes))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    made = house(tmp_path_factory.mktemp("checks"))
    made.up()
    with made.node_red() as node_red:
        yield Home(made, node_red)


def by_code(checks: tuple[Check, ...], code: str) -> Check:
    (found,) = (one for one in checks if one.code == code)
    return found
