"""From the store to the published folder: one change writes few files, with any number of devices."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.integration.operations.conftest import fill
from tests.support.site import published

from redlatch import bootstrap
from redlatch.engines.nodered import publish
from redlatch.engines.nodered.users import user_by_uid
from redlatch.errors import FileProblem, InvalidInput
from redlatch.operations import authorities, devices
from redlatch.operations import publishing as subject
from redlatch.operations.publishing import build, enforce, is_whole
from redlatch.operations.site import Config, Site, Target, changing, set_config
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import DEFAULT_RULES, Areas, Rule
from redlatch.policy.networks import compiled, encode, parse
from redlatch.settings import Settings, from_environment
from redlatch.store import NetworkRow, Store


def make(home: Path) -> Site:
    """A site with a CA and a Node-RED that nobody started: what is published is all that counts here."""
    settings = from_environment(home, {})
    settings.keys.mkdir(parents=True)
    user = user_by_uid(os.getuid())
    assert user is not None
    publish.prepare(settings, user)
    store = Store.create(settings.database, site_uuid=secrets.token_hex(16), now=bootstrap.now())
    site = Site(settings, store, "test", bootstrap.now, bootstrap.no_passphrase)
    target = Target(user.name, user.uid, user.gid, str(home), str(home / "settings.js"), 1880)
    config = Config(
        machine="pi",
        hosts=("pi.local",),
        areas=Areas(dashboards=("/ui",)),
        origins=("https://ha.lan",),
        target=target,
    )
    with changing(site) as tx:
        tx.set_config(config.stored())
        tx.record("site.created", machine="pi")
        for kind in ("server", "device"):
            authorities.create(site, tx, kind, ("pi.local",), None)
    assert site.config() == config
    assert enforce(site).state == "published"
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = make(tmp_path / "home")
    yield made
    made.store.close()


def files(settings: Settings) -> dict[str, int]:
    """Path -> inode of everything that belongs to the published snapshot: another inode is another file."""
    found = [settings.published / "snapshot.json", *(settings.published / "snapshot").iterdir()]
    return {str(path): path.stat().st_ino for path in found}


def whole(site: Site) -> None:
    """What is published is what the store says, in as many files as that takes and no other."""
    with site.store.read() as view:
        expected = build(view, site.config(), spool=site.settings.spool)
    assert published(site.settings.published) == expected
    before = files(site.settings)
    enforce(site, anew=True)
    assert files(site.settings) == before
    assert is_whole(site.settings)


@pytest.mark.parametrize("count", [10, 20_000])
def test_one_change_writes_few_files(site: Site, count: int) -> None:
    """Added, another role, renewed, revoked: head and one path of the tree, with 10 devices or with 20,000."""
    fill(site, count)
    whole(site)
    for change in (
        lambda: devices.add(site, "phone"),
        lambda: devices.set_role(site, "phone", "owner"),
        lambda: devices.renew(site, "phone"),
        lambda: devices.rename(site, "d1", "D one"),
        lambda: devices.revoke(replace(site, insist=True), "phone"),  # the only owner
    ):
        before = files(site.settings)
        change()
        after = files(site.settings)
        written = after.items() - before.items()
        assert 1 <= len(written) <= 9  # renew and revoke: two certificates, each with its path
        assert len(before.keys() - after.keys()) <= 8
        whole(site)


def test_one_change_reads_no_more_of_the_store_with_many_devices(tmp_path: Path) -> None:
    """SQLite's steps for one role change and its publication: the same with 1,000 devices and 20,000."""
    steps = []
    for count in (1_000, 20_000):
        site = make(tmp_path / str(count))
        fill(site, count)
        devices.add(site, "phone")
        seen = [0]

        def one(seen: list[int] = seen) -> int:
            seen[0] += 1
            return 0

        site.store._connection.set_progress_handler(one, 10)
        devices.set_role(site, "phone", "owner")
        site.store._connection.set_progress_handler(None, 0)
        steps.append(seen[0])
        site.store.close()
    assert steps[1] <= steps[0] * 2


