"""`redlatch down` while Node-RED still runs: the guard goes on writing into a folder that is being removed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.wait import until

from redlatch.engines.nodered import publish
from redlatch.settings import Settings

# What the guard does with a claim: a temporary file, and a rename; whatever goes wrong is swallowed.
WRITER = """
import os, sys
folder, number = sys.argv[1], 0
while True:
    number += 1
    try:
        with open(f"{folder}/claim.{number}", "w") as stream:
            stream.write("x")
        os.rename(f"{folder}/claim.{number}", f"{folder}/in-force.{number % 50}.json")
    except OSError:
        pass
"""


def test_folders_that_are_still_written_to_are_removed(tmp_path: Path) -> None:
    """Published and spool are gone at once and for good, however busily a guard writes."""
    settings = Settings(home=tmp_path / "site", system=False)
    writers = [
        subprocess.Popen([sys.executable, "-I", "-c", WRITER, str(settings.spool)], stdin=subprocess.DEVNULL)
        for _ in range(2)
    ]
    try:
        for _ in range(20):
            settings.published.mkdir(parents=True)
            settings.spool.mkdir()
            until(lambda: len(list(settings.spool.iterdir())) > 20, seconds=20, what="claims")
            publish.unpublish(settings)
            assert list(settings.home.iterdir()) == []
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_a_removal_that_was_cut_short_is_finished(tmp_path: Path) -> None:
    """What an earlier removal moved aside goes with the next one."""
    settings = Settings(home=tmp_path / "site", system=False)
    (settings.home / ".spool.removed").mkdir(parents=True)
    (settings.home / ".spool.removed/in-force.json").write_text("{}")
    publish.unpublish(settings)
    assert list(settings.home.iterdir()) == []
