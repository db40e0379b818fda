"""The systemd drop-in that keeps a Node-RED without the guard from serving, and restarting through systemd.

NODE_OPTIONS goes into an EnvironmentFile= of redlatch's own, not into Environment=: the Raspberry Pi's unit reads
~/.node-red/environment, and a file read there beats every Environment= (systemd.exec(5)); the last file
named wins, and a drop-in comes last. If the file is missing systemd does not start the unit: closed, not open.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from redlatch.engines.nodered.locate import NodeRed, read_environment_file
from redlatch.engines.nodered.units import (
    OWN_DROPIN,
    OWN_ENVIRONMENT,
    UNIT_DIRS,
    Unit,
    load_unit,
    unit_warnings,
)
from redlatch.errors import EngineError, NotAdoptable
from redlatch.files import Owner, explained, make_dir, sync_dir, write_atomic
from redlatch.settings import Settings

ETC = Path("/etc/systemd/system")
EXIT_CODE = 78  # EX_CONFIG; guard/preload.js ends Node-RED with it


@dataclass(frozen=True, slots=True)
class DropIn:
    """Two files to write: `path` (redlatch.conf) and `environment_path`, with their texts; what else to know."""

    unit: str
    path: Path
    text: str
    environment_path: Path
    environment: str
    warnings: tuple[str, ...] = ()


def plan_dropin(
    nodered: NodeRed, settings: Settings, *, etc: Path = ETC, unit_dirs: tuple[Path, ...] = UNIT_DIRS
) -> DropIn | None:
    """The drop-in for this Node-RED, or None when no systemd unit runs it (or we are not root).

    Raises NotAdoptable when the published path cannot be given to node through that unit.
    """
    unit = load_unit(nodered.unit, unit_dirs) if nodered.unit and settings.system else None
    if unit is None:
        return None
    preload = settings.published / "preload.js"
    options = f"{_present_options(nodered, unit)} {_option(preload, unit)}".strip()
    folder = etc / f"{unit.name}.d"
    environment_path = folder / OWN_ENVIRONMENT
    lines = [
        _head(settings.published),
        "# Flows run when console and enrolment have their ports: nobody else shall have had them before.",
        "[Unit]",
        "After=redlatch.service",
        "",
        "# A Node-RED whose settings.js lost the guard stops with exit status 78 before it opens its port.",
        "[Service]",
        f"EnvironmentFile={str(environment_path).replace('%', '%%')}",
        f"RestartPreventExitStatus={EXIT_CODE}",
    ]
    if (unit.last("ProtectSystem") or "").lower() == "strict":
        lines.append(f"ReadWritePaths={_unit_word(settings.spool)}")
    return DropIn(
        unit=unit.name,
        path=folder / OWN_DROPIN,
        text="\n".join(lines) + "\n",
        environment_path=environment_path,
        environment="# NODE_OPTIONS of the unit, and redlatch's preload; written by `redlatch up`.\n"
        f"NODE_OPTIONS={_quoted(options)}\n",
        warnings=tuple(unit_warnings(unit)),
    )


def _present_options(nodered: NodeRed, unit: Unit) -> str:
    """NODE_OPTIONS as the unit sets it now, without a preload of ours."""
    environment = unit.environment()
    for path in unit.environment_files():
        environment.update(read_environment_file(nodered.user, path))
    words = re.findall(r'(?:[^\s"]|"(?:\\.|[^"\\])*")+', environment.get("NODE_OPTIONS", ""))
    return " ".join(word for word in words if not re.search(r"--require=.*/published/preload\.js", word))


def _option(preload: Path, unit: Unit) -> str:
    """The option as node reads it in NODE_OPTIONS (double quotes, backslash); node-red-pi splits at
    every space.
    """
    text = str(preload)
    if re.fullmatch(r"[A-Za-z0-9._/+@:,=-]+", text):
        return f"--require={text}"
    if unit.passes_node_options or re.search(r"[\x00-\x1f\x7f`$]", text):
        raise NotAdoptable(
            f"the path {preload} cannot be handed to node through {unit.name}",
            hint="choose a home without spaces and special characters: redlatch --home DIR up",
        )
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"--require={escaped}"'


def _quoted(value: str) -> str:
    """A value for an EnvironmentFile=."""
    escaped = re.sub(r'(["\\`$])', r"\\\1", value)
    return f'"{escaped}"'


def _unit_word(path: Path) -> str:
    escaped = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def install_dropin(dropin: DropIn) -> bool:
    """Writes both files (the environment first: the drop-in names it) and reloads systemd; False if
    all was there.
    """
    if dropin_present(dropin):
        return False
    make_dir(dropin.path.parent, mode=0o755, owner=Owner(0, 0) if os.geteuid() == 0 else None)
    for path, text in ((dropin.environment_path, dropin.environment), (dropin.path, dropin.text)):
        write_atomic(path, text.encode(), mode=0o644, owner=Owner(0, 0) if os.geteuid() == 0 else None)
    reload_systemd()
    return True


def dropin_present(dropin: DropIn) -> bool:
    """Whether both files are there as planned."""
    try:
        return dropin.path.read_text() == dropin.text and dropin.environment_path.read_text() == dropin.environment
    except (OSError, ValueError):
        return False


def remove_dropin(unit: str, *, etc: Path = ETC) -> bool:
    """Takes both files away (and the folder when nothing else is in it); False when there were none."""
    folder = etc / f"{unit}.d"
    removed = False
    for name in (OWN_DROPIN, OWN_ENVIRONMENT):  # the drop-in first: without its file the unit would not start
        with explained("remove", folder / name), contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
            removed = True
    if removed:
        sync_dir(folder)
        with contextlib.suppress(OSError):
            folder.rmdir()
        reload_systemd()
    return removed


def dropins_installed(published: Path, *, etc: Path = ETC) -> list[str]:
    """Units that have a drop-in of the home that `published` belongs to, whatever became of the unit since."""
    return sorted(
        path.parent.name.removesuffix(".d")
        for path in etc.glob(f"*.service.d/{OWN_DROPIN}")
        if _first_line(path) == _head(published)
    )


def _head(published: Path) -> str:
    """The drop-in's first line: whose it is."""
    return f"# Written by `redlatch up` for {published}, removed by `redlatch down`."


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            return stream.readline().rstrip("\n")
    except OSError:
        return ""


