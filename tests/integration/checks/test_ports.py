"""Ports that nodes open: seen at the kernel's tables, by the process that holds them, and listed."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import pytest
from tests.integration.checks.conftest import FLOWS, Home, by_code
from tests.support.clients import request
from tests.support.nodered import free_port, node
from tests.support.wait import until

from redlatch.checks import ports
from redlatch.checks.model import Found, Unknown
from redlatch.operations import ports as tables

BEYOND, LOOPBACK = (by_code(ports.CHECKS, code) for code in ("ports-of-nodes", "ports-on-loopback"))


def deploy(home: Home, *nodes: dict[str, Any]) -> None:
    answer = request(
        home.house.port,
        "POST",
        "/flows",
        home.admin,
        headers={"Content-Type": "application/json", "Node-RED-Deployment-Type": "full"},
        body=json.dumps([*FLOWS, *nodes]).encode(),
    )
    assert answer.status < 300, answer.body


def test_what_nodes_open_is_listed(home: Home) -> None:
    """A TCP server and a UDP receiver of nodes for everybody, and a program of a node's on loopback; nothing
    before and nothing after.
    """
    assert home.found(BEYOND) == home.found(LOOPBACK) == []
    tcp, udp, own = free_port(), 20000 + os.getpid() % 10000, free_port()
    script = f"require('net').createServer().listen({own}, '127.0.0.1')"
    try:
        deploy(
            home,
            {"id": "tcp", "type": "tcp in", "z": "t", "server": "server", "port": str(tcp), "datamode": "stream",
             "datatype": "buffer", "newline": "", "topic": "", "wires": [[]]},
            {"id": "udp", "type": "udp in", "z": "t", "port": str(udp), "ipv": "udp4", "multicast": "false",
             "group": "", "iface": "", "datatype": "buffer", "wires": [[]]},
            {"id": "go", "type": "inject", "z": "t", "once": True, "onceDelay": 0.1, "props": [],
             "wires": [["run"]]},
            {"id": "run", "type": "exec", "z": "t", "command": f'{node()} -e "{script}"', "addpay": "",
             "append": "", "useSpawn": "true", "timer": "", "wires": [[], [], []]},
        )  # fmt: skip
        until(lambda: tables.listeners(own) != () and tables.listeners(tcp) != (), what="the ports of the nodes")
        found = {one.subject.rpartition(":")[2]: one for one in home.found(BEYOND)}
        assert set(found) == {str(tcp), str(udp)}
        assert "tcp in" in found[str(tcp)].text
        assert "udp in" in found[str(udp)].text
        assert subjects(home.found(LOOPBACK)) == [f"tcp 127.0.0.1:{own}"]
    finally:
        deploy(home)
    until(lambda: home.found(BEYOND) == home.found(LOOPBACK) == [], what="the ports to be closed")


def subjects(found: list[Found]) -> list[str]:
    return [one.subject for one in found]


def test_the_open_port_is_no_nodes(home: Home) -> None:
    """It is redlatch's own, and known."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        held = tables.held_by(os.getpid())
        assert held is not None
        assert {one.port for one in tables.listening() if one.inode in held} >= {port}
    with home.configured(open_port=home.house.port):
        assert home.found(BEYOND) == []


def test_a_node_red_that_does_not_run_opens_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """That it was not looked at is said."""
    monkeypatch.setattr(ports.looking, "guard", lambda _: None)
    with pytest.raises(Unknown):
        home.found(BEYOND)
