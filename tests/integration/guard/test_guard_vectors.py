"""The vectors of the specification, asked of real Node-REDs: real certificates, real addresses, bytes on the wire.

Fingerprints become certificates made here, addresses become loopback ones (the first two bytes are mapped, the
last two kept, in networks and peers alike), and the time is now instead of second 2000. Strict, as the vectors
say: where the guard only cuts a connection, its access log says why.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any

import pytest
from tests.integration.guard.conftest import build
from tests.integration.guard.examiner import Client, Examiner, counted
from tests.support.nodered import Version, free_port
from tests.support.requests import facts_of
from tests.support.site import Device, Site
from tests.unit.policy.test_decide import VECTORS, snapshot_of

from redlatch.pki.authority import Authority
from redlatch.policy.decide import decide
from redlatch.policy.model import METHODS, Facts, Snapshot

NOW = 2000  # what the vectors call the present
FIRST = {"192.168": "127.168", "203.0": "127.203", "198.51": "127.198"}
IPV4 = re.compile(r"\b(\d+\.\d+)(\.\d+\.\d+)\b")


@pytest.fixture(scope="module")
def examiner(version: Version, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Examiner]:
    lock = counted(build(version, tmp_path_factory.mktemp(f"vectors-{version}")))
    with lock.red:
        yield Examiner(lock)


def on_loopback(text: str) -> str:
    """Addresses outside of what the vectors use stay what they are: nobody comes from there."""
    return IPV4.sub(lambda match: FIRST.get(match[1], match[1]) + match[2], text)


def why_not(facts: dict[str, Any], body: dict[str, Any] | None) -> str | None:
    """Why a running guard cannot be asked this, or None."""
    certificate, method = facts["certificate"], facts["method"]
    texts = [facts[name] for name in ("target", "host", "origin", "upgrade") if facts[name] is not None]
    reasons = {
        "a guard without a snapshot: tests/integration/guard/test_guard_start.py": body is None,
        "the clock": facts["now"] != NOW,
        "no certificate has this fingerprint": certificate is not None
        and not re.fullmatch(r"[0-9a-f]{64}", certificate),
        "an open port that is not open": facts["by_open_port"] and body is not None and body["open_port"] is None,
        "a peer that is no IPv4 address": not is_ipv4(facts["peer"]),
        "Node.js refuses such a method": method not in (*METHODS, "CONNECT", "TRACE", "PROPFIND"),
        "Node.js ends a CONNECT by itself": method == "CONNECT",
        "blanks around a value are not part of it": any(text != text.strip(" \t") for text in texts),
        "Node.js refuses control characters": any(re.search(r"[\x00-\x1f\x7f]", text) for text in texts),
        "Node.js refuses such a target": not re.fullmatch(r"(/|\*|[a-z]+://)[\x21-\x7e]*", facts["target"]),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def is_ipv4(text: str) -> bool:
    try:
        return IPv4Address(text) is not None
    except ValueError:
        return False


def raw_of(facts: dict[str, Any]) -> bytes:
    """The request that shows these facts."""
    version = "1.0" if facts["host"] is None else "1.1"  # with 1.1 Node.js itself asks for a host
    lines = [f"{facts['method']} {facts['target']} HTTP/{version}"]
    names = {
        "host": "Host", "origin": "Origin", "fetch_site": "Sec-Fetch-Site", "fetch_mode": "Sec-Fetch-Mode",
        "fetch_dest": "Sec-Fetch-Dest", "upgrade": "Upgrade",
    }  # fmt: skip
    lines += [f"{name}: {facts[key]}" for key, name in names.items() if facts[key] is not None]
    if facts["upgrade"] is not None:
        lines += [
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        ]
    if facts["method"] in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class People:
    """A real certificate for each fingerprint of the vectors, of our own CA and of another."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.elsewhere = Authority.create_device("elsewhere", now=datetime.now(UTC))
        self.made: dict[tuple[str, bool], Device] = {}

    def get(self, fingerprint: str, verified: bool) -> Device:
        key = fingerprint, verified
        if key not in self.made:
            authority = None if verified else self.elsewhere
            self.made[key] = self.site.device(fingerprint[:4], authority=authority, listed=False)
        return self.made[key]


