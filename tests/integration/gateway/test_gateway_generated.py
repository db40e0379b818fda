"""Thousands of generated requests as bytes on the wire: `decide` and live HAProxy agree on every one.

The guard is asked requests of the same making in tests/integration/guard/test_guard_generated.py.
REDLATCH_GENERATED=N asks N per HAProxy instead of 5,000; REDLATCH_GENERATED_SEED another seed than 1.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from tests.integration.gateway.judge import Judge
from tests.integration.guard.examiner import json_of
from tests.integration.guard.test_guard_generated import (
    NETWORKS,
    OWN_ROLES,
    PER_SNAPSHOT,
    SEED,
    SOURCES,
    WANTED,
    clients,
)
from tests.support.nodered import free_port
from tests.support.requests import snapshot_fields, some, wire

from redlatch.policy.model import ROLES


def test_haproxy_and_decide_agree(judge: Judge) -> None:
    """Every request gets the decision and the reason of `decide`, and nothing else passes."""
    random = Random(SEED)
    everybody, fixed = clients(judge)
    known = [one.device for one in everybody if one.device is not None and len(one.device.name) == 1]
    open_port = free_port()
    number = 0
    while sum(judge.asked.values()) < WANTED and not judge.wrong:
        number += 1
        fields = snapshot_fields(random, [one.id for one in known], NETWORKS, open_port)
        fields["networks"] = {name: NETWORKS[name] for name in some(random, list(NETWORKS), 6)}
        entries = {one.fingerprint: replace(one.entry, role=random.choice([*ROLES, *OWN_ROLES])) for one in known}
        before = sum(judge.asked.values())
        judge.publish(**fields, devices={**entries, **fixed})
        while sum(judge.asked.values()) - before < PER_SNAPSHOT and not judge.wrong:
            client = replace(
                random.choices(everybody, weights=[6, *[2] * len(known), *[1] * 8])[0],
                source=random.choice(SOURCES),
                by_open_port=judge.snapshot.open_port is not None and random.random() < 0.4,
            )
            most = 12 if judge.stays(client) else 2
            requests = [wire(random, judge.snapshot) for _ in range(random.randint(1, most))]
            judge.visit(client, requests, pipelined=random.random() < 0.3)
        if judge.wrong:
            pytest.fail(
                f"seed {SEED}, {judge.door.program}, snapshot {number}: {json_of(judge.snapshot)}\n"
                + "\n".join(judge.wrong)
            )
    assert sum(judge.asked.values()) >= WANTED
    assert {reason for reason, count in judge.asked.items() if count >= 5} >= {
        "ok", "no-certificate", "untrusted-certificate", "unknown-certificate", "not-yet-valid", "expired",
        "foreign-host", "bad-target", "bad-upgrade", "cross-origin", "read-only", "no-rule", "wrong-method",
        "wrong-network",
    }  # fmt: skip
    # What reached the Node-RED behind it is what was answered as let in, not one request more
    assert len(judge.door.upstream.seen) == judge.reached
    upgrades = [head for head in judge.door.upstream.seen if b"\nupgrade:" in head.lower()]
    assert upgrades
    assert all(head.startswith(b"GET ") and b"\nupgrade: websocket\r" in head.lower() for head in upgrades)
    # What HAProxy's parser refuses by itself is the smaller part, and decide refuses it too
    assert judge.by_parser < WANTED / 5
