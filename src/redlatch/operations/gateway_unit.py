"""What starts the gateway on this machine: a user of its own and a systemd unit, in an installation of root's."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import select
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Final

from redlatch.engines.nodered import dropin
from redlatch.errors import EngineError
from redlatch.files import Owner, explained, sync_dir, write_atomic
from redlatch.operations import engines
from redlatch.operations.engines import GATEWAY_USER, Engine
from redlatch.operations.publishing import running
from redlatch.operations.site import Config
from redlatch.settings import SYSTEM_HOME, Settings

UNIT: Final = "redlatch-gateway.service"
STOP_SECONDS: Final = 30.0
_HAPROXY_SECONDS: Final = 10.0
_USERADD: Final = (
    "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
    "--shell", "/usr/sbin/nologin", GATEWAY_USER,
)  # fmt: skip


def has_user() -> bool:
    """Whether the gateway's own user is there."""
    try:
        pwd.getpwnam(GATEWAY_USER)
    except KeyError:
        return False
    return True


def make_user() -> None:
    """Makes the gateway's own user and group. EngineError."""
    _run(_USERADD, "the user redlatch-gateway could not be made")


def remove_user() -> None:
    """Takes that user away; whatever still runs as it keeps it (EngineError)."""
    if has_user():
        _run(("userdel", GATEWAY_USER), "the user redlatch-gateway could not be removed")
    with contextlib.suppress(KeyError):  # where userdel leaves it (login.defs: USERGROUPS_ENAB)
        grp.getgrnam(GATEWAY_USER)
        _run(("groupdel", GATEWAY_USER), "the group redlatch-gateway could not be removed")


def _run(command: tuple[str, ...], failed: str) -> None:
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, env={"PATH": places}, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"{failed}: {error}", hint=f"by hand: sudo {shlex.join(command)}") from error
    if done.returncode != 0:
        raise EngineError(f"{failed}: {done.stderr.strip()}", hint=f"by hand: sudo {shlex.join(command)}")


def program() -> str:
    """The redlatch that runs now, as a unit or a person would call it."""
    beside = Path(sys.prefix) / "bin/redlatch"
    return str(beside) if beside.exists() else f"{sys.executable} -P -m redlatch"


def text(settings: Settings) -> str:
    """The unit for this home, which runs the present redlatch."""
    unit = resources.files("redlatch.engines.haproxy").joinpath(UNIT).read_text("utf-8")
    return unit.replace("/opt/redlatch/venv/bin/redlatch", program()).replace(str(SYSTEM_HOME), str(settings.home))


def path(etc: Path = dropin.ETC) -> Path:
    """Where the unit lies."""
    return etc / UNIT


def is_wanted(settings: Settings) -> bool:
    """Whether a unit is written: in an installation of root's on a machine that has systemd, be it at its next
    boot.
    """
    return settings.system and path().parent.is_dir() and shutil.which("systemctl") is not None


def is_installed(settings: Settings) -> bool:
    """Whether the unit is there as it should be."""
    try:
        return path().read_text("utf-8") == text(settings)
    except (OSError, ValueError):
        return False


def install(settings: Settings) -> None:
    """Writes the unit and tells systemd, where that runs."""
    write_atomic(path(), text(settings).encode(), mode=0o644, owner=Owner(0, 0))
    dropin.reload_systemd()


def start(*, anew: bool) -> None:
    """Has systemd start the gateway now and at every boot; `anew` restarts one that runs. EngineError."""
    _run(("systemctl", "--no-ask-password", "enable", UNIT), f"{UNIT} could not be enabled")
    done = subprocess.run(
        ["systemctl", "--no-ask-password", "restart" if anew else "start", UNIT],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise EngineError(f"{UNIT} did not start", hint=f"look at: journalctl -u {UNIT} -n 50")


def remove() -> None:
    """Stops and disables the unit and takes it away."""
    if dropin.systemd_runs():
        subprocess.run(
            ["systemctl", "--no-ask-password", "disable", "--now", UNIT],
            capture_output=True, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    with explained("remove", path()), contextlib.suppress(FileNotFoundError):
        path().unlink()
        sync_dir(path().parent)
    dropin.reload_systemd()


def is_ours() -> bool:
    """Whether the unit was written by `redlatch gateway up`."""
    try:
        with path().open("rb") as stream:
            return stream.readline().startswith(b"# Written by `redlatch gateway up`")
    except OSError:
        return False


def start_command(settings: Settings) -> str:
    """What a person types to start the gateway where nothing starts it by itself."""
    run = f"{program()} --home {shlex.quote(str(settings.home))} gateway run"
    if not settings.system:
        return run
    return (
        f"setpriv --reuid {GATEWAY_USER} --regid {GATEWAY_USER} --init-groups "
        f"--inh-caps=+net_bind_service --ambient-caps=+net_bind_service {run}"
    )


def stop(settings: Settings, config: Config) -> bool:
    """Ends a gateway that runs without systemd: what drives HAProxy, which ends that too, and an HAProxy that
    nobody drives any more; whether there was one. EngineError when it does not end.

    Who is ended is told by that user's own files and words, and so it must be of that user.
    """
    engine = engines.gateway(settings, config)
    if engine is None:
        return False
    claim = running(engine)
    found = [claim.pid] if claim is not None and claim.pid > 1 and _is_gateway(claim.pid) else []
    ended = [_end(pid, engine.uid, signal.SIGTERM, STOP_SECONDS) for pid in found]
    for pid in _left(engine):
        ended.append(_end(pid, engine.uid, signal.SIGTERM, _HAPROXY_SECONDS))
    for pid in _left(engine):
        ended.append(_end(pid, engine.uid, signal.SIGKILL, _HAPROXY_SECONDS))
    left = [*(pid for pid in found if _is_gateway(pid)), *_left(engine)]
    if left:
        numbers = " ".join(map(str, left))
        raise EngineError(f"the gateway (process {numbers}) does not end", hint=f"end it: kill {numbers}")
    return any(ended)


def _end(pid: int, uid: int, number: signal.Signals, seconds: float) -> bool:
    """Sends a process of that user a signal and waits for its end; whether it was there."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if Path(f"/proc/{pid}").stat().st_uid != uid:
            return False
        signal.pidfd_send_signal(descriptor, number)
        select.select([descriptor], [], [], seconds)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _left(engine: Engine) -> list[int]:
    """HAProxies that run on this gateway's configuration, of its user; zombies have no words left."""
    folder = f"{engine.settings.spool}/haproxy/".encode()
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            ours = process.stat().st_uid == engine.uid and words[0].endswith(b"haproxy")
            if ours and any(word.startswith(folder) for word in words):
                found.append(int(process.name))
    return found


def _is_gateway(pid: int) -> bool:
    """Whether that process is `redlatch gateway run`, and not a zombie."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"gateway" in words and b"run" in words