def translated(body: dict[str, Any], people: People, now: int) -> Snapshot:
    """The vector's snapshot with our certificates, addresses and time."""
    networks = {name: [on_loopback(entry) for entry in entries] for name, entries in body["networks"].items()}
    made = snapshot_of({**body, "networks": networks})
    assert made is not None
    devices = {
        people.get(fingerprint, verified).fingerprint: replace(
            entry, not_before=now + entry.not_before - NOW, not_after=now + entry.not_after - NOW
        )
        for fingerprint, entry in made.devices.items()
        for verified in (True, False)  # listed, but of a CA that is not ours: still untrusted
    }
    return replace(made, devices=devices, time=now)


# reason -> how many vectors; the guard's JavaScript alone answers these too (tests/unit/guard/decide.test.js)
CANNOT = {
    "the clock": 6,
    "no certificate has this fingerprint": 4,
    "a peer that is no IPv4 address": 10,
    "blanks around a value are not part of it": 2,
    "an open port that is not open": 1,
    "Node.js refuses such a method": 1,
    "Node.js refuses such a target": 4,
    "Node.js refuses control characters": 4,
    "Node.js ends a CONNECT by itself": 1,
    "a guard without a snapshot: tests/integration/guard/test_guard_start.py": 1,
}


def cases() -> Iterator[tuple[int, dict[str, Any], dict[str, Any], str | None]]:
    for number, group in enumerate(VECTORS["sets"]):
        for case in group["cases"]:
            facts = {**VECTORS["base"], **case["facts"]}
            yield number, case, facts, why_not(facts, group["snapshot"])


def test_what_cannot_be_asked_is_known() -> None:
    """The vectors that no client can show to a running guard are few, and each has its reason."""
    seen: dict[str, int] = {}
    for _, _, _, reason in cases():
        if reason is not None:
            seen[reason] = seen.get(reason, 0) + 1
    assert seen == CANNOT


@pytest.mark.parametrize(
    "number", [at for at, group in enumerate(VECTORS["sets"]) if group["snapshot"] is not None]
)
def test_vectors(examiner: Examiner, number: int) -> None:
    """Every vector that can be asked gets its decision and its reason, from Python and from the guard."""
    lock, people = examiner.lock, People(examiner.lock.site)
    now = int(time.time())
    body = VECTORS["sets"][number]["snapshot"]
    wanted = translated(body, people, now)
    admin = {lock.admin.fingerprint: replace(lock.admin.entry, role="owner")}
    fields = {name: getattr(wanted, name) for name in Snapshot.__slots__}
    kept = {name: fields[name] for name in fields if name not in ("site", "version", "spool", "port", "keep_auth")}
    kept["devices"] = {**wanted.devices, **admin}
    kept["open_port"] = None if wanted.open_port is None else free_port()
    asked = [(case, facts) for at, case, facts, reason in cases() if at == number and reason is None]
    examiner.wrong.clear()
    examiner.logged.clear()
    examiner.publish(**kept)
    examiner.welcome(sorted({on_loopback(facts["peer"]) for _, facts in asked}))
    for case, facts in asked:
        device = None if facts["certificate"] is None else people.get(facts["certificate"], facts["verified"])
        client = Client(
            device, on_loopback(facts["peer"]), trusted=facts["verified"], by_open_port=facts["by_open_port"]
        )
        raw = raw_of(facts)
        shown = client.facts(facts_of(raw).facts, now)
        assert decide(shown, examiner.snapshot).reason == case["expect"], case["name"]
        assert same(shown, facts), case["name"]
        examiner.visit(client, [raw])
        assert examiner.wrong == [], case["name"]
    examiner.compare_logs()
    assert examiner.wrong == []


def same(shown: Facts, facts: dict[str, Any]) -> bool:
    """Whether the request says what the vector says, but for what was translated."""
    names = ("method", "target", "host", "origin", "fetch_site", "fetch_mode", "fetch_dest", "upgrade")
    return all(getattr(shown, name) == facts[name] for name in names)
