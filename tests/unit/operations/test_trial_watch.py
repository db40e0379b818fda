"""What is started with every trial: a transient timer of systemd's where root can have one, else a process."""

from __future__ import annotations

import os
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from redlatch.operations import trial_watch
from redlatch.settings import from_environment

COMMAND = ["-P", "-m", "redlatch", "trial", "undo", "--when-over", "--home"]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], dict[str, Any]]]:
    """The processes that would be started."""
    found: list[tuple[list[str], dict[str, Any]]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **how: found.append((command, how)))
    return found


def systemd(monkeypatch: pytest.MonkeyPatch, runner: Path | None, *, booted: bool = True, euid: int = 0) -> None:
    monkeypatch.setattr(trial_watch.shutil, "which", lambda *_, **__: str(runner) if runner else None)
    monkeypatch.setattr(os.path, "isdir", lambda path: booted)
    monkeypatch.setattr(os, "geteuid", lambda: euid)


def watch(tmp_path: Path) -> None:
    trial_watch.watch(from_environment(tmp_path / "home", {}), timedelta(minutes=2))


def test_a_timer_where_systemd_runs(started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the trial's end, and gone afterwards; nothing else is started."""
    monkeypatch.setattr(subprocess, "run", lambda command, **_: ran.append(command) or Done(0))
    ran: list[list[str]] = []
    systemd(monkeypatch, tmp_path / "systemd-run")
    watch(tmp_path)
    (command,) = ran
    assert command[0] == str(tmp_path / "systemd-run")
    assert {"--collect", "--on-active=120"} <= set(command)
    assert command[command.index("-P") :] == [*COMMAND, str(tmp_path / "home")]
    assert started == []


class Done:
    def __init__(self, returncode: int) -> None:
        self.returncode = returncode


@pytest.mark.parametrize("why", ["no systemd-run", "not booted by it", "not root", "it fails", "it hangs"])
def test_a_process_everywhere_else(
    why: str, started: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a session of its own, which no closed terminal ends; no input, no output, and no secret go with it."""
    monkeypatch.setenv("REDLATCH_PASSPHRASE_FILE", "/secret")

    def run(command: list[str], **_: Any) -> Done:
        if why == "it hangs":
            raise subprocess.TimeoutExpired(command, 10)
        return Done(1)

    monkeypatch.setattr(subprocess, "run", run)
    systemd(
        monkeypatch,
        None if why == "no systemd-run" else tmp_path / "systemd-run",
        booted=why != "not booted by it",
        euid=1000 if why == "not root" else 0,
    )
    watch(tmp_path)
    ((command, how),) = started
    assert command[1:] == [*COMMAND, str(tmp_path / "home")]
    assert how["start_new_session"] is True
    assert {how[stream] for stream in ("stdin", "stdout", "stderr")} == {subprocess.DEVNULL}
    assert "REDLATCH_PASSPHRASE_FILE" not in how["env"]
