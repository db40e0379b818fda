"""The SQLite file: made whole or not at all, opened without ever creating one, written one at a time, durably."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Self

from redlatch.audit import genesis
from redlatch.errors import Conflict, NotSetUp, StoreError, StoreTooNew
from redlatch.files import Owner, sync_dir, write_atomic
from redlatch.store import statements as sql
from redlatch.store.problems import damaged, in_words
from redlatch.store.reading import Reader
from redlatch.store.writing import Transaction

VERSIONS = ("0001", "0002", "0003", "0004")  # of the schema, oldest first; a test holds them to the migrations

# Kept in the file; said again on opening, for a copy restored from a dump. Not before it is known to be a store.
WAL = "PRAGMA journal_mode = WAL"

# Transactions are ours to begin: Python's own start too late and as DEFERRED. The Store's lock sees to threads.
_OURS: Final[Any] = {"isolation_level": None, "check_same_thread": False}

# How long a command waits for another one's write. Writes take milliseconds; whoever holds the lock longer hangs.
PATIENCE = 5.0


class Store:
    """The store of one site. Closed by `close` or by leaving a `with`; threads take turns."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """By `create` and `open` only."""
        self.path = path
        self._connection = connection
        self._lock = threading.RLock()
        self.kept: Path | None = None  # the copy that was made before an upgrade

    @classmethod
    def create(cls, path: Path, *, site_uuid: str, now: datetime, owner: Owner | None = None) -> Store:
        """Makes the store of a new site, with an empty configuration and no event, and opens it.

        The folder must exist. The file gets mode 0600 and, as root, `owner`. Conflict when there is one already.
        """
        if os.path.lexists(path):
            raise _exists(path)
        try:
            _make(path, site_uuid, now, owner)
        except FileExistsError as error:
            raise _exists(path) from error
        except OSError as error:
            raise StoreError(
                f"cannot create the store {path}: {(error.strerror or str(error)).lower()}",
                hint="name another place with --home, or run the command as the user who may write there",
            ) from error
        return cls.open(path)

    @classmethod
    def open(cls, path: Path, *, patience: float = PATIENCE) -> Store:
        """Opens what `create` made, brought to this redlatch's schema if it is older.

        NotSetUp when there is none, StoreTooNew when a newer redlatch wrote it, StoreError when it is damaged or
        no plain file. Never creates anything. `patience`: seconds to wait for another writer before Busy.
        """
        _check_files(path)
        with in_words(path):
            store = cls(path, _connect(path, patience=patience))
        try:
            store._check_version()
            with in_words(path):
                store._connection.execute(WAL)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def loaded(cls, data: bytes, name: Path) -> Store:
        """A store in memory, of what `copy` gave, brought to this redlatch's schema; `name` is for messages.

        `data` may be anything: StoreError for what is no whole store of redlatch's, StoreTooNew.
        """
        if len(data) < 512 or not data.startswith(b"SQLite format 3\0"):
            raise damaged("it is no database", name)
        with in_words(name):
            store = cls(name, _connected(sqlite3.connect(":memory:", **_OURS)))
        try:
            with in_words(name):
                store._connection.deserialize(data)
                _refuse_foreign(store._connection, name)
            store._check_version(keep=False)
        except BaseException:
            store.close()
            raise
        return store

    def copy(self) -> bytes:
        """The whole store as one file's content, while others go on changing it; within `read`, what that sees."""
        with self._lock, in_words(self.path):
            return _copy(self._connection)

    def schema(self) -> str:
        """The version of its schema."""
        with self._lock, in_words(self.path):
            return _version(self._connection)

    def close(self) -> None:
        """Closes the file; the last one out folds the write-ahead log into it."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def write(self, actor: str, now: datetime) -> Iterator[Transaction]:
        """One change: committed and durable when the block ends, undone when it raises. Busy, StoreError."""
        with self._turn("IMMEDIATE"):
            transaction = Transaction(self._connection, actor=actor, now=now)
            yield transaction
            transaction.finish()

    @contextlib.contextmanager
    def read(self) -> Iterator[Reader]:
        """A consistent view for the length of the block; inside a transaction of this thread's, that one's."""
        with self._lock:
            if self._connection.in_transaction:
                yield Reader(self._connection)
                return
            with self._turn("DEFERRED"):
                yield Reader(self._connection)

    def damages(self) -> list[str]:
        """What SQLite finds wrong in the file, in its words (at most 20 lines); reads all of it. StoreError."""
        with self._lock, in_words(self.path):
            rows = self._connection.execute("PRAGMA quick_check(20)").fetchall()
        said = [line for (text,) in rows for line in str(text).splitlines()]
        return [] if said == ["ok"] else said

    @contextlib.contextmanager
    def _turn(self, kind: str) -> Iterator[None]:
        connection = self._connection
        with self._lock, in_words(self.path):
            if connection.in_transaction:
                raise RuntimeError("a transaction of this store is open already: use that one")
            connection.execute(f"BEGIN {kind}")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors (a full disk among them).
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _check_version(self, *, keep: bool = True) -> None:
        with in_words(self.path):
            try:
                rows = self._connection.execute(sql.SCHEMA_VERSION).fetchall()
            except sqlite3.OperationalError as error:
                if "no such table" in str(error):
                    raise damaged("it is no store of redlatch's", self.path) from error
                raise
        version = str(rows[0][0]) if len(rows) == 1 else ""
        if version in VERSIONS[:-1]:
            self._upgrade(version, keep=keep)
        elif version.isdecimal() and int(version) > int(VERSIONS[-1]):
            raise StoreTooNew(
                f"the store {self.path} was written by a newer redlatch (schema {version}, this one knows"
                f" {VERSIONS[-1]})",
                hint="install that version of redlatch again; nothing was changed",
            )
        elif version != VERSIONS[-1]:
            raise damaged(f"its version {version!r} is unknown", self.path)

    def _upgrade(self, version: str, *, keep: bool) -> None:
        """All migrations or none; with `keep` after a copy of the store as it was, which stays beside it."""
        from redlatch.store.migrate import upgrade_sqlite

        def before() -> None:  # holds the write lock: whoever was faster has kept the copy
            if _version(self._connection) == version:
                self.kept = _keep(self.path, version)

        with in_words(self.path):
            upgrade_sqlite(self._connection, before=before if keep else None)


def copy_of(path: Path) -> bytes:
    """As `Store.copy`, of a store of any version, which stays as it is. NotSetUp, StoreError."""
    _check_files(path)
    with in_words(path), contextlib.closing(_connect(path)) as connection:
        return _copy(connection)


def _copy(connection: sqlite3.Connection) -> bytes:
    """By SQLite's own backup: one consistent state, whatever is written meanwhile."""
    with contextlib.closing(sqlite3.connect(":memory:")) as memory:
        connection.backup(memory)
        data = memory.serialize()
    # Bytes 18 and 19 say that there is a write-ahead log (https://sqlite.org/fileformat.html); here is none.
    return data[:18] + b"\x01\x01" + data[20:]


