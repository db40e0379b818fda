"""Brings a database to this redlatch's schema. Loads SQLAlchemy and Alembic (0.5 s); nothing else does."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection, *, to: str = "head") -> None:
    """Runs the missing migrations on `connection` (SQLite or PostgreSQL) up to `to`, all of them or none."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def upgrade_sqlite(raw: sqlite3.Connection, *, to: str = "head", before: Callable[[], None] | None = None) -> None:
    """As `upgrade`, on an open sqlite3 connection in autocommit mode, under its write lock, `before` included.
    sqlite3.Error.
    """
    engine = create_engine("sqlite://", creator=lambda: raw, poolclass=StaticPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Python's driver does not begin a transaction before DDL by itself: half a migration could remain.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            if before is not None:
                before()
            upgrade(connection, to=to)
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            raise error.orig from error
        raise
