"""Finds the Node-RED to lock: whose it is, where its settings are, and what starts it. Changes nothing.

Order (issue 2): what was named; the systemd unit; a running process; SUDO_USER; then Node-RED's own order for the
present user (red.js: -s, -u, NODE_RED_HOME with .config.json, HOME). Root's own ~/.node-red is used only where
Node-RED really runs as root: `sudo redlatch up` must not lock a folder that nobody serves.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from redlatch.engines.nodered import programs
from redlatch.engines.nodered.processes import Process, find_processes, script_index
from redlatch.engines.nodered.units import UNIT_DIRS, Unit, find_units, parse_environment_file, unit_warnings
from redlatch.engines.nodered.users import User, call_as, group_by_name, read_regular, user_by_name, user_by_uid
from redlatch.errors import NodeRedNotFound, NotAdoptable, NotPermitted, RedlatchError


@dataclass(frozen=True, slots=True)
class Machine:
    """Where locate looks; tests point it at a folder of theirs."""

    unit_dirs: tuple[Path, ...] = UNIT_DIRS
    proc: Path = Path("/proc")
    root: Path = Path("/")


@dataclass(frozen=True, slots=True)
class NodeRed:
    """A Node-RED as it is started on this machine.

    `settings_file` may not exist yet (`settings_exist`): then Node-RED would copy its own default there at the
    next start, and adoption does the same. `argv` are Node-RED's own arguments where they are known. `environ` is
    what the unit or the running process sets (settings.js reads it); it may hold secrets and is kept out of repr.
    `cwd`: where it is started, for relative paths in settings.js.
    """

    user: User
    user_dir: Path
    settings_file: Path
    settings_exist: bool
    node: tuple[str, ...]
    program: Path | None
    version: str | None
    unit: str | None = None
    unit_fragment: Path | None = None
    unit_dropins: tuple[Path, ...] = ()
    pid: int | None = None
    argv: tuple[str, ...] = ()
    found_by: str = ""
    warnings: tuple[str, ...] = ()
    cwd: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What red.js takes from its command line and redlatch needs."""

    settings: str | None = None
    user_dir: str | None = None
    port: str | None = None
    defines: tuple[str, ...] = ()


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Node-RED's options as nopt reads them: `-u DIR`, `--userDir DIR`, `--userDir=DIR`,
    unambiguous beginnings.
    """
    names = ("settings", "userDir", "port", "define", "title")
    short = {"s": "settings", "u": "userDir", "p": "port", "D": "define"}
    found: dict[str, list[str]] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "--":
            break
        option, equals, value = word.partition("=")
        name = short.get(option[1:]) if re.fullmatch(r"-\w", option) else None
        if name is None and option.startswith("--") and len(option) > 2:
            matches = [n for n in names if n.lower().startswith(option[2:].lower())]
            name = matches[0] if len(matches) == 1 else None
        if name is None:
            continue
        if not equals and not words:
            break
        found.setdefault(name, []).append(value if equals else words.pop(0))
    return Arguments(
        settings=found.get("settings", [None])[-1],
        user_dir=found.get("userDir", [None])[-1],
        port=found.get("port", [None])[-1],
        defines=tuple(found.get("define", [])),
    )


def locate(
    *,
    user_dir: Path | None = None,
    settings_file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    machine: Machine | None = None,
    for_release: bool = False,
) -> NodeRed:
    """The Node-RED of this machine, or the one whose folder or settings file is named.

    `for_release`: what is named may be gone by now, and node too; then there is nothing to take the lock off.

    Raises NodeRedNotFound when there is none (or more than one could be meant), NotAdoptable where it runs in a
    way that only another engine can lock, NotPermitted when it belongs to somebody else and we are not root.
    """
    environ = os.environ if environ is None else environ
    machine = machine or Machine()
    _refuse_foreign_places(environ, machine)
    processes = find_processes(machine.proc)
    units = find_units(machine.unit_dirs)
    candidates, broken = [], []
    for unit in units:
        try:
            candidates.append(_from_unit(unit, processes))
        except NodeRedNotFound as error:
            broken.append(error)
    by_units = {c.pid for c in candidates if c.pid}
    candidates += [
        _from_process(p) for p in processes if not p.container and p.pid not in by_units and user_by_uid(p.uid)
    ]
    if broken and not candidates and user_dir is None and settings_file is None:
        raise broken[0]
    if user_dir is not None or settings_file is not None:
        found = _named(user_dir, settings_file, candidates, machine, for_release)
    else:
        found = _unnamed(candidates, processes, environ, machine)
    if os.geteuid() not in (0, found.user.uid):
        raise NotPermitted(
            f"Node-RED runs as the user {found.user.name} ({found.user_dir}), and this command as somebody else",
            hint=f"run it with sudo, or as {found.user.name}",
        )
    return _complete(found, environ, machine)


def _unnamed(
    candidates: Sequence[NodeRed], processes: Sequence[Process], environ: Mapping[str, str], machine: Machine
) -> NodeRed:
    """Without root, a person's own Node-RED comes before somebody else's, which could not be locked anyway."""
    mine = [c for c in candidates if os.geteuid() in (0, c.user.uid)]
    own = _from_environment(environ, machine)
    if found := _choose(mine):
        return found
    if own and own.user_dir.is_dir():
        return own
    return _choose(candidates) or own or _nothing(processes)


def _refuse_foreign_places(environ: Mapping[str, str], machine: Machine) -> None:
    if os.name == "nt":
        raise NotAdoptable(
            "redlatch locks Node-RED on Linux, and this is Windows",
            hint="run Node-RED in WSL, on a Raspberry Pi or another Linux machine, or put a gateway "
            "on one in front of it",
        )
    release = _small(machine.root / "etc/os-release")
    if (
        "SUPERVISOR_TOKEN" in environ
        or "HASSIO_TOKEN" in environ
        or re.search(r"^ID=\"?hassos|^ID=\"?haos", release, re.M)
    ):
        raise NotAdoptable(
            "this is Home Assistant, whose Node-RED add-on removes `https` and `adminAuth` from the settings",
            hint="a lock inside Node-RED cannot hold there; only a gateway in front of the add-on "
            "can (see the docs)",
        )
    if (machine.root / ".dockerenv").exists() and (machine.root / "usr/src/node-red").is_dir():
        raise NotAdoptable(
            "this is Node-RED's official Docker image, which has no place for redlatch's keys",
            hint="run redlatch on the host with --user-dir set to the folder that is mounted at /data, "
            "or put a gateway in front of the container (see the docs)",
        )


def _small(path: Path) -> str:
    try:
        return read_regular(path, 65536).decode("utf-8", "replace")
    except OSError:
        return ""


def _from_unit(unit: Unit, processes: Sequence[Process]) -> NodeRed:
    name = unit.last("User") or "root"
    user = user_by_name(name)
    if user is None:
        raise NodeRedNotFound(
            f"{unit.name} runs Node-RED as the user {name}, who does not exist",
            hint=f"correct User= with: systemctl edit {unit.name}",
        )
    group = unit.last("Group")
    gid = group_by_name(group) if group else None
    if gid is not None:
        extra = [
            g
            for g in (group_by_name(n) for v in unit.all("SupplementaryGroups") for n in v.split())
            if g is not None
        ]
        user = replace(user, gid=gid, groups=tuple(sorted({*user.groups, gid, *extra})))
    environment = {"HOME": str(user.home), "USER": user.name, **unit.environment()}
    for path in unit.environment_files():
        environment.update(read_environment_file(user, path))
    argv = unit.command(environment)
    working = (unit.last("WorkingDirectory") or "/").removeprefix("-")
    cwd = user.home if working in ("~", "%h") else Path(working)
    running = next((p for p in processes if p.unit == unit.name and not p.container), None)
    user_dir, settings_file = _places(argv, environment, cwd, None)
    return NodeRed(
        user=user,
        user_dir=user_dir,
        settings_file=settings_file,
        settings_exist=False,
        node=(str(running.node),) if running and running.node else (),
        program=None,
        version=None,
        unit=unit.name,
        unit_fragment=unit.fragment,
        unit_dropins=unit.dropins,
        pid=running.pid if running else None,
        argv=argv,
        found_by=f"the systemd unit {unit.name}",
        warnings=tuple(unit_warnings(unit)),
        cwd=cwd,
        environ=environment,
    )


def read_environment_file(user: User, path: Path) -> dict[str, str]:
    """An EnvironmentFile= read with the user's rights: it usually lies in the user's own folder. {}
    if it cannot be.
    """
    try:
        return parse_environment_file(call_as(user, read_regular, str(path), 1 << 20).decode("utf-8", "replace"))
    except RedlatchError:
        return {}


def _from_process(process: Process) -> NodeRed:
    user = user_by_uid(process.uid)
    if user is None:
        raise NodeRedNotFound(f"Node-RED runs as the uid {process.uid}, which has no name")
    user = replace(user, gid=process.gid, groups=tuple(sorted({*process.groups, process.gid})))
    environment = dict(process.environ) or {"HOME": str(user.home)}
    index = script_index(process.argv)
    argv = process.argv[index + 1 :] if index is not None else ()
    program = programs.red_js(Path(process.argv[index]), process.cwd) if index is not None else None
    user_dir, settings_file = _places(argv, environment, process.cwd or user.home, program)
    return NodeRed(
        user=user,
        user_dir=user_dir,
        settings_file=settings_file,
        settings_exist=False,
        node=(str(process.node),) if process.node else (),
        program=program,
        version=None,
        pid=process.pid,
        argv=argv,
        found_by=f"the running process {process.pid}",
        cwd=process.cwd,
        environ=environment,
    )


def _places(
    argv: Sequence[str], environment: Mapping[str, str], cwd: Path, program: Path | None
) -> tuple[Path, Path]:
    """User directory and settings file by red.js's own order."""
    arguments = parse_arguments(argv)
    home = environment.get("HOME") or environment.get("USERPROFILE") or environment.get("HOMEPATH") or "/"
    user_dir = Path(os.path.normpath(cwd / arguments.user_dir)) if arguments.user_dir else None
    if arguments.settings:
        settings = Path(os.path.normpath(cwd / arguments.settings))
        return user_dir or Path(home) / ".node-red", settings
    if user_dir is None:
        node_red_home = environment.get("NODE_RED_HOME")
        base = Path(node_red_home) if node_red_home else program.parent if program else None
        if base is not None and (base / ".config.json").exists():
            return base, base / "settings.js"
        user_dir = Path(home) / ".node-red"
    return user_dir, user_dir / "settings.js"