def _version(connection: sqlite3.Connection) -> str:
    rows = connection.execute(sql.SCHEMA_VERSION).fetchall()
    return str(rows[0][0]) if len(rows) == 1 else ""


def _refuse_foreign(connection: sqlite3.Connection, name: Path) -> None:
    """For content from elsewhere: damaged pages and rows, and what would run by itself when rows are changed."""
    # First of all, for checking a virtual table runs its module; it has no page of its own, whatever its text.
    odd = connection.execute(
        "SELECT type, name FROM sqlite_master WHERE type NOT IN ('table', 'index') OR rootpage = 0"
    ).fetchone()
    if odd is not None:
        raise damaged(f"it has a {odd[0]} {odd[1]!r}, which no redlatch makes", name)
    found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise damaged(found[0] if found else "it cannot be checked", name)
    if connection.execute("PRAGMA foreign_key_check").fetchone() is not None:
        raise damaged("a row belongs to nothing", name)


def _keep(path: Path, version: str) -> Path:
    """Writes the store beside itself, as it is before a migration, and removes the copies of earlier ones.

    Over a connection of its own: SQLite copies nothing of one that is about to write.
    """
    kept = path.with_name(f"{path.name}.{version}.bak")
    state = path.lstat()
    owner = Owner(state.st_uid, state.st_gid) if os.geteuid() == 0 else None
    write_atomic(kept, copy_of(path), mode=0o600, owner=owner)
    for other in (*path.parent.glob(f"{path.name}.*.bak"), *path.parent.glob(f".{path.name}.*.bak.*")):
        if other != kept:
            other.unlink(missing_ok=True)
    return kept


