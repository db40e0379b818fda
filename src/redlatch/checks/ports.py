"""Ports that Node-RED's nodes opened themselves: they are past every lock of ours, and are listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from redlatch.checks import looking
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.engines.nodered import processes, scan
from redlatch.engines.nodered.flows import read_flows
from redlatch.operations import ports


@dataclass(frozen=True, slots=True)
class Opened:
    """A port that Node-RED's process, or one that it started, listens on, and that is not its locked one."""

    kind: str  # tcp or udp
    listener: ports.Listener
    node: str  # the kind of node that opened it, where the flows say so

    @property
    def place(self) -> str:
        address = self.listener.address
        shown = f"[{address}]" if address.version == 6 else str(address)
        return f"{self.kind} {shown}:{self.listener.port}"


def opened(scene: Scene) -> list[Opened]:
    """All of them, by port. Unknown where Node-RED does not run, or belongs to somebody else."""
    config = scene.config
    pids = _pids(scene)
    if not pids:
        raise Unknown("Node-RED does not run")
    sets = [ports.held_by(pid) for pid in pids]
    if any(one is None for one in sets):
        raise Unknown("the sockets of Node-RED's process can be seen by root only: run it with sudo")
    held = frozenset().union(*(one for one in sets if one is not None))
    own = {looking.target(scene).listen_port, config.open_port}
    words = _nodes(scene)
    return [
        Opened(kind, one, words.get(one.port, ""))
        for kind, all_of_them in (("tcp", ports.listening()), ("udp", ports.receiving()))
        for one in sorted(all_of_them, key=lambda one: (one.port, str(one.address)))
        if one.inode in held and not (kind == "tcp" and one.port in own)
    ]


def _pids(scene: Scene) -> list[int]:
    """The processes behind Node-RED's port."""
    port = looking.target(scene).listen_port
    claim = looking.guard(scene)
    if claim is not None:
        return [claim.pid]
    if not scene.config.behind:
        return []  # who answers there is told of by other checks
    inodes = {one.inode for one in ports.listeners(port)}
    found = processes.find_processes()
    return [one.pid for one in found if inodes & (ports.held_by(one.pid) or frozenset())]


def _nodes(scene: Scene) -> dict[int, str]:
    """Port -> kind of node, as the flows say it."""
    inspection = looking.loaded(scene)
    flows = read_flows(looking.node_red(scene), user_dir=inspection.user_dir, flow_file=inspection.flow_file) or []
    return {int(port): kind for kind, port in scan.own_ports(flows) if port.isdecimal()}


def _beyond(scene: Scene) -> Iterator[Found]:
    for one in looking.once(scene, opened):
        if one.listener.beyond_loopback:
            yield Found(f"{_words(one)}, for everybody who reaches this machine", one.place)


def _loopback(scene: Scene) -> Iterator[Found]:
    for one in looking.once(scene, opened):
        if not one.listener.beyond_loopback:
            yield Found(f"{_words(one)}, for this machine only", one.place)


def _words(one: Opened) -> str:
    who = f"a node ({one.node})" if one.node else "Node-RED or a program that it started"
    return f"{who} listens at {one.place}"


CHECKS: Final = (
    Check(
        "ports-of-nodes",
        "nodes opened ports that the lock does not cover",
        Severity.WEAK,
        "The lock is on Node-RED's own port. What a node opens itself asks nobody for a certificate.",
        "close it in the firewall for who need not reach it, give it passwords, or bind it to 127.0.0.1",
        _beyond,
        ("store-unusable", "settings-broken", "no-guard"),
    ),
    Check(
        "ports-on-loopback",
        "nodes opened ports for this machine only",
        Severity.NOTE,
        "Every user of this machine reaches them.",
        "nothing to do where you trust all users of this machine",
        _loopback,
        ("store-unusable", "settings-broken", "no-guard"),
    ),
)