def _named(
    user_dir: Path | None,
    settings_file: Path | None,
    candidates: Sequence[NodeRed],
    machine: Machine,
    for_release: bool,
) -> NodeRed:
    folder = (user_dir or (settings_file or Path("/")).parent).absolute()
    file = settings_file.absolute() if settings_file else folder / "settings.js"
    if not for_release:
        if not folder.is_dir():
            raise NodeRedNotFound(
                f"there is no folder {folder}", hint="name Node-RED's user directory, usually ~/.node-red"
            )
        if file != folder / "settings.js" and not os.path.lexists(file):
            raise NodeRedNotFound(f"there is no file {file}", hint="name Node-RED's settings.js")
    for candidate in candidates:
        same_dir = user_dir is None or _same(candidate.user_dir, folder)
        same_file = settings_file is None or _same(candidate.settings_file, file)
        if same_dir and same_file:
            return replace(
                candidate,
                user_dir=folder if user_dir else candidate.user_dir,
                settings_file=file if settings_file else candidate.settings_file,
            )
    if re.match(r"/mnt/[a-z]/", str(folder)) and "microsoft" in _small(machine.proc / "version").lower():
        raise NotAdoptable(
            f"{folder} belongs to the Windows side of this machine",
            hint="run Node-RED inside WSL with a folder in its own file system; file rights do not hold on /mnt",
        )
    owner = _owner(folder, file)
    return NodeRed(
        user=owner,
        user_dir=folder,
        settings_file=file,
        settings_exist=False,
        node=(),
        program=None,
        version=None,
        argv=("-u", str(folder)),
        found_by=f"the folder {folder}",
        environ={"HOME": str(owner.home)},
    )