def systemd_runs() -> bool:
    """Whether systemd is the service manager here (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir() and shutil.which("systemctl") is not None


def systemctl(*arguments: str, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", "--no-ask-password", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"systemctl {' '.join(arguments)} failed: {error}") from error


def reload_systemd() -> None:
    """Makes systemd read unit files again, where it runs."""
    if systemd_runs() and os.geteuid() == 0:
        systemctl("daemon-reload")


@dataclass(frozen=True, slots=True)
class UnitState:
    """What systemd says of a unit: active, failed, inactive...; with the exit status of the last run."""

    active: str
    exit_status: int | None
    main_pid: int | None


def unit_state(unit: str) -> UnitState | None:
    """The unit's state, or None where systemd does not run."""
    if not systemd_runs():
        return None
    shown = systemctl("show", unit, "--property=ActiveState,ExecMainStatus,MainPID").stdout
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    status, pid = values.get("ExecMainStatus", ""), values.get("MainPID", "0")
    return UnitState(
        values.get("ActiveState", "unknown"),
        int(status) if status.isdigit() else None,
        int(pid) if pid.isdigit() and pid != "0" else None,
    )


def try_restart(unit: str) -> bool:
    """Restarts a unit if it runs, as root under systemd; whether it did. EngineError when it does not come up."""
    state = unit_state(unit) if os.geteuid() == 0 else None
    if state is None or state.active not in ("active", "activating"):
        return False
    run = systemctl("restart", unit)
    if run.returncode != 0:
        raise EngineError(f"{unit} did not restart", hint=f"look at: journalctl -u {unit} -n 50")
    return True


@dataclass(frozen=True, slots=True)
class Restart:
    """Whether Node-RED was restarted, and the command that does it (for a person, or as it was run)."""

    done: bool
    command: str
    note: str = ""


def restart_command(nodered: NodeRed) -> str:
    """How a person restarts this Node-RED."""
    if nodered.unit:
        return f"sudo systemctl restart {nodered.unit.removesuffix('.service')}"
    start = " ".join(["node-red", *nodered.argv]) if nodered.argv else "node-red"
    return f"{start}   (after stopping the one that runs)" if nodered.pid else start


def restart(nodered: NodeRed) -> Restart:
    """Restarts Node-RED where systemd runs its unit and we are root; else says how. Never ends a
    person's process.
    """
    command = restart_command(nodered)
    if not nodered.unit or not systemd_runs() or os.geteuid() != 0:
        return Restart(False, command, "" if nodered.unit else "no systemd unit runs this Node-RED")
    run = systemctl("restart", nodered.unit)
    if run.returncode != 0:
        raise EngineError(
            f"{nodered.unit} did not restart: {run.stderr.strip() or run.stdout.strip()}",
            hint=f"look at: journalctl -u {nodered.unit} -n 50",
        )
    return Restart(True, command)
