"""What can be written and read: every change with its event, all of it or nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, SITE, add, add_authority, add_certificate, add_device, device_id

from redlatch.errors import Conflict, NotFound
from redlatch.store import Certificate, Device, Site, Store

LATER = NOW + timedelta(hours=1)


def events(store: Store) -> list[str]:
    with store.read() as r:
        return [entry.event.kind for entry in r.audit_events()]


def test_a_new_store_holds_a_site_and_nothing_else(database: Path) -> None:
    """Created: the site's id and time, revision 0, an empty configuration, an empty chain that verifies."""
    with Store.create(database, site_uuid=SITE, now=NOW.replace(microsecond=7)) as store, store.read() as r:
        assert r.site() == Site(SITE, NOW, 0, {})
        assert r.devices() == ()
        assert r.audit_head().seq == 0
        assert r.verify_audit().ok


def test_a_device_and_its_certificate_come_back_as_they_went_in(store: Store) -> None:
    """Whole records round trip, as returned and as read, by name, by id and in the snapshot's list."""
    device, certificate = add(store, "Bart's phone 📱/ü")
    assert device == Device(
        device_id(device.name), "Bart's phone 📱/ü", "admin", None, "Bart's phone 📱/ü", NOW, None, None
    )
    assert isinstance(certificate, Certificate)
    with store.read() as r:
        assert r.device_by_name("bart's phone 📱/ü") == device
        assert r.device_by_id(device.id) == device
        assert r.devices_by_slug(device.user_slug) == (device,)
        assert r.certificates(device.id) == (certificate,)
        assert r.certificate(certificate.fingerprint) == certificate
        assert list(r.active_certificates()) == [
            (
                certificate.fingerprint,
                device.id,
                "admin",
                device.user_slug,
                NOW - timedelta(minutes=5),
                NOW + timedelta(days=365),
            )
        ]
        assert r.device_by_name("nobody") is None
        assert r.device_by_id("nobody") is None
        assert r.certificate("00") is None
        assert r.certificates("nobody") == ()


def test_times_are_kept_in_whole_seconds_of_utc(store: Store) -> None:
    """Another zone and microseconds: the same second in UTC comes back, from write and read alike."""
    odd = datetime.fromisoformat("2026-11-23T14:00:00.999999+02:00")
    with store.write("bart", odd) as tx:
        device = add_device(tx, "phone")
    with store.read() as r:
        read = r.device_by_id(device.id)
        assert read is not None
        assert read == device
        assert read.created_at == datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
        assert read.created_at.tzinfo is UTC


def test_every_change_has_its_event(store: Store) -> None:
    """Actor, time, kind and data of the event are what was recorded, and the chain is whole."""
    with store.write("lisa", LATER) as tx:
        device = add_device(tx, "phone")
        tx.rename_device(device.id, name="Tablet", name_key="tablet")
        event = tx.record("device.renamed", device=device.id, old="phone", new="Tablet")
    with store.read() as r:
        last = [entry.event for entry in r.audit_events(after=2)]
        assert last == [event]
        assert (event.seq, event.at, event.actor) == (3, LATER, "lisa")
        assert event.data == {"device": device.id, "old": "phone", "new": "Tablet"}
        assert r.audit_head().seq == 3
        assert r.verify_audit().ok


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, device: tx.set_config({"mode": "explain"}),
        lambda tx, device: tx.add_authority("server", certificate=b"x", key_file="x"),
        lambda tx, device: tx.retire_authority(1, LATER),
        lambda tx, device: tx.add_device("new", name="n", name_key="n", role="user", owner=None, user_slug="n"),
        lambda tx, device: tx.rename_device(device, name="n", name_key="n"),
        lambda tx, device: tx.set_role(device, "user"),
        lambda tx, device: tx.revoke_device(device, LATER, None),
        lambda tx, device: tx.revoke_certificate(next(tx.active_certificates()).fingerprint, LATER, None),
        lambda tx, device: (tx.record("site.changed"), tx.set_role(device, "user")),
        lambda tx, device: (tx.set_role(device, "user"), tx.record("site.changed"), tx.set_role(device, "thing")),
    ],
)
def test_a_change_that_nobody_recorded_is_undone(store: Store, change: object) -> None:
    """No write gets past the audit log, also not one before or after which something else was recorded."""
    device, _ = add(store, "phone")
    before = (store.path.parent / "redlatch.db-wal").read_bytes()
    with pytest.raises(RuntimeError, match="without an audit event"), store.write("bart", LATER) as tx:
        change(tx, device.id)  # type: ignore[operator]
    assert (store.path.parent / "redlatch.db-wal").read_bytes() == before
    with store.read() as r:
        assert r.device_by_id(device.id) == device
        assert r.verify_audit().ok


