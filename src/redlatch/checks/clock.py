"""The clock of this machine: dates decide who gets in, and a Raspberry Pi starts years behind."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.errors import RedlatchError
from redlatch.operations.site import CLOCK_TOLERANCE

#: This redlatch was written later than that.
WRITTEN: Final = datetime(2026, 9, 1, tzinfo=UTC)
_UNSYNCHRONISED: Final = 0x0040  # STA_UNSYNC, adjtimex(2)


def _behind(scene: Scene) -> Iterator[Found]:
    now = scene.site.clock()
    moments = [("this redlatch was written", WRITTEN)]
    unread: RedlatchError | None = None
    try:
        with scene.site.store.read() as view:
            moments.append(("this site was made", view.site().created_at))
            moments += [
                ("what stands last in the audit trail", one.event.at) for one in view.audit_before(None, 1)
            ]
    except RedlatchError as error:
        unread = error
    late = [(at, what) for what, at in moments if now < at - CLOCK_TOLERANCE]
    if late:
        at, what = max(late)
        yield Found(f"the clock says {now:%Y-%m-%d %H:%M}, which is before {what} ({at:%Y-%m-%d %H:%M} UTC)")
    if unread is not None:
        raise unread


class _Timex(ctypes.Structure):
    """struct timex as far as `status`; the rest is room for what the kernel writes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def _drifts(scene: Scene) -> Iterator[Found]:
    if not _is_synchronised(scene):
        yield Found("nothing keeps the clock of this machine right")


def _is_synchronised(scene: Scene) -> bool:
    """By timedatectl's word, which knows of a machine that was never set; else by the kernel's."""
    program = shutil.which("timedatectl", path=scene.environ.get("PATH", ""))
    if program is not None:
        try:
            said = subprocess.run(
                [program, "show", "--property=NTPSynchronized", "--value"],
                capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10, check=False,
            ).stdout.strip()  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            said = ""
        if said in ("yes", "no"):
            return said == "yes"
    state = _Timex()
    if ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state)) < 0:
        raise Unknown("the kernel does not say whether its clock is synchronised")
    return not state.status & _UNSYNCHRONISED


CHECKS: tuple[Check, ...] = (
    Check(
        "clock-behind",
        "the clock is behind",
        Severity.BROKEN,
        "Certificates carry dates. redlatch changes nothing while the clock says a time that cannot be, and what "
        "ends seems not to have ended.",
        "timedatectl set-ntp true; timedatectl",
        _behind,
    ),
    Check(
        "clock-drifts",
        "the clock is not synchronised",
        Severity.NOTE,
        "A clock that goes wrong lets keys end too early or too late.",
        "timedatectl set-ntp true; timedatectl",
        _drifts,
        ("clock-behind",),
    ),
)
