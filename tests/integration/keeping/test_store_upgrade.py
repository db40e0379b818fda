"""A store of an earlier redlatch is brought up whole or not at all, with a copy of before; a newer one is left."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import sqlite3
import stat
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.integration.keeping.test_keeping_node_red import to_0003
from tests.integration.operations.test_trouble import as_root, small_disk
from tests.support.home import small_site
from tests.support.keeping import MADE_WITH_0003, put_back, sealed

from redlatch.errors import RedlatchError, StoreTooNew
from redlatch.operations import archive, devices, sealing
from redlatch.settings import from_environment
from redlatch.store import Store, database

EVENTS = {"os.rename", "os.remove", "os.chmod"}


def run(path: Path, point: int) -> tuple[int, int]:
    """Opens the store in a forked process that kills itself at one step of SQLite's machine, or before one of its
    file's changes: (wait status, steps seen).
    """
    seen = mmap.mmap(-1, 8)
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1], int.from_bytes(seen[:8], "little")
    done = 0

    def step(*_: object) -> None:
        nonlocal done
        done += 1
        seen[:8] = done.to_bytes(8, "little")
        if done == point:
            os.kill(os.getpid(), signal.SIGKILL)

    connect = sqlite3.connect

    def watched(*arguments: Any, **options: Any) -> sqlite3.Connection:
        made = connect(*arguments, **options)
        made.set_progress_handler(step, 1)
        return made

    try:
        sys.addaudithook(lambda event, _: step() if event in EVENTS else None)
        sqlite3.connect = watched  # type: ignore[assignment]
        Store.open(path).close()
    except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
        os._exit(70)
    os._exit(0)


def version(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def shape(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {str(row[0]) for row in connection.execute("SELECT sql FROM sqlite_master")}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with schema 0003 and a device, closed."""
    site = small_site(tmp_path_factory.mktemp("old"))
    devices.add(site, "Phone")
    site.store.close()
    to_0003(site.settings.database)
    return site.settings.database


def copied(old: Path, folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return Path(shutil.copy(old, folder / "redlatch.db"))


def test_killed_at_any_step_of_a_migration_the_store_is_old_or_new(old: Path, tmp_path: Path) -> None:
    """Never half; the copy of before is whole whenever the store is new; the next command completes it."""
    status, steps = run(copied(old, tmp_path / "whole"), -1)
    assert status == 0
    new = shape(tmp_path / "whole/redlatch.db")
    assert steps > 20
    outcomes = set()
    for number, point in enumerate(sorted({1, 3, *range(60, steps, steps // 8), steps - 9, steps - 2, steps})):
        path = copied(old, tmp_path / str(number))
        status, _ = run(path, point)
        assert os.WTERMSIG(status) == signal.SIGKILL
        found = version(path)
        outcomes.add(found)
        assert shape(path) == (new if found == "0004" else shape(old)), point
        kept = path.with_name("redlatch.db.0003.bak")
        if found == "0004":
            assert shape(kept) == shape(old)
        with Store.open(path) as store, store.read() as view:
            assert store.schema() == "0004"
            assert view.verify_audit().ok
            assert [one.name for one in view.devices()] == ["Phone"]
        assert (version(kept), shape(kept)) == ("0003", shape(old))
        assert {one.name for one in path.parent.iterdir()} == {"redlatch.db", kept.name}
    assert outcomes == {"0003", "0004"}


def test_of_two_commands_at_once_both_find_it_new_and_the_copy_old(old: Path, tmp_path: Path) -> None:
    path = copied(old, tmp_path / "a")
    schemas: list[str] = []

    def open_it() -> None:
        with Store.open(path) as store:
            schemas.append(store.schema())

    threads = [threading.Thread(target=open_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert schemas == ["0004"] * 3
    assert version(path.with_name("redlatch.db.0003.bak")) == "0003"


def test_the_copy_is_private_and_the_only_one(old: Path, tmp_path: Path) -> None:
    """0600, of the store's owner; earlier copies go."""
    path = copied(old, tmp_path / "a")
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    for left in ("redlatch.db.0002.bak", ".redlatch.db.0003.bak.abcdef012345"):
        path.with_name(left).write_bytes(b"of an earlier upgrade")
    with Store.open(path) as store:
        assert store.kept == path.with_name("redlatch.db.0003.bak")
        state = store.kept.stat()
    assert stat.S_IMODE(state.st_mode) == 0o600
    assert (state.st_uid, state.st_gid) == (path.stat().st_uid, path.stat().st_gid)
    assert {one.name for one in path.parent.iterdir()} == {"redlatch.db", "redlatch.db.0003.bak"}
    with Store.open(path) as again:
        assert again.kept is None


@as_root
def test_without_room_for_the_copy_nothing_is_migrated(old: Path, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with small_disk(tmp_path / "a", megabytes=1):
        path = Path(shutil.copy(old, tmp_path / "a/redlatch.db"))
        with (tmp_path / "a/filler").open("wb") as stream:
            state = os.statvfs(path)
            stream.write(bytes(state.f_bavail * state.f_frsize - 60_000))
        with pytest.raises(RedlatchError) as caught:
            Store.open(path)
        assert caught.value.hint
        assert version(path) == "0003"


def test_a_newer_store_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a redlatch that knows one version less: refused, byte for byte as before, no copy made."""
    site = small_site(tmp_path)
    site.store.close()
    before = site.settings.database.read_bytes()
    monkeypatch.setattr(database, "VERSIONS", database.VERSIONS[:-1])
    with pytest.raises(StoreTooNew) as caught:
        Store.open(site.settings.database)
    assert "install that version" in caught.value.hint
    assert site.settings.database.read_bytes() == before
    assert list(site.settings.authority.glob("*.bak")) == []


def test_a_store_that_the_redlatch_of_0003_made_is_brought_up(tmp_path: Path) -> None:
    """Not one that a test turned back: the file was made by that version itself."""
    tar = sealing.opened(
        (MADE_WITH_0003 / "site.backup").read_bytes(),
        passphrase=bytes,
        identity=(MADE_WITH_0003 / "age-key.txt").read_bytes(),
    )
    path = tmp_path / "redlatch.db"
    path.write_bytes(archive.unpack(tar).store)
    assert version(path) == "0003"
    with Store.open(path) as store, store.read() as view:
        assert {one.name for one in view.devices()} == {"Phone", "Tablet", "Wall"}
        assert view.verify_audit().ok
    site = put_back(sealed(tar), tmp_path / "home")
    site.store.close()
    assert shape(path) == shape(from_environment(tmp_path / "home", {}).database)