def test_a_transaction_that_changes_nothing_needs_no_event(store: Store) -> None:
    """Reading inside a write is fine, and so is an event about something outside the store."""
    with store.write("bart", NOW) as tx:
        assert tx.site().revision == 0
    with store.write("bart", NOW) as tx:
        tx.record("node-red.adopted", settings="/home/pi/.node-red/settings.js")
    assert events(store) == ["ca.created", "node-red.adopted"]


def test_an_unknown_kind_of_event_is_refused(store: Store) -> None:
    """A misspelt kind is a mistake in the program, and what it stood for is undone."""
    with pytest.raises(ValueError, match=r"device\.aded"), store.write("bart", NOW) as tx:
        tx.record("device.aded")
    assert events(store) == ["ca.created"]


class Interrupted(BaseException):
    pass


def test_an_exception_undoes_the_transaction(store: Store) -> None:
    """Rows, events and revision go together, whatever ends the block (an interrupt by the keyboard too)."""
    with pytest.raises(Interrupted), store.write("bart", NOW) as tx:  # noqa: PT012
        add_certificate(tx, add_device(tx, "phone").id)
        raise Interrupted
    with store.read() as r:
        assert r.devices() == ()
        assert r.site().revision == 0
        assert r.audit_head().seq == 1
    add(store, "phone")
    assert events(store) == ["ca.created", "device.added", "certificate.issued"]


@pytest.mark.parametrize(("name", "key"), [("phone", "phone"), ("Phone", "phone")])
def test_a_name_in_use_is_refused(store: Store, name: str, key: str) -> None:
    """The same name, or one that reads the same, is a Conflict that says which device has it and what to do."""
    add(store, "phone")
    with pytest.raises(Conflict, match="'phone' already") as refused, store.write("bart", NOW) as tx:
        tx.add_device("new", name=name, name_key=key, role="admin", owner=None, user_slug="x")
    assert "another name" in refused.value.hint
    with store.read() as r:
        assert len(r.devices()) == 1


def test_a_rename_to_a_name_in_use_is_refused(store: Store) -> None:
    """Renaming to another one's name is refused; to one's own in other letters it is not."""
    add(store, "phone")
    tablet, _ = add(store, "tablet")
    with pytest.raises(Conflict), store.write("bart", NOW) as tx:
        tx.rename_device(tablet.id, name="Phone", name_key="phone")
    with store.write("bart", NOW) as tx:
        tx.rename_device(tablet.id, name="TABLET", name_key="tablet")
        tx.record("device.renamed", device=tablet.id)
    with store.read() as r:
        assert [device.name for device in r.devices()] == ["phone", "TABLET"]


def test_a_revoked_device_keeps_its_row_and_frees_its_name(store: Store) -> None:
    """Revoked: out of the snapshot's list with every certificate, still there by id; the name serves a new one."""
    device, _ = add(store, "phone")
    with store.write("bart", NOW) as tx:
        add_certificate(tx, device.id, 2)
    with store.write("lisa", LATER) as tx:
        assert tx.revoke_device(device.id, LATER, "lost on the bus") == 2
        tx.record("device.revoked", device=device.id)
    with store.read() as r:
        assert list(r.active_certificates()) == []
        assert r.device_by_name("phone") is None
        kept = r.device_by_id(device.id)
        assert kept is not None
        assert (kept.revoked_at, kept.reason) == (LATER, "lost on the bus")
        assert [one.revoked_at for one in r.certificates(device.id)] == [LATER, LATER]
    with store.write("bart", LATER) as tx:
        tx.add_device("new", name="phone", name_key="phone", role="admin", owner=None, user_slug="p")
        tx.record("device.added")
    with store.read() as r:
        assert [one.id for one in r.devices()] == sorted([device.id, "new"])
        assert r.device_by_name("phone") == r.device_by_id("new")


