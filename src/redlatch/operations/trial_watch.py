"""What takes a change on trial back at its end, when whoever made it is gone: a timer, or a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from redlatch.errors import RedlatchError
from redlatch.operations import trials
from redlatch.operations.site import Site

if TYPE_CHECKING:
    from redlatch.settings import Settings

#: Seconds that a watcher waits for the change to be recorded: it is started before, so that no kill is in between.
_GRACE: Final = 30.0


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
    begun = time.monotonic()
    seen = False
    while True:
        trial = trials.show(site)
        if trial is None and (seen or time.monotonic() - begun > _GRACE):
            return None
        if trial is not None:
            seen = True
            if trial.seconds <= 0:
                try:
                    return trials.settle(site)
                except RedlatchError:  # another command is at work: once more
                    pass
        pause(1.0 if trial is None else min(1.0, trial.seconds + 0.02))
