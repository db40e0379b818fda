"""Every check there is has a test that breaks a site in that very way."""

from __future__ import annotations

import importlib
from pathlib import Path

from redlatch.checks.registry import BY_CODE


def broken() -> set[str]:
    """The codes in the BREAKS of this folder's tests: breaks with a `code`, or the codes themselves."""
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f"tests.integration.checks.{path.stem}")
        found |= {one if isinstance(one, str) else one.code for one in getattr(module, "BREAKS", ())}
    return found


def test_every_check_has_a_site_that_it_finds_broken() -> None:
    """No code without one, and no test of a code that is gone."""
    assert broken() == set(BY_CODE)