def _owner(folder: Path, file: Path) -> User:
    """Whose Node-RED lives in a folder that was named: the folder's owner.

    Root only when nobody else has a hand in it: a settings.js that some user put, or may put, there by a link or
    by owning a folder above must not be run with root's rights.
    """
    states = []
    for path in (folder.resolve(), file, file.resolve(), folder, *folder.parents):
        try:
            states.append((path, path.lstat()))
        except OSError:
            continue
    uid = next((state.st_uid for _, state in states if state.st_uid != 0), 0)
    if uid == 0:
        for path, state in states:
            loose = state.st_mode & 0o022 and not state.st_mode & stat.S_ISVTX and not stat.S_ISLNK(state.st_mode)
            if loose and os.geteuid() == 0:
                raise NotPermitted(
                    f"{path} is writable for others than root, so what lies in {folder} is not run as root",
                    hint=f"give {folder} to Node-RED's user with chown -R, or close it with chmod go-w {path}",
                )
    owner = user_by_uid(uid)
    if owner is None:
        raise NodeRedNotFound(
            f"{folder} belongs to the uid {uid}, which has no name on this machine",
            hint=f"give it to Node-RED's user: chown -R USER {folder}",
        )
    return owner


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return os.path.normpath(one) == os.path.normpath(other)


