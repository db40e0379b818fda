"""The store: can it be read, is it whole, is there room to write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity
from redlatch.errors import StoreError
from redlatch.operations import engines

#: Below this a change may not be recorded: a store grows by pages, and its write-ahead log beside it.
ROOM: Final = 32 << 20  # bytes
FILES: Final = 64  # a change of the published list makes about a dozen
BACKUP: Final = timedelta(days=30)


def _unusable(scene: Scene) -> Iterator[Found]:
    try:
        with scene.site.store.read() as view:
            view.site()
    except StoreError as error:
        yield Found(error.message, str(scene.site.settings.database), error.hint)


def _damaged(scene: Scene) -> Iterator[Found]:
    for words in scene.site.store.damages():
        yield Found(words, str(scene.site.settings.database))


def _audit(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        found = view.verify_audit()
    if not found.ok:
        yield Found(f"{found.problem}; the {found.count} events before it are whole", "audit trail")


def places(scene: Scene) -> list[Path]:
    """The folders in which redlatch writes. Without a store that can be read: those that are always there."""
    settings = scene.site.settings
    try:
        found = [one.settings.published for one in engines.engines(settings, scene.config)]
    except StoreError:
        found = [settings.published] if settings.published.is_dir() else []
    return [settings.authority, *found]


def _read_only(scene: Scene) -> Iterator[Found]:
    for folder in places(scene):
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            yield Found(f"{folder} is on a file system that is mounted read-only", str(folder))


def _full(scene: Scene) -> Iterator[Found]:
    for folder in places(scene):
        state = os.statvfs(folder)
        free = state.f_bavail * state.f_frsize
        if free < ROOM:
            yield Found(f"{free >> 20} MiB are free where {folder} is", str(folder))
        elif state.f_files and state.f_favail < FILES:  # some file systems count no files
            yield Found(f"there is room for {state.f_favail} more files where {folder} is", str(folder))


def _backup(scene: Scene) -> Iterator[Found]:
    """By the audit trail, from its end: a copy that a person made past redlatch is not known here."""
    now, before = scene.site.clock(), None
    with scene.site.store.read() as view:
        last = view.audit_head().seq
        while entries := view.audit_before(before, 500):
            for one in entries:
                if one.event.kind == "backup.made":
                    if last > one.event.seq and now - one.event.at > BACKUP:
                        since = f"{one.event.at:%Y-%m-%d}, and {last - one.event.seq} changes are newer"
                        yield Found(f"the last one is of {since}")
                    return
            before = entries[-1].event.seq
    yield Found("none was ever made")


CHECKS: tuple[Check, ...] = (
    Check(
        "store-unusable",
        "the store cannot be used",
        Severity.BROKEN,
        "Nobody can be added or shut out. What was published last stays in force.",
        "redlatch restore FILE",
        _unusable,
    ),
    Check(
        "store-damaged",
        "the store is damaged",
        Severity.BROKEN,
        "SQLite finds that the file is not what it wrote: a failing disk, or somebody else's program. Parts of it "
        "may be lost.",
        "redlatch restore FILE",
        _damaged,
        ("store-unusable",),
    ),
    Check(
        "audit-broken",
        "the audit trail was changed",
        Severity.OPEN,
        "Somebody, or a failing disk, changed the record of who did what. Whoever can do that can hide that a key "
        "was given out.",
        "redlatch audit --verify",
        _audit,
        ("store-unusable", "store-damaged"),
    ),
    Check(
        "disk-read-only",
        "the disk cannot be written",
        Severity.BROKEN,
        "No change can be recorded, a revocation neither. Linux mounts a failing disk read-only.",
        "sudo dmesg | tail -n 50",
        _read_only,
    ),
    Check(
        "disk-full",
        "the disk is nearly full",
        Severity.BROKEN,
        "Soon no change can be recorded, a revocation neither.",
        "df -h",
        _full,
        ("disk-read-only",),
    ),
    Check(
        "backup-old",
        "there is no recent backup",
        Severity.NOTE,
        "When this disk fails, every device needs a new key, and every device has to trust a new server CA.",
        "redlatch backup FILE",
        _backup,
        ("store-unusable",),
    ),
)
