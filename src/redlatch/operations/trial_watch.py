"""What takes a change on trial back at its end, when whoever made it is gone: a timer, or a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from redlatch.errors import Busy, RedlatchError, StoreError
from redlatch.operations import trials
from redlatch.operations.site import Site

if TYPE_CHECKING:
    from redlatch.settings import Settings


def watch(settings: Settings, length: timedelta) -> None:
    """Starts what takes the trial back at its end, outside of this process and its terminal: a transient timer of
    systemd's where root can have one, else a process in a session of its own.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "redlatch",
        "trial",
        "undo",
        "--when-over",
        "--home",
        str(settings.home),
    ]
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "HOME", "LANG")}
    runner = shutil.which("systemd-run", path="/usr/bin:/bin")
    if runner and os.geteuid() == 0 and os.path.isdir("/run/systemd/system"):  # noqa: PTH112 - as sd_booted(3) asks
        seconds = int(length.total_seconds())
        timer = [runner, "--quiet", "--collect", f"--on-active={seconds}", "--timer-property=AccuracySec=1s"]
        try:
            done = subprocess.run(
                [*timer, "--", *command],
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=10,
                check=False,
            )
            if done.returncode == 0:
                return
        except (OSError, subprocess.TimeoutExpired):
            pass
    subprocess.Popen(
        command,
        env=environ,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        close_fds=True,
    )


def wait(site: Site, *, pause: Callable[[float], None] = time.sleep) -> trials.Ended | None:
    """Waits until the trial is over, and takes it back; None when somebody kept it or took it back before."""
    _stand_in_line(site)
    while (trial := trials.show(site)) is not None:
        if trial.seconds <= 0:
            try:
                return trials.settle(site)
            except RedlatchError:  # another command is at work: once more
                pass
        pause(min(1.0, trial.seconds + 0.02))
    return None


def _stand_in_line(site: Site) -> None:
    """Waits for the change that is being made: a watcher is started inside its transaction, so that no kill is in
    between, and what it sees before the end of that is no trial yet.
    """
    while True:
        try:
            with site.store.write(site.actor, site.clock()):
                return
        except Busy:
            pass
        except StoreError:  # a full disk: that change is committed no more, or was before
            return
