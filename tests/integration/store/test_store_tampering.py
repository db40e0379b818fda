"""A record changed behind redlatch's back is found: each test changes the file with its owner's rights."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, add, add_device

from redlatch.errors import StoreError
from redlatch.store import Store


@pytest.fixture
def recorded(store: Store) -> Store:
    """A store with the events 1 to 5."""
    add(store, "phone")
    add(store, "tablet")
    with store.read() as r:
        assert r.verify_audit().ok
        assert r.audit_head().seq == 5
    return store


def tamper(path: Path, *statements: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        assert connection.execute(statement).rowcount != 0
    connection.close()


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["UPDATE audit SET actor = 'mallory' WHERE seq = 3"], 3),
        (["UPDATE audit SET at = at + 1 WHERE seq = 3"], 3),
        (["UPDATE audit SET kind = 'device.renamed' WHERE seq = 3"], 3),
        (["""UPDATE audit SET data = replace(data, 'phone', 'bone') WHERE seq = 2"""], 2),
        (["UPDATE audit SET hash = zeroblob(32) WHERE seq = 4"], 4),
        (["UPDATE audit SET data = 'no JSON' WHERE seq = 3"], 3),
        (["UPDATE audit SET data = '[]', at = 'soon' WHERE seq = 3"], 3),
        (["UPDATE audit SET at = 9000000000000000 WHERE seq = 3"], 3),
        (["UPDATE audit SET actor = x'ff00', hash = 'text' WHERE seq = 3"], 3),
        (["DELETE FROM audit WHERE seq = 1"], 1),
        (["DELETE FROM audit WHERE seq = 3"], 3),
        (["DELETE FROM audit WHERE seq = 3", "UPDATE audit SET seq = seq - 1 WHERE seq > 3"], 3),
        (
            [
                "UPDATE audit SET seq = 99 WHERE seq = 2",
                "UPDATE audit SET seq = 2 WHERE seq = 3",
                "UPDATE audit SET seq = 3 WHERE seq = 99",
            ],
            2,
        ),
        (["INSERT INTO audit SELECT 6, at, actor, kind, data, hash FROM audit WHERE seq = 5"], 6),
        (
            [
                "UPDATE audit SET seq = seq + 100 WHERE seq > 2",
                "INSERT INTO audit SELECT 3, at, actor, kind, data, hash FROM audit WHERE seq = 2",
                "UPDATE audit SET seq = seq - 99 WHERE seq > 100",
            ],
            3,
        ),
        (["DELETE FROM audit WHERE seq = 5"], 5),
        (["DELETE FROM audit"], 1),
        (["DELETE FROM audit WHERE seq = 5", "UPDATE site SET audit_seq = 4"], 5),
        (["UPDATE site SET audit_seq = 6"], 6),
        (["UPDATE site SET uuid = '00000000-0000-0000-0000-000000000000'"], 1),
    ],
)
def test_tampering_is_found_at_its_place(recorded: Store, statements: list[str], first_bad: int) -> None:
    """Changed, removed, renumbered, reordered, inserted, cut off, another site's: named by the first bad event."""
    tamper(recorded.path, *statements)
    with recorded.read() as r:
        found = r.verify_audit()
        assert (found.ok, found.first_bad) == (False, first_bad)
        assert found.problem
        list(r.audit_events())  # a garbled record can still be shown


def test_a_tail_cut_off_with_its_recorded_end_shows_only_against_a_head_noted_elsewhere(recorded: Store) -> None:
    """The limit of any chain kept in one file: who rewrites its end too leaves a whole, shorter chain."""
    with recorded.read() as r:
        noted = r.audit_head()
    tamper(
        recorded.path,
        "DELETE FROM audit WHERE seq = 5",
        "UPDATE site SET audit_seq = 4, audit_hash = (SELECT hash FROM audit WHERE seq = 4)",
    )
    with recorded.read() as r:
        assert r.verify_audit().ok
        assert r.audit_head() != noted


def test_a_tampered_chain_does_not_stop_a_revocation(recorded: Store) -> None:
    """Shutting a device out matters more than a whole record; the break stays visible."""
    tamper(recorded.path, "UPDATE audit SET actor = 'mallory' WHERE seq = 3")
    with recorded.write("bart", NOW) as tx:
        device = tx.device_by_name("phone")
        assert device is not None
        tx.revoke_device(device.id, NOW, None)
        tx.record("device.revoked", device=device.id)
    with recorded.read() as r:
        assert r.verify_audit().first_bad == 3
        assert len(list(r.active_certificates())) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE devices SET created_at = 'yesterday'",
        "UPDATE devices SET created_at = 9000000000000000",
        "UPDATE devices SET revoked_at = x'00' WHERE name = 'tablet'",
    ],
)
def test_rows_of_the_wrong_type_are_an_error_in_words(recorded: Store, statement: str) -> None:
    """SQLite holds anything in any column; redlatch says that the store is damaged."""
    tamper(recorded.path, statement)
    with pytest.raises(StoreError, match="damaged") as refused, recorded.read() as r:
        r.devices()
    assert "backup" in refused.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM site",
        "UPDATE site SET audit_seq = 'five'",
        "UPDATE site SET audit_hash = 'text'",
        "UPDATE site SET revision = 'new'",
    ],
)
def test_a_damaged_site_is_never_written_to(recorded: Store, statement: str) -> None:
    """No chain is continued from an end that is none."""
    tamper(recorded.path, statement)
    with pytest.raises(StoreError, match="damaged"), recorded.write("bart", NOW) as tx:
        add_device(tx, "car")
    connection = sqlite3.connect(recorded.path)
    assert connection.execute("SELECT count(*) FROM devices").fetchone() == (2,)
    connection.close()


@pytest.mark.parametrize("config", ["", "{", "[]", "7"])
def test_a_damaged_configuration_is_an_error_in_words(recorded: Store, config: str) -> None:
    """A configuration that is no JSON object."""
    tamper(recorded.path, f"UPDATE site SET config = '{config}'")
    with pytest.raises(StoreError, match="damaged"), recorded.read() as r:
        r.site()