def test_one_revoked_certificate_leaves_the_others(store: Store) -> None:
    """After a renewal the old certificate can be shut out alone; a second time is a Conflict."""
    device, old = add(store, "phone")
    with store.write("bart", NOW) as tx:
        new = add_certificate(tx, device.id, 2)
    with store.write("bart", LATER) as tx:
        tx.revoke_certificate(old.fingerprint, LATER, None)
        tx.record("certificate.revoked", fingerprint=old.fingerprint)
    with store.read() as r:
        assert [one.fingerprint for one in r.active_certificates()] == [new.fingerprint]
    with pytest.raises(Conflict, match="revoked already"), store.write("bart", LATER) as tx:
        tx.revoke_certificate(old.fingerprint, LATER, None)
    with pytest.raises(NotFound), store.write("bart", LATER) as tx:
        tx.revoke_certificate("00" * 32, LATER, None)


@pytest.mark.parametrize(
    "change",
    [
        lambda tx, device: tx.rename_device(device, name="x", name_key="x"),
        lambda tx, device: tx.set_role(device, "owner"),
        lambda tx, device: tx.revoke_device(device, LATER, None),
        lambda tx, device: add_certificate(tx, device, 2),
    ],
)
def test_a_revoked_or_unknown_device_cannot_be_changed(store: Store, change: object) -> None:
    """No role, no name, above all no certificate for a device that is out (Conflict) or unknown (NotFound)."""
    device, _ = add(store, "phone")
    with store.write("bart", LATER) as tx:
        tx.revoke_device(device.id, LATER, None)
        tx.record("device.revoked", device=device.id)
    for id_, refusal in ((device.id, Conflict), ("unknown", NotFound)):
        with pytest.raises(refusal), store.write("bart", LATER) as tx:
            change(tx, id_)  # type: ignore[operator]
    with store.read() as r:
        assert list(r.active_certificates()) == []


def test_a_certificate_is_recorded_once(store: Store) -> None:
    """The same certificate again is a Conflict."""
    device, _ = add(store, "phone")
    with pytest.raises(Conflict, match="recorded already"), store.write("bart", NOW) as tx:
        add_certificate(tx, device.id)


def test_authorities_are_listed_by_kind_with_their_end(store: Store) -> None:
    """Oldest first; a retired one stays listed, and can be retired once."""
    with store.write("bart", NOW) as tx:
        add_authority(tx, "server")
        second = add_authority(tx)
        tx.retire_authority(1, LATER)
        tx.record("ca.retired", authority=1)
    with store.read() as r:
        assert [(row.id, row.retired_at) for row in r.authorities("device")] == [(1, LATER), (second, None)]
        assert [row.key_file for row in r.authorities("server")] == ["server.pem"]
        assert r.authorities("other") == ()
    with pytest.raises(NotFound), store.write("bart", NOW) as tx:
        tx.retire_authority(1, LATER)


def test_the_revision_grows_by_one_with_what_engines_enforce(store: Store) -> None:
    """Once for each transaction with certificates, roles, revocations, configuration, a touch; not otherwise."""

    def revision_after(change: object) -> int:
        with store.write("bart", LATER) as tx:
            change(tx)  # type: ignore[operator]
            tx.record("site.changed")
            promised = tx.revision
        with store.read() as r:
            assert r.site().revision == promised
        return promised

    phone = device_id("phone")
    assert revision_after(lambda tx: add_device(tx, "phone")) == 0
    fingerprints = []
    assert revision_after(lambda tx: [fingerprints.append(add_certificate(tx, phone, i)) for i in (1, 2)]) == 1
    assert revision_after(lambda tx: tx.rename_device(phone, name="Telephone", name_key="telephone")) == 1
    assert revision_after(lambda tx: tx.set_role(phone, "viewer")) == 2
    assert revision_after(lambda tx: tx.revoke_certificate(fingerprints[0].fingerprint, LATER, None)) == 3
    assert revision_after(lambda tx: tx.revoke_device(phone, LATER, None)) == 4
    assert revision_after(lambda tx: tx.set_config({"mode": "explain"})) == 5
    assert revision_after(lambda tx: tx.touch()) == 6
    assert revision_after(lambda tx: None) == 6


