"""The vectors of the specification, asked of live HAProxy: real certificates, bytes on the wire.

As tests/integration/guard/test_guard_vectors.py asks the guard.
"""

from __future__ import annotations

import time

import pytest
from tests.integration.gateway.judge import Judge, as_haproxy
from tests.integration.guard.examiner import Client
from tests.integration.guard.test_guard_vectors import (
    VECTORS,
    People,
    cases,
    on_loopback,
    raw_of,
    translated,
)
from tests.support.nodered import free_port
from tests.support.requests import facts_of

from redlatch.policy.decide import decide
from redlatch.policy.model import Snapshot


@pytest.mark.parametrize(
    "number", [at for at, group in enumerate(VECTORS["sets"]) if group["snapshot"] is not None]
)
def test_vectors(judge: Judge, number: int) -> None:
    """Every vector that a client can show gets its decision and its reason from Python and from HAProxy."""
    people = People(judge.door.site)
    now = int(time.time())
    wanted = translated(VECTORS["sets"][number]["snapshot"], people, now)
    fields = {name: getattr(wanted, name) for name in Snapshot.__slots__}
    kept = {name: fields[name] for name in fields if name not in ("site", "version", "spool", "port", "keep_auth")}
    kept["open_port"] = None if wanted.open_port is None else free_port()
    judge.wrong.clear()
    judge.publish(**kept)
    for at, case, facts, reason in cases():
        if at != number or reason is not None:
            continue
        device = None if facts["certificate"] is None else people.get(facts["certificate"], facts["verified"])
        client = Client(
            device, on_loopback(facts["peer"]), trusted=facts["verified"], by_open_port=facts["by_open_port"]
        )
        raw = raw_of(facts)
        seen = as_haproxy(raw, facts_of(raw), judge.door)
        shown = client.facts(seen.facts, now)
        if seen.facts == facts_of(raw).facts:
            assert decide(shown, judge.snapshot).reason == case["expect"], case["name"]
        judge.visit(client, [raw])
        assert judge.wrong == [], case["name"]
