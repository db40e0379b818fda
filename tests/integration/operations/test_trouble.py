"""A full disk, two commands at once, a home that cannot be written, a store of tomorrow."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House
from tests.support.site import published

from redlatch import bootstrap
from redlatch.errors import Busy, Conflict, FileProblem, RedlatchError, StoreError, StoreTooNew
from redlatch.operations import devices, site
from redlatch.settings import from_environment

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a small file system")


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int = 2) -> Iterator[None]:
    """A file system of its own over `place`."""
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "tmpfs", place], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Writes until nothing more fits."""
    filler = place / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(b"x" * 4096)
    return filler


@as_root
def test_a_full_disk_changes_nothing(newest: House) -> None:
    """With the disk full `device add` fails in words, and works again when there is room."""
    with small_disk(newest.settings.home):
        newest.up()
        filler = fill(newest.settings.home)
        with pytest.raises((StoreError, FileProblem)) as caught:
            newest.key("phone")
        assert caught.value.hint
        assert devices.list_devices(newest.open()) == []
        filler.unlink()
        assert newest.key("phone").issued.force.state == "published"
        newest.open().store.close()


@as_root
def test_a_revocation_that_cannot_be_published_says_recorded(newest: House) -> None:
    """A full disk does not undo a revocation; it is said how far it got, and the next command publishes it."""
    newest.up()
    phone = newest.key("phone").issued
    folder = newest.settings.published
    content = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with small_disk(folder, 1):
        for name, data in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        filler = fill(newest.settings.published)
        changed = devices.revoke(newest.open(), "phone")
        assert changed.force.state == "recorded"
        assert "no space" in changed.force.note
        assert phone.fingerprint in published(newest.settings.published).devices
        filler.unlink()
        newest.open().store.close()
        newest.site = None
        devices.list_devices(newest.open())
        assert phone.fingerprint not in published(newest.settings.published).devices


ADD = """
import sys
from pathlib import Path
from redlatch import bootstrap
from redlatch.errors import RedlatchError
from redlatch.operations import devices
from redlatch.settings import from_environment
site = bootstrap.open_site(from_environment(Path(sys.argv[1]), {}), actor="test")
sys.stdin.readline()
try:
    devices.add(site, sys.argv[2])
except RedlatchError as error:
    sys.exit(error.code)
"""


def add_at_once(house: House, names: list[str]) -> list[str]:
    """Adds devices from processes that begin at the same moment; what each said, "" for done."""
    command = [sys.executable, "-c", ADD, str(house.settings.home)]
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*command, name], **pipes) for name in names]  # type: ignore[call-overload]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=60)[1].strip() for process in processes]


def test_two_commands_at_once(newest: House) -> None:
    """Commands take turns: different names all get in, the same name exactly once, the chain stays whole."""
    newest.up()
    assert add_at_once(newest, ["a", "b", "c", "d"]) == ["", "", "", ""]
    assert sorted(add_at_once(newest, ["same", "same", "same"])) == ["", "conflict", "conflict"]
    with newest.open().store.read() as view:
        assert view.verify_audit().ok
        revision = view.site().revision
    snapshot = published(newest.settings.published)
    assert (len(snapshot.devices), snapshot.version) == (5, revision)


def test_a_command_that_never_ends_is_not_waited_for(newest: House) -> None:
    """The second command gives up with a hint."""
    newest.up()
    with site.exclusive(newest.settings), pytest.raises(Busy), site.exclusive(newest.settings, patience=0):
        pass


def test_a_home_that_cannot_be_made(newest: House) -> None:
    """A home below a file is an error in words, before anything else happens."""
    (newest.root / "file").write_text("")
    newest.settings = from_environment(newest.root / "file" / "home", {})
    with pytest.raises(RedlatchError) as caught:
        newest.up()
    assert "file" in caught.value.message
    assert newest.settings_file.read_bytes() == newest.original


def test_a_node_red_of_another_home(newest: House) -> None:
    """A settings.js that another redlatch guards is left to it, and no second site is made."""
    newest.up()
    guarded = newest.settings_file.read_bytes()
    newest.open().store.close()
    newest.settings, newest.site = from_environment(newest.root / "second", {}), None
    with pytest.raises(Conflict, match="another redlatch"):
        newest.up()
    assert not newest.settings.home.exists()
    assert newest.settings_file.read_bytes() == guarded


def test_a_store_from_a_newer_redlatch(newest: House) -> None:
    """It is left alone, with a word about it."""
    newest.up()
    newest.open().store.close()
    with contextlib.closing(sqlite3.connect(newest.settings.database)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with pytest.raises(StoreTooNew):
        bootstrap.open_site(newest.settings, actor="test")
