"""What is said of a gateway: "locked" only when nobody gets past it, and what ends TLS in front of it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.gateways import Gate, web
from tests.support.netns import own_network

from redlatch.engines.haproxy.model import Gateway, Upstream
from redlatch.engines.nodered.claims import Access, parse_access
from redlatch.operations import gateway_standing, machine, ports
from redlatch.operations.gateway_standing import ending_tls
from redlatch.operations.status import status

CLOUDFLARE = "162.158.1.9"


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def network() -> Iterator[None]:
    if os.geteuid() != 0:
        pytest.skip("needs root for a network of its own")
    with own_network("192.168.77.5"):
        yield


def reaches(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def test_a_node_red_that_others_reach_is_not_locked(network: None, gate: Gate) -> None:
    """Bound to all addresses: where it is reached is said, and what to do; bound to loopback: locked."""
    gate.up()
    with gate.run():
        with web(gate.behind, "0.0.0.0"):
            stands = gateway_standing.standing(gate.open(), gate.environ)
            assert not stands.locked
            assert f"http://192.168.77.5:{gate.behind}" in stands.open_at[0]
            assert "uiHost" in stands.open_at[0]
            assert not status(gate.open(), gate.environ).locked
            assert reaches("192.168.77.5", gate.behind)
        with web(gate.behind):
            assert not reaches("192.168.77.5", gate.behind)
            assert reaches("127.0.0.1", gate.behind)
            stands = gateway_standing.standing(gate.open(), gate.environ)
            assert (stands.locked, stands.reach[0].closed, stands.reach[0].runs) == (True, True, True)


def test_what_does_not_run_is_not_called_locked(gate: Gate) -> None:
    """Nothing is known of where it will listen, so nothing is promised."""
    gate.up()
    stands = gateway_standing.standing(gate.open(), gate.environ)
    assert not stands.locked
    assert "does not run" in stands.open_at[0]
    assert stands.claim is None


def test_another_machines_node_red_is_not_called_locked(gate: Gate) -> None:
    """Who else reaches another machine cannot be seen from here."""
    gate.up(to=("http://192.0.2.8:1880",))
    stands = gateway_standing.standing(gate.open(), gate.environ)
    assert (stands.locked, stands.reach[0].closed) == (False, None)
    assert "another machine" in stands.open_at[0]


def test_listening_sockets_are_seen_as_they_are(network: None) -> None:
    """Loopback, one address, all of them, IPv4 and IPv6; nobody: nothing."""
    port = 18880
    assert ports.listeners(port) == ()
    for address, beyond in (("127.0.0.1", False), ("192.168.77.5", True), ("0.0.0.0", True)):
        with web(port, address):
            assert [one.beyond_loopback for one in ports.listeners(port)] == [beyond]
            assert [str(one.address) for one in ports.listeners(port)] == [address]
    assert gateway_standing.is_here("192.168.77.5")
    assert gateway_standing.is_here("localhost")
    assert not gateway_standing.is_here("192.168.77.6")
    assert not gateway_standing.is_here("node-red")
    assert machine.own_addresses()


def entry(address: str, fingerprint: str | None = None) -> Access:
    line: dict[str, Any] = {"at": 1.5, "from": address, "method": None, "path": None, "allow": False}
    found = parse_access(json.dumps({**line, "reason": "no-certificate", "fp": fingerprint}).encode())
    assert found is not None
    return found


DOOR = Gateway((":443",), (Upstream("http://127.0.0.1:1880"),))


def test_a_proxy_that_ends_tls_is_noticed() -> None:
    """Connections of Cloudflare's, or through a trusted proxy, of which none ever brings a certificate."""
    assert "Cloudflare" in ending_tls([entry(CLOUDFLARE)] * 5, DOOR)
    trusting = Gateway((":443",), DOOR.upstreams, trusted_proxies=("192.0.2.0/24",))
    assert "trusted proxy" in ending_tls([entry("192.0.2.7")] * 5, trusting)
    assert "a proxy is trusted" in ending_tls([entry("198.51.100.7")] * 20, trusting)


def test_a_proxy_that_passes_tls_on_is_not_blamed() -> None:
    """One certificate is enough, and so are strangers who come by themselves, and too few to tell."""
    assert ending_tls([*[entry(CLOUDFLARE)] * 9, entry(CLOUDFLARE, "0123456789ab")], DOOR) == ""
    assert ending_tls([entry("198.51.100.7")] * 50, DOOR) == ""
    assert ending_tls([entry(CLOUDFLARE)] * 2, DOOR) == ""
    tunnel = Gateway((":443",), DOOR.upstreams, accept_proxy=True, trusted_proxies=("192.0.2.0/24",))
    assert ending_tls([entry("198.51.100.7")] * 50, tunnel) == ""


def test_the_ways_out_are_said(gate: Gate) -> None:
    """Each of the three stands among the warnings, of both commands that say how things stand."""
    gate.up()
    spool = gate.settings.gateway.spool
    line = {
        "at": 1.5,
        "from": CLOUDFLARE,
        "method": None,
        "path": None,
        "allow": False,
        "reason": "no-certificate",
    }
    (spool / "access.jsonl").write_text(f"{json.dumps(line)}\n" * 8)
    stands = gateway_standing.standing(gate.open(), gate.environ)
    said = "\n".join(stands.warnings)
    assert stands.ends_tls
    assert all(way in said for way in gateway_standing.WAYS_OUT)
    assert all(way in "\n".join(status(gate.open(), gate.environ).warnings) for way in gateway_standing.WAYS_OUT)
