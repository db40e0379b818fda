"""`redlatch gateway up` and `down` with the Node-RED of this machine: closed, and open again byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.integration.behind.houses import FLOWS, OWN
from tests.integration.operations.gateways import Gate
from tests.support.clients import Refused, WebSocket, request
from tests.support.nodered import VERSIONS, NodeRed, Version, node, red_js, write_settings
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.engines.nodered import edit, locate, publish
from redlatch.engines.nodered.adopt import Entry
from redlatch.errors import InvalidInput, NotAdoptable
from redlatch.operations import gateway, gateway_plan, gateway_standing, setup
from redlatch.operations.status import status


class House(Gate):
    """A gateway in front of a real Node-RED."""

    def __init__(self, root: Path, version: Version) -> None:
        super().__init__(root)
        self.version = version
        self.user_dir = root / "user"
        self.settings_file = write_settings(
            self.user_dir, body=f"{OWN} uiPort: {self.behind}, adminAuth: null", flows=FLOWS
        )
        self.original = self.settings_file.read_bytes()
        path = f"{node(version).parent}:{red_js(version).parents[1] / '.bin'}:/usr/sbin:/usr/bin:/bin"
        self.environ = {"PATH": path, "HOME": str(root)}

    def options(self, **more: Any) -> gateway_plan.Options:
        return super().options(**{"user_dir": self.user_dir, **more})

    def node_red(self) -> NodeRed:
        return NodeRed(self.version, self.user_dir, port=self.behind)


@pytest.fixture(params=VERSIONS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return House(tmp_path, request.param)


def test_the_whole_life(house: House) -> None:
    """A device gets through as its user, with the rights of its role; nobody gets past; `down` leaves no trace."""
    with house.node_red():  # started before: open to this machine and, by its uiHost, to others
        up = house.up()
        assert up.changed
        assert up.restart
        found = gateway_standing.standing(house.open(), house.environ)
        assert not found.locked
        assert "restart it" in found.open_at[0]
    stands = gateway_standing.standing(house.open(), house.environ)
    assert (stands.locked, stands.reach[0].runs, stands.reach[0].closed) == (True, False, True)
    owner, viewer = house.key("Ann's laptop", role="owner"), house.key("phone", role="viewer")
    with house.node_red(), house.run():
        seen = request(house.port, "GET", "/settings", owner).json()
        assert seen["user"] == {"username": "anns-laptop", "permissions": "*"}
        assert request(house.port, "GET", "/settings", viewer).json()["user"]["permissions"] == "read"
        deploy = {"Node-RED-Deployment-Type": "full", "Content-Type": "application/json"}
        assert (
            request(house.port, "POST", "/flows", owner, headers=deploy, body=json.dumps(FLOWS).encode()).status
            == 204
        )
        assert (
            request(house.port, "POST", "/flows", viewer, headers=deploy, body=json.dumps(FLOWS).encode()).status
            == 403
        )
        with WebSocket(
            house.port, "/comms", owner, headers={"Origin": f"https://localhost:{house.port}"}
        ) as comms:
            assert comms.is_open
        with pytest.raises(Refused):
            request(house.port, "GET", "/")
        assert gateway_standing.standing(house.open(), house.environ).locked
        assert status(house.open(), house.environ).locked
        assert house.plan().changes == ()
        again = house.up()
        assert (again.changed, again.restart) == (False, "")

    down = gateway.take_down(house.open(), house.environ)
    assert down.restart
    assert house.settings_file.read_bytes() == house.original
    assert not house.settings.published.exists()
    assert not house.settings.spool.exists()


def test_from_guard_to_gateway_and_back(house: House) -> None:
    """One lock after the other, each with its own lines, and at the end none."""

    def lock_inside() -> None:
        options = setup.Options(user_dir=house.user_dir)
        plan = setup.plan(house.settings, options, house.environ, bootstrap.present_config(house.settings))
        setup.lock(bootstrap.prepare_site(plan, actor="test"), plan)

    lock_inside()
    assert b"/guard.js" in house.settings_file.read_bytes()
    setup.down(house.open(), house.environ)
    house.up()
    assert b"/behind.js" in house.settings_file.read_bytes()
    gateway.take_down(house.open(), house.environ)
    lock_inside()
    assert b"/guard.js" in house.settings_file.read_bytes()
    assert status(house.open(), house.environ).locked
    setup.down(house.open(), house.environ)
    assert house.settings_file.read_bytes() == house.original


def test_one_block_takes_the_place_of_the_other(house: House) -> None:
    """Each is proven by loading it; what the person set is described as it is without either."""
    publish.publish_behind(house.settings, "ab" * 32, keep_auth=False, keep_host=False, group=None)
    red = locate.locate(user_dir=house.user_dir, environ=house.environ)
    entries: tuple[Entry, ...] = ("guard.js", "behind.js", "guard.js", "behind.js")
    for entry in entries:
        done = edit.adopt(red, house.settings.published, entry=entry)
        assert done.changed
        assert (done.after.guarded, done.after.behind) == (True, entry == "behind.js")
        assert done.after.locked_inside is (entry == "guard.js")
        assert (done.after.ui_host, done.after.bound) == ("0.0.0.0", entry == "behind.js")
        assert not edit.adopt(red, house.settings.published, entry=entry).changed
        assert house.settings_file.read_bytes().count(b"// >>> redlatch") == 1
    assert edit.release(red).changed
    assert house.settings_file.read_bytes() == house.original


def test_lines_without_effect_are_not_taken_for_ours(house: House) -> None:
    """A settings.js that ends early would serve in the open: it is refused and stays as it is."""
    publish.publish_behind(house.settings, "ab" * 32, keep_auth=False, keep_host=False, group=None)
    house.settings_file.write_bytes(house.original + b"return;\n")
    red = locate.locate(user_dir=house.user_dir, environ=house.environ)
    with pytest.raises(NotAdoptable, match="no effect"):
        edit.adopt(red, house.settings.published, entry="behind.js")
    assert house.settings_file.read_bytes() == house.original + b"return;\n"


@pytest.mark.parametrize("url", ["http://[::1]:{}", "https://127.0.0.1:{}"], ids=["IPv6", "TLS"])
def test_a_way_that_would_end_is_refused(house: House, url: str) -> None:
    """Node-RED will listen on 127.0.0.1 without TLS: what leads elsewhere is said before anything is changed."""
    with pytest.raises(InvalidInput, match="will not answer"):
        house.plan(to=(url.format(house.behind),))
    assert house.settings_file.read_bytes() == house.original


def test_what_is_lost_is_put_back(house: House) -> None:
    """Lines and published files that somebody took away come back with the next `up`, which says so."""
    house.up()
    house.settings_file.write_bytes(house.original)
    (house.settings.published / "behind.json").unlink()
    assert any("three marked lines" in change for change in house.plan().changes)
    stands = gateway_standing.standing(house.open(), house.environ)
    assert not stands.locked
    assert house.up().restart
    assert (house.settings.published / "behind.json").exists()
    assert until(lambda: gateway_standing.standing(house.open(), house.environ).locked, what="locked")
