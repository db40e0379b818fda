"""What the scripts of this folder share: Node-RED's CPU and memory from /proc, requests, rounds in turn."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import statistics
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.clients import Connection, HasCertificate, context
from tests.support.nodered import NodeRed

from redlatch.audit import Event, canonical_json, chain_hash


def node(identity: str, kind: str, wires: list[list[str]], **fields: Any) -> dict[str, Any]:
    """A node of the flow "tab"."""
    return {"id": identity, "type": kind, "z": "tab", "name": "", "x": 1, "y": 1, "wires": wires, **fields}


TAB: dict[str, Any] = {"id": "tab", "type": "tab", "label": "bench"}
HELLO = [node("in", "http in", [["out"]], url="/hello", method="get"), node("out", "http response", [])]


def fill(database: Path, count: int) -> None:
    """Puts rows into the store as `device add` would, but for keys that nobody has: no handshake uses them."""
    begin = datetime.now(UTC)
    now, year = int(begin.timestamp()), 365 * 86400
    with sqlite3.connect(database) as store:
        authority = store.execute("SELECT id FROM authorities WHERE kind = 'device'").fetchone()[0]
        revision, seq, digest = store.execute("SELECT revision, audit_seq, audit_hash FROM site").fetchone()
        for number in range(count):
            identity, fingerprint, name = str(uuid.uuid4()), secrets.token_hex(32), f"sensor {number}"
            store.execute(
                "INSERT INTO devices (id, name, name_key, role, user_slug, created_at) VALUES (?, ?, ?, ?, ?, ?)",
                (identity, name, name, ("user", "thing", "viewer")[number % 3], f"sensor-{number}", now),
            )
            store.execute(
                "INSERT INTO certificates (fingerprint, device_id, authority_id, serial, not_before,"
                " not_after, issued_at, der, changed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (fingerprint, identity, authority, fingerprint[:40], now, now + year, now,
                 secrets.token_bytes(620), revision),
            )  # fmt: skip
            data = {"device": identity, "fingerprint": fingerprint, "serial": fingerprint[:40]}
            event = Event(seq + 1, begin.replace(microsecond=0), "bench", "certificate.issued", data)
            seq, digest = event.seq, chain_hash(digest, event)
            store.execute(
                "INSERT INTO audit (seq, at, actor, kind, data, hash) VALUES (?, ?, ?, ?, ?, ?)",
                (seq, now, event.actor, event.kind, canonical_json(data), digest),
            )
        store.execute("UPDATE site SET audit_seq = ?, audit_hash = ?", (seq, digest))


def cpu(pid: int) -> float:
    """Seconds of CPU that all threads of the process have used."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def resident(pid: int) -> float:
    """MiB of memory that the process has."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def load() -> str:
    """The machine's load at present: whoever reads the figures should know who else was at work."""
    return "load " + Path("/proc/loadavg").read_text().split()[0]


def measure(red: NodeRed, work: Callable[[], int]) -> float:
    """Microseconds of CPU per piece of work."""
    before = cpu(red.pid)
    count = work()
    time.sleep(0.05)  # what the server still does after the last answer counts too
    return (cpu(red.pid) - before) / count * 1e6


def requests(port: int, device: HasCertificate | None, path: str, count: int, *, unlike: bool = False) -> int:
    """Sends `count` requests over one connection; `unlike`: each with a query of its own."""
    with Connection(port, device) as connection:
        for number in range(count):
            query = f"?at={number}" if unlike else ""
            line = f"GET {path}{query} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\n\r\n"
            connection.send(line.encode())
            assert connection.response().status == 200
    return count


def handshakes(port: int, device: HasCertificate, count: int) -> int:
    """Makes `count` full handshakes, one after the other."""
    made = context(device)
    for _ in range(count):
        with Connection(port, with_context=made) as connection:
            assert not connection.socket.session_reused
    return count


def in_turn(works: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each gives, round by round; each round begins with another one, and the first three warm up."""
    figures: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-3, rounds):
        order = deque(works.items())
        order.rotate(number)
        for name, work in order:
            figure = work()
            if number >= 0:
                figures[name].append(figure)
    return figures


def ratio(ones: list[float], others: list[float]) -> float:
    """The median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(ones, others, strict=True))


def centile(values: list[Any], share: float) -> float:
    ordered = sorted(values)
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))])
