"""The soak of bench/soak.py for one minute: nobody is let in or turned away who should not be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_a_minute_of_it(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "bench/soak.py", "--minutes", "1", "--out", tmp_path]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 strangers admitted, 0 answers not as they should be" in done.stdout
