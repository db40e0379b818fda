"""Reasons in words, from the file that the guard's page shows too."""

from __future__ import annotations

import json
from importlib import resources
from typing import NamedTuple


class Reason(NamedTuple):
    """Why, and what to do next ("" where there is nothing to do)."""

    text: str
    next: str


def reasons() -> dict[str, Reason]:
    """All of them, by code; "ok" is one."""
    data = resources.files("redlatch.engines.nodered").joinpath("guard/reasons.json").read_bytes()
    return {code: Reason(one["text"], one["next"]) for code, one in json.loads(data).items()}


def reason(code: str) -> Reason:
    """The words for a decision's reason; the code itself for one that has none."""
    return reasons().get(code, Reason(code, ""))