def test_the_configuration_comes_back_as_json(store: Store) -> None:
    """Nested values, non-ASCII text and order-free keys; what JSON cannot say is refused and undone."""
    config = {"names": ["pi.local", "münchen"], "port": 1880, "nested": {"b": None, "a": True}}
    with store.write("bart", NOW) as tx:
        tx.set_config(config)
        tx.record("site.changed")
    with pytest.raises(TypeError), store.write("bart", NOW) as tx:
        tx.set_config({"path": Path("/")})
    with store.read() as r:
        assert r.site().config == config


def test_pages_by_key_show_every_device_once(store: Store) -> None:
    """Pages after the last one seen: in order of names, complete, and unmoved by devices added before it."""
    with store.write("bart", NOW) as tx:
        for number in range(25):
            add_device(tx, f"device {number:02}")
    seen: list[str] = []
    after = None
    while True:
        with store.read() as r:
            page = r.devices(after=after, limit=10)
        if not page:
            break
        seen += [device.name for device in page]
        after = page[-1].id
        add(store, f"a newcomer {len(seen)}")
    assert seen == [f"device {number:02}" for number in range(25)]
    with store.read() as r:
        assert r.devices(after="nobody") == ()
        assert len(r.devices(limit=0)) == 0
        assert len(r.devices()) == 28


def test_devices_of_the_same_name_are_paged_by_id(store: Store) -> None:
    """Revoked devices may share a name: a page that ends between them loses none."""
    for number in range(4):
        with store.write("bart", NOW) as tx:
            device = tx.add_device(str(number), name="x", name_key="x", role="user", owner=None, user_slug="x")
            tx.revoke_device(device.id, LATER, None)
            tx.record("device.revoked")
    with store.read() as r:
        first = r.devices(limit=2)
        assert [one.id for one in first + r.devices(after=first[-1].id)] == ["0", "1", "2", "3"]


def test_a_read_sees_one_state_whatever_is_written_meanwhile(store: Store) -> None:
    """A reader that has begun keeps its view; the next one sees the change."""
    with Store.open(store.path) as other, other.read() as r:
        assert r.devices() == ()
        add(store, "phone")
        assert r.devices() == ()
        assert list(r.active_certificates()) == []
    with store.read() as r:
        assert len(r.devices()) == 1


def test_a_read_inside_a_write_sees_it(store: Store) -> None:
    """Nested in the same thread the read is part of the transaction; another write is refused."""
    with store.write("bart", NOW) as tx:
        add_device(tx, "phone")
        with store.read() as r:
            assert len(r.devices()) == 1
        with pytest.raises(RuntimeError, match="open already"), store.write("bart", NOW):
            pass
        add_device(tx, "tablet")
    assert events(store) == ["ca.created", "device.added", "device.added"]


def test_threads_take_turns(store: Store) -> None:
    """Writers of several threads and connections: every event is there once, in one whole chain."""
    failures: list[BaseException] = []

    def work(own: Store, number: int) -> None:
        try:
            for turn in range(10):
                add(own, f"device {number} {turn}")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    with Store.open(store.path, patience=30) as second:
        threads = [threading.Thread(target=work, args=((store, second)[i % 2], i)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    with store.read() as r:
        assert len(r.devices()) == 40
        assert r.verify_audit().ok
        assert r.audit_head().seq == 81


def test_an_actor_of_odd_bytes_is_recorded_readably(store: Store) -> None:
    """An environment's bytes that are no text (PEP 383) do not stop a change, and the chain is whole."""
    with store.write("b\udcffrt", NOW) as tx:
        add_device(tx, "phone")
    with store.read() as r:
        assert [entry.event.actor for entry in r.audit_events(after=1)] == ["b\\udcffrt"]
        assert r.verify_audit().ok
