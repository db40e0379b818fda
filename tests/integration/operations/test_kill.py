"""kill -9 at any moment leaves the old state or the new, and the next command repairs the rest.

Each operation runs in a forked child that kills itself at one of its write points: before and after every file
it creates, renames, links or removes, and around every commit. All points of all operations take some minutes
(REDLATCH_KILLS=all); by default a spread of them is taken.
"""

from __future__ import annotations

import mmap
import os
import signal
import sqlite3
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.operations.conftest import House, fill
from tests.support.site import published

from redlatch import bootstrap
from redlatch.engines.nodered.adopt import has_block
from redlatch.operations import devices, server, setup
from redlatch.operations.publishing import is_whole

WRITES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.chown"}
SPREAD = None if os.environ.get("REDLATCH_KILLS") == "all" else 9


class Points:
    """Counts write points over all forked processes, and kills at one."""

    def __init__(self, kill_at: int) -> None:
        self.kill_at = kill_at
        self.main = os.getpid()
        self.shared = mmap.mmap(-1, 8)

    def hit(self) -> None:
        count = self.count + 1
        self.shared[:8] = struct.pack("q", count)
        if count == self.kill_at:
            os.kill(self.main, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def count(self) -> int:
        return int(struct.unpack("q", self.shared[:8])[0])

    def install(self) -> None:
        self.main = os.getpid()
        sys.addaudithook(self._audit)
        points = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql != "COMMIT":
                    return super().execute(sql, *parameters)
                points.hit()
                try:
                    return super().execute(sql, *parameters)
                finally:
                    points.hit()

        connect = sqlite3.connect
        sqlite3.connect = lambda *a, **k: connect(*a, **{**k, "factory": Connection})  # type: ignore[assignment]

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in WRITES or (
            event == "open"
            and isinstance(arguments[2], int)
            and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            and not str(arguments[0]).startswith("/dev/")
        ):
            self.hit()


def run(operation: Callable[[], object], kill_at: int) -> tuple[int, int]:
    """Runs it in a child: (wait status, write points seen)."""
    points = Points(kill_at)
    child = os.fork()
    if child == 0:
        try:
            points.install()
            operation()
        except BaseException:  # noqa: BLE001 - a forked child must never return into pytest
            traceback.print_exc()
            os._exit(70)
        os._exit(0)
    return os.waitpid(child, 0)[1], points.count


def chosen(total: int) -> list[int]:
    if SPREAD is None or total <= SPREAD:
        return list(range(1, total + 1))
    return sorted({1 + round(index * (total - 1) / (SPREAD - 1)) for index in range(SPREAD)})


def killed_everywhere(make: Callable[[int], House], operation: Callable[[House], object]) -> Any:
    """Yields a house after a kill at each chosen write point; the operation without a kill must succeed."""
    house = make(0)
    status, total = run(lambda: operation(house), -1)
    assert status == 0
    assert total > 3
    for point in chosen(total):
        house = make(point)
        status, _ = run(lambda house=house: operation(house), point)
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield point, house


def check(house: House) -> None:
    """The audit chain is whole, no key is an orphan, and nobody gets in whom the store does not know."""
    site = bootstrap.open_site(house.settings, actor="test")
    with site.store.read() as view:
        assert view.verify_audit().ok
        known = {row.key_file for kind in ("server", "device") for row in view.authorities(kind)}
        active = {one.fingerprint for one in view.active_certificates()}
        revision = view.site().revision
    assert {path.name for path in house.settings.keys.iterdir()} == known
    snapshot = published(house.settings.published)
    assert set(snapshot.devices) == active
    assert snapshot.version == revision
    site.store.close()


@pytest.fixture
def houses(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], House]:
    return lambda point: House(tmp_path_factory.mktemp(f"kill{point}-"), "5.0")


def up_once(house: House) -> House:
    house.up()
    assert house.site is not None
    house.site.store.close()
    house.site = None
    return house


def test_up(houses: Callable[[int], House]) -> None:
    """After a killed `up` settings.js is what it was or locked, and a second `up` completes it."""
    for point, house in killed_everywhere(houses, lambda house: house.up()):
        settings = house.settings_file.read_bytes()
        assert settings == house.original or has_block(settings), point
        assert not has_block(settings) or (house.settings.published / "guard.js").exists(), point
        assert house.up().force.state == "published", point
        assert has_block(house.settings_file.read_bytes()), point
        assert house.site is not None
        house.site.store.close()
        check(house)


def test_device_add(houses: Callable[[int], House]) -> None:
    """A killed `device add` leaves no device or a whole one; the next command publishes what was recorded."""
    for _, house in killed_everywhere(lambda point: up_once(houses(point)), lambda house: house.key("phone")):
        check(house)
        site = bootstrap.open_site(house.settings, actor="test")
        assert {len(one.certificates) for one in devices.list_devices(site)} <= {1}
        site.store.close()


def test_device_revoke(houses: Callable[[int], House]) -> None:
    """A killed `device revoke` leaves the device in or out; once recorded, the next command shuts it out."""

    def make(point: int) -> House:
        house = houses(point)
        house.up()
        house.key("phone")
        assert house.site is not None
        house.site.store.close()
        house.site = None
        return house

    for _, house in killed_everywhere(make, lambda house: devices.revoke(house.open(), "phone")):
        check(house)


def test_a_change_among_many_devices(houses: Callable[[int], House]) -> None:
    """Killed before, between and after the snapshot's parts, its head, and the removal of what was replaced."""

    def make(point: int) -> House:
        house = up_once(houses(point))
        fill(house.open(), 300)
        house.open().store.close()
        house.site = None
        return house

    def change(house: House) -> None:
        devices.set_role(house.open(), "d7", "owner")

    for point, house in killed_everywhere(make, change):
        assert is_whole(house.settings), point
        check(house)


def test_down(houses: Callable[[int], House]) -> None:
    """A killed `down` leaves Node-RED locked or open as it was, never a lock without its guard but closed; the
    next `down` completes it."""
    for point, house in killed_everywhere(
        lambda point: up_once(houses(point)), lambda house: setup.down(house.open(), house.environ)
    ):
        settings = house.settings_file.read_bytes()
        assert settings == house.original or has_block(settings), point
        site = bootstrap.open_site(house.settings, actor="test")
        setup.down(site, house.environ)
        assert house.settings_file.read_bytes() == house.original, point
        assert not house.settings.published.exists(), point
        with site.store.read() as view:
            assert view.verify_audit().ok
        site.store.close()


def test_refresh(houses: Callable[[int], House]) -> None:
    """A killed renewal leaves a server key that fits its certificate."""
    from dataclasses import replace
    from datetime import timedelta

    from redlatch.pki.certificates import server_pair

    def renew(house: House) -> object:
        return server.refresh(replace(house.open(), clock=lambda: bootstrap.now() + timedelta(days=370)))

    for _, house in killed_everywhere(lambda point: up_once(houses(point)), renew):
        pem = (house.settings.published / "server.pem").read_bytes()
        assert server_pair(pem, pem)
        check(house)
