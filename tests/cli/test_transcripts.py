"""What the commands print, word for word: each file in transcripts/ is one person's session at the terminal.

REDLATCH_UPDATE_TRANSCRIPTS=1 rewrites the files from what the commands print now; read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.cli.harness import Person, replay

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(path: Path, tmp_path: Path) -> None:
    """The commands print what the file says, on a real home and a real Node-RED's settings.js."""
    expected = path.read_text("utf-8")
    found = replay(Person.create(tmp_path), expected)
    if os.environ.get("REDLATCH_UPDATE_TRANSCRIPTS"):
        path.write_text(found, "utf-8")
    assert found == expected
