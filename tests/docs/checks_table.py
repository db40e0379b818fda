"""docs/checks.md's table, as the registry has it. Run as a program it writes the table anew."""

from __future__ import annotations

import re
from pathlib import Path

from redlatch.checks.model import Check
from redlatch.checks.registry import CHECKS
from redlatch.checks.report import WORDS

DOCUMENT = Path(__file__).parents[2] / "docs/checks.md"
_TABLE = re.compile(r"(?m)^\| code \|.*\n(\|.*\n)+")


def row(check: Check) -> str:
    """A check's line of the table."""
    causes = ", ".join(f"`{one}`" for one in check.depends_on)
    words = f"{check.title[0].upper()}{check.title[1:]}. {check.meaning}"
    return f"| `{check.code}` | {WORDS[check.severity]} | {_cell(words)} | {_cell(check.remedy)} | {causes} |"


def table() -> str:
    head = "| code | severity | what it means | what to do | not shown while |\n|---|---|---|---|---|\n"
    return head + "".join(f"{row(check)}\n" for check in CHECKS)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    document = DOCUMENT.read_text("utf-8")
    DOCUMENT.write_text(_TABLE.sub(lambda _: table(), document), "utf-8")
