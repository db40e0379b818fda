"""Roles, rules, networks, and what has changed since a revision, at a cost that does not grow with the devices."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from tests.integration.store.example import NOW, SITE, add, add_certificate, add_device, device_id

from redlatch.audit import genesis
from redlatch.errors import Conflict, NotFound, StoreError
from redlatch.policy.model import DEFAULT_RULES, Entry, Rule
from redlatch.store import NetworkRow, Store, Transaction, migrate, statements

LATER = NOW + timedelta(hours=1)
HOME = NetworkRow(
    "home", "192.168.1.0/24 # ours\nhome.example.org", {"home.example.org": {"addresses": ["192.0.2.1"], "at": 7}},
    2, "ab" * 32,
)  # fmt: skip


def changing(store: Store, change: Callable[[Transaction], object]) -> int:
    """The revision after it."""
    with store.write("bart", LATER) as tx:
        change(tx)
        tx.record("site.changed")
    with store.read() as r:
        return r.site().revision


def test_a_new_store_has_the_rules_that_say_what_roles_could_always_do(store: Store) -> None:
    """Four rules, no role and no network of the operator's."""
    with store.read() as r:
        assert r.rules() == DEFAULT_RULES
        assert r.roles() == {}
        assert r.networks() == ()
        assert r.network_digests() == {}


def test_roles_come_and_go(store: Store) -> None:
    """By name; a second one of the same name is a Conflict, one that is not there NotFound."""
    assert changing(store, lambda tx: (tx.add_role("tablet", "user"), tx.add_role("boss", "owner"))) == 1
    with store.read() as r:
        assert list(r.roles().items()) == [("boss", "owner"), ("tablet", "user")]
    with pytest.raises(Conflict, match="'boss' already"):
        changing(store, lambda tx: tx.add_role("boss", "admin"))
    assert changing(store, lambda tx: tx.remove_role("boss")) == 2
    with pytest.raises(NotFound):
        changing(store, lambda tx: tx.remove_role("boss"))
    with store.read() as r:
        assert r.roles() == {"tablet": "user"}


def test_rules_come_back_as_they_went_in_with_a_number(store: Store) -> None:
    """Every field round trips; the number is one that no rule had before, whatever came with it."""
    rule = Rule(
        0, roles=("user", "küche"), devices=("d1",), any_device=True, anyone=True, networks=("home",), path="/x",
        methods=("GET", "POST"),
    )  # fmt: skip
    made: list[Rule] = []
    assert changing(store, lambda tx: made.extend((tx.add_rule(rule), tx.add_rule(Rule(1, area="static"))))) == 1
    assert [one.id for one in made] == [5, 6]
    with store.read() as r:
        assert r.rules() == (*DEFAULT_RULES, *made)
        assert (made[0].path, made[0].methods, made[1].area) == (rule.path, rule.methods, "static")
    assert changing(store, lambda tx: tx.remove_rule(2)) == 2
    with pytest.raises(NotFound):
        changing(store, lambda tx: tx.remove_rule(2))
    with store.read() as r:
        assert [one.id for one in r.rules()] == [1, 3, 4, 5, 6]
    changing(store, lambda tx: [tx.remove_rule(one) for one in (1, 3, 4, 5, 6)])
    changing(store, lambda tx: made.append(tx.add_rule(rule)))
    assert made[-1].id == 7


def test_networks_come_are_replaced_and_go(store: Store) -> None:
    """Entries, addresses of names, digest and table, each as given; a second put replaces all of it."""
    assert changing(store, lambda tx: tx.put_network(HOME, b"table")) == 1
    with store.read() as r:
        assert r.networks() == (HOME,)
        assert r.network("home") == HOME
        assert r.network("away") is None
        assert r.network_table("home") == b"table"
        assert r.network_table("away") is None
    other = NetworkRow("home", "::1", {}, 1, "cd" * 32)
    assert changing(store, lambda tx: (tx.put_network(other, b"\0"), tx.put_network(HOME_2, b"2"))) == 2
    with store.read() as r:
        assert r.networks() == (HOME_2, other)
        assert list(r.network_digests().items()) == [("a", HOME_2.digest), ("home", other.digest)]
        assert r.network_table("home") == b"\0"
    assert changing(store, lambda tx: tx.remove_network("home")) == 3
    with pytest.raises(NotFound):
        changing(store, lambda tx: tx.remove_network("home"))


HOME_2 = NetworkRow("a", "10.0.0.1", {}, 1, "ef" * 32)


