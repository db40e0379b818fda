"""docs/proof.md is true: what it names exists, every class has its tests, every target its line."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from fuzz import harness
from tests.proof.classes import CLASSES, FINDINGS, TESTS, Class, named_by
from tests.support.scripts import load

DOCUMENT = (TESTS.parent / "docs/proof.md").read_text(encoding="utf-8")


@cache
def functions(file: Path) -> set[str]:
    """The names of a file's functions, those of classes too."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


def exists(test: str) -> bool:
    file, _, name = test.partition("::")
    return (TESTS / file).is_file() and name.startswith("test_") and name in functions(TESTS / file)


def test_every_test_that_is_named_exists() -> None:
    """In the list, and in the document."""
    named = {test for one in CLASSES for test in named_by(one)} | {one.test for one in FINDINGS}
    written = set(re.findall(r"`([a-z/_0-9]+\.py::\w+)`", DOCUMENT))
    assert [one for one in sorted(named | written) if not exists(one)] == []
    assert written == named, "run scripts/proof --write"
    assert not exists("unit/test_fuzz.py::test_nothing")


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: str(one.number))
def test_every_class_is_proved_on_both_engines(one: Class) -> None:
    """By a test of each engine, or by tests of the service and a reason why the engine has none."""
    for proof in (one.node_red, one.gateway):
        assert proof
        if isinstance(proof, str):
            assert proof.startswith("no part: ")
            assert one.control
    assert len(set(named_by(one))) >= 3


def test_all_classes_are_there_and_none_twice() -> None:
    """1 to 25, each with a line that says how it ended."""
    assert [one.number for one in CLASSES] == list(range(1, 26))
    rows = re.findall(r"^\| \[(\d+)\]\(#class-\d+\) (.*) \|$", DOCUMENT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 26))
    for number, row in rows:
        ended = row.split(" | ")[1:]
        assert len(ended) == 3
        assert all(re.match(r"passed: \d+ tests?, [1-9]\d* cases?$|no part: |-$", one) for one in ended), number


def test_the_document_is_what_the_script_writes() -> None:
    """From the list, the results that are kept, and those of fuzzing: nothing in it is typed by hand."""
    proof = load("proof")
    ended = {name: Counter(one) for name, one in json.loads(proof.ENDED.read_text()).items()}
    assert proof.document(DOCUMENT, ended, json.loads(proof.FUZZED.read_text())) == DOCUMENT


def test_every_target_has_its_line() -> None:
    """And every line its target; findings name a target too."""
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([\d,]+) \| [\d-]+ \|$", DOCUMENT, re.MULTILINE)
    assert [name for name, _ in rows] == harness.names()
    assert all(int(count.replace(",", "")) > 1000 for _, count in rows)
    assert {one.target for one in FINDINGS} <= set(harness.names())
