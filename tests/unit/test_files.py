"""Rights are given to the file that was meant, whatever stands under its name by then."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from redlatch.errors import FileProblem
from redlatch.files import bring


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "monday.age"
    file.touch(0o644)
    bring(file, 0o600)
    assert mode(file) == 0o600


@pytest.mark.parametrize("how", ["symlink", "hard link", "fifo"])
def test_another_file_under_that_name_stays_as_it_is(how: str, tmp_path: Path) -> None:
    """Root mends in folders of redlatch's user, who can put a link in the place of what root has seen."""
    victim, name = tmp_path / "victim", tmp_path / "monday.age"
    victim.touch(0o755)
    victim.chmod(0o755)
    if how == "symlink":
        name.symlink_to(victim)
    elif how == "hard link":
        name.hardlink_to(victim)
    else:
        os.mkfifo(name, 0o644)
    with pytest.raises(FileProblem, match="cannot change the rights of"):
        bring(name, 0o600)
    assert mode(victim) == 0o755