@pytest.mark.parametrize(
    "change",
    [
        lambda tx: tx.add_role("x", "user"),
        lambda tx: tx.add_rule(Rule(0, area="all")),
        lambda tx: tx.remove_rule(1),
        lambda tx: tx.put_network(HOME, b""),
    ],
)
def test_a_change_of_these_that_nobody_recorded_is_undone(
    store: Store, change: Callable[[Transaction], object]
) -> None:
    """They are held to the audit log like all else."""
    with pytest.raises(RuntimeError, match="without an audit event"), store.write("bart", LATER) as tx:
        change(tx)
    with store.read() as r:
        assert (r.roles(), r.rules(), r.networks()) == ({}, DEFAULT_RULES, ())


def test_what_changed_since_a_revision_is_known(store: Store) -> None:
    """Issued, another role, revoked alone and with its device: each with the revision that committed it."""
    since: list[set[str]] = []

    def noted(change: Callable[[Transaction], object]) -> set[str]:
        with store.read() as r:
            before = r.site().revision
        changing(store, change)
        with store.read() as r:
            since.append(set(r.changed_since(before)))
            assert r.changed_since(r.site().revision) == ()
        return since[-1]

    phone, tablet = device_id("phone"), device_id("tablet")
    made: dict[str, str] = {}

    def issue(tx: Transaction, device: str, number: int = 1) -> None:
        made[f"{device} {number}"] = add_certificate(tx, device, number).fingerprint

    assert noted(lambda tx: (add_device(tx, "phone"), issue(tx, phone), issue(tx, phone, 2))) == set(made.values())
    assert noted(lambda tx: (add_device(tx, "tablet"), issue(tx, tablet))) == {made[f"{tablet} 1"]}
    first, second = made[f"{phone} 1"], made[f"{phone} 2"]
    assert noted(lambda tx: tx.rename_device(phone, name="Phone", name_key="phone")) == set()
    assert noted(lambda tx: tx.set_config({"mode": "explain"})) == set()
    assert noted(lambda tx: tx.set_role(phone, "user")) == {first, second}
    assert noted(lambda tx: tx.revoke_certificate(first, LATER, None)) == {first}
    assert noted(lambda tx: tx.set_role(phone, "admin")) == {second}
    assert noted(lambda tx: tx.revoke_device(phone, LATER, None)) == {second}
    with store.read() as r:
        assert set(r.changed_since(0)) == set(made.values())
        assert set(r.entries_below("", 100)) == {made[f"{tablet} 1"]}


def test_entries_are_found_by_the_beginning_of_their_fingerprint(store: Store) -> None:
    """In their order, no more than asked for, none that is revoked; all together are the active certificates."""
    for number in range(40):
        add(store, f"device {number}")
    with store.write("bart", LATER) as tx:
        tx.revoke_device(device_id("device 0"), LATER, None)
        tx.revoke_certificate(tx.certificates(device_id("device 1"))[0].fingerprint, LATER, None)
        tx.record("device.revoked")
    with store.read() as r:
        active = {
            one.fingerprint: Entry(
                one.device_id,
                one.role,
                one.user_slug,
                int(one.not_before.timestamp()),
                int(one.not_after.timestamp()),
            )
            for one in r.active_certificates()
        }
        assert len(active) == 38
        assert list(r.entries_below("", 100).items()) == list(active.items())
        assert list(r.entries_below("", 5)) == list(active)[:5]
        for digit in "0123456789abcdef":
            assert list(r.entries_below(digit, 100)) == [key for key in active if key.startswith(digit)]
        some = next(iter(active))
        assert r.entries_below(some, 2) == {some: active[some]}
        assert r.entries_below("0" * 64, 2) == {}


def test_devices_in_use_are_counted_by_role_and_somebody_is_found(store: Store) -> None:
    """Revoked ones do not count; a certificate that has ended lets nobody in."""
    for number, role in enumerate(("owner", "user", "user", "user")):
        with store.write("bart", NOW) as tx:
            add_certificate(tx, add_device(tx, f"device {number}", role=role).id)
    with store.read() as r:
        assert r.device_count_by_role() == {"owner": 1, "user": 3}
        assert r.somebody_has("owner", NOW)
        assert not r.somebody_has("admin", NOW)
        assert not r.somebody_has("owner", NOW + timedelta(days=365))
        assert r.ending(NOW) == ()
        assert r.ending(NOW + timedelta(days=366))[0] == ("device 0", NOW + timedelta(days=365))
    changing(store, lambda tx: tx.revoke_device(device_id("device 0"), LATER, None))
    with store.read() as r:
        assert r.device_count_by_role() == {"user": 3}
        assert not r.somebody_has("owner", NOW)
        assert [name for name, _ in r.ending(NOW + timedelta(days=366))] == ["device 1", "device 2", "device 3"]


