"""Real Node-REDs behind the guard. All tests of one version share `lock`; those that break things clean up."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.guard.flows import ALL
from tests.integration.guard.rules import AWAY, HOME, OFFICE, PLAIN
from tests.support.clients import request as ask
from tests.support.nodered import VERSIONS, NodeRed, Version, write_settings
from tests.support.site import Device, Site


@dataclass(frozen=True)
class Lock:
    """A Node-RED with everything in it, its site, and one device that is let in."""

    version: Version
    red: NodeRed
    site: Site
    admin: Device

    @property
    def port(self) -> int:
        return self.red.port

    def device(self, role: str = "admin", **odd: Any) -> Device:
        return self.site.device(f"{role}-{uuid.uuid4().hex[:6]}", role, **odd)


def build(version: Version, root: Path, *, body: str = "", **fields: Any) -> Lock:
    site = Site(root / "site", **fields)
    admin = site.device("admin", "owner")
    static = root / "static"
    static.mkdir()
    (static / "note.txt").write_text("a static file")
    user_dir = root / "user"
    write_settings(
        user_dir,
        published=site.published,
        body=f'httpStatic: "{static}", webSocketKeepAliveTime: 300, {body}',
        flows=ALL,
    )
    return Lock(version, NodeRed(version, user_dir), site, admin)


@pytest.fixture(scope="session", params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Version:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def lock(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lock]:
    """Strict, as it comes."""
    made = build(version, tmp_path_factory.mktemp(f"strict-{version}"))
    with made.red:
        yield made


@pytest.fixture(scope="session")
def explaining(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lock]:
    """In the mode that says why."""
    made = build(version, tmp_path_factory.mktemp(f"explain-{version}"), mode="explain")
    with made.red:
        yield made


@pytest.fixture(scope="session")
def house(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lock]:
    """For rules: each test puts its own in force (rules.py)."""
    made = build(version, tmp_path_factory.mktemp(f"rules-{version}"), **PLAIN)
    with made.red:
        for source in (HOME, OFFICE, AWAY):  # strangers from where a device has been are rationed less
            assert ask(made.port, "GET", "/hello", made.admin, source=source).status == 200
        yield made


@pytest.fixture
def unstarted(version: Version, tmp_path: Path) -> Iterator[Callable[..., Lock]]:
    """Makes a Node-RED that the test prepares and starts itself."""
    made: list[Lock] = []

    def make(**fields: Any) -> Lock:
        made.append(build(version, tmp_path / f"own{len(made)}", **fields))
        return made[-1]

    yield make
    for one in made:
        one.red.kill()
