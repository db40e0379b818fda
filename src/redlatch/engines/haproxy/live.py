"""A change of the snapshot, brought to the HAProxy that runs: through its Runtime API, or by a reload.

The file comes first: what is in force would still be so after a reload by whomever. Then the values (they say for
an id what it may, and an id keeps its meaning) beside those of before, the keys that lead to ids, and the values
alone: so nobody who is let in before and after is refused in between, and nobody is let in whom neither would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redlatch.engines.haproxy.compile import (
    GONE,
    KEY_TABLES,
    VALUE_TABLES,
    Tables,
    device_row,
    rule_tables,
    structure,
    text,
)
from redlatch.engines.haproxy.runtime import Runtime
from redlatch.engines.haproxy.tree import Changed
from redlatch.errors import EngineError
from redlatch.files import write_soft
from redlatch.policy.model import Entry, Snapshot

#: Rows from which on a reload costs less than the Runtime API: 5,000 take it some 30 ms, in one thread.
MOST_ROWS: Final = 5000
_ONE_BY_ONE: Final = 20  # devices; more are told in one piece


@dataclass(frozen=True, slots=True)
class Told:
    """What the present worker knows: `tables` without the devices' two, `overlay` the devices that are others than
    in the devices' map of its folder.
    """

    snapshot: Snapshot
    digest: str
    structure: Mapping[str, Any]
    tables: Tables
    overlay: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to get from what is told to the next snapshot by the Runtime API.

    `rows` are the devices' to set; `tables` the names of those to replace. `takes`: somebody may have lost a
    right; `only`: then none but these certificates (None: anybody).
    """

    next: Told
    rows: Mapping[str, str]
    tables: tuple[str, ...]
    takes: bool
    only: frozenset[str] | None


def told(snapshot: Snapshot, digest: str, tables: Tables) -> Told:
    """What a worker knows that was started with these tables."""
    rest = {name: rows for name, rows in tables.items() if name not in ("devices", "changed")}
    return Told(snapshot, digest, structure(snapshot), rest, dict(tables["changed"]))


def plan(now: Told, snapshot: Snapshot, digest: str, changed: Changed) -> Plan | None:
    """The plan; None where only a reload will do. `changed`: devices that are not as in `now`."""
    if structure(snapshot) != now.structure:
        return None
    before = now.snapshot
    lost = frozenset(key for key, entry in changed.items() if _is_less(before.devices.get(key), entry))
    rows = {key: device_row(entry) if entry is not None else GONE for key, entry in changed.items()}
    overlay = {**now.overlay, **rows}
    if len(overlay) > MOST_ROWS:
        return None
    same = _same_rules(before, snapshot)
    named = {one for rule in snapshot.rules for one in rule.devices}
    if same and not any(_ids(key, entry, before) & named for key, entry in changed.items()):
        tables = {**now.tables, "state": _state(snapshot)}
        differ: tuple[str, ...] = ()
    else:
        tables = rule_tables(snapshot)
        differ = tuple(
            name for name in (*VALUE_TABLES, *KEY_TABLES) if tables.get(name, {}) != now.tables.get(name, {})
        )
    size = sum(len(tables[name]) * (2 if name in VALUE_TABLES else 1) for name in differ)
    if size + len(rows) > MOST_ROWS:
        return None
    return Plan(
        Told(snapshot, digest, now.structure, tables, overlay),
        rows,
        differ,
        takes=bool(lost) or not same,
        only=lost if same else None,
    )


def write(folder: Path, now: Told, step: Plan) -> None:
    """The files of what differs. FileProblem."""
    tables = {name: step.next.tables[name] for name in step.tables}
    if step.rows:
        tables["changed"] = dict(step.next.overlay)
    if step.next.tables["state"] != now.tables["state"]:
        tables["state"] = step.next.tables["state"]
    for name, rows in tables.items():
        write_soft(folder / f"{name}.map", text(rows), mode=0o600)


def tell(runtime: Runtime, worker: int, maps: Mapping[str, str], now: Told, step: Plan) -> None:
    """Tells it to the worker; `maps` as Runtime.maps gives them. EngineError: it may be told in part, which lets
    nobody in whom neither snapshot would.
    """
    try:
        after = step.next.tables
        if after["state"]["time"] != now.tables["state"]["time"]:
            runtime.put(worker, maps["state"], "time", after["state"]["time"])
        if len(step.rows) > _ONE_BY_ONE:
            runtime.replace(worker, maps["changed"], step.next.overlay)
        else:
            for key, row in step.rows.items():
                runtime.put(worker, maps["changed"], key, row)
        values = [name for name in step.tables if name in VALUE_TABLES]
        for name in values:
            runtime.replace(worker, maps[name], {**now.tables[name], **after[name]})
        for name in step.tables:
            if name not in VALUE_TABLES:
                runtime.replace(worker, maps[name], after[name])
        for name in values:
            runtime.replace(worker, maps[name], after[name])
        runtime.put(worker, maps["state"], "version", after["state"]["version"])
    except KeyError as error:
        raise EngineError(f"haproxy has no table {error}") from error


def _state(snapshot: Snapshot) -> dict[str, str]:
    return {"version": str(snapshot.version), "time": str(snapshot.time), "stale": "0"}


def _same_rules(one: Snapshot, other: Snapshot) -> bool:
    """Whether rules, roles and networks are the same; a network that did not change is the same object."""
    return (
        one.rules == other.rules
        and one.roles == other.roles
        and one.networks.keys() == other.networks.keys()
        and all(network is other.networks[name] for name, network in one.networks.items())
    )


def _is_less(before: Entry | None, after: Entry | None) -> bool:
    """Whether the change may have taken a right: anything but a device that came, or lasts longer."""
    if before is None or before == after:
        return False
    if after is None or (before.id, before.role) != (after.id, after.role):
        return True
    return after.not_after < before.not_after or after.not_before > before.not_before


def _ids(key: str, entry: Entry | None, before: Snapshot) -> set[str]:
    old = before.devices.get(key)
    return {one.id for one in (old, entry) if one is not None}