def fill(connection: sqlite3.Connection, count: int) -> None:
    """This many devices, all but every hundredth revoked, with one certificate each."""
    connection.execute("BEGIN")
    connection.execute(
        "INSERT INTO devices (id, name, name_key, role, user_slug, created_at, revoked_at)"
        " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)"
        " SELECT 'd' || i, 'd' || i, 'd' || i, 'user', 'u', 0, CASE WHEN i % 100 THEN 1 END FROM n",
        (count,),
    )
    connection.execute(
        "INSERT INTO certificates"
        " (fingerprint, device_id, authority_id, serial, not_before, not_after, issued_at, der, revoked_at)"
        " SELECT lower(hex(randomblob(32))), id, 1, id, 0, 1, 0, zeroblob(10), revoked_at FROM devices"
    )
    connection.execute("COMMIT")


@pytest.mark.parametrize("statement", ["ENTRIES_BETWEEN", "CHANGED_SINCE", "SOMEBODY", "CHANGE_CERTIFICATES"])
def test_what_one_change_asks_is_found_by_an_index(store: Store, statement: str) -> None:
    """With 50,000 revoked certificates and with statistics: no statement looks at them all."""
    connection = store._connection
    fill(connection, 50_000)
    parameters = {"first": "a", "beyond": "ag", "limit": 65, "revision": 5, "role": "owner", "at": 0}
    parameters |= {"changed": 1, "device_id": "d1"}
    for prepare in ("SELECT 1", "ANALYZE"):
        connection.execute(prepare).fetchall()
        plan = [
            row[3]
            for row in connection.execute(f"EXPLAIN QUERY PLAN {getattr(statements, statement)}", parameters)
        ]
        assert all(step.startswith("SEARCH") for step in plan), plan
        if statement == "ENTRIES_BETWEEN":
            assert "ix_certificates_in_use" in plan[0]


def test_entries_cost_no_more_when_many_are_revoked(store: Store) -> None:
    """Steps of SQLite's machine to read one leaf of 500 devices: the same with 49,500 revoked ones beside."""

    def steps() -> int:
        count = [0]

        def one() -> int:
            count[0] += 1
            return 0

        store._connection.set_progress_handler(one, 10)
        with store.read() as r:
            assert 0 < len(r.entries_below("a", 20)) <= 20
        store._connection.set_progress_handler(None, 0)
        return count[0]

    fill(store._connection, 50_000)
    with_revoked = steps()
    store._connection.execute("DELETE FROM certificates WHERE revoked_at IS NOT NULL")
    assert with_revoked <= steps() * 2


OLD_AUTHORITY = (
    "INSERT INTO authorities (kind, certificate, key_file, created_at) VALUES ('device', x'00', 'x', 1)"
)
OLD_DEVICE = (
    "INSERT INTO devices (id, name, name_key, role, user_slug, created_at)"
    " VALUES ('d1', 'phone', 'phone', 'viewer', 'phone', 1)"
)
OLD_CERTIFICATE = (
    "INSERT INTO certificates"
    " (fingerprint, device_id, authority_id, serial, not_before, not_after, issued_at, der)"
    " VALUES ('ab', 'd1', 1, 'cd', 1, 2, 1, x'00')"
)


def test_a_store_of_the_first_version_is_upgraded_with_what_it_holds(tmp_path: Path) -> None:
    """Devices and certificates stay; the rules say what their roles could do before."""
    path = tmp_path / "redlatch.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", str(migrate.MIGRATIONS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute(statements.NEW_SITE, {"uuid": SITE, "created_at": 1, "audit_hash": genesis(SITE)})
        raw.execute(OLD_AUTHORITY)
        raw.execute(OLD_DEVICE)
        raw.execute(OLD_CERTIFICATE)
    with Store.open(path) as store:
        with store.read() as r:
            assert r.rules() == DEFAULT_RULES
            assert r.entries_below("", 9) == {"ab": Entry("d1", "viewer", "phone", 1, 2)}
            assert r.changed_since(0) == ()
            assert r.verify_audit().ok
        assert changing(store, lambda tx: tx.set_role("d1", "admin")) == 1
        with store.read() as r:
            assert r.changed_since(0) == ("ab",)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE rules SET body = '[]'",
        "UPDATE rules SET body = '{'",
        """UPDATE rules SET body = '{"nonsense":1}'""",
        "INSERT INTO roles VALUES (x'00', 'user')",
        "INSERT INTO networks VALUES ('x', 1, 'ab', '[]', '', x'')",
        "INSERT INTO networks VALUES ('x', 'many', 'ab', '{}', '', x'')",
        "INSERT INTO networks VALUES ('x', 1, 'ab', '{}', '', 'text')",
        "UPDATE certificates SET not_after = 'never'",
    ],
)
def test_what_no_redlatch_wrote_is_an_error_in_words(store: Store, statement: str) -> None:
    """Damaged, not a traceback."""
    add(store, "phone")
    store._connection.execute(statement)

    def ask() -> object:
        with store.read() as r:
            return r.rules(), r.roles(), r.networks(), r.entries_below("", 9), r.network_table("x")

    with pytest.raises(StoreError, match="damaged"):
        ask()
