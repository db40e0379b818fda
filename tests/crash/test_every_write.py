"""Killed, on a full disk, with a failing disk or a power cut at any write: the old state or the new, nothing lost
that was acknowledged, and no engine more open than the store.
A spread of the write points by default; all of them with REDLATCH_KILLS=all, or tests/crash/campaign.py.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.crash.campaign import Campaign, everywhere, memory
from tests.crash.operations import OPERATIONS, Operation, Place
from tests.crash.syscalls import STRACE

ALL = os.environ.get("REDLATCH_KILLS") == "all"
#: Write points of an operation that are taken by default. Operations of the same kind share most of theirs.
FEW, MORE = 2, 6
# The second of them also because its calls vary in number, so that some of the chosen ones are missed.
CLOSER = ("device revoke", "name add with a new root", "rules apply")

pytestmark = [
    pytest.mark.skipif(STRACE is None, reason="strace is missing: scripts/test installs it"),
    pytest.mark.timeout(0 if ALL else 180),
]


@pytest.fixture(scope="module")
def place() -> Iterator[Callable[[str], Place]]:
    """Each base is made once."""
    with tempfile.TemporaryDirectory(prefix="rl-crash-", dir=memory()) as folder:
        made: dict[str, Place] = {}

        def found(base: str) -> Place:
            if base not in made:
                made[base] = Place(Path(folder) / base, base)
            return made[base]

        yield found
        for one in made.values():
            one.close()


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_whatever_stops_it_nothing_is_lost_and_nobody_let_in(
    operation: Operation, place: Callable[[str], Place], tmp_path: Path
) -> None:
    """At each point: killed, a full disk, a failing disk, a power cut; before and after the next command."""
    campaign = Campaign(operation, place(operation.base), tmp_path)
    if ALL:
        everywhere(campaign)
    else:
        _spread(campaign, MORE if operation.name in CLOSER else FEW)
    assert campaign.wrong == []
    assert sum(campaign.done.values()) >= 4


def _spread(campaign: Campaign, count: int) -> None:
    """Each point another kind: over all operations every kind is taken many times."""
    points = campaign.begin()
    assert len(points) > 3
    turn = itertools.count(OPERATIONS.index(campaign.operation))

    def one_of(ways: list[str]) -> list[str]:
        return [ways[next(turn) % len(ways)]] if ways else []

    campaign.acknowledge(cuts=list if count > FEW else one_of)
    for index in range(count):
        number = next(turn)
        call = points[(2 * index + 1) * len(points) // (2 * count)]
        if number % 2:
            campaign.kill(call, cuts=one_of)
        else:
            campaign.fail(call, ("disk full", "input/output error")[number // 2 % 2])


@pytest.mark.parametrize(
    ("name", "call", "file", "which"),
    [
        ("up", "pwrite64", "/.redlatch.db.", -1),  # the log of a new store, folded in before it gets its name
        ("rules apply", "unlink", "/look-up", 0),  # what tells the timer of DNS names, after the commit
        ("up with another name", "fsync", "/published", 0),  # the folder of the guard
    ],
)
def test_where_it_went_wrong_once(
    name: str, call: str, file: str, which: int, place: Callable[[str], Place], tmp_path: Path
) -> None:
    """A disk that is full there left half a store, or ended in a traceback."""
    operation = next(one for one in OPERATIONS if one.name == name)
    campaign = Campaign(operation, place(operation.base), tmp_path)
    points = campaign.begin()
    there = [
        one
        for one in points
        if one.name == call and file in one.paths[0] and not one.paths[0].endswith(("-wal", "-shm"))
    ]
    campaign.fail(there[which], "disk full")
    assert campaign.wrong == []
    assert campaign.done["disk full"] == 1
