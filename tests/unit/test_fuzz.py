"""The fuzz targets for a second each, without atheris: their corpus and mutations of it. See fuzz/README.md."""

from __future__ import annotations

import os

import pytest
from fuzz import harness

SEED = int(os.environ.get("REDLATCH_GENERATED_SEED") or 1)
MOST, SECONDS = 3000, 1.2


@pytest.mark.parametrize("name", harness.names())
def test_nothing_is_found_at_once(name: str) -> None:
    """Every property of the target holds for its corpus and for what a second's mutations make of it."""
    assert harness.smoke(name, seconds=SECONDS, most=MOST, seed=SEED) > len(harness.seeds(name))


@pytest.mark.parametrize("name", harness.names())
def test_the_corpus_is_small_and_says_something(name: str) -> None:
    """A seed stays readable, and no target begins from nothing."""
    found = harness.seeds(name)
    assert len(found) >= 5
    assert len(set(found)) == len(found)
    assert max(map(len, found)) <= harness.MOST_BYTES


def test_each_corpus_belongs_to_a_target() -> None:
    """No folder of the corpus is left of a target that went."""
    assert sorted(path.name for path in harness.CORPUS.iterdir()) == harness.names()


def test_a_finding_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that fails fails the run, and the input is told."""
    from fuzz.targets import paths as target

    from redlatch.policy import paths

    monkeypatch.setattr(target, "is_canonical", lambda path: paths.is_canonical(path) or "%2f" in path)
    with pytest.raises(AssertionError) as found:
        harness.smoke("paths", seconds=5, most=5000)
    assert "input b'" in "".join(found.value.__notes__)
