"""Runs the guard's own tests (node:test) under every Node.js that the tests have."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.nodered import VERSIONS, node
from tests.support.site import GUARD

HERE = Path(__file__).parent
# The system's Node.js, where there is one, is often an older one: Debian 12 has 18
NODES = [*(str(node(version)) for version in VERSIONS), *filter(None, [shutil.which("node")])]


@pytest.mark.parametrize("program", NODES)
@pytest.mark.parametrize("file", sorted(path.name for path in HERE.glob("*.test.js")))
def test_guard(program: str, file: str) -> None:
    """All tests of the file pass."""
    done = subprocess.run(
        [program, "--test", "--test-reporter=tap", str(HERE / file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"REDLATCH_TEST_GUARD": str(GUARD), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# tests 0" not in done.stdout
