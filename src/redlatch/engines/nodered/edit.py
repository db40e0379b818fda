"""Changes settings.js: with the rights of its user, proven before it counts, replaced in one step.

The candidate is written beside the file and loaded by a node of that user; only when the guard took effect in it
does it get the file's name. A power cut or kill -9 leaves the old file or the new one, and at worst a candidate
that the next run takes away.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from redlatch.engines.nodered.adopt import Entry, add_block, block_entry, block_path, has_block, remove_block
from redlatch.engines.nodered.inspection import (
    Inspection,
    inspect_file,
    inspect_settings,
    not_adoptable,
    read_bytes,
    read_settings,
)
from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import call_as, may_reach
from redlatch.errors import Conflict, FileProblem, NotAdoptable

_PREFIX = ".redlatch-candidate-"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What adoption did. `file` is the real file, behind any link; `before` describes the person's
    own settings.
    """

    changed: bool
    created: bool
    file: Path
    before: Inspection
    after: Inspection


@dataclass(frozen=True, slots=True)
class Released:
    """What release did; `file` is None when there is no settings file any more."""

    changed: bool
    file: Path | None


def adopt(nodered: NodeRed, published: Path, *, entry: Entry = "guard.js") -> Adopted:
    """Puts the block in, in the place of one with another `entry`, and proves that it takes effect; idempotent.
    What it loads must be published already.

    Raises NotAdoptable (reason and way on; the file is as it was), Conflict when another redlatch guards it,
    FileProblem when the user may not write there.
    """
    if nodered.settings_exist:
        real = Path(call_as(nodered.user, os.path.realpath, str(nodered.settings_file)))
        data = read_settings(nodered, real)
    else:
        # red.js copies its default there when it finds none; so that the lock is there from the first start, we
        # do.
        real = nodered.settings_file
        if nodered.program is None:
            raise not_adoptable(real, inspect_settings(nodered))
        data = read_settings(nodered, nodered.program.parent / "settings.js")
    call_as(nodered.user, _sweep, str(real.parent))
    _refuse_other_guard(nodered, data, published)
    before = _loads_without(nodered, data, real)
    wanted = add_block(data, published, entry=entry)
    if wanted == data and nodered.settings_exist:
        after = inspect_file(nodered, real)
        if _took_effect(after, entry):
            return Adopted(False, False, real, after, after)
    after = _replace(nodered, real, data if nodered.settings_exist else None, wanted, entry)
    # With an old block in it, what the person set is known from the candidate only.
    return Adopted(True, not nodered.settings_exist, real, after if has_block(data) else before, after)


def _took_effect(found: Inspection, entry: Entry) -> bool:
    return found.guarded and found.behind == (entry == "behind.js")


def _loads_without(nodered: NodeRed, data: bytes, real: Path) -> Inspection:
    """Loads what the person has. With a block in it only the candidate is judged: its guard may be gone by now."""
    found = inspect_settings(nodered) if not has_block(data) else Inspection(True)
    if not found.ok:
        raise not_adoptable(real, found)
    return found


def refuse_other_guard(nodered: NodeRed, published: Path) -> None:
    """Conflict when the settings file is guarded by another redlatch than the one that owns `published`."""
    if nodered.settings_exist:
        _refuse_other_guard(nodered, read_settings(nodered), published)


def _refuse_other_guard(nodered: NodeRed, data: bytes, published: Path) -> None:
    other, entry = block_path(data), block_entry(data)
    if other is None or entry is None or other == published:
        return
    if may_reach(nodered.user, other / entry):
        raise Conflict(
            f"{nodered.settings_file} is guarded by another redlatch: {other.parent}",
            hint=f"use that one (--home {other.parent}), or take it out first: redlatch --home "
            f"{other.parent} down",
        )