def _choose(candidates: Sequence[NodeRed]) -> NodeRed | None:
    """The unit that runs, else the only unit, else the only process; two that could be meant are for a person."""
    units = [c for c in candidates if c.unit]
    processes = [c for c in candidates if not c.unit]
    running = [c for c in units if c.pid]
    pool = running or units or processes
    different = {os.path.realpath(c.settings_file): c for c in pool}
    if len(different) > 1:
        places = ", ".join(sorted(f"{c.user_dir} ({c.found_by})" for c in different.values()))
        raise NodeRedNotFound(
            f"more than one Node-RED is here: {places}", hint="say which one with --user-dir DIR"
        )
    if not different:
        return None
    chosen = next(iter(different.values()))
    others = sorted(
        {f"{p.user_dir} ({p.found_by})" for p in processes if not _same(p.settings_file, chosen.settings_file)}
    )
    if others:
        note = f"another Node-RED runs here and stays as it is: {', '.join(others)}"
        chosen = replace(chosen, warnings=(*chosen.warnings, note))
    return chosen


def _from_environment(environ: Mapping[str, str], machine: Machine) -> NodeRed | None:
    """SUDO_USER, else the present user, by Node-RED's own order."""
    root = os.geteuid() == 0
    user = user_by_name(environ["SUDO_USER"]) if root and environ.get("SUDO_USER") else user_by_uid(os.geteuid())
    if user is None or user.uid == 0:
        return None
    environment = {"HOME": str(user.home)}
    if not root:
        environment |= {k: environ[k] for k in ("HOME", "NODE_RED_HOME") if environ.get(k)}
    program = programs.find_program((), user, environ, machine.root)
    user_dir, settings_file = _places((), environment, user.home, program)
    if not user_dir.is_dir() and program is None:
        return None
    return NodeRed(
        user=user,
        user_dir=user_dir,
        settings_file=settings_file,
        settings_exist=False,
        node=(),
        program=program,
        version=None,
        found_by=f"the home of {user.name}",
        environ=environment,
    )


def _nothing(processes: Sequence[Process]) -> NodeRed:
    inside = [p for p in processes if p.container]
    if any(p.home_assistant for p in inside):
        raise NotAdoptable(
            "the only Node-RED here is Home Assistant's add-on, which removes `https` and "
            "`adminAuth` from the settings",
            hint="a lock inside Node-RED cannot hold there; only a gateway in front of the add-on "
            "can (see the docs)",
        )
    if inside:
        raise NodeRedNotFound(
            "the only Node-RED here runs in a container",
            hint="name the folder that is mounted at /data with --user-dir (and mount redlatch's "
            "published folder and "
            "spool at the same paths), or put a gateway in front of the container (see the docs)",
        )
    raise NodeRedNotFound(
        "no Node-RED was found: no systemd unit, no running process, no .node-red folder",
        hint="start Node-RED once, or name its folder with --user-dir DIR",
    )


def _complete(found: NodeRed, environ: Mapping[str, str], machine: Machine) -> NodeRed:
    """Adds node, red.js and its version, and whether the settings file is there."""
    path = found.environ.get("PATH") or (environ.get("PATH", "") if found.user.uid == os.geteuid() else "")
    program = found.program or programs.find_program(found.node, found.user, {"PATH": path}, machine.root)
    node = found.node or programs.find_node(found.argv, program, found.user, {"PATH": path}, machine.root)
    settings_exist = bool(call_as(found.user, os.path.lexists, str(found.settings_file)))
    return replace(
        found,
        program=program,
        node=node,
        settings_exist=settings_exist,
        version=programs.version_of(program),
    )
