"""What runs, or does not, in front of Node-RED: a real gateway, stopped and cut off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.checks.healthy import seen
from tests.integration.operations.gateways import Gate

from redlatch import bootstrap
from redlatch.checks import keys, service
from redlatch.checks.model import Scene
from redlatch.checks.run import Report, run
from redlatch.engines.haproxy import program

_LOOKED_AT = (*service.CHECKS, *keys.CHECKS)
#: It is root's own in these tests, with nobody else and no timer.
_ALWAYS = {"flows-are-root", "refresh-by-hand"}


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    made = Gate(tmp_path_factory.mktemp("gate"))
    made.up()
    with made.run():
        yield made


def look(gate: Gate) -> Report:
    site = bootstrap.site_to_check(gate.settings, actor="test")
    try:
        return run(_LOOKED_AT, Scene(site, gate.environ))
    finally:
        site.store.close()


def found(gate: Gate) -> list[tuple[str, str]]:
    return [one for one in seen(look(gate)) if one[0] not in _ALWAYS]


def test_a_gateway_that_runs_has_nothing_wrong(gate: Gate) -> None:
    """It answers where it should, and its HAProxy is one that can be used."""
    assert found(gate) == []


def test_a_gateway_without_haproxy_is_found(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was removed while the gateway still runs: it would not start again."""
    monkeypatch.setattr(program, "PLACES", "/nonexistent")
    monkeypatch.setitem(gate.environ, "PATH", "/nonexistent")
    assert found(gate) == [("haproxy-missing", "haproxy")]


def test_a_gateway_that_does_not_run_is_found(tmp_path: Path) -> None:
    """One that was put up and never started."""
    gate = Gate(tmp_path)
    gate.up()
    assert found(gate) == [("gateway-stopped", "gateway")]
