"""What a person or a script gets to see: text that cannot steer the terminal, tables, JSON, errors.

Text goes through `safe`, always: device names, paths and claims may hold terminal escapes. Colour only repeats
what the words say. With `--json`, stdout carries one document and nothing else, an error's included.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from redlatch.errors import RedlatchError

_STYLES = {"good": "32", "bad": "31", "warn": "33", "strong": "1", "faint": "2"}
# Reorder or hide text: bidirectional marks, embeddings, overrides and isolates.
_STEERING = frozenset(
    "\u061c\u200e\u200f\u2028\u2029\ufeff" + "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)


def safe(text: str) -> str:
    r"""`text` with all that could steer a terminal spelled out (\x1b, \u202e); one line stays one line."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_spelled(c) if c in _STEERING or unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def quoted(text: str) -> str:
    """`text` as a word of a shell, in the quotes that people use where they do."""
    return f'"{text}"' if text and not set(text) & set('"$`\\!') else shlex.quote(text)


def width(text: str) -> int:
    """Columns that `text` takes: wide East Asian characters and emoji two, marks none."""
    columns = 0
    for character in text:
        if unicodedata.category(character) in ("Mn", "Me", "Cf"):
            continue
        columns += 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1
    return columns


def plain(value: Any) -> Any:
    """`value` as JSON can say it: times in ISO 8601 (UTC, "Z"), paths as text, tuples as lists."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


class Output:
    """One command's output, as text or as JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    @property
    def coloured(self) -> bool:
        """On a terminal that has not asked for none (https://no-color.org)."""
        return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def line(self, text: str = "", *, style: str = "", indent: int = 0) -> None:
        """One line for a person; nothing with `--json`."""
        if not self.as_json:
            _write(sys.stdout, " " * indent + self._styled(safe(text), style))

    def warning(self, text: str) -> None:
        """One line on stderr that a person should not miss; in JSON the documents carry it themselves."""
        if not self.as_json:
            _write(sys.stderr, f"warning: {safe(text)}")

    def progress(self, text: str = "") -> None:
        """Rewrites one line on stderr while something takes long; "" wipes it. Only for whoever watches."""
        if not self.as_json and sys.stderr.isatty():
            print(f"\r\x1b[K{safe(text)}", end="", file=sys.stderr, flush=True)

    def fields(self, rows: Sequence[tuple[str, str]]) -> None:
        """Name and value, one pair a line."""
        column = max((width(name) for name, _ in rows), default=0) + 2
        for name, value in rows:
            self.line(f"{name}{' ' * (column - width(name))}{value}")

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], *, style: str = "") -> None:
        """Columns two blanks apart, no lines drawn: it reads as it is spoken."""
        self.styled_table(headers, [(row, style) for row in rows])

    def styled_table(self, headers: Sequence[str], rows: Sequence[tuple[Sequence[str], str]]) -> None:
        """As `table`, with the style of each row beside it; its words have to say the same."""
        shown = [[safe(cell) for cell in row] for row, _ in rows]
        columns = [max(width(cell) for cell in column) for column in zip(headers, *shown, strict=True)]
        styles = ["strong", *(style for _, style in rows)]
        for row, style in zip([list(headers), *shown], styles, strict=True):
            cells = [cell + " " * (size - width(cell)) for cell, size in zip(row, columns, strict=True)]
            self.line("  ".join(cells).rstrip(), style=style)

    def document(self, document: Any) -> None:
        """The JSON document (one line); nothing without `--json`. ASCII, so that it is safe on a terminal too."""
        if self.as_json:
            _write(sys.stdout, json.dumps(plain(document)))

    def error(self, error: RedlatchError) -> None:
        """`redlatch: message` and `hint: ...` on stderr, and with `--json` the document on stdout."""
        self.document({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
        _write(sys.stderr, f"redlatch: {safe(error.message)}")
        if error.hint:
            _write(sys.stderr, f"hint: {safe(error.hint)}")

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style and text and self.coloured else text


def day(moment: datetime) -> str:
    """The date, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def minute(moment: datetime) -> str:
    """Date and time to the second, in the reader's own time zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _write(stream: TextIO, line: str) -> None:
    print(line, file=stream, flush=True)
