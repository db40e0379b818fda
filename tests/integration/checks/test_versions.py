"""Versions with known holes: what the table says of a number, and what is asked of the real programs."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.checks.conftest import Home, by_code
from tests.integration.operations.gateways import Gate
from tests.support.nodered import node

from redlatch.checks import versions
from redlatch.checks.model import Check, Scene
from redlatch.checks.versions import Hole
from redlatch.engines.haproxy import program

CODES = {check.code: check for check in versions.CHECKS}
REAL = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True).stdout.strip().lstrip("v")


def cves(found: list[Hole]) -> set[str]:
    return {one.cve for one in found}


def test_the_first_version_without_a_hole_has_none_of_it() -> None:
    """Just below it has it; a newer line never had it; a line that is too old has it for good."""
    hole = [Hole("X", "", ("20.1.2", "22.3.0"), "")]
    for version, has in (
        ("20.1.1", True), ("20.1.2", False), ("22.2.9", True), ("22.3.0", False), ("24.0.0", False),
        ("18.9.9", True), ("21.0.0", False), ("20.1.10", False), ("nonsense", False),
    ):  # fmt: skip
        assert bool(versions.holes(version, hole, line=1)) is has, version
    assert versions.holes("2.6.9", [Hole("Y", "", ("2.6.10", "2.8.1"), "")], line=2)
    assert not versions.holes("2.8.1", [Hole("Y", "", ("2.6.10", "2.8.1"), "")], line=2)


def test_what_is_known_of_real_versions() -> None:
    """Some that people have, with what their makers said of them."""
    assert "CVE-2025-59464" in cves(versions.holes("22.20.0", versions.NODE_JS, line=1))
    assert "CVE-2025-59464" not in cves(versions.holes("22.22.0", versions.NODE_JS, line=1))
    for newest in ("22.23.5", "24.22.3", "26.13.1"):
        assert versions.holes(newest, versions.NODE_JS, line=1) == []
    assert versions.holes("1.2.7", versions.NODE_RED, line=1)
    assert versions.holes("4.1.15", versions.NODE_RED, line=1) == []
    assert cves(versions.holes("2.6.12", versions.HAPROXY, line=2)) == {"CVE-2023-40225"}


def test_each_hole_names_its_source() -> None:
    """A CVE, words, versions and an address for each."""
    for one in (*versions.NODE_JS, *versions.NODE_RED, *versions.HAPROXY):
        assert one.cve.startswith("CVE-")
        assert one.source.startswith("https://")
        assert one.what
        assert all(versions._number(fixed) for fixed in one.fixed)


def test_a_line_of_node_js_that_ended() -> None:
    """By the day it is looked at."""
    day = datetime(2026, 11, 26, tzinfo=UTC).date()
    assert versions.ended("18.20.4", day)
    assert versions.ended("16.1.0", day)
    assert versions.ended("20.20.2", day)
    assert versions.ended("22.23.5", day) is None
    assert versions.ended("99.0.0", day) is None


def above(version: str, places: int = 3) -> str:
    *head, last = version.split(".")[:places]
    return ".".join([*head, str(int(last) + 1)])


@pytest.mark.parametrize(
    ("code", "table", "version"),
    [("node-js-holes", "NODE_JS", REAL), ("node-red-holes", "NODE_RED", "5.0.7")],
)
def test_a_real_program_with_a_hole(
    home: Home, monkeypatch: pytest.MonkeyPatch, code: str, table: str, version: str
) -> None:
    """The real site's program is found below the first version without the hole, and not at it."""
    real = home.scene()
    if table == "NODE_RED":
        claim = versions.looking.guard(real)
        assert claim is not None
        assert claim.node_red is not None
        version = claim.node_red
    monkeypatch.setattr(versions, table, (Hole("CVE-1", "something", (version,), ""),))
    assert home.found(CODES[code]) == []
    monkeypatch.setattr(versions, table, (Hole("CVE-1", "something", (above(version),), ""),))
    (found,) = home.found(CODES[code])
    assert "CVE-1" in found.text
    assert above(version) in found.text


def test_an_ended_node_js_and_an_old_table(home: Home) -> None:
    """Years later, by the clock."""
    old, ends = CODES["holes-table-old"], CODES["node-js-ended"]
    assert home.found(old) == home.found(ends) == []
    later = {"clock": lambda: datetime(2035, 1, 1, tzinfo=UTC)}
    assert home.found(old, **later)
    assert home.found(ends, **later)


def test_an_haproxy_with_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that somebody built, of a number with a hole; a distribution's of the same number is not blamed."""
    gate = Gate(tmp_path)
    gate.up()
    check: Check = by_code(versions.CHECKS, "haproxy-holes")
    for name, words in (("2.6.12", "CVE-2023-40225"), ("2.6.12-1+deb12u4", ""), ("2.6.15", "")):
        fake = tmp_path / name
        fake.write_text(f"#!/bin/sh\necho 'HAProxy version {name} 2026/10/17'\n")
        fake.chmod(0o755)
        found = program.find(fake)
        monkeypatch.setattr(program, "find", lambda found=found: found)
        texts = [one.text for one in check.look(Scene(gate.open(), gate.environ))]
        assert [words in text for text in texts] == ([True] if words else [])
        monkeypatch.undo()
