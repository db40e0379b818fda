"""The fault table: every fault still fits the guard, the table is whole, and a few are tried."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.scripts import load

ROOT = Path(__file__).parents[2]


faults = load("faults")
QUICK = (
    "TLS must have verified it",
    "it must be in the list",
    "an error of ours closes",
    "CONNECT is judged",
    "mapped addresses",
)
pytestmark = pytest.mark.skipif(
    "REDLATCH_TEST_GUARD" in os.environ, reason="these tests are about the guard, not about a copy with a fault"
)


def test_every_fault_fits(tmp_path: Path) -> None:
    """Each line that a fault takes away is still there, exactly once."""
    for number, fault in enumerate(faults.FAULTS):
        faults.edited(fault, tmp_path / str(number))


def test_the_table_is_whole() -> None:
    """docs/faults.md has a line with a red test for every fault, and no other."""
    lines = faults.TABLE.read_text().removeprefix(faults.HEAD).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [fault.check for fault in faults.FAULTS]
    assert not [line for line in lines if line.rsplit(" | ", 1)[1].removesuffix(" |") in ("None", "?", "")]


@pytest.mark.parametrize("check", QUICK)
def test_a_removed_check_is_noticed(check: str) -> None:
    """Some of the faults, to see that the campaign itself works; scripts/faults tries all."""
    fault = next(one for one in faults.FAULTS if one.check == check)
    assert faults.red(fault)
