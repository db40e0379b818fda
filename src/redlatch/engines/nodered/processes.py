"""Node-REDs that run right now, as /proc shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """A running Node-RED. `argv` ends after the title once Node-RED listens: process.title
    overwrites it (measured).
    """

    pid: int
    uid: int
    gid: int
    groups: tuple[int, ...]
    argv: tuple[str, ...]
    cwd: Path | None
    node: Path | None
    unit: str | None
    container: bool
    environ: dict[str, str] = field(repr=False)

    @property
    def home_assistant(self) -> bool:
        """Whether Home Assistant's supervisor started it."""
        return "SUPERVISOR_TOKEN" in self.environ or "HASSIO_TOKEN" in self.environ


def find_processes(proc: Path = Path("/proc")) -> list[Process]:
    """Every Node-RED that runs; those with another root folder than ours (containers) are marked."""
    found = []
    for entry in sorted((e for e in proc.iterdir() if e.name.isdigit()), key=lambda e: int(e.name)):
        try:
            process = _process(proc, entry)
        except (OSError, ValueError, IndexError):
            continue  # it ended while we looked, or it is not ours to look at
        if process:
            found.append(process)
    return found


def _process(proc: Path, entry: Path) -> Process | None:
    argv = _strings(entry / "cmdline")
    if not is_node_red(argv):
        return None
    status = dict(
        line.split(":", 1) for line in (entry / "status").read_text("utf-8", "replace").splitlines() if ":" in line
    )
    if status["State"].split()[0] == "Z":
        return None
    try:
        ours = (proc / "self/root").stat()
        theirs = (entry / "root").stat()
        container = (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino)
        node: Path | None = Path(str((entry / "exe").readlink()).removesuffix(" (deleted)"))
        cwd: Path | None = (entry / "cwd").readlink()
    except PermissionError:  # somebody else's process, seen without root: its user is known, no more
        container, node, cwd = False, None, None
    if node is not None and not re.match(r"node(js)?\b", node.name):
        return None
    try:
        environ = dict(item.split("=", 1) for item in _strings(entry / "environ") if "=" in item)
    except PermissionError:
        environ = {}
    return Process(
        pid=int(entry.name),
        uid=int(status["Uid"].split()[0]),
        gid=int(status["Gid"].split()[0]),
        groups=tuple(int(gid) for gid in status.get("Groups", "").split()),
        argv=argv,
        cwd=cwd,
        node=node,
        unit=_unit(entry),
        container=container,
        environ=environ,
    )


def _strings(path: Path) -> tuple[str, ...]:
    with path.open("rb") as stream:
        data = stream.read(_MAX_BYTES)
    parts = data.decode("utf-8", "surrogateescape").split("\0")
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def is_node_red(argv: tuple[str, ...]) -> bool:
    """Whether a command line is Node-RED's: its title, or a script called node-red or red.js behind
    node's options.
    """
    if not argv:
        return False
    if argv[0] == "node-red" and not any(argv[1:]):
        return True
    if not re.match(r"node(js)?\b", Path(argv[0]).name):
        return False
    index = script_index(argv)
    return index is not None and argv[index + 1 : index + 2] != ("admin",)


def script_index(argv: tuple[str, ...]) -> int | None:
    """Where node's script stands when it is Node-RED's; options before it may have values of their own."""
    names = ("red.js", "node-red")
    return next((i for i, word in enumerate(argv[:20]) if i and Path(word).name in names), None)


def _unit(entry: Path) -> str | None:
    try:
        text = (entry / "cgroup").read_text("utf-8", "replace")
    except OSError:
        return None
    names = re.findall(r"/system\.slice/(?:[^/\n]+\.slice/)*([^/\n]+\.service)", text)
    return names[-1] if names else None
