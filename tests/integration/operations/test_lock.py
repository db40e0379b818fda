"""The main job, end to end: up, a device in, a stranger out, a revocation in force, down."""

from __future__ import annotations

import pytest
from tests.integration.operations.conftest import House
from tests.support.clients import Refused, WebSocket, request

from redlatch.checks import outside
from redlatch.operations import devices, setup
from redlatch.operations.status import status


def test_the_whole_life_of_a_lock(house: House) -> None:
    """After `up` only a device with a key gets in; a revoked one is cut off at once; `down` gives all back."""
    before = house.settings_file.read_bytes()
    assert house.up().changed
    laptop = house.key("Bart's laptop", role="admin")
    phone = house.key("phone", role="owner")
    with house.node_red():
        assert request(house.port, "GET", "/flows", laptop).status == 200
        with pytest.raises(Refused):
            request(house.port, "GET", "/flows")

        probed = outside.probe(house.open(), house.environ)
        assert [row for row in probed.rows if not row.ok] == []
        assert {row.key for row in probed.rows} == set(outside.KINDS) - set(outside.NO_KEY_RESUMED)

        standing = status(house.open(), house.environ)
        assert (standing.locked, standing.in_force) == (True, standing.recorded)

        comms = WebSocket(house.port, "/comms", laptop)
        assert comms.is_open
        revoked = devices.revoke(house.open(), "BART'S laptop", reason="lost on the train")
        assert revoked.force.state == "in-force"
        assert revoked.force.closed is not None
        assert revoked.force.closed >= 1
        assert comms.is_closed()
        with pytest.raises(Refused):
            request(house.port, "GET", "/flows", laptop)
        assert request(house.port, "GET", "/flows", phone).status == 200

    gone = setup.down(house.open(), house.environ)
    assert str(house.settings.published) in gone.removed
    assert house.settings_file.read_bytes() == before
    assert not house.settings.published.exists()
    assert not house.settings.spool.exists()


def test_a_change_without_node_red_says_published_and_no_more(newest: House) -> None:
    """Nothing reports a later state than it saw: without a running guard a change is published, not in force."""
    newest.up()
    issued = newest.key("phone").issued
    assert issued.force.state == "published"
    assert "no guard runs" in issued.force.note


def test_a_second_up_changes_nothing(newest: House) -> None:
    """`up` is idempotent: same files, same version, nothing more in the audit trail."""
    newest.up()
    with newest.open().store.read() as view:
        head, revision = view.audit_head(), view.site().revision
    content = {path: path.read_bytes() for path in newest.settings.published.rglob("*") if path.is_file()}
    settings = newest.settings_file.read_bytes()
    assert newest.plan().changes == ()
    assert not newest.up().changed
    with newest.open().store.read() as view:
        assert (view.audit_head(), view.site().revision) == (head, revision)
    assert {path: path.read_bytes() for path in newest.settings.published.rglob("*") if path.is_file()} == content
    assert newest.settings_file.read_bytes() == settings


def test_up_again_after_down_locks_for_the_same_devices(newest: House) -> None:
    """`down` keeps devices and CAs: a later `up` lets the same device in."""
    newest.up()
    phone = newest.key("phone", role="owner")
    setup.down(newest.open(), newest.environ)
    newest.up()
    with newest.node_red():
        assert request(newest.port, "GET", "/flows", phone).status == 200
        with pytest.raises(Refused):
            request(newest.port, "GET", "/flows")


def test_a_role_change_is_judged_on_the_open_connection(newest: House) -> None:
    """A viewer made from an admin cannot write over the connection it had as admin."""
    newest.up()
    phone = newest.key("phone", role="admin")
    with newest.node_red():
        assert request(newest.port, "POST", "/flows", phone, body=b"[]").status != 403
        assert devices.set_role(newest.open(), "phone", "viewer").force.state == "in-force"
        assert request(newest.port, "GET", "/flows", phone).status == 200
        assert request(newest.port, "POST", "/flows", phone, body=b"[]").status == 403


def test_a_renewed_device_gets_in_with_both_certificates_and_revocation_ends_both(newest: House) -> None:
    """A renewal overlaps; a revocation shuts out every certificate of the device."""
    newest.up()
    old = newest.key("phone", role="owner")
    with newest.node_red():
        new = newest.file(devices.renew(newest.open(), "phone"))
        for key in (old, new):
            assert request(newest.port, "GET", "/flows", key).status == 200
        assert devices.revoke(newest.open(), "phone").certificates == 2
        for key in (old, new):
            with pytest.raises(Refused):
                request(newest.port, "GET", "/flows", key)
