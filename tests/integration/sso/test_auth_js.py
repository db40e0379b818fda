"""auth.js by itself, under each Node.js that a supported Node-RED runs on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.nodered import VERSIONS, Version, node
from tests.support.site import GUARD


@pytest.mark.parametrize("version", VERSIONS)
def test_auth_js(version: Version) -> None:
    """Every test of auth.test.js passes."""
    ran = subprocess.run(
        [str(node(version)), "--test", str(Path(__file__).with_name("auth.test.js"))],
        env={**os.environ, "REDLATCH_TEST_GUARD": str(GUARD)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "pass 0" not in ran.stdout