class Shut(Store):
    """Stands for a store that cannot be opened: every use of it raises why."""

    def __init__(self, path: Path, error: StoreError) -> None:
        self.path = path
        self._error = error

    def close(self) -> None:
        """There is nothing to close."""

    @contextlib.contextmanager
    def write(self, actor: str, now: datetime) -> Iterator[Transaction]:
        raise self._error
        yield  # it is a generator all the same

    @contextlib.contextmanager
    def read(self) -> Iterator[Reader]:
        raise self._error
        yield

    def damages(self) -> list[str]:
        raise self._error


def _connect(path: Path, *, patience: float = PATIENCE) -> sqlite3.Connection:
    """A connection that never creates the file and commits durably (a power cut included)."""
    name = f"{path.absolute().as_uri()}?mode=rw"
    return _connected(sqlite3.connect(name, uri=True, timeout=patience, **_OURS))


def _connected(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "trusted_schema = OFF"):
            connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        connection.close()
        raise
    return connection


def _check_files(path: Path) -> None:
    """Refuses links and the like under the names SQLite will write to: as root it would follow them anywhere."""
    for suffix in ("", "-wal", "-shm", "-journal"):
        file = path.with_name(path.name + suffix)
        try:
            mode = file.lstat().st_mode
        except FileNotFoundError:
            if not suffix:
                raise NotSetUp(
                    f"there is no site in {path.parent.parent}", hint="set one up with: redlatch up"
                ) from None
            continue
        except OSError as error:
            raise StoreError(
                f"cannot open the store {path}: {(error.strerror or str(error)).lower()}",
                hint="run the command as the user it belongs to (with sudo for a system-wide installation)",
            ) from error
        if not stat.S_ISREG(mode):
            raise StoreError(
                f"cannot trust the store {path}: {file.name} is no plain file",
                hint="somebody put something else in its place; remove it and look who may write there",
            )


def _make(path: Path, site_uuid: str, now: datetime, owner: Owner | None) -> None:
    """Makes the whole store under another name, then gives it its own: a kill leaves none or all of it."""
    from redlatch.store.migrate import upgrade_sqlite

    prefix = f".{path.name}."
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=path.parent)
    temporary = Path(name)
    try:
        if owner is not None:
            os.fchown(descriptor, owner.uid, owner.gid)
        with in_words(path), contextlib.closing(_connect(temporary)) as connection:
            connection.execute(WAL)
            upgrade_sqlite(connection)
            connection.execute(
                sql.NEW_SITE,
                {"uuid": site_uuid, "created_at": int(now.timestamp()), "audit_hash": genesis(site_uuid)},
            )
            # Closing folds the log in, too, but says nothing when that fails: the log would be taken away below,
            # and half a file would get the store's name.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.fsync(descriptor)
        # link, not rename: it fails when somebody else was faster.
        path.hardlink_to(temporary)
    finally:
        os.close(descriptor)
        _remove(path.parent, f"{temporary.name}*")
    _remove(path.parent, f"{prefix}*")  # what is left of attempts that were killed
    sync_dir(path.parent)


def _remove(folder: Path, pattern: str) -> None:
    for file in folder.glob(pattern):
        file.unlink(missing_ok=True)


def _exists(path: Path) -> Conflict:
    return Conflict(f"there is a store already: {path}", hint="redlatch status shows what is set up there")
