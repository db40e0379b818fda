"""What a console reads: pages by keyset, what ends, links, sightings; each query along an index."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from tests.integration.store.example import NOW, add, add_certificate, device_id

from redlatch.store import Listed, Store
from redlatch.store import statements as sql

LATER = NOW + timedelta(hours=1)


def revoke(store: Store, name: str) -> None:
    with store.write("bart", LATER) as tx:
        tx.revoke_device(device_id(name), LATER, None)
        tx.record("device.revoked", device=device_id(name))


def names(found: tuple[Listed, ...]) -> list[str]:
    return [one.device.name for one in found]


def test_pages_follow_each_other_without_gap_or_repeat(store: Store) -> None:
    everybody = [f"Sensor {number:02}" for number in range(23)]
    for name in everybody:
        add(store, name)
    revoke(store, "Sensor 05")
    everybody.remove("Sensor 05")
    seen: list[str] = []
    after = ""
    with store.read() as r:
        while page := r.device_page(after=after, limit=5):
            seen += names(page)
            after = page[-1].name_key
    assert seen == everybody


def test_a_page_goes_on_when_its_last_device_is_gone(store: Store) -> None:
    """The next page begins beyond a name, not beyond a device."""
    for name in "abcd":
        add(store, name)
    revoke(store, "b")
    with store.read() as r:
        assert names(r.device_page(after="b", limit=5)) == ["c", "d"]


@pytest.mark.parametrize(
    ("matching", "found"),
    [
        ("phone", ["Ada's phone", "Bart's phone"]),
        ("ada", ["Ada's phone", "Kiosk"]),  # by its owner too
        ("viewer", ["Kiosk"]),  # a role as a whole word
        ("view", []),
        ("%", ["100% lamp"]),
        ("_", []),
        ("!", []),
        ("' or 1=1 --", []),
    ],
)
def test_what_is_searched_for_is_found_and_taken_literally(store: Store, matching: str, found: list[str]) -> None:
    for name in ("Ada's phone", "Bart's phone", "100% lamp"):
        add(store, name)
    with store.write("bart", NOW) as tx:
        tx.add_device(device_id("k"), name="Kiosk", name_key="kiosk", role="viewer", owner="Ada", user_slug="ada")
        tx.record("device.added")
    with store.read() as r:
        assert names(r.device_page(matching=matching, limit=9)) == found
        revoke_none = r.revoked_page(matching=matching, limit=9)
    assert revoke_none == ()


def test_revoked_devices_of_one_name_are_all_there(store: Store) -> None:
    for number in range(3):
        with store.write("bart", NOW) as tx:
            tx.add_device(
                f"{number}", name="Lamp", name_key="lamp", role="user", owner=None, user_slug=f"l{number}"
            )
            tx.record("device.added")
            tx.revoke_device(f"{number}", LATER, "broken")
            tx.record("device.revoked")
    with store.read() as r:
        first = r.revoked_page(limit=2)
        rest = r.revoked_page(after=(first[-1].name_key, first[-1].device.id), limit=2)
    assert [one.device.id for one in (*first, *rest)] == ["0", "1", "2"]


def test_a_listed_device_shows_its_last_end_and_sighting(store: Store) -> None:
    device, certificate = add(store, "Lamp")
    with store.write("service", LATER) as tx:
        tx.see(device.id, LATER, "192.168.1.20")
        tx.see(device.id, NOW, "192.168.1.66")  # older: nothing changes
        tx.see("nobody", LATER, "192.168.1.66")
    with store.read() as r:
        (listed,) = r.device_page(limit=5)
        assert (listed.not_after, listed.seen_at, listed.seen_from) == (
            certificate.not_after,
            LATER,
            "192.168.1.20",
        )
        assert r.sighting("nobody") is None
    with store.write("bart", NOW) as tx:
        tx.revoke_certificate(certificate.fingerprint, LATER, None)
        tx.record("certificate.revoked")
    with store.read() as r:
        assert r.device_page(limit=5)[0].not_after is None


def test_only_the_last_certificate_of_a_device_ends_it(store: Store) -> None:
    device, first = add(store, "Lamp")
    with store.read() as r:
        assert [one.fingerprint for one in r.ending_between(NOW, first.not_after + timedelta(1), 9)] == [
            first.fingerprint
        ]
        assert r.ending_between(NOW, first.not_after, 9) == ()
    with store.write("bart", NOW) as tx:
        add_certificate(tx, device.id, 2)  # ends at the same time: both are last
    with store.read() as r:
        assert len(r.ending_between(NOW, first.not_after + timedelta(1), 9)) == 2
    revoke(store, "Lamp")
    with store.read() as r:
        assert r.ending_between(NOW, first.not_after + timedelta(1), 9) == ()


def test_the_trail_backwards(store: Store) -> None:
    for number in range(5):
        add(store, f"{number}")
    with store.read() as r:
        newest = r.audit_before(None, 3)
        older = r.audit_before(newest[-1].event.seq, 100)
        forward = list(r.audit_events())
    assert [*newest, *older] == forward[::-1]


def test_what_was_noticed_is_remembered(store: Store) -> None:
    with store.write("service", NOW) as tx:
        tx.notice("ab" * 32, 30)
        tx.notice("ab" * 32, 30)
        tx.notice("ab" * 32, 7)
    with store.read() as r:
        assert r.noticed("ab" * 32) == {30, 7}
        assert r.noticed("cd" * 32) == set()


def test_a_change_of_a_link_without_its_event_is_undone(store: Store) -> None:
    """Redeeming above all: what was not recorded did not happen."""
    link = {
        "device_id": None,
        "name": "x",
        "role": "user",
        "owner": None,
        "days": 1,
        "remote": False,
        "pinned": False,
        "compared": False,
    }
    with pytest.raises(RuntimeError), store.write("bart", NOW) as tx:
        tx.add_link(digest=b"a" * 32, expires=LATER, **link)  # type: ignore[arg-type]
    with store.write("bart", NOW) as tx:
        number = tx.add_link(digest=b"a" * 32, expires=LATER, **link)  # type: ignore[arg-type]
        tx.record("link.made")
    with pytest.raises(RuntimeError), store.write("bart", NOW) as tx:
        assert tx.redeem_link(b"a" * 32, NOW, used_from="x") == number
    with store.read() as r:
        assert (r.link(number) or pytest.fail("no link")).used_at is None
    with store.write("bart", NOW) as tx:
        assert tx.redeem_link(b"b" * 32, NOW, used_from="x") is None
        assert tx.redeem_link(b"a" * 32, LATER, used_from="x") is None  # its last second is over
        assert tx.redeem_link(b"a" * 32, NOW, used_from="x") == number
        tx.record("link.redeemed")
        assert tx.redeem_link(b"a" * 32, NOW, used_from="y") is None


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (sql.DEVICE_PAGE, "SEARCH d USING INDEX uq_devices_name_key (name_key>?)"),
        (sql.ENDING_BETWEEN, "SEARCH c USING INDEX ix_certificates_not_after (not_after>? AND not_after<?)"),
        (sql.LINK_BY_DIGEST, "USING INDEX"),
        (sql.EVENTS_BEFORE, "SEARCH audit USING INTEGER PRIMARY KEY"),
    ],
)
def test_a_page_costs_the_same_however_many_there_are(store: Store, statement: str, index: str) -> None:
    """SQLite reads along an index, and sorts nothing but what it gives back."""
    with closing(sqlite3.connect(store.path)) as connection:
        parameters = dict.fromkeys(("after", "limit", "first", "before", "digest", "since"), 1)
        plan = [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan
