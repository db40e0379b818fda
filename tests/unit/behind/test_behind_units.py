"""Runs the tests (node:test) of what is published for behind the gateway, under every Node.js there is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.unit.guard.test_guard_units import NODES

from redlatch.engines.nodered.publish import guard_files

HERE = Path(__file__).parent


@pytest.mark.parametrize("program", NODES)
@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.test.js")))
def test_behind(program: str, file: str, tmp_path: Path) -> None:
    """All tests of the file pass."""
    folder = tmp_path / "published/guard-0123456789ab"
    for name, content in guard_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    done = subprocess.run(
        [program, "--test", "--test-reporter=tap", str(HERE / file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"REDLATCH_TEST_GUARD": str(folder), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# tests 0" not in done.stdout
