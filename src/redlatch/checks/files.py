"""Files and folders of ours: are they what they should be, whose they should be, and nobody else's to change."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity
from redlatch.engines.nodered import dropin, publish
from redlatch.errors import StoreError
from redlatch.files import Owner, bring
from redlatch.operations import layout, places

#: Where the code that runs now lies, and the Python that runs it.
PROGRAM: Final = (Path(__file__).parents[1], Path(sys.prefix) / "bin")
_OTHERS: Final = stat.S_IRWXO
_LOOSE: Final = stat.S_IWGRP | stat.S_IWOTH


def _expected(scene: Scene) -> Iterator[tuple[Path, places.Wanted]]:
    """Every file and folder that lies in this home with the rights that it should have."""
    try:
        config = scene.config
    except StoreError:
        config = None
    yield from places.expected(scene.site.settings, config)


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:  # gone since the folder was listed: what SQLite keeps beside a store comes and goes
        return None


def _is_plain(state: os.stat_result) -> bool:
    return stat.S_ISDIR(state.st_mode) or (stat.S_ISREG(state.st_mode) and state.st_nlink == 1)


def _more(state: os.stat_result, wanted: places.Wanted) -> int:
    """The bits of a mode that let more people in than it should. A setgid bit lets nobody in."""
    return stat.S_IMODE(state.st_mode) & ~wanted.mode & 0o777


def _open(scene: Scene) -> Iterator[Found]:
    mend = mending(scene)
    for path, wanted in _expected(scene):
        state = _state(path)
        if state is None or not _is_plain(state):
            continue
        if foreign := _foreign(state, wanted):
            yield Found(f"{path} belongs to {places.owner(state)} instead of {foreign}", str(path), fix=mend)
        elif more := _more(state, wanted):
            who = "everybody" if more & 0o007 else f"the group {places.owner(state).partition(':')[2]}"
            what = "change" if more & 0o022 else "read"
            yield Found(
                f"{who} may {what} {path} (mode {stat.S_IMODE(state.st_mode):04o} instead of {wanted.mode:04o})",
                str(path),
                fix=mend,
            )


def _foreign(state: os.stat_result, wanted: places.Wanted) -> str:
    """Whose a file should be, where it belongs to somebody who could read or change it and must not."""
    if state.st_uid not in (wanted.owner.uid, 0):
        return places.name_of(wanted.owner)
    given = stat.S_IMODE(state.st_mode) & stat.S_IRWXG
    right = (wanted.owner.gid, 0) if wanted.owner.gid != places.ANY_GROUP else (state.st_gid,)
    return places.name_of(wanted.owner) if given and state.st_gid not in right else ""


def _shut(scene: Scene) -> Iterator[Found]:
    """Too little: who has to use it cannot."""
    mend = mending(scene)
    for path, wanted in _expected(scene):
        state = _state(path)
        if state is None or not _is_plain(state) or _foreign(state, wanted):
            continue
        if state.st_uid != wanted.owner.uid or wanted.owner.gid not in (places.ANY_GROUP, state.st_gid):
            yield Found(
                f"{path} belongs to {places.owner(state)} instead of {places.name_of(wanted.owner)}",
                str(path),
                fix=mend,
            )
        elif wanted.mode & ~stat.S_IMODE(state.st_mode):
            yield Found(
                f"{path} has the mode {stat.S_IMODE(state.st_mode):04o} instead of {wanted.mode:04o}",
                str(path),
                fix=mend,
            )


def mending(scene: Scene) -> Callable[[], object] | None:
    """Brings all of it to what it should be; None for who may not."""
    settings = scene.site.settings
    if settings.system and os.geteuid() != 0:
        return None
    try:
        config = scene.config
    except StoreError:
        config = None
    return partial(layout.restore, settings, config)


def _links(scene: Scene) -> Iterator[Found]:
    for path, wanted in _expected(scene):
        state = _state(path)
        if state is None:
            continue
        if stat.S_ISLNK(state.st_mode):
            yield Found(f"{path} is a symbolic link", str(path), f"ls -l {path}")
        elif stat.S_ISREG(state.st_mode) and state.st_nlink > 1:
            yield Found(f"{path} has another name elsewhere (a hard link)", str(path), f"ls -li {path}")
        elif not _is_plain(state) or stat.S_ISDIR(state.st_mode) != wanted.folder:
            yield Found(
                f"{path} is not a plain {'folder' if wanted.folder else 'file'}", str(path), f"ls -l {path}"
            )


def _above(scene: Scene) -> Iterator[Found]:
    home = scene.site.settings.home
    inside = publish.untrusted_ancestors(home)
    for folder in inside:
        if folder != home:
            yield Found(f"{folder} can be changed by others than root and you", str(folder), f"ls -ld {folder}")


def _units(scene: Scene) -> Iterator[Found]:
    """Whatever of ours root or systemd reads, outside the home."""
    if not scene.site.settings.system:
        return
    found = [
        path
        for kind in ("service", "timer", "service.d", "service.d/*")
        for path in sorted(dropin.ETC.glob(f"redlatch*.{kind}"))
    ]
    for unit in dropin.dropins_installed(scene.site.settings.published, etc=dropin.ETC):
        folder = dropin.ETC / f"{unit}.d"
        found += [folder, *sorted(folder.glob("redlatch.*"))]
    for path in found:
        state = path.lstat()
        if not stat.S_ISREG(state.st_mode) and not stat.S_ISDIR(state.st_mode):
            continue  # a unit that root masked or linked: the link is root's, for its folder is
        if state.st_uid != 0 or state.st_mode & _LOOSE:
            yield Found(
                f"{path} can be changed by others than root ({places.owner(state)}, mode "
                f"{stat.S_IMODE(state.st_mode):04o})",
                str(path),
                f"chown root: {path}; chmod go-w {path}",
                fix=partial(bring, path, stat.S_IMODE(state.st_mode) & ~_LOOSE, owner=Owner(0, 0))
                if os.geteuid() == 0
                else None,
            )


def _program(scene: Scene) -> Iterator[Found]:
    if not scene.site.settings.system:
        return
    found = {one for place in PROGRAM for one in publish.untrusted_ancestors(place.resolve())}
    for folder in sorted(found):
        yield Found(f"{folder} can be changed by others than root", str(folder), f"ls -ld {folder}")


def _backups(scene: Scene) -> Iterator[Found]:
    """Copies that a person left where redlatch's own files lie."""
    settings = scene.site.settings
    for folder in (settings.home, settings.authority):
        for path in sorted(folder.glob("*.age")):
            state = path.lstat()
            if stat.S_ISREG(state.st_mode) and state.st_mode & (_LOOSE | _OTHERS):
                yield Found(
                    f"the backup {path} can be read or changed by others (mode {stat.S_IMODE(state.st_mode):04o})",
                    str(path),
                    f"chmod 600 {path}",
                    fix=partial(bring, path, 0o600) if os.geteuid() in (0, state.st_uid) else None,
                )


