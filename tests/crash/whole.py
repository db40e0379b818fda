"""What must hold of a home after whatever happened to it."""

from __future__ import annotations

import contextlib
import json
import mmap
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.crash.operations import Place
from tests.support.site import published

from redlatch import bootstrap
from redlatch.errors import InvalidInput, NotSetUp
from redlatch.operations import authorities, engines
from redlatch.operations.publishing import build
from redlatch.policy.model import Snapshot
from redlatch.store import Store
from redlatch.store.writing import Transaction

# What differs from one run of an operation to the next: keys, identities, times
_VOLATILE = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b[0-9a-f]{28,64}\b"
    r"|\d{4}-\d\d-\d\dT[0-9:.+Z]+|\b[0-9a-f]{12}\b|\b\d{10}\b|\d+\.\d{4,}"
)


def dump(database: Path) -> str:
    """All rows of all tables, but for what is new each time; "" where there is no store."""
    if not database.exists():
        return ""
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True)) as connection:
        return _dump(connection)


def _dump(connection: sqlite3.Connection) -> str:
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = []
    for name in sorted(names):
        rows = connection.execute(f'SELECT * FROM "{name}"').fetchall()
        found += sorted(f"{name}: {_VOLATILE.sub('*', json.dumps(row, default=_bytes))}" for row in rows)
    return "\n".join(found)


def _bytes(value: bytes) -> str:
    return "bytes" if len(value) > 0 else "no bytes"


@contextlib.contextmanager
def states_noted(memory: mmap.mmap) -> Iterator[None]:
    """Inside it what the store says is noted in `memory` (shared with a forked child, which writes no file for it)
    at the end of every transaction.
    """
    write, create = Store.write, Store.create

    def note(store: Store) -> None:
        memory.write(json.dumps(_dump(store._connection)).encode() + b"\n")

    @contextlib.contextmanager
    def noting(self: Store, actor: str, now: datetime) -> Iterator[Transaction]:
        with write(self, actor, now) as transaction:
            yield transaction
        note(self)

    def creating(*arguments: Any, **more: Any) -> Store:
        made = create(*arguments, **more)
        note(made)
        return made

    Store.write, Store.create = noting, creating  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Store.write, Store.create = write, create  # type: ignore[method-assign]


def noted(memory: mmap.mmap) -> list[str]:
    return [json.loads(line) for line in memory[:].rstrip(b"\0").splitlines()]


Admits = dict[str, Any]


def admits(snapshot: Snapshot) -> Admits:
    """Whom it lets in where: everything but when and as which version it was made, and where claims go."""
    plain = replace(snapshot, version=0, time=0, spool="")
    return {name: getattr(plain, name) for name in plain.__dataclass_fields__}


def admitted(folder: Path) -> Admits | None:
    """What is published in a folder; None for nothing that an engine would believe (it lets nobody in)."""
    try:
        return admits(published(folder))
    except (InvalidInput, OSError):
        return None


def folders(at: Place) -> list[Path]:
    return [at.settings.published, at.settings.gateway.published]


def more_open(at: Place, before: list[Admits | None]) -> str:
    """Which engine's files, as they lie there, admit somebody whom the store neither did before nor does now, in
    words; "". `before`: what each folder admitted before.
    """
    try:
        with Store.open(at.settings.database) as store, store.read() as view:
            stored = view.site().config
            now = None
            if stored:
                config = bootstrap.Config.of(stored)
                now = admits(build(view, config, spool=Path("/")))
    except NotSetUp:
        now = None
    for folder, old in zip(folders(at), before, strict=True):
        found = admitted(folder)
        if found is not None and found not in (old, now):
            return f"{folder}: {_difference(found, now or old or {})}"
    return ""


def _difference(one: Admits, other: Admits) -> str:
    return "; ".join(
        f"{name} {one[name]} and not {other.get(name)}" for name in one if one[name] != other.get(name)
    )


def damage(at: Place) -> str:
    """What is not as it must be after the next command, in words; "" when all is well."""
    site = at.open()
    with site.store.read() as view:
        if not view.verify_audit().ok:
            return "the audit chain is broken"
        row, config = view.site(), site.config()
        wanted = admits(build(view, config, spool=Path("/")))
    if (keys := sorted(path.name for path in at.settings.keys.iterdir())) != authorities.key_files(site):
        return f"keys {keys} where the store knows {authorities.key_files(site)}"
    for engine in engines.engines(site.settings, config):
        folder = engine.settings.published
        found = admitted(folder)
        if found != wanted:
            return f"{folder}: published is not what the store says: {_difference(found or {}, wanted)}"
        if published(folder).version != row.revision:
            return f"{folder}: version {published(folder).version} where the store is at {row.revision}"
    return ""
