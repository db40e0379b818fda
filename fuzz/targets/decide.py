"""The decision over what a request shows: one reason in Python and in the guard.

Input: lines: the number of one of the snapshots of the test vectors, then `name value` for what is laid over
ordinary facts: a header, the method, the peer's address and so on. A name without a value leaves it out.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from tests.support.requests import any_facts, any_snapshot

from fuzz.harness import javascript, lines, pick
from redlatch.policy.decide import decide
from redlatch.policy.model import Facts, Snapshot
from redlatch.policy.networks import encode

_TEXTS = ("method", "target", "host", "origin", "fetch_site", "fetch_mode", "fetch_dest", "upgrade", "peer",
          "certificate")  # fmt: skip
_NEEDED = ("method", "target", "peer")
_KEPT = ("time", "names", "origins", "admin_root", "areas", "roles", "rules", "open_port")
VECTORS = Path(__file__).parents[2] / "tests/vectors/decide.json"


@cache
def _given() -> list[tuple[Snapshot, Facts, dict[str, Any]]]:
    """Snapshots, facts that one could be asked with, and the same snapshots as the guard gets them."""
    found = []
    for seed in range(24):
        random = Random(seed)
        snapshot = any_snapshot(random)
        body = asdict(snapshot)
        question = {
            "snapshot": {name: body[name] for name in _KEPT},
            "tables": {name: base64.b64encode(encode(one)).decode() for name, one in snapshot.networks.items()},
            "devices": body["devices"],
        }
        found.append((snapshot, any_facts(random, snapshot), question))
    return found


def TestOneInput(data: bytes) -> None:
    which, rest = lines(data, 2)
    snapshot, facts, question = pick(which, _given())
    # Node.js hands headers and targets on as Latin-1
    changes: dict[str, Any] = {}
    for line in rest.encode("utf-8", "surrogateescape").decode("latin-1").split("\n"):
        name, blank, value = line.partition(" ")
        if name in _TEXTS:
            changes[name] = value if blank or name in _NEEDED else None
        elif name in ("verified", "by_open_port"):
            changes[name] = value == "yes"
        elif name == "now":
            changes[name] = len(value) * 1000
        elif name == "device" and snapshot.devices:
            changes |= {"certificate": pick(value, sorted(snapshot.devices)), "verified": True}
    facts = replace(facts, **changes)
    decision = decide(facts, snapshot)
    assert decision.allow == (decision.reason == "ok")
    assert not decision.allow or decision.rules, "no rule, no entry"
    assert not decision.allow or facts.method != "CONNECT"
    said = javascript("decide", facts=asdict(facts), **question)
    assert said == {"ok": decision.reason}, (said, decision, json.dumps(asdict(facts)))
