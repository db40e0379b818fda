"""One schema for SQLite and PostgreSQL, and commands that do not load what only migrations need."""

from __future__ import annotations

import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from tests.integration.store.example import NOW, SITE, add_authority, add_certificate, add_device, device_id
from tests.support.wait import until

from redlatch.audit import genesis
from redlatch.errors import Conflict
from redlatch.policy.model import DEFAULT_RULES, Rule
from redlatch.store import NetworkRow, Reader, Store, Transaction, migrate, statements
from redlatch.store.database import VERSIONS
from redlatch.store.schema import metadata

STATEMENTS = {name: value for name, value in vars(statements).items() if name.isupper() and name[0] != "_"}


def test_the_migrations_make_the_schema(store: Store) -> None:
    """What a new store holds is what schema.py describes: types, keys and indexes."""
    with create_engine(f"sqlite:///{store.path}").connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_known_versions_are_the_migrations() -> None:
    """Ordinary commands compare versions without Alembic; its files are the truth."""
    revisions = ScriptDirectory(str(migrate.MIGRATIONS)).walk_revisions()
    assert tuple(revision.revision for revision in revisions)[::-1] == VERSIONS


def test_the_schema_is_one_that_postgresql_takes() -> None:
    """Tables and indexes compile for PostgreSQL, the partial unique index included."""
    ddl = [str(CreateTable(table).compile(dialect=postgresql.dialect())) for table in metadata.sorted_tables]
    ddl += [
        str(CreateIndex(index).compile(dialect=postgresql.dialect()))
        for table in metadata.sorted_tables
        for index in table.indexes
    ]
    assert any("UNIQUE" in one and "WHERE revoked_at IS NULL" in one for one in ddl)
    assert any("BYTEA" in one for one in ddl)


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_prepares_on_sqlite_and_compiles_for_postgresql(store: Store, name: str) -> None:
    """Every statement names tables and columns that exist, and the parameters are the same for both."""
    compiled = text(STATEMENTS[name]).compile(dialect=postgresql.dialect())
    connection = sqlite3.connect(store.path)
    try:
        connection.execute(f"EXPLAIN {STATEMENTS[name]}", dict.fromkeys(compiled.params))
    finally:
        connection.close()


PROGRAM = """
import sys
from pathlib import Path
from tests.integration.store.example import add
from redlatch.store import Store
with Store.open(Path(sys.argv[1])) as store:
    add(store, "phone")
    with store.read() as r:
        assert r.verify_audit().ok
print(sorted({name.partition(".")[0] for name in sys.modules} & {"sqlalchemy", "alembic", "mako", "asyncio"}))
"""


