"""What has checks run by themselves: a timer of systemd's, in an installation of root's."""

from __future__ import annotations

import contextlib
import os
import shlex
from importlib import resources
from typing import Final

from redlatch.engines.nodered import dropin
from redlatch.errors import EngineError
from redlatch.files import Owner, explained, sync_dir, write_atomic
from redlatch.operations import gateway_unit
from redlatch.settings import SYSTEM_HOME, Settings

SERVICE: Final = "redlatch-check.service"
TIMER: Final = "redlatch-check.timer"


def text(settings: Settings, unit: str) -> str:
    """The unit for this home, which runs the present redlatch."""
    found = resources.files("redlatch.checks").joinpath(unit).read_text("utf-8")
    found = found.replace("/opt/redlatch/venv/bin/redlatch", gateway_unit.program())
    return found.replace(str(SYSTEM_HOME), str(settings.home))


def is_possible(settings: Settings) -> bool:
    """Whether systemd can run it: for root's installation, told by root."""
    return settings.system and os.geteuid() == 0 and dropin.systemd_runs()


def put_on(settings: Settings) -> bool:
    """Writes both units and starts the timer, at every boot too; False where all of it was there. EngineError."""
    changed = False
    for unit in (SERVICE, TIMER):
        path, wanted = dropin.ETC / unit, text(settings, unit).encode()
        if not path.exists() or path.read_bytes() != wanted:
            write_atomic(path, wanted, mode=0o644, owner=Owner(0, 0))
            changed = True
    dropin.reload_systemd()
    if dropin.systemctl("enable", "--now", TIMER).returncode != 0:
        raise EngineError(f"{TIMER} did not start", hint=f"look at: systemctl status {TIMER}")
    return changed


def take_off() -> bool:
    """Stops the timer and takes both units away; False where there were none."""
    found = [dropin.ETC / unit for unit in (TIMER, SERVICE) if (dropin.ETC / unit).exists()]
    if found and dropin.systemd_runs():
        dropin.systemctl("disable", "--now", TIMER)
    for path in found:
        with explained("remove", path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            sync_dir(path.parent)
    dropin.reload_systemd()
    return bool(found)


def cron_line(settings: Settings) -> str:
    """What does the same by cron, every six hours."""
    return f"17 */6 * * * {gateway_unit.program()} --home {shlex.quote(str(settings.home))} check --quiet --notify"
