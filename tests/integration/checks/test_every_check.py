"""Every check there is has a test that breaks a site in that very way."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from redlatch.checks.registry import BY_CODE


def named() -> Iterator[str]:
    """Every string in the code of this folder's tests."""
    for path in Path(__file__).parent.glob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        yield from (
            one.value for one in ast.walk(tree) if isinstance(one, ast.Constant) and isinstance(one.value, str)
        )


def test_every_check_has_a_site_that_it_finds_broken() -> None:
    """No code without a test that asks for it by name: these break a real site first."""
    assert set(BY_CODE) - set(named()) == set()