def test_ordinary_commands_load_neither_sqlalchemy_nor_alembic(store: Store) -> None:
    """Opening, writing, reading and verifying: importing SQLAlchemy alone would take longer than all of it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(store.path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_the_migrations_travel_with_the_package() -> None:
    """They are Python modules inside redlatch, so that every wheel has them."""
    assert migrate.MIGRATIONS.is_relative_to(Path(sys.modules["redlatch"].__file__ or "").parent)
    for folder in (migrate.MIGRATIONS, migrate.MIGRATIONS / "versions"):
        assert (folder / "__init__.py").is_file()


# PostgreSQL itself. No option chooses it yet; what is shared is held to be shared.

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/nonexistent"))
needs_postgresql = pytest.mark.skipif(
    not (BINARIES / "initdb").is_file(), reason="PostgreSQL's server is not installed (apt install postgresql)"
)


class Portable:
    """The store's connection on SQLAlchemy: the same statements, the same parameters."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def execute(self, sql: str, parameters: Mapping[str, object], /) -> Any:
        return self.connection.execute(text(sql), dict(parameters))


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL of its own on a Unix socket, run by Debian's user for it (it refuses root)."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # short: a socket's path has 107 bytes
    user = "postgres" if os.geteuid() == 0 else None
    try:
        if user:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
        subprocess.run(
            [
                BINARIES / "initdb",
                "-D",
                folder / "data",
                "-U",
                "redlatch",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            user=user,
            cwd=folder,
            check=True,
            capture_output=True,
        )
        process = subprocess.Popen(
            [BINARIES / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-F"],
            user=user,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        try:
            until((folder / ".s.PGSQL.5432").exists, seconds=30, what="PostgreSQL's socket")
            yield f"postgresql+psycopg://redlatch@/postgres?host={folder}"
        finally:
            process.terminate()
            process.wait(30)
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def engine(server: str) -> Iterator[Engine]:
    """An engine on a database with the schema and a site."""
    made = create_engine(server, isolation_level="READ COMMITTED")

    def answers() -> bool:
        try:
            made.connect().close()
        except Exception:  # noqa: BLE001
            return False
        return True

    until(answers, seconds=30, what="PostgreSQL")
    with made.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        migrate.upgrade(connection)
        Portable(connection).execute(
            statements.NEW_SITE, {"uuid": SITE, "created_at": 1, "audit_hash": genesis(SITE)}
        )
    yield made
    made.dispose()


@needs_postgresql
def test_the_same_store_lives_on_postgresql(engine: Engine) -> None:
    """Migrated, written, read, refused and verified by the same code as on SQLite."""
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    with engine.begin() as connection:
        tx = Transaction(Portable(connection), actor="bart", now=NOW)
        add_authority(tx)
        phone = add_device(tx, "Bart's phone 📱", owner="Bart")
        certificate = add_certificate(tx, phone.id)
        add_device(tx, "tablet")
        tx.rename_device(device_id("tablet"), name="Tablet", name_key="tablet")
        tx.set_role(device_id("tablet"), "viewer")
        tx.set_config({"names": ["münchen"]})
        tx.add_role("family", "user")
        assert tx.add_rule(Rule(0, roles=("family",), area="all")).id == 5
        tx.remove_rule(1)
        tx.put_network(NetworkRow("home", "::1", {}, 1, "ab" * 32), b"old")
        tx.put_network(NetworkRow("home", "::2", {"a.b": {"addresses": [], "at": 1}}, 1, "cd" * 32), b"new\0")
        tx.record("site.changed")
        tx.finish()
    with pytest.raises(Conflict), engine.begin() as connection:
        add_device(Transaction(Portable(connection), actor="bart", now=NOW), "Bart's phone 📱")
    with engine.begin() as connection:
        r = Reader(Portable(connection))
        assert r.device_by_name("bart's phone 📱") == phone
        assert r.device_by_id(phone.id) == phone
        assert r.devices_by_slug("Bart") == (phone,)
        assert r.certificates(phone.id) == (certificate,)
        assert [one.fingerprint for one in r.active_certificates()] == [certificate.fingerprint]
        assert [one.name for one in r.devices(limit=1)] == [phone.name]
        assert [one.name for one in r.devices(after=phone.id)] == ["Tablet"]
        assert len(r.authorities("device")) == 1
        assert r.roles() == {"family": "user"}
        assert [one.id for one in r.rules()] == [2, 3, 4, 5]
        assert r.rules()[:3] == DEFAULT_RULES[1:]
        assert r.networks() == (NetworkRow("home", "::2", {"a.b": {"addresses": [], "at": 1}}, 1, "cd" * 32),)
        assert r.network("home") == r.networks()[0]
        assert r.network_digests() == {"home": "cd" * 32}
        assert r.network_table("home") == b"new\0"
        assert list(r.entries_below("", 65)) == [certificate.fingerprint]
        assert list(r.entries_below(certificate.fingerprint[:3], 65)) == [certificate.fingerprint]
        assert r.changed_since(0) == (certificate.fingerprint,)
        assert r.changed_since(1) == ()
        assert r.device_count_by_role() == {"admin": 1, "viewer": 1}
        assert r.somebody_has("admin", NOW)
        assert [name for name, _ in r.ending(NOW + timedelta(days=366))] == [phone.name]
        assert (r.site().config, r.site().revision) == ({"names": ["münchen"]}, 1)
        assert r.verify_audit().ok
    with engine.begin() as connection:
        tx = Transaction(Portable(connection), actor="bart", now=NOW)
        assert tx.revoke_device(phone.id, NOW + timedelta(hours=1), "lost") == 1
        tx.record("device.revoked", device=phone.id)
        tx.retire_authority(1, NOW)
        tx.record("ca.retired")
        add_device(tx, "Bart's phone 📱 2")
        tx.remove_role("family")
        tx.remove_network("home")
        tx.record("role.removed")
        tx.finish()
    with engine.begin() as connection:
        r = Reader(Portable(connection))
        assert list(r.active_certificates()) == []
        assert r.entries_below("", 65) == {}
        assert r.changed_since(1) == (certificate.fingerprint,)
        assert (r.roles(), r.networks()) == ({}, ())
        assert r.device_by_name("bart's phone 📱") is None
        assert r.verify_audit().ok


@needs_postgresql
def test_writers_on_postgresql_continue_one_chain(engine: Engine) -> None:
    """Several at once under READ COMMITTED: each waits for the head it continues, and none fails."""
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(10):
                with engine.begin() as connection:
                    tx = Transaction(Portable(connection), actor="bart", now=NOW)
                    add_device(tx, f"device {number} {turn}")
                    tx.finish()
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with engine.begin() as connection:
        r = Reader(Portable(connection))
        assert r.audit_head().seq == 40
        assert r.verify_audit().ok
