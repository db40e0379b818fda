"""The rows of the outside-in probe as a table that a person takes in at a glance: surface by key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redlatch.checks.outside import KINDS, Probed, Row

GOOD, BAD = "good", "bad"
_SHORT: Final = {"admitted": "in", "refused": "out", "no answer": "out", "sent on to https": "out"}


def compact(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[tuple[str, ...], str]]]:
    """(headers, rows), each row (cells, style GOOD or BAD). A cell says "in" or "out" where that is right, and
    "OPEN" or "SHUT" where it is not; tricks are counted, and each one that worked has a line of its own.
    """
    keys = [one for one in KINDS if any(row.key == one and not row.trick for row in rows)]
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    tricks: dict[str, list[Row]] = {}
    for row in rows:
        if row.trick:
            tricks.setdefault(row.door, []).append(row)
            continue
        before = found.setdefault((row.door, row.surface, row.path), {})
        if row.key not in before or before[row.key].ok:  # of two knocks the worse one counts
            before[row.key] = row
    lines = []
    for (door, surface, path), by_key in found.items():
        cells = [_cell(by_key[key]) if key in by_key else "-" for key in keys]
        style = GOOD if all(row.ok for row in by_key.values()) else BAD
        lines.append(((door, f"{surface} {path}", *cells), style))
    for door, tried in tricks.items():
        worked = [row for row in tried if not row.ok]
        lines += [
            ((door, f"{one.trick}, {one.key}: {one.path}", *([_cell(one)] * len(keys))), BAD) for one in worked
        ]
        if not worked:
            text = f"{len(tried)} tricks: paths, hosts, origins, headers"
            lines.append(((door, text, *["right"] * len(keys)), GOOD))
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