def test_the_snapshot_says_all_that_the_store_says(site: Site) -> None:
    """Rules, roles, origins, areas, the open port; the networks that a rule names, and no others."""
    own = compiled([parse("192.168.7.0/24")])
    table = encode(own)
    row = NetworkRow("home", "192.168.7.0/24", {}, 1, hashlib.sha256(table).hexdigest())
    unused = NetworkRow("unused", "::1", {}, 1, "ab" * 32)
    with changing(site) as tx:
        set_config(tx, open_port=1890, mode="auto")
        tx.add_role("family", "user")
        tx.put_network(row, table)
        tx.put_network(unused, b"")
        rule = tx.add_rule(Rule(0, roles=("family",), networks=("home", "localhost", "gone"), area="static"))
        tx.record("rule.added", rule=rule.id)
    devices.add(site, "tablet", role="family")
    made = published(site.settings.published)
    assert made.rules == (*DEFAULT_RULES, rule)
    assert made.networks == {"home": own, "localhost": BUILTIN["localhost"]}
    assert (made.roles, made.open_port, made.mode) == ({"family": "user"}, 1890, "auto")
    assert (made.origins, made.areas) == (("https://ha.lan",), Areas(dashboards=("/ui",)))
    assert [one.role for one in made.devices.values()] == ["family"]
    whole(site)
    with pytest.raises(InvalidInput, match="no role 'famly'") as refused:
        devices.add(site, "other", role="famly")
    assert "family" in refused.value.hint
    with changing(site) as tx:
        tx.remove_rule(rule.id)
        tx.record("rule.removed", rule=rule.id)
    enforce(site)
    assert published(site.settings.published).networks == {}
    whole(site)


