"""The specification against its vectors; the guard in JavaScript runs the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from redlatch.policy.decide import decide
from redlatch.policy.model import Areas, Entry, Facts, Rule, Snapshot
from redlatch.policy.networks import compiled, parse

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "decide.json").read_text())


def snapshot_of(body: dict[str, Any] | None) -> Snapshot | None:
    """A vector's snapshot: networks as lists of addresses, rules without what is empty."""
    if body is None:
        return None
    fields = dict(body)
    for name in ("names", "origins"):
        fields[name] = tuple(fields[name])
    fields["devices"] = {fingerprint: Entry(**entry) for fingerprint, entry in body["devices"].items()}
    fields["areas"] = Areas(**{name: tuple(paths) for name, paths in body["areas"].items()})
    fields["networks"] = {name: compiled(map(parse, entries)) for name, entries in body["networks"].items()}
    fields["rules"] = tuple(
        Rule(**{key: tuple(value) if isinstance(value, list) else value for key, value in rule.items()})
        for rule in body["rules"]
    )
    return Snapshot(**fields)


CASES = [
    pytest.param(snapshot_of(group["snapshot"]), case, id=f"{number}-{case['name']}")
    for number, group in enumerate(VECTORS["sets"])
    for case in group["cases"]
]


@pytest.mark.parametrize(("snapshot", "case"), CASES)
def test_vector(snapshot: Snapshot | None, case: dict[str, Any]) -> None:
    """`decide` answers every vector with its reason, and admits for the reason "ok" alone."""
    decision = decide(Facts(**{**VECTORS["base"], **case["facts"]}), snapshot)
    assert (decision.reason, decision.allow) == (case["expect"], case["expect"] == "ok")


def test_every_reason_is_expected_somewhere() -> None:
    """No reason code is without a vector that expects it."""
    expected = {case["expect"] for group in VECTORS["sets"] for case in group["cases"]}
    assert expected == {
        "ok", "no-snapshot", "no-certificate", "untrusted-certificate", "unknown-certificate", "not-yet-valid",
        "expired", "foreign-host", "bad-target", "bad-upgrade", "cross-origin", "read-only", "no-rule",
        "wrong-method", "wrong-network",
    }  # fmt: skip


def test_an_unknown_role_reaches_nothing() -> None:
    """A role that this version does not know is refused everywhere: no rule, no entry."""
    snapshot = snapshot_of(VECTORS["sets"][0]["snapshot"])
    assert snapshot is not None
    entry = Entry(id="x", role="superuser", user="x", not_before=0, not_after=9000)
    strange = Snapshot(
        **{name: getattr(snapshot, name) for name in Snapshot.__slots__ if name != "devices"},
        devices={"f" * 64: entry},
    )
    for target in ("/", "/flows", "/dashboard", "/hello"):
        facts = Facts(target=target, host="pi.local", certificate="f" * 64, verified=True, now=2000)
        assert decide(facts, strange).reason == "no-rule"
