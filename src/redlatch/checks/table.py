"""The rows of the outside-in probe as a table that a person takes in at a glance: surface by key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from redlatch.checks.outside import KINDS, Probed, Row

GOOD, BAD = "good", "bad"
_SHORT: Final = {"admitted": "in", "refused": "out", "no answer": "out", "sent on to https": "out"}


def compact(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], str]]]:
    """(headers, rows), each row (cells, style GOOD or BAD). A cell says "in" or "out" where that is right, and
    "OPEN" or "SHUT" where it is not; tricks are counted, and each one that worked has a line of its own.
    """
    keys = [one for one in KINDS if any(row.key == one for row in rows)]
    found: dict[tuple[str, str], dict[str, Row]] = {}
    tricks: dict[str, list[Row]] = {}
    for row in rows:
        if row.trick:
            tricks.setdefault(row.door, []).append(row)
            continue
        before = found.setdefault((row.door, f"{row.surface} {row.path}"), {})
        if row.key not in before or before[row.key].ok:  # of two knocks the worse one counts
            before[row.key] = row
    lines = []
    for (door, surface), by_key in found.items():
        cells = [_cell(by_key[key]) if key in by_key else "-" for key in keys]
        lines.append(((door, surface, *cells), GOOD if all(row.ok for row in by_key.values()) else BAD))
    for door, tried in tricks.items():
        right = Counter(row.key for row in tried if row.ok)
        lines.append(((door, "tricks that came to nothing", *(str(right[key] or "-") for key in keys)), GOOD))
        for one in (row for row in tried if not row.ok):
            cells = [_cell(one) if key == one.key else "-" for key in keys]
            lines.append(((door, f"{one.trick}: {one.path}", *cells), BAD))
    return ("DOOR", "SURFACE", *(one.upper() for one in keys)), lines


def document(found: Probed) -> dict[str, Any]:
    """Everything, for --json."""
    return {
        "ok": all(row.ok for row in found.rows),
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
