"""sidebar.json: made by every change, bounded, never in the way of what counts; and shown by a real Node-RED."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.conftest import House, fill
from tests.integration.operations.test_publishing import make
from tests.support.clients import request
from tests.support.wait import until

from redlatch.engines.nodered import publish
from redlatch.operations import devices, engines, publishing, roles
from redlatch.operations import sidebar as subject
from redlatch.operations.site import Service, Site, changing, set_config


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make(tmp_path / "home")
    yield made
    made.store.close()


def listed(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((site.settings.published / "sidebar.json").read_text())
    return found


def names(site: Site) -> list[str]:
    return [one["name"] for one in listed(site)["devices"]]


def test_every_change_is_in_it(site: Site) -> None:
    """Added, renamed, given another role, revoked: the list is that of the published version."""
    roles.add(site, "family", like="user")
    phone = devices.add(site, "phone", role="family", owner="Ann").device
    devices.add(site, "laptop", role="owner")
    found = listed(site)
    assert (found["format"], found["total"]) == (1, 2)
    assert found["version"] == publish.snapshot_version(site.settings)
    assert names(site) == ["laptop", "phone"]
    row = found["devices"][1]
    assert (row["id"], row["role"], row["base"], row["owner"]) == (phone.id, "family", "user", "Ann")
    devices.rename(site, "phone", "Ann's phone")
    assert names(site) == ["Ann's phone", "laptop"]
    devices.set_role(site, "Ann's phone", "viewer")
    assert [one["base"] for one in listed(site)["devices"]] == ["viewer", "owner"]
    devices.revoke(site, "Ann's phone")
    assert (names(site), listed(site)["total"]) == (["laptop"], 1)


def test_the_end_is_that_of_the_newest_certificate(site: Site) -> None:
    """A renewed device is not said to end with its old key."""
    devices.add(site, "phone", days=5)
    issued = devices.renew(site, "phone", days=100)
    assert listed(site)["devices"][0]["not_after"] == int(issued.not_after.timestamp())


def test_it_says_where_the_console_is(site: Site) -> None:
    """As it is configured, from the change on that configures it."""
    assert listed(site)["console"] == {"port": 1881, "listen": ["loopback"]}
    with changing(site) as tx:
        set_config(tx, service=Service(console=("192.0.2.7",), console_port=4444))
        tx.record("site.changed", console=["192.0.2.7"])
    publishing.enforce(site)
    assert listed(site)["console"] == {"port": 4444, "listen": ["192.0.2.7"]}


def test_it_is_bounded(site: Site) -> None:
    """Of many devices the first by name, and of the others those that end soonest; all of them are counted."""
    fill(site, 1200)
    soon = [devices.add(site, f"zz {number}", days=number + 1).device.id for number in range(60)]
    found = listed(site)
    assert found["total"] == 1260
    assert len(found["devices"]) == subject.BY_NAME
    assert [one["id"] for one in found["ending"]] == soon[: len(found["ending"])]
    assert len(found["ending"]) == subject.BY_END
    assert (site.settings.published / "sidebar.json").stat().st_size < 200_000
    devices.revoke(site, "zz 0")
    found = listed(site)
    assert (found["total"], found["ending"][0]["id"]) == (1259, soon[1])


def test_what_ended_or_was_renewed_does_not_end_soon(site: Site) -> None:
    """Superseded certificates and those of the past are not among the ends."""
    fill(site, 600)
    devices.add(site, "zz renewed", days=3)
    devices.renew(site, "zz renewed", days=300)
    devices.add(site, "zz soon", days=9)
    assert [one["name"] for one in listed(site)["ending"]] == ["zz soon"]
    later = replace(site, clock=lambda: site.clock() + timedelta(days=20))
    publishing.enforce(later)
    assert listed(site)["ending"] == []


def test_it_is_not_written_again_when_nothing_changed(site: Site) -> None:
    """The file stays the same one."""
    path = site.settings.published / "sidebar.json"
    devices.add(site, "phone")
    before = path.stat().st_ino
    publishing.enforce(site)
    assert path.stat().st_ino == before
    snapshot = (site.settings.published / "snapshot.json").stat()
    assert (path.stat().st_mode, path.stat().st_gid) == (snapshot.st_mode, snapshot.st_gid)


def test_a_change_is_published_without_it(site: Site) -> None:
    """What stands in its place delays and undoes nothing: the revocation counts, and what is behind is said."""
    devices.add(site, "phone")
    path = site.settings.published / "sidebar.json"
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    before = publish.snapshot_version(site.settings)
    force = devices.revoke(replace(site, insist=True), "phone").force
    assert force.state == "published"
    assert publish.snapshot_version(site.settings) == (before or 0) + 1
    assert "Node-RED is not locked" in force.note  # what matters more is said first
    publishing.repair(site)  # does not raise either


def test_names_are_only_text(site: Site) -> None:
    """What a name may hold comes through as it is."""
    name = "<script>alert('x')</script> \"Ü\" 📱"
    devices.add(site, name)
    raw = (site.settings.published / "sidebar.json").read_bytes()
    assert raw.isascii()
    assert names(site) == [name]


@pytest.mark.parametrize("damage", ["missing", "torn", "another version"])
def test_the_next_command_repairs_it(site: Site, damage: str) -> None:
    """A killed command or a power cut may leave it behind; it is noticed by its head."""
    devices.add(site, "phone")
    path = site.settings.published / "sidebar.json"
    good = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(good[:-20] if damage == "torn" else good.replace(b'"version":', b'"version":9', 1))
    publishing.repair(site)
    assert path.read_bytes() == good


def test_a_damaged_store_is_not_a_list(site: Site) -> None:
    """A row that no redlatch wrote is said, and the list stays as it was."""
    devices.add(site, "phone")
    with closing(sqlite3.connect(site.settings.database)) as connection:
        connection.execute("UPDATE devices SET owner = x'00'")
        connection.commit()
    before = listed(site)
    publishing.repair(site)
    publishing.enforce(site)
    assert listed(site) == before


def test_a_revoked_device_disappears_from_the_sidebar(house: House) -> None:
    """From `up` over a real Node-RED to what its owner is shown, before and after."""
    house.up()
    owner = house.key("laptop", role="owner")
    phone = house.key("phone")
    with house.node_red() as red:
        until(lambda: publishing.running(engines.required(house.open())[0]), what="the guard's claim")

        def seen() -> list[str]:
            state = request(red.port, "GET", "/redlatch/state", owner).json()
            return [one["name"] for one in state["list"]["devices"]]

        assert seen() == ["laptop", "phone"]
        assert request(red.port, "GET", "/redlatch/state", phone).status == 200
        assert devices.revoke(house.open(), "phone").force.state == "in-force"
        assert seen() == ["laptop"]
