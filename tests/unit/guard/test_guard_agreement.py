"""The decision in Python and the one in JavaScript, over generated snapshots and facts: the same on every one."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.support.nodered import VERSIONS, Version, node
from tests.support.requests import any_facts, any_snapshot
from tests.support.site import GUARD

from redlatch.policy.decide import decide
from redlatch.policy.networks import encode

SNAPSHOTS, EACH = 250, 80
SEED = int(os.environ.get("REDLATCH_GENERATED_SEED") or 1)
AGREE = Path(__file__).parents[2] / "vectors/agree.js"
# What a decision needs of a snapshot, beside its devices and networks
KEPT = ("time", "names", "origins", "admin_root", "areas", "roles", "rules", "open_port")


def questions(seed: int) -> tuple[list[dict[str, Any]], Counter[str]]:
    random = Random(seed)
    sets, reasons = [], Counter[str]()
    for _ in range(SNAPSHOTS):
        snapshot = any_snapshot(random)
        asked = []
        for _ in range(EACH):
            facts = any_facts(random, snapshot)
            reason = decide(facts, snapshot).reason
            asked.append((asdict(facts), reason))
            reasons[reason] += 1
        body = asdict(snapshot)
        sets.append(
            {
                "snapshot": {name: body[name] for name in KEPT},
                "tables": {
                    name: base64.b64encode(encode(one)).decode() for name, one in snapshot.networks.items()
                },
                "devices": body["devices"],
                "asked": asked,
            }
        )
    return sets, reasons


@pytest.mark.parametrize(
    "version", [pytest.param(one, id=f"node-red-{one}-{node(one).parts[-4]}") for one in VERSIONS]
)
def test_python_and_javascript_agree(version: Version, tmp_path: Path) -> None:
    """20,000 questions over 250 snapshots: one answer, and no reason that is never given."""
    sets, reasons = questions(SEED)
    file = tmp_path / "questions.json"
    file.write_text(json.dumps(sets))
    done = subprocess.run(
        [str(node(version)), str(AGREE), str(file)],
        capture_output=True, text=True, check=False, timeout=120,
        env={"REDLATCH_TEST_GUARD": str(GUARD), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    first = sets[told["wrong"][0]["snapshot"]]["snapshot"] if told["wrong"] else None
    assert told["wrong"] == [], f"seed {SEED}, snapshot {first}"
    assert told["asked"] == SNAPSHOTS * EACH
    assert min(reasons[one] for one in ALL_REASONS) >= 50, reasons


ALL_REASONS = (
    "ok", "no-certificate", "untrusted-certificate", "unknown-certificate", "not-yet-valid", "expired",
    "foreign-host",
    "bad-target", "bad-upgrade", "cross-origin", "read-only", "no-rule", "wrong-method", "wrong-network",
)  # fmt: skip
