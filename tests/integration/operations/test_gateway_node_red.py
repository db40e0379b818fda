"""The gateway in front of a real Node-RED on this machine: what it serves is read from its settings and flows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.operations.gateways import Gate
from tests.support.clients import Refused, WebSocket, request
from tests.support.nodered import NodeRed, node, red_js, write_settings

from redlatch import bootstrap
from redlatch.errors import Conflict, InvalidInput
from redlatch.operations import devices, gateway, gateway_plan, gateway_standing, reach, server, setup
from redlatch.operations.status import status

FLOWS = [
    {"id": "t", "type": "tab", "label": "t"},
    {"id": "i", "type": "http in", "z": "t", "url": "/hook", "method": "get", "wires": [["r"]]},
    {"id": "r", "type": "http response", "z": "t", "wires": []},
]


class Before(Gate):
    """A gate in front of a Node-RED 5.0 whose port is `behind`."""

    def __init__(self, root: Path, *, host: str = "127.0.0.1") -> None:
        super().__init__(root)
        self.user_dir = root / "user"
        file = write_settings(self.user_dir, body=f"uiPort: {self.behind},", flows=FLOWS)
        file.write_text(file.read_text().replace("127.0.0.1", host))
        program = red_js("5.0").parents[1] / ".bin"
        self.environ = {**self.environ, "PATH": f"{node('5.0').parent}:{program}:{self.environ['PATH']}"}

    def plan(self, **more: object) -> gateway_plan.Plan:
        return super().plan(**{"user_dir": self.user_dir, **more})

    def node_red(self) -> NodeRed:
        return NodeRed("5.0", self.user_dir, port=self.behind)


def test_a_real_node_red_behind_the_gateway(tmp_path: Path) -> None:
    """Locked; a device gets editor and endpoint, by its role; a revoked one loses its open websocket."""
    gate = Before(tmp_path)
    gate.up()
    phone, laptop, thing = gate.key("phone", role="owner"), gate.key("laptop"), gate.key("thing", role="user")
    with gate.node_red(), gate.run():
        assert request(gate.port, "GET", "/flows", phone).status == 200
        assert request(gate.port, "GET", "/hook", phone).status == 200
        assert request(gate.port, "GET", "/flows", thing).status == 403
        with pytest.raises(Refused):
            request(gate.port, "GET", "/flows")
        comms = WebSocket(gate.port, "/comms", laptop)
        assert comms.is_open
        assert devices.revoke(gate.open(), "laptop").force.state == "in-force"
        assert comms.is_closed()
        stands = gateway_standing.standing(gate.open(), gate.environ)
        assert (stands.locked, stands.reach[0].runs, stands.reach[0].closed) == (True, True, True)
        assert status(gate.open(), gate.environ).locked


def test_what_it_serves_is_known_and_followed(tmp_path: Path) -> None:
    """Areas come from its flows, are shown by the map, and are read again by refresh."""
    gate = Before(tmp_path)
    gate.up()
    assert gate.open().config().areas.http_in == ("/hook",)
    assert "/hook" in [one.path for one in reach.survey(gate.open(), gate.environ).things]
    flows = gate.user_dir / "flows.json"
    flows.write_text(flows.read_text().replace("/hook", "/other"))
    assert any("/other" in one for one in server.refresh(gate.open(), environ=gate.environ).changes)
    assert gate.open().config().areas.http_in == ("/other",)


def test_one_that_runs_on_all_addresses_is_locked_from_its_next_start_on(tmp_path: Path) -> None:
    """The lines are announced; until it is restarted it is said where it is reached, and how to restart it."""
    gate = Before(tmp_path, host="0.0.0.0")
    assert any("three marked lines" in one for one in gate.plan().changes)
    with gate.node_red():
        assert gate.up().restart
        stands = gateway_standing.standing(gate.open(), gate.environ)
        assert not stands.locked
        assert "restart it" in stands.open_at[0]
    assert gateway_standing.standing(gate.open(), gate.environ).locked
    with gate.node_red():
        stands = gateway_standing.standing(gate.open(), gate.environ)
        assert (stands.locked, stands.reach[0].runs) == (True, True)
    assert not gate.plan().changes


def test_a_node_red_that_no_to_leads_to_is_refused(tmp_path: Path) -> None:
    """It was named, so it was meant; nothing is made."""
    gate = Before(tmp_path)
    with pytest.raises(InvalidInput) as raised:
        gate.plan(to=("http://192.0.2.7:1880",))
    assert f"port {gate.behind}" in raised.value.message
    assert not gate.settings.home.exists()


def test_the_lock_inside_waits_until_the_gateway_is_gone(tmp_path: Path) -> None:
    """`redlatch up` for the same Node-RED is refused while it stands behind, and works afterwards."""
    gate = Before(tmp_path)
    before = (gate.user_dir / "settings.js").read_bytes()
    gate.up()
    told = setup.Options(user_dir=gate.user_dir)
    with pytest.raises(Conflict):
        setup.plan(gate.settings, told, gate.environ, gate.open().config())
    gateway.take_down(gate.open(), gate.environ)
    assert (gate.user_dir / "settings.js").read_bytes() == before
    plan = setup.plan(gate.settings, told, gate.environ, gate.open().config())
    site = bootstrap.prepare_site(plan, actor="test")
    assert setup.lock(site, plan).changed
