"""The gateway from `up` to `down`, with a real HAProxy: a device in, a stranger out, a revocation in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.integration.operations.gateways import Gate, web
from tests.support.clients import Refused, request
from tests.support.wait import until

from redlatch.engines.haproxy.model import parse_gateway
from redlatch.engines.nodered import publish
from redlatch.operations import devices, engines, gateway, gateway_show, gateway_standing, ports, server, traffic
from redlatch.operations.publishing import repair
from redlatch.operations.status import known, status


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def test_the_whole_life_of_a_gateway(gate: Gate) -> None:
    """Only a device with a key gets through; a revoked one is refused at once; `down` leaves no trace of it."""
    assert gate.up().changed
    phone, laptop = gate.key("phone", role="owner"), gate.key("laptop")
    with web(gate.behind), gate.run():
        assert request(gate.port, "GET", "/", phone).status == 200
        with pytest.raises(Refused):
            request(gate.port, "GET", "/")
        stands = gateway_standing.standing(gate.open(), gate.environ)
        assert (stands.locked, stands.open_at) == (True, ())
        found = status(gate.open(), gate.environ)
        assert (found.locked, found.engines, found.in_force) == (True, ("gateway",), found.recorded)
        assert known(gate.open()).claim is not None

        revoked = devices.revoke(gate.open(), "laptop")
        assert (revoked.force.state, revoked.force.by) == ("in-force", "the gateway")
        with pytest.raises(Refused):
            request(gate.port, "GET", "/", laptop)
        assert request(gate.port, "GET", "/", phone).status == 200
        seen = until(
            lambda: {one.allow for one in traffic.accesses(gate.open(), 100)} == {True, False}, what="the log"
        )
        assert seen

    gone = gateway.take_down(gate.open(), gate.environ)
    assert str(gate.settings.gateway.home) in gone.removed
    assert not gate.settings.gateway.home.exists()
    assert engines.configured(gate.settings, gate.open().config()) == ()
    with gate.open().store.read() as view:
        assert [device.name for device in view.devices() if device.revoked_at is None] == ["phone"]


def test_a_change_while_it_does_not_run_is_published_and_no_more(gate: Gate) -> None:
    """Nothing reports a later state than it saw."""
    gate.up()
    force = gate.key("phone").issued.force
    assert (force.state, force.by) == ("published", "the gateway")
    assert "does not run" in force.note


def test_a_second_up_changes_nothing_and_a_third_only_what_it_says(gate: Gate) -> None:
    """Files stay byte for byte, the secret above all; what is told anew is published at once."""
    gate.up()
    before = _contents(gate)
    assert gate.plan().changes == ()
    assert not gate.up().changed
    assert _contents(gate) == before
    with gate.run():
        assert gate.up(to=(f"http://127.0.0.1:{gate.behind}", f"/two=http://127.0.0.1:{gate.behind}")).changed
        after = _contents(gate)
        assert {name for name in after if after[name] != before.get(name)} == {"gateway.json", "snapshot.json"}
        assert len(parse_gateway(after["gateway.json"]).upstreams) == 2


def _contents(gate: Gate) -> dict[str, bytes]:
    folder = gate.settings.gateway.published
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_a_killed_command_left_is_published_by_the_next(gate: Gate) -> None:
    """An old snapshot and a lost gateway.json are put right by whoever opens the site."""
    gate.up()
    place = gate.settings.gateway
    old = (place.published / "snapshot.json").read_bytes()
    told = (place.published / "gateway.json").read_bytes()
    gate.key("phone")
    (place.published / "snapshot.json").write_bytes(old)
    (place.published / "gateway.json").unlink()
    repair(gate.open())
    with gate.open().store.read() as view:
        assert publish.snapshot_version(place) == view.site().revision
    assert (place.published / "gateway.json").read_bytes() == told


def test_the_servers_certificate_is_renewed_for_the_gateway(gate: Gate) -> None:
    """A new name comes into the published certificate; without a change nothing is written."""
    gate.up(names=("attic.lan",))
    engine = engines.gateway(gate.settings, gate.open().config())
    assert engine is not None
    leaf = server.leaf_of(engine)
    assert server.refresh(gate.open()).changes == ()
    assert server.leaf_of(engine) == leaf
    assert "attic.lan" in gate.open().config().hosts
    (engine.settings.published / "server.pem").unlink()
    assert server.refresh(gate.open()).changes
    assert server.leaf_of(engine) not in (None, leaf)


def test_what_is_shown_names_no_secret(gate: Gate) -> None:
    """The rendered configuration listens where it was told, and keeps the secret."""
    gate.up()
    shown = gateway_show.render(gate.open())
    secret = (gate.settings.gateway.published / "secret").read_text()
    assert f"bind 127.0.0.1:{gate.port}" in shown.configuration
    assert (len(secret), secret in shown.configuration) == (64, False)
    assert {"devices.map", "reach.map"} <= set(shown.tables)


def test_what_the_gateway_writes_cannot_be_planted(gate: Gate) -> None:
    """A log of somebody else's making is no reason for anything: the service goes on without it."""
    gate.up()
    spool = gate.settings.gateway.spool
    (spool / "access.jsonl").symlink_to("/etc/passwd")
    assert traffic.seen(gate.open()).connections == 0
    assert json.loads((gate.settings.gateway.published / "gateway.json").read_text())["format"] == 1


def test_down_ends_what_runs(gate: Gate) -> None:
    """`gateway run` ends with it; and so does an HAProxy whose driver was killed, and nobody else's."""
    other = Gate(gate.root / "b")
    gate.up()
    other.up()
    with other.run(), web(gate.behind):
        with gate.run() as run:
            assert gateway.take_down(gate.open(), gate.environ).removed
            assert run.wait(30) == 0
        gate.up()
        with gate.run() as run:
            run.kill()
            run.wait(30)
            assert ports.listeners(gate.port)
            gateway.take_down(gate.open(), gate.environ)
            assert ports.listeners(gate.port) == ()
        assert gateway_standing.standing(other.open(), other.environ).claim is not None
