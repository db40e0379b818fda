"""With the real Node-RED: a site restored on a second home, and one that is upgraded while it is locked."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.integration.operations.conftest import House, Key
from tests.integration.operations.gateways import Gate, web
from tests.support.clients import HasCertificate, Refused, request
from tests.support.keeping import back_up, put_back
from tests.support.nodered import NodeRed
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.engines.nodered.adopt import has_block
from redlatch.errors import StoreTooNew
from redlatch.operations import devices
from redlatch.store.database import VERSIONS


def gets_in(port: int, key: HasCertificate | None) -> bool:
    """Whether the editor's flows are handed to who shows this key, over a new connection."""
    try:
        return request(port, "GET", "/flows", key).status == 200
    except Refused:
        return False


def test_a_device_of_before_gets_into_the_restored_site(tmp_path: Path) -> None:
    """Other folder, other port, other Node-RED: who was enrolled before the backup gets in; who was shut out
    before it, who came after it and who has no key do not.
    """
    old = House(tmp_path / "old", "4.1")
    old.up()
    phone, tablet = old.key("Phone", role="owner"), old.key("Tablet", role="owner")
    devices.revoke(old.open(), "Tablet")
    data = back_up(old.open())
    later = old.key("Later", role="owner")
    old.open().store.close()

    new = House(tmp_path / "new", "5.0")
    put_back(data, new.settings.home).store.close()
    new.up()
    with closing(new.open().store), new.node_red() as red:
        assert [gets_in(red.port, one) for one in (phone, tablet, later, None)] == [True, False, False, False]
        lamp = new.key("Lamp", role="owner")
        assert lamp.issued.force.state == "in-force"
        assert gets_in(red.port, lamp)
        devices.revoke(new.open(), "Phone")
        assert not gets_in(red.port, phone)


def test_a_device_of_before_gets_through_the_restored_gateway(tmp_path: Path) -> None:
    """The same with HAProxy: `gateway up` on the new machine, another port, and the old keys count."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Gate(tmp_path / "old"), Gate(tmp_path / "new")
    old.up()
    phone, tablet = old.key("Phone", role="owner"), old.key("Tablet", role="owner")
    devices.revoke(old.open(), "Tablet")
    data = back_up(old.open())
    old.open().store.close()
    put_back(data, new.settings).store.close()
    new.up()
    with closing(new.open().store), web(new.behind), new.run():
        assert [gets_in(new.port, one) for one in (phone, tablet, None)] == [True, False, False]


def to_0003(database: Path) -> None:
    """The store as the release before 0004 left it."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for statement in (
            "DROP TABLE trial",
            "ALTER TABLE authorities DROP COLUMN chain",
            "ALTER TABLE authorities DROP COLUMN signing",
            "UPDATE alembic_version SET version_num = '0003'",
        ):
            connection.execute(statement)


def to_old_guard(published: Path) -> str:
    """Another guard than this redlatch's is published, as an earlier one left it; the name of its folder."""
    [present] = published.glob("guard-*")
    older = published / "guard-0123456789ab"
    shutil.copytree(present, older)
    with (older / "guard.js").open("a") as stream:
        stream.write("// of an earlier redlatch\n")
    for name in ("guard.js", "preload.js", "behind.js"):
        if (published / name).exists():
            (published / name).write_text((published / name).read_text().replace(present.name, older.name))
    shutil.rmtree(present)
    return older.name


@contextmanager
def knocking(port: int, key: Key) -> Iterator[list[tuple[bool, bool]]]:
    """A device and a stranger knock all the time: (got in, got in) for each round."""
    seen: list[tuple[bool, bool]] = []
    enough = threading.Event()

    def knock() -> None:
        while not enough.is_set():
            seen.append((gets_in(port, key), gets_in(port, None)))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield seen
        rounds = len(seen)
        until(lambda: len(seen) > rounds + 2, what="two more rounds")
    finally:
        enough.set()
        thread.join()


def test_an_upgrade_while_locked_keeps_the_door_as_it_was(tmp_path: Path) -> None:
    """redlatch N to N+1, then Node-RED 4 to 5, on one user folder.

    The old guard goes on while the first new command migrates the store; an older redlatch then refuses the store
    and changes nothing; `up` publishes the new guard, and Node-RED 5 starts with it behind the same block.
    """
    house = House(tmp_path, "4.1")
    house.up()
    phone, tablet = house.key("Phone", role="owner"), house.key("Tablet", role="owner")
    house.open().store.close()
    house.site = None
    to_0003(house.settings.database)
    old_guard = to_old_guard(house.settings.published)
    block = house.settings_file.read_bytes()
    with house.node_red() as red:
        with knocking(red.port, phone) as seen:
            assert [one.device.name for one in devices.list_devices(house.open())] == ["Phone", "Tablet"]
            assert house.open().store.schema() == VERSIONS[-1]
            assert house.open().store.kept == house.settings.authority / "redlatch.db.0003.bak"
            devices.revoke(house.open(), "Tablet")
        assert set(seen) == {(True, False)}
        assert not gets_in(red.port, tablet)

        house.open().store.close()
        before = house.settings.database.read_bytes()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("redlatch.store.database.VERSIONS", VERSIONS[:-1])
            with pytest.raises(StoreTooNew, match="newer redlatch"):
                bootstrap.open_site(house.settings, actor="an older redlatch")
        assert house.settings.database.read_bytes() == before
        assert (gets_in(red.port, phone), gets_in(red.port, None)) == (True, False)

        house.site = None
        house.up()
        assert has_block(house.settings_file.read_bytes())
        assert house.settings_file.read_bytes() == block
        assert old_guard not in (house.settings.published / "guard.js").read_text()
        assert (gets_in(red.port, phone), gets_in(red.port, None)) == (True, False)
    half_updated(house)
    with NodeRed("5.0", house.user_dir, port=house.port) as red, closing(house.open().store):
        assert [gets_in(red.port, one) for one in (phone, tablet, None)] == [True, False, False]
        lamp = house.key("Lamp", role="owner")
        assert lamp.issued.force.state == "in-force"
        assert gets_in(red.port, lamp)


def half_updated(house: House) -> None:
    """`npm update` was stopped: a module of Node-RED's is missing. It does not start, and nothing listens."""
    missing = house.root / "missing.js"
    missing.write_text(
        'const m = require("module"), load = m._resolveFilename;\n'
        "m._resolveFilename = function (name, ...rest) {\n"
        '  if (name === "@node-red/editor-api") throw new Error("Cannot find module");\n'
        "  return load.call(this, name, ...rest);\n};\n"
    )
    red = NodeRed("5.0", house.user_dir, port=house.port, env={"NODE_OPTIONS": f"--require={missing}"})
    red.launch()
    try:
        assert red.wait() != 0
        with pytest.raises(Refused, match="ConnectionRefused"):
            request(house.port, "GET", "/flows")
    finally:
        red.kill()
