"""What `Store.create` and `Store.open` accept and refuse, whose the files are, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, SITE, add

from redlatch.errors import Conflict, NotSetUp, StoreError, StoreTooNew
from redlatch.files import Owner
from redlatch.store import Store, migrate
from redlatch.store import database as database_module
from redlatch.store.database import VERSIONS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files to another user")


def test_a_store_opens_again(store: Store) -> None:
    """What was written is there for the next command."""
    add(store, "phone")
    store.close()
    with Store.open(store.path) as again, again.read() as r:
        assert [device.name for device in r.devices()] == ["phone"]
        assert r.site().uuid == SITE


def test_commits_are_durable_in_the_write_ahead_log(store: Store) -> None:
    """WAL, and FULL: each commit is synced (https://sqlite.org/pragma.html#pragma_synchronous); keys are held."""
    for path in (store, Store.open(store.path)):
        pragmas = {
            name: path._connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_missing_store_is_not_created(database: Path) -> None:
    """Opening says that there is no site, how to make one, and leaves the folder empty."""
    with pytest.raises(NotSetUp) as refused:
        Store.open(database)
    assert "redlatch up" in refused.value.hint
    assert list(database.parent.iterdir()) == []
    with pytest.raises(NotSetUp):
        Store.open(database.parent / "nowhere" / "redlatch.db")


def test_a_store_is_not_created_twice(store: Store) -> None:
    """A second creation is refused and changes nothing; a dangling link in its place counts as there."""
    with pytest.raises(Conflict):
        Store.create(store.path, site_uuid="another", now=NOW)
    with store.read() as r:
        assert r.site().uuid == SITE
    link = store.path.with_name("link.db")
    link.symlink_to(store.path.with_name("elsewhere.db"))
    with pytest.raises(Conflict):
        Store.create(link, site_uuid=SITE, now=NOW)
    assert not link.exists()


def test_of_two_creations_at_once_the_first_one_stays(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one finds the name taken at the very end, and is refused."""
    honest = migrate.upgrade_sqlite

    def overtaken(raw: sqlite3.Connection) -> None:
        monkeypatch.setattr(migrate, "upgrade_sqlite", honest)
        Store.create(database, site_uuid="first", now=NOW).close()
        honest(raw)

    monkeypatch.setattr(migrate, "upgrade_sqlite", overtaken)
    with pytest.raises((Conflict, StoreError)):
        Store.create(database, site_uuid="second", now=NOW)
    with Store.open(database) as store, store.read() as r:
        assert r.site().uuid == "first"


def test_a_store_cannot_be_created_where_there_is_no_folder(tmp_path: Path) -> None:
    """Said in words, with nothing made."""
    with pytest.raises(StoreError, match="no such file"):
        Store.create(tmp_path / "none" / "redlatch.db", site_uuid=SITE, now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_creation_leaves_one_private_file(database: Path) -> None:
    """Mode 0600 whatever the umask; no temporary file, of this creation or of one that was killed."""
    database.with_name(".redlatch.db.killed").write_bytes(b"half")
    umask = os.umask(0)
    try:
        Store.create(database, site_uuid=SITE, now=NOW).close()
    finally:
        os.umask(umask)
    assert [file.name for file in database.parent.iterdir()] == ["redlatch.db"]
    assert stat.S_IMODE(database.stat().st_mode) == 0o600


@pytest.fixture
def authority() -> Iterator[Path]:
    """A folder that others than root can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as home:
        Path(home).chmod(0o755)
        folder = Path(home) / "authority"
        folder.mkdir(mode=0o700)
        yield folder


@as_root
def test_root_leaves_every_file_to_the_owner(authority: Path) -> None:
    """Created and written by root: database, log and index are the owner's, who can go on with them."""
    owner = Owner(12345, 12346)
    database = authority / "redlatch.db"
    os.chown(authority, owner.uid, owner.gid)
    with Store.create(database, site_uuid=SITE, now=NOW, owner=owner):
        pass
    with Store.open(database) as opened:
        with opened.write("root", NOW) as tx:
            tx.add_authority("device", certificate=b"x", key_file="x")
            tx.record("ca.created")
        files = sorted(database.parent.iterdir())
        assert [file.name for file in files] == ["redlatch.db", "redlatch.db-shm", "redlatch.db-wal"]
        for file in files:
            state = file.stat()
            assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (owner.uid, owner.gid, 0o600)

        # While root has it open, the owner writes too (the service, later).
        assert as_user(owner, lambda: add(Store.open(database), "phone")) == 0
        with opened.read() as r:
            assert r.verify_audit().ok
            assert len(r.devices()) == 1


@as_root
def test_another_user_is_refused_in_words(authority: Path) -> None:
    """Not the owner: StoreError with the way on, whether the folder or the file keeps him out."""

    database = authority / "redlatch.db"
    Store.create(database, site_uuid=SITE, now=NOW).close()

    def refused() -> None:
        with pytest.raises(StoreError) as error:
            add(Store.open(database), "phone")
        assert "as the user it belongs to" in error.value.hint

    stranger = Owner(12345, 12345)
    assert as_user(stranger, refused) == 0
    authority.chmod(0o755)
    assert as_user(stranger, refused) == 0
    database.chmod(0o644)  # readable and not writable
    assert as_user(stranger, refused) == 0


def as_user(user: Owner, work: object) -> int:
    """Runs `work` in a child with this user's rights; its exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(user.gid)
            os.setuid(user.uid)
            work()  # type: ignore[operator]
            code = 0
        except BaseException:  # noqa: BLE001
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_link_in_place_of_a_file_is_refused(store: Store, tmp_path: Path, suffix: str) -> None:
    """A symbolic link under any name that SQLite writes to would make root write elsewhere."""
    store.close()
    file = store.path.with_name(store.path.name + suffix)
    target = tmp_path / "target"
    if file.exists():
        file.rename(target)
    else:
        target.write_bytes(b"")
    before = target.read_bytes()
    file.symlink_to(target)
    with pytest.raises(StoreError, match="no plain file"):
        Store.open(store.path)
    assert target.read_bytes() == before


def test_a_fifo_in_place_of_the_store_does_not_hang(database: Path) -> None:
    """Refused before anybody opens it."""
    os.mkfifo(database)
    with pytest.raises(StoreError, match="no plain file"):
        Store.open(database)


def truncated(path: Path) -> None:
    os.truncate(path, 5000)


def garbled(path: Path) -> None:
    with path.open("r+b") as stream:
        stream.seek(100)
        stream.write(b"\xff" * (path.stat().st_size - 100))


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"garbage\n" * 1000),
        lambda path: path.write_bytes(b"SQLite format 3\0"),
        truncated,
        garbled,
    ],
    ids=["empty", "garbage", "header only", "truncated", "garbled"],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(store: Store, damage: object) -> None:
    """StoreError that says so and what to do; nothing is written to it or beside it."""
    store.close()
    damage(store.path)  # type: ignore[operator]
    before = store.path.read_bytes()
    with pytest.raises(StoreError, match="damaged") as refused:
        add(Store.open(store.path), "phone")
    assert "backup" in refused.value.hint
    assert store.path.read_bytes() == before


def test_somebody_elses_database_is_refused_and_left_as_it_is(database: Path) -> None:
    """A SQLite file without redlatch's version is no store, and is not turned into one."""
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(StoreError, match="no store of redlatch's"):
        Store.open(database)
    assert database.read_bytes() == before


def set_version(path: Path, *versions: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("DELETE FROM alembic_version")
    connection.executemany("INSERT INTO alembic_version VALUES (?)", [(version,) for version in versions])
    connection.close()


def test_a_newer_store_is_refused_and_left_as_it_is(store: Store) -> None:
    """StoreTooNew names both versions."""
    store.close()
    set_version(store.path, "9999")
    before = store.path.read_bytes()
    with pytest.raises(StoreTooNew, match=rf"9999.*{VERSIONS[-1]}"):
        Store.open(store.path)
    assert store.path.read_bytes() == before


@pytest.mark.parametrize("versions", [(), ("0001", "0002"), ("nonsense",), ("",)])
def test_a_store_of_no_version_is_refused(store: Store, versions: tuple[str, ...]) -> None:
    """No version, two, or one that never was."""
    store.close()
    set_version(store.path, *versions)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(store.path)


@pytest.fixture
def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A redlatch of tomorrow, with one more migration to be written by the test."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    monkeypatch.setattr(database_module, "VERSIONS", (*VERSIONS, "9999"))
    return folder / "versions" / "v9999_next.py"


MIGRATION = f"""
from alembic import op
revision, down_revision, branch_labels, depends_on = "9999", "{VERSIONS[-1]}", None, None
def upgrade():
    op.execute("CREATE TABLE extra (x INTEGER)")
    op.execute("UPDATE site SET revision = revision + 1")
    {{end}}
"""


def test_an_older_store_is_upgraded_on_opening(store: Store, next_version: Path) -> None:
    """Rows and chain are kept; the next opening finds nothing to do."""
    add(store, "phone")
    store.close()
    next_version.write_text(MIGRATION.format(end=""))
    for _ in range(2):
        with Store.open(store.path) as opened, opened.read() as r:
            assert opened._connection.execute("SELECT count(*) FROM extra").fetchone() == (0,)
            assert r.site().revision == 2
            assert r.verify_audit().ok


def test_an_upgrade_stopped_half_way_leaves_the_old_store(store: Store, next_version: Path) -> None:
    """A migration that fails after its first steps has done nothing."""
    store.close()
    next_version.write_text(MIGRATION.format(end="op.execute('SELECT * FROM no_such_table')"))
    with pytest.raises(StoreError, match="no_such_table"):
        Store.open(store.path)
    connection = sqlite3.connect(store.path)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == (VERSIONS[-1],)
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'extra'").fetchone() == (0,)
    assert connection.execute("SELECT revision FROM site").fetchone() == (0,)
    connection.close()
