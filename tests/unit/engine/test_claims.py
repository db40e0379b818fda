"""The guard's reports, read by schema; everything in them is Node-RED's word."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from redlatch.engines.nodered import claims
from redlatch.settings import Settings

GOOD: dict[str, Any] = {
    "format": 1, "site": "s", "version": 4, "digest": "ab", "pid": 7,
    "started": 1_700_000_000, "at": 1_700_000_100.5,
    "port": 1880, "node_red": "4.1.15", "guard": "0123456789ab", "closed": 2, "ms": 21.5, "problem": None,
    "server_not_after": 1_800_000_000,
}  # fmt: skip
UID = os.geteuid()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path, system=False)
    made.spool.mkdir()
    return made


def put(settings: Settings, name: str, *values: Any) -> None:
    (settings.spool / name).write_text("".join(json.dumps(value) + "\n" for value in values))


def entry(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "at": 1_700_000_000 + number, "from": "192.168.1.7", "device": None, "fp": None, "method": "GET",
        "path": f"/{number}", "allow": False, "reason": "no-certificate", "upgrade": False, "count": 1, **fields,
    }  # fmt: skip


def test_report_is_read(settings: Settings) -> None:
    """A whole report, with times in UTC."""
    put(settings, "in-force.json", GOOD)
    found = claims.read_in_force(settings, UID)
    assert found is not None
    assert (found.version, found.closed, found.ms, found.port, found.problem) == (4, 2, 21.5, 1880, None)
    assert found.started == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert found.fresh(found.at + timedelta(seconds=60))
    assert not found.fresh(found.at + timedelta(seconds=90))


def test_no_report_is_none(settings: Settings) -> None:
    """Nothing there: nothing said."""
    assert claims.read_in_force(settings, UID) is None
    assert claims.read_connections(settings, UID) is None
    assert claims.read_access(settings, UID) == []


@pytest.mark.parametrize(
    "change",
    [{"format": 2}, {"version": "4"}, {"version": -1}, {"version": True}, {"version": 1e300}, {"site": None},
     {"at": "now"}, {"at": 1e18}, {"started": -5}, {"port": [1]}, {"node_red": {}}, {"pid": None}],
)  # fmt: skip
def test_report_that_does_not_fit_is_none(change: dict[str, Any], settings: Settings) -> None:
    """One wrong field, and the whole is not believed."""
    put(settings, "in-force.json", {**GOOD, **change})
    assert claims.read_in_force(settings, UID) is None


def test_text_of_strangers_is_printable(settings: Settings) -> None:
    """Escape sequences and direction marks do not reach a terminal."""
    put(settings, "in-force.json", {**GOOD, "problem": "a\x1b[2Jb\u202e" + "c" * 9000})
    found = claims.read_in_force(settings, UID)
    assert found is not None
    assert found.problem is not None
    assert found.problem.isprintable()
    assert len(found.problem) <= 500
    put(settings, "access.jsonl", entry(1, path="/\x1b]0;evil\x07"))
    assert claims.read_access(settings, UID)[0].path.isprintable()


def test_waiting_ends_with_the_version_or_the_time(settings: Settings) -> None:
    """A later version counts, another site does not, and patience ends."""
    put(settings, "in-force.json", GOOD)
    assert claims.wait_in_force(settings, UID, 4, 0, site="s") is not None
    assert claims.wait_in_force(settings, UID, 3, 0) is not None
    assert claims.wait_in_force(settings, UID, 5, 0) is None
    assert claims.wait_in_force(settings, UID, 4, 0, site="other") is None


def test_connections_are_read_and_odd_ones_skipped(settings: Settings) -> None:
    """One broken entry does not hide the others; a thousand are enough."""
    one = {"id": "a", "from": "10.0.0.1", "since": 1_700_000_000, "websocket": True}
    put(settings, "connections.json", {"format": 1, "at": 1, "connections": [one, {"id": 1}, 7, *[one] * 2000]})
    found = claims.read_connections(settings, UID)
    assert found is not None
    assert len(found) == 998
    assert found[0].websocket


def test_last_entries_over_the_rotation(settings: Settings) -> None:
    """The newest entries, oldest first, from both files; cut and odd lines are skipped."""
    put(settings, "access.1.jsonl", *(entry(n) for n in range(5)))
    put(settings, "access.jsonl", *(entry(n) for n in range(5, 8)), {"at": "x"})
    with (settings.spool / "access.jsonl").open("a") as stream:
        stream.write('{"at":17000')
    assert [one.path for one in claims.read_access(settings, UID, limit=4)] == ["/4", "/5", "/6", "/7"]
    assert len(claims.read_access(settings, UID)) == 8


def test_following_sees_what_comes_over_a_rotation(settings: Settings) -> None:
    """Old entries are not repeated; half a line waits for its end; a rotation loses nothing."""
    put(settings, "access.jsonl", entry(0))
    path = settings.spool / "access.jsonl"

    def append(text: str) -> None:
        with path.open("a") as stream:
            stream.write(text)

    def rotate() -> None:
        append(json.dumps(entry(3)) + "\n")
        path.rename(settings.spool / "access.1.jsonl")
        put(settings, "access.jsonl", entry(4))

    line = json.dumps(entry(2))
    steps = iter(
        [lambda: append(json.dumps(entry(1)) + "\n" + line[:20]), lambda: append(line[20:] + "\n"), rotate]
    )

    def wait() -> bool:
        step = next(steps, None)
        if step:
            step()
        return step is not None

    assert [one.path for one in claims.follow_access(settings, UID, wait=wait)] == ["/1", "/2", "/3", "/4"]
