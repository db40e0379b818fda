"""A full disk, a lock held by another: said in words, and nothing changed."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, SITE, add, add_authority

from redlatch.errors import Busy, StoreError
from redlatch.store import Store


@pytest.fixture
def locked(store: Store) -> Iterator[sqlite3.Connection]:
    """Another process's transaction."""
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def test_a_lock_held_by_another_is_busy(store: Store, locked: sqlite3.Connection) -> None:
    """After a bounded wait; reading goes on meanwhile, and the write succeeds once the other has ended."""
    with Store.open(store.path, patience=0.05) as mine:
        with pytest.raises(Busy, match="another redlatch") as refused:
            add(mine, "phone")
        assert "again" in refused.value.hint
        with mine.read() as r:
            assert r.devices() == ()
        locked.execute("ROLLBACK")
        add(mine, "phone")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 600 KB."""
    with tempfile.TemporaryDirectory() as folder:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], capture_output=True, check=False
        )
        if mount.returncode != 0:
            pytest.skip("may not mount a small file system here (needs root)")
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_changes_nothing(small_disk: Path) -> None:
    """What was acknowledged stays, what was not never happened; with space again it goes on."""
    with Store.create(small_disk / "redlatch.db", site_uuid=SITE, now=NOW) as store:
        with store.write("bart", NOW) as tx:
            add_authority(tx)
        done = 0
        with pytest.raises(StoreError, match="full") as refused:  # noqa: PT012
            for done in range(10_000):
                add(store, f"device {done}")
        assert "nothing was changed" in refused.value.hint
        check(store, done)
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    with Store.open(small_disk / "redlatch.db") as store:
        check(store, done)
        add(store, f"device {done}")
        check(store, done + 1)


def check(store: Store, devices: int) -> None:
    with store.read() as r:
        assert len(r.devices()) == devices > 0
        assert len(list(r.active_certificates())) == devices
        assert r.audit_head().seq == 1 + 2 * devices
        assert r.verify_audit().ok


def test_a_store_is_not_created_on_a_full_disk(small_disk: Path) -> None:
    """Said in words, with nothing left behind."""
    (small_disk / "ballast").write_bytes(b"." * 590 * 1024)
    with pytest.raises(StoreError, match=r"full|no space"):
        Store.create(small_disk / "redlatch.db", site_uuid=SITE, now=NOW)
    assert [file.name for file in small_disk.iterdir()] == ["ballast"]


def test_a_failing_disk_changes_nothing(store: Store) -> None:
    """A write that the kernel refuses (by a limit on file sizes) is a StoreError; the store works afterwards."""
    add(store, "phone")
    log = store.path.with_name("redlatch.db-wal")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) is signal.SIG_IGN  # Python's default: EFBIG instead of a signal
    resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 6000, hard))
    try:
        with pytest.raises(StoreError, match="failed or is full") as refused:
            add(store, "tablet")
        assert "nothing was changed" in refused.value.hint
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    add(store, "car")
    with store.read() as r:
        assert [one.name for one in r.devices()] == ["car", "phone"]
        assert r.verify_audit().ok


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount")
def test_a_read_only_disk_is_an_error_in_words(small_disk: Path) -> None:
    """Mounted read-only, as a Pi's card is after a fault: reading or writing, no traceback, nothing changed."""
    with (
        Store.create(small_disk / "redlatch.db", site_uuid=SITE, now=NOW) as store,
        store.write("bart", NOW) as tx,
    ):
        add_authority(tx)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StoreError, match="read-only disk"):
        add(Store.open(small_disk / "redlatch.db"), "phone")
