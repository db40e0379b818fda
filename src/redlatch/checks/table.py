"""The rows of the outside-in probe as a table that a person takes in at a glance: surface by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redlatch.checks import outside
from redlatch.checks.outside import Probed, Row

GOOD, BAD = "good", "bad"
_SHORT: Final = {"admitted": "in", "refused": "out", "no answer": "out", "sent on to https": "out"}


#: Of several kinds of keys in one column the worst answer is shown; `document` has each.
_COLUMNS: Final = (
    ("NO KEY", (outside.NO_KEY,)),
    ("FOREIGN CA", (outside.FOREIGN,)),
    ("REVOKED", (outside.REVOKED,)),
    ("ENDED", (outside.ENDED,)),
    ("RESUMED", tuple(one for one in outside.KINDS if "resumed" in one)),
    ("DASHBOARD", (outside.FEW,)),
    ("GOOD", (outside.GOOD,)),
)
_WIDEST: Final = 44


def compact(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], str]]]:
    """(headers, rows), each row (cells, style GOOD or BAD). A cell says "in" or "out" where that is right, and
    "OPEN" or "SHUT" where it is not; tricks are counted, and each one that worked has a line of its own.
    """
    surfaces: dict[tuple[str, str], list[Row]] = {}
    tricks: dict[str, list[Row]] = {}
    for row in rows:
        if row.trick:
            tricks.setdefault(row.door, []).append(row)
        else:
            surfaces.setdefault((row.door, f"{row.surface} {row.path}"), []).append(row)
    lines = []
    for (door, surface), found in surfaces.items():
        style = GOOD if all(row.ok for row in found) else BAD
        lines.append(((door, _short(surface), *(_worst(found, keys) for _, keys in _COLUMNS)), style))
    for door, tried in tricks.items():
        right = [sum(row.ok and row.key in keys for row in tried) for _, keys in _COLUMNS]
        lines.append(((door, "tricks that came to nothing", *(str(one or "-") for one in right)), GOOD))
        for one in (row for row in tried if not row.ok):
            cells = (_worst([one], keys) for _, keys in _COLUMNS)
            lines.append(((door, _short(f"{one.trick}: {one.path}"), *cells), BAD))
    return ("DOOR", "SURFACE", *(name for name, _ in _COLUMNS)), lines


def _worst(rows: Sequence[Row], keys: Sequence[str]) -> str:
    found = sorted((row for row in rows if row.key in keys), key=lambda row: (row.ok, not row.is_open))
    return _cell(found[0]) if found else "-"


def _short(text: str) -> str:
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def document(found: Probed) -> dict[str, Any]:
    """Everything, for --json."""
    return {
        "ok": all(row.ok for row in found.rows) and not found.unjudged,
        "rows": [
            {
                "door": row.door,
                "surface": row.surface,
                "path": row.path,
                "key": row.key,
                "trick": row.trick,
                "expected": row.expected,
                "seen": row.seen,
                "ok": row.ok,
            }
            for row in found.rows
        ],
        "left_out": list(found.left_out),
    }


def _cell(row: Row) -> str:
    if row.ok:
        return _SHORT.get(row.seen, row.seen)
    return "OPEN" if row.is_open else "SHUT"
