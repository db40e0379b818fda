"""The console of a site that has a gateway and no Node-RED of its own: whose word it is, and that every page is
there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.operations.gateways import Gate, web
from tests.support.clients import Refused, request
from tests.support.consoling import Consoling, serving, text_of
from tests.support.wait import until

from redlatch.service.enrolment.app import node_red_url


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    made = Gate(tmp_path)
    made.up()
    return made


@pytest.fixture
def at(gate: Gate) -> Iterator[Consoling]:
    with serving(gate.open(), gate.root) as served:
        served.keys["owner"] = served.key("the owner", "owner")
        yield served


def test_what_the_gateway_says_is_shown_as_its_word(gate: Gate, at: Consoling) -> None:
    """Locked, in force and the log, by the gateway; a change in the console is in force there."""
    phone = at.key("phone", "admin")
    with web(gate.behind), gate.run():
        assert request(gate.port, "GET", "/", phone).status == 200

        def told() -> bool:
            at.watch.look()
            return bool(at.watch.recent())

        until(told, what="the gateway's log")
        assert "Locked, says the gateway" in text_of(at.get("/health"))
        assert "says the gateway" in text_of(at.get("/health"))
        assert "by the word of the gateway’s user" in text_of(at.get("/log"))
        assert "phone" in text_of(at.get("/log"))
        assert at.watch.in_force is not None
        said = at.change(f"/devices/{phone.id}/revoke", {"reason": "lost"})
        assert "in force, says the gateway" in said
        with pytest.raises(Refused):
            request(gate.port, "GET", "/", phone)


def test_a_gateway_that_does_not_run_is_said(at: Consoling) -> None:
    """Nothing is called locked that says nothing."""
    at.watch.look()
    assert "The gateway says nothing" in text_of(at.get("/health"))
    assert at.watch.in_force is None


def test_every_page_is_there(at: Consoling) -> None:
    """No page needs a Node-RED that redlatch knows."""
    answers = {
        path: at.get(path).status for path in ("/", "/health", "/log", "/map", "/devices", "/rules", "/networks")
    }
    assert set(answers.values()) == {200}, answers


def test_the_way_to_node_red_is_the_gateways(gate: Gate) -> None:
    """Where a device is sent once it has its key."""
    assert node_red_url(gate.open().config(), "localhost") == f"https://localhost:{gate.port}/"