CHECKS: tuple[Check, ...] = (
    Check(
        "folder-above",
        "somebody else may change a folder above redlatch's",
        Severity.OPEN,
        "Whoever may change a folder may put another one in the place of what is in it: a list of devices, or a "
        "guard, of their own.",
        "chown root: FOLDER; chmod go-w FOLDER",
        _above,
    ),
    Check(
        "file-link",
        "something else stands where a file of redlatch's should be",
        Severity.OPEN,
        "A link leads writes and reads elsewhere. redlatch follows none, and so cannot do its work. Somebody put "
        "it there.",
        "look where it leads and who made it, then remove it and run: redlatch refresh",
        _links,
    ),
    Check(
        "file-open",
        "files can be read or changed by others than they should be",
        Severity.OPEN,
        "Who can read the CA keys can make a key for themselves; who can change what is published decides who "
        "gets in.",
        "redlatch check --fix",
        _open,
    ),
    Check(
        "file-shut",
        "files cannot be used by whom they are for",
        Severity.BROKEN,
        "The service cannot write, or Node-RED cannot read, what it should: changes will not come into force.",
        "redlatch check --fix",
        _shut,
    ),
    Check(
        "unit-open",
        "a unit of systemd's can be changed by others than root",
        Severity.OPEN,
        "systemd runs as root what stands there.",
        "redlatch check --fix",
        _units,
    ),
    Check(
        "program-open",
        "the program redlatch can be changed by others than root",
        Severity.OPEN,
        "Root runs it: whoever changes it becomes root.",
        "chown -R root: FOLDER; chmod -R go-w FOLDER",
        _program,
    ),
    Check(
        "backup-open",
        "a backup can be read or changed by others",
        Severity.WEAK,
        "It is encrypted, but whoever has it can try passphrases for as long as they like.",
        "chmod 600 FILE",
        _backups,
    ),
)
