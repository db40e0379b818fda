"""SQLite's errors in words: who waits for whom, which disk is full, what is broken, and what to do next."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from redlatch.errors import Busy, RedlatchError, StoreError

_DAMAGED = "take another backup: redlatch restore FILE --replace; the engine keeps enforcing what it has"


@contextlib.contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Turns whatever SQLite raises about `path` into Busy or StoreError."""
    try:
        yield
    except sqlite3.Error as error:
        raise explained(error, path) from error


def explained(error: sqlite3.Error, path: Path) -> RedlatchError:
    """The error to raise for `error`. By the primary result code (https://sqlite.org/rescode.html)."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return Busy(
            f"another redlatch is changing the store {path}",
            hint="wait until it has finished, then run the same command again; nothing was changed",
        )
    if code == sqlite3.SQLITE_FULL:
        what, hint = "the disk is full", "free some space on that disk, then try again; nothing was changed"
    elif code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}:
        what = "it may not be written by the present user, or lies on a read-only disk"
        hint = "run the command as the user it belongs to (with sudo for a system-wide installation)"
    elif code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return damaged(str(error), path)
    elif code == sqlite3.SQLITE_IOERR:
        what = f"the disk failed or is full ({error})"
        hint = "look at the disk's space and the system log, then try again; nothing was changed"
    else:
        what, hint = str(error), "look whether another program has changed it"
    return StoreError(f"cannot use the store {path}: {what}", hint=hint)


def damaged(why: str, path: Path | None = None) -> StoreError:
    """For content that no redlatch wrote."""
    return StoreError(f"the store{f' {path}' if path else ''} is damaged: {why}", hint=_DAMAGED)