def _replace(nodered: NodeRed, real: Path, old: bytes | None, new: bytes, entry: Entry) -> Inspection:
    """Writes the candidate, proves it, gives it the file's name."""
    candidate = call_as(nodered.user, _write_candidate, str(real), new.decode("latin-1"), old is not None)
    try:
        after = _prove(nodered, real, Path(candidate), entry)
        digest = hashlib.sha256(old).hexdigest() if old is not None else None
        call_as(nodered.user, _commit, candidate, str(real), digest)
    except BaseException:
        with contextlib.suppress(FileProblem):
            call_as(nodered.user, _discard, candidate)
        raise
    return after


def _prove(nodered: NodeRed, real: Path, candidate: Path, entry: Entry) -> Inspection:
    """Loads the candidate as its user; raises NotAdoptable unless the guard took effect in it."""
    found = inspect_file(nodered, candidate)
    if not found.ok:
        raise not_adoptable(real, replace(found, error=found.error.replace(str(candidate), str(real))))
    if not _took_effect(found, entry):
        raise NotAdoptable(
            f"{real} cannot be locked safely: the guard's line at its end has no effect",
            hint="something before it ends the file early (a `return` outside of any function) or replaces "
            "`module`; write it as Node-RED's own default does. Nothing was changed",
        )
    return found


def _write_candidate(real: str, data: str, exists: bool) -> str:
    """Runs as the user. The name keeps the extension (node decides by it) and the folder (relative requires)."""
    path = Path(real)
    if not exists:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    before = path.stat() if exists else None
    if before and before.st_uid != os.geteuid() and os.geteuid() != 0:
        raise NotAdoptable(
            f"{real} does not belong to Node-RED's user, who is to change it",
            hint=f"give it to that user with chown, or make {real} a copy of its own; nothing was changed",
        )
    descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=path.suffix or ".js", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data.encode("latin-1"))
            stream.flush()
            if before:
                with contextlib.suppress(PermissionError):
                    os.fchown(stream.fileno(), before.st_uid if os.geteuid() == 0 else -1, before.st_gid)
                _copy_attributes(real, stream.fileno())
            os.fchmod(stream.fileno(), stat.S_IMODE(before.st_mode) if before else 0o644)
            os.fsync(stream.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return name


def _copy_attributes(source: str, descriptor: int) -> None:
    """Extended attributes, access control lists among them: the new file shall be as readable as the old one."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(source):
            with contextlib.suppress(OSError):
                os.setxattr(descriptor, name, os.getxattr(source, name))


def _commit(candidate: str, real: str, digest: str | None) -> None:
    path = Path(real)
    if digest is None:
        if os.path.lexists(path):
            raise Conflict(f"{real} appeared meanwhile", hint="run the command again")
    elif hashlib.sha256(read_bytes(real)).hexdigest() != digest:
        raise Conflict(f"{real} was changed by somebody else meanwhile", hint="run the command again")
    Path(candidate).replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _discard(candidate: str) -> None:
    Path(candidate).unlink(missing_ok=True)


def _sweep(folder: str) -> None:
    """Takes away what an interrupted run left."""
    for path in Path(folder).glob(f"{_PREFIX}*"):
        path.unlink(missing_ok=True)


def release(nodered: NodeRed) -> Released:
    """Takes the block out; everything else stays byte for byte. Works on a settings.js that cannot
    be loaded too.
    """
    if not nodered.settings_exist:
        return Released(False, None)
    real = Path(call_as(nodered.user, os.path.realpath, str(nodered.settings_file)))
    call_as(nodered.user, _sweep, str(real.parent))
    data = read_settings(nodered, real)
    wanted = remove_block(data)
    if wanted == data:
        return Released(False, real)
    candidate = call_as(nodered.user, _write_candidate, str(real), wanted.decode("latin-1"), True)
    try:
        call_as(nodered.user, _commit, candidate, str(real), hashlib.sha256(data).hexdigest())
    except BaseException:
        with contextlib.suppress(FileProblem):
            call_as(nodered.user, _discard, candidate)
        raise
    return Released(True, real)
