"""One site with both engines: a Node-RED locked from inside, and a gateway in front of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.integration.operations.gateways import Both, web
from tests.support.clients import Refused, request
from tests.support.wait import until

from redlatch.engines.nodered import publish
from redlatch.errors import Conflict
from redlatch.operations import devices, engines, gateway, server, traffic
from redlatch.operations.publishing import is_whole, running
from redlatch.operations.status import status


@pytest.fixture
def both(tmp_path: Path) -> Both:
    found = Both(tmp_path)
    found.up()
    return found


def test_a_change_is_in_force_when_both_say_so(both: Both) -> None:
    """With both running it is in force, by the word of both; with one of them stopped it says which lags."""
    phone = both.key("phone", role="owner")
    both.key("tablet")
    both.key("laptop")
    with both.node_red(), web(both.behind):
        until(lambda: running(engines.configured(both.settings, both.open().config())[0]), what="the guard's word")
        force = devices.revoke(both.open(), "tablet").force
        assert (force.state, force.by) == ("published", "Node-RED and the gateway")
        assert "the gateway does not run" in force.note
        with both.run():
            force = devices.revoke(both.open(), "laptop").force
            assert (force.state, force.note) == ("in-force", "")
            for port in (both.node_red_port, both.port):
                assert request(port, "GET", "/", phone).status == 200
                with pytest.raises(Refused):
                    request(port, "GET", "/")
            found = status(both.open(), both.environ)
            assert (found.locked, found.engines, found.in_force) == (True, ("node-red", "gateway"), found.recorded)
            until(
                lambda: len([one for one in traffic.accesses(both.open(), 100) if one.allow]) >= 2,
                what="both logs",
            )
            at = [one.at for one in traffic.accesses(both.open(), 100)]
            assert at == sorted(at)


def test_each_engine_has_what_it_needs_and_no_more(both: Both) -> None:
    """The same snapshot, a server key each, the sidebar's list for Node-RED alone; lost parts are put right."""
    inside, before = engines.configured(both.settings, both.open().config())
    assert server.leaf_of(inside) != server.leaf_of(before)
    assert publish.snapshot_version(inside.settings) == publish.snapshot_version(before.settings)
    assert (inside.settings.published / "sidebar.json").exists()
    assert not (before.settings.published / "sidebar.json").exists()
    assert not (inside.settings.published / "secret").exists()
    both.key("phone")
    for part in (before.settings.published / "snapshot").iterdir():
        part.unlink()
    assert not is_whole(before.settings)
    assert server.refresh(both.open()).changes
    assert is_whole(before.settings)


def test_what_one_engine_cannot_be_told_the_other_still_is(both: Both) -> None:
    """A gateway whose folder cannot be written: Node-RED gets the revocation, and the gateway's lag is said."""
    both.key("phone")
    before = both.settings.gateway
    version = publish.snapshot_version(both.settings)
    held = before.published / "snapshot"
    aside = held.rename(before.published / "aside")
    held.write_text("no folder")
    force = devices.revoke(both.open(), "phone").force
    assert force.state == "recorded"
    assert "to the gateway" in force.note
    assert (publish.snapshot_version(both.settings) or 0) > (version or 0)
    held.unlink()
    aside.rename(held)
    assert server.refresh(both.open()).force.state == "published"


def test_the_node_red_that_is_locked_inside_is_not_put_behind(both: Both) -> None:
    """It would want a certificate of the gateway; the way from one lock to the other is said."""
    with pytest.raises(Conflict) as raised:
        both.plan(to=(f"http://127.0.0.1:{both.node_red_port}",))
    assert "redlatch down" in raised.value.hint


def test_taking_the_gateway_away_leaves_the_lock(both: Both) -> None:
    """Only what the gateway added goes."""
    gateway.take_down(both.open(), both.environ)
    assert not both.settings.gateway.home.exists()
    assert (both.settings.published / "guard.js").exists()
    assert both.open().config().adopted
    with both.node_red():
        assert request(both.node_red_port, "GET", "/", both.key("phone", role="owner")).status == 200
        found = status(both.open(), both.environ)
        assert (found.locked, found.engines) == (True, ("node-red",))