def test_a_long_list_is_not_read_again_for_every_change(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network's table is read from the store when its file is not there yet, and not otherwise."""
    table = encode(compiled([parse("10.1.0.0/16")]))
    row = NetworkRow("home", "10.1.0.0/16", {}, 1, hashlib.sha256(table).hexdigest())
    with changing(site) as tx:
        tx.put_network(row, table)
        tx.add_rule(Rule(0, anyone=True, networks=("home",), area="static"))
        tx.record("network.changed", name="home")
    asked: list[str] = []
    honest = subject.publish.has_part

    def noted(settings: Settings, digest: str) -> bool:
        asked.append(digest)
        return honest(settings, digest)

    monkeypatch.setattr(publish, "has_part", noted)
    enforce(site)
    inode = (site.settings.published / "snapshot" / row.digest).stat().st_ino
    statements: list[str] = []
    site.store._connection.set_trace_callback(statements.append)
    devices.add(site, "phone")
    assert row.digest in asked
    assert not [one for one in statements if "addresses_table FROM" in one or "entries" in one]
    assert (site.settings.published / "snapshot" / row.digest).stat().st_ino == inode


def test_a_stop_between_parts_and_head_keeps_the_old_state(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts are there, the head is not: what was published is whole, the next command publishes the rest."""
    fill(site, 300)
    devices.add(site, "phone")
    before = published(site.settings.published)

    def stop(*_: object) -> bool:
        raise FileProblem("cannot write snapshot.json: no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(publish, "publish_file", stop)
        force = devices.revoke(replace(site, insist=True), "phone").force
        assert force.state == "recorded"
        assert published(site.settings.published) == before
        assert is_whole(site.settings)
    subject.repair(site)
    whole(site)
    assert published(site.settings.published).devices.keys() < before.devices.keys()


def test_parts_that_were_not_removed_go_with_the_next_refresh(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop after the head leaves files that nobody names; refresh takes them away."""
    fill(site, 300)
    with monkeypatch.context() as patched:
        patched.setattr(publish, "remove_parts", lambda *_: None)
        devices.add(site, "phone")
    (site.settings.published / "snapshot" / ".abc.tmp").write_bytes(b"of a killed command")
    count = len(files(site.settings))
    enforce(site)
    assert len(files(site.settings)) == count
    enforce(site, anew=True)
    assert len(files(site.settings)) < count
    whole(site)


@pytest.mark.parametrize("wrong", ["missing", "empty", "flipped", "mode"])
def test_a_part_that_is_wrong_is_put_right(site: Site, wrong: str) -> None:
    """Each part in turn: found by `is_whole` (but for its mode), repaired by publishing anew."""
    fill(site, 100)
    expected = files(site.settings).keys()
    for path in (site.settings.published / "snapshot").iterdir():
        data = path.read_bytes()
        if wrong == "missing":
            path.unlink()
        elif wrong == "mode":
            path.chmod(0o666)
        else:
            path.write_bytes(b"" if wrong == "empty" else bytes([data[0] ^ 1]) + data[1:])
        assert is_whole(site.settings) == (wrong == "mode")
        enforce(site, anew=True)
        assert path.read_bytes() == data
        assert stat.S_IMODE(path.stat().st_mode) == (0o640 if site.settings.system else 0o600)
    assert files(site.settings).keys() == expected
    whole(site)


def test_a_change_beside_a_missing_part_still_publishes(site: Site) -> None:
    """The path of the change is made anew where its old files are gone; the rest waits for refresh."""
    fill(site, 300)
    head = publish.published_head(site.settings)
    assert head is not None
    (site.settings.published / "snapshot" / head["devices"]).unlink()
    devices.add(site, "phone")
    assert is_whole(site.settings)
    enforce(site, anew=True)
    whole(site)


def test_a_head_that_is_garbled_of_another_site_or_newer_is_not_built_upon(site: Site, tmp_path: Path) -> None:
    """A store put back from a backup knows nothing of what changed since: everything is made anew."""
    fill(site, 100)
    backup = tmp_path / "backup.db"
    with closing(sqlite3.connect(site.settings.database)) as connection:
        connection.execute("VACUUM INTO ?", (str(backup),))
    devices.add(site, "phone")
    devices.set_role(site, "d5", "owner")
    site.store.close()
    for path in site.settings.authority.glob("redlatch.db*"):
        path.unlink()
    shutil.copy(backup, site.settings.database)
    reopened = bootstrap.open_site(site.settings, actor="test")
    assert {one.role for one in published(site.settings.published).devices.values()} == {"user"}
    whole(reopened)
    other = make(tmp_path / "other")
    head = site.settings.published / "snapshot.json"
    foreign = (other.settings.published / "snapshot.json").read_bytes()
    for wrong in (b"", b"torn" + head.read_bytes()[9:], foreign):
        head.write_bytes(wrong)
        enforce(reopened)
        whole(reopened)
    other.store.close()
    reopened.store.close()


def test_a_device_is_never_the_user_of_people_without_a_certificate(site: Site) -> None:
    """`anyone` is nobody's; thousands of names that begin alike get users of their own without many looks."""
    assert devices.add(site, "Anyone").device.user_slug == "user-anyone"
    assert devices.add(site, "x", owner="anyone").device.user_slug == "user-anyone-2"
    assert devices.add(site, "y", owner="anyone").device.user_slug == "user-anyone-2"
    with closing(sqlite3.connect(site.settings.database, isolation_level=None)) as connection:
        long = "conveyor-temperature-sensor-hall-3"[:32].strip("-")
        for number in range(1, 900):
            slug = long if number == 1 else f"{long[: 31 - len(str(number))]}-{number}"
            connection.execute(
                "INSERT INTO devices (id, name, name_key, role, user_slug, created_at)"
                " VALUES (?, ?, ?, 'user', ?, 0)",
                (f"c{number}", f"c{number}", f"c{number}", slug),
            )
    statements: list[str] = []
    site.store._connection.set_trace_callback(statements.append)
    made = devices.add(site, "conveyor temperature sensor hall 3 no 900")
    assert made.device.user_slug.endswith("-900")
    assert len(made.device.user_slug) <= 32
    assert len([one for one in statements if "WHERE user_slug" in one]) < 30
