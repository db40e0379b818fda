"""Devices in the console: pages that cost the same however many there are, and what an owner does with one."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from tests.support.clients import Response
from tests.support.consoling import Consoling, consoling, heading, text_of

from redlatch.operations import devices
from redlatch.pki.certificates import fingerprint, load_certificates
from redlatch.service.console import devices as console_devices
from redlatch.service.console.asking import Ask, Fields
from redlatch.service.console.memory import Memory
from redlatch.service.visitor import Visitor


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with consoling(tmp_path_factory.mktemp("console")) as served:
        yield served


def names(answer: Response) -> list[str]:
    return [text_of(one) for one in re.findall(r'<th scope="row"><a[^>]*>(.*?)</a>', answer.body.decode())]


def next_page(answer: Response) -> str | None:
    import html

    found = re.search(r'<a rel="next" href="([^"]*)"', answer.body.decode())
    return html.unescape(found[1]) if found else None


def insert(at: Consoling, count: int, *, prefix: str = "d", revoked: bool = False) -> None:
    """Devices written past the operations, which would take minutes."""
    with closing(sqlite3.connect(at.site.settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        rows = [(f"{prefix}{n:05}",) * 3 + (1 if revoked else None,) for n in range(count)]
        connection.executemany(
            "INSERT INTO devices (id, name, name_key, role, user_slug, created_at, revoked_at)"
            " VALUES (?, ?, ?, 'thing', 'x', 0, ?)",
            rows,
        )
        connection.execute("COMMIT")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with consoling(tmp_path_factory.mktemp("many")) as served:
        insert(served, 130)
        insert(served, 60, prefix="gone", revoked=True)
        yield served


@pytest.mark.parametrize("revoked", [False, True])
def test_pages_hold_each_device_once(many: Consoling, revoked: bool) -> None:
    """Fifty a page, by name, to the last one."""
    target: str | None = "/devices?revoked=1" if revoked else "/devices"
    seen: list[str] = []
    while target:
        answer = many.get(target)
        found = names(answer)
        assert 0 < len(found) <= 50
        seen += found
        target = next_page(answer)
    kept = [one.device.name for one in devices.list_devices(many.site) if bool(one.device.revoked_at) is revoked]
    assert seen == sorted(kept)
    assert len(seen) == (60 if revoked else 135)


def test_search_finds_by_name_owner_and_role(at: Consoling) -> None:
    at.key("Café 100%_radio", "thing", owner="Zoë")
    assert names(at.get("/devices?q=100%25_")) == ["Café 100%_radio"]
    assert names(at.get("/devices?q=CAF%C3%89")) == ["Café 100%_radio"]
    assert names(at.get("/devices?q=zo%C3%AB")) == ["Café 100%_radio"]
    assert names(at.get("/devices?q=viewer")) == ["the viewer"]
    nothing = at.get("/devices?q=%3Cscript%3E")
    assert names(nothing) == []
    assert "No device has <script> in its name" in text_of(nothing)
    assert b"<script>" not in nothing.body.replace(b"<script defer", b"")
    assert names(at.get("/devices?q=")) == names(at.get("/devices"))


def test_where_it_was_seen_is_the_newest_word(at: Consoling) -> None:
    """First by the store, then by what Node-RED said since; open connections are counted."""
    one = at.key("Wanderer")
    at.say(device=one.id, from_="192.168.7.7")
    at.watch.look()
    at.watch.note()
    assert "from 192.168.7.7" in text_of(at.get("/devices?q=wanderer"))
    at.say(device=one.id, from_="192.168.7.8")
    at.watch.look()
    at.connected(one.id, one.id)
    at.watch.look()
    shown = text_of(at.get("/devices?q=wanderer"))
    assert "from 192.168.7.8" in shown
    assert "2 connections" in shown
    page = text_of(at.get(f"/devices/{one.id}"))
    assert "a websocket from 192.168.1.30" in page
    assert "GET /" in page


def test_revoking_twice(at: Consoling) -> None:
    """Two owners at once: the second reads that it is revoked already; one event is recorded."""
    one, other = at.key("Contested"), at.key("another owner", "owner")
    assert "Contested is revoked, with 1 certificate" in at.change(f"/devices/{one.id}/revoke", {"reason": "lost"})
    answer = at.post(f"/devices/{one.id}/revoke", who=other)
    assert answer.status == 409
    assert "the device 'Contested' is revoked already" in text_of(answer)
    page = text_of(at.get(f"/devices/{one.id}"))
    assert "revoked on" in page
    assert ": lost" in page
    with at.site.store.read() as view:
        events = [e.event for e in view.audit_events() if e.event.kind == "device.revoked"]
    assert [(e.actor, e.data["name"]) for e in events if e.data["name"] == "Contested"] == [
        ("console: the owner", "Contested")
    ]


def test_a_name_that_is_anothers_by_now(at: Consoling) -> None:
    """A page that stayed open speaks of the device it showed, not of the one that has its name today."""
    old = at.key("Reused")
    devices.revoke(at.site, "Reused")
    new = at.key("Reused")
    assert at.post(f"/devices/{old.id}/revoke").status == 409
    assert devices.show(at.site, "Reused").device.id == new.id


def test_what_was_begun_is_about_the_same_device(at: Consoling) -> None:
    """Between the click and the change the device got another name, and its old one is another's."""
    one = at.key("Swapped")
    with at.site.store.read() as view:
        owner = view.device_by_id(at.keys["owner"].id)
        certificate = view.certificate(at.keys["owner"].issued.fingerprint)
    assert owner is not None
    assert certificate is not None
    visitor = Visitor(owner, certificate, "owner")
    ask = Ask(at.context, Memory(), visitor, "", {"device": one.id}, Fields(), Fields(), None)
    begun = console_devices.revoke(ask)
    devices.rename(at.site, "Swapped", "Swapped away")
    other = at.key("Swapped")
    begun.operation(at.site)
    assert devices.show(at.site, uuid.UUID(one.id)).device.revoked_at is not None
    assert devices.show(at.site, uuid.UUID(other.id)).device.revoked_at is None


def test_ones_own_key_only_on_purpose(at: Consoling) -> None:
    own = at.key("my own", "owner")
    answer = at.post(f"/devices/{own.id}/revoke", who=own)
    assert answer.status == 409
    assert "the device that you are using now would manage nothing here any more" in text_of(answer)
    assert at.get("/", own).status == 200
    answer = at.post(f"/devices/{own.id}/role", {"role": "admin"}, own)
    assert answer.status == 409
    assert 'name="insist" value="1" required' in answer.body.decode()
    assert "has the role owner" in at.change(f"/devices/{own.id}/role", {"role": "owner"}, own)
    answer = at.post(f"/devices/{own.id}/revoke", {"insist": "1"}, own)
    assert answer.status == 303
    assert at.get("/", own).status == 403


def test_rename_and_role(at: Consoling) -> None:
    one = at.key("Old name")
    assert "Old name is now called New name" in at.change(f"/devices/{one.id}/rename", {"name": "  New   name "})
    assert "New name has the role viewer: reads the editor" in at.change(
        f"/devices/{one.id}/role", {"role": "viewer"}
    )
    assert at.post(f"/devices/{one.id}/role", {"role": "king"}).status == 400
    for bad in ("", "a\nb", "\u202eevil", "x" * 65):
        answer = at.post(f"/devices/{one.id}/rename", {"name": bad})
        assert answer.status == 400, bad
    shown = devices.show(at.site, "New name").device
    assert (shown.id, shown.role) == (one.id, "viewer")


@pytest.mark.parametrize("wrong", ["x", "00000000-0000-4000-8000-000000000000", "%3Cscript%3E", "1%2F2"])
def test_a_device_that_is_not(at: Consoling, wrong: str) -> None:
    answer = at.get(f"/devices/{wrong}")
    assert answer.status == 404
    assert b"<script>" not in answer.body.replace(b"<script defer", b"")


def data_urls(answer: Response) -> dict[str, bytes]:
    import base64

    found = re.findall(r'download="([^"]*)" href="data:[^;]*;base64,([^"]*)"', answer.body.decode())
    return {name: base64.b64decode(text) for name, text in found}


@pytest.mark.parametrize("kind", ["p12", "p12-modern"])
def test_a_key_by_file(at: Consoling, kind: str) -> None:
    """File and password in one answer that nothing keeps; sent again, it makes no second device."""
    form = {"name": f'by "{kind}" <b>', "format": kind, "mark": f"once-{kind}"}
    answer = at.post("/devices/new", form)
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    ((name, content),) = data_urls(answer).items()
    assert re.fullmatch(r"[a-z0-9-]+\.p12", name)
    password = re.search(r'id="password">([^<]*)<', answer.body.decode())
    assert password is not None
    opened = load_pkcs12(content, password[1].encode())
    assert opened.cert is not None
    shown = devices.show(at.site, f'by "{kind}" <b>')
    assert fingerprint(opened.cert.certificate) == shown.certificates[0].fingerprint
    again = at.post("/devices/new", form)
    assert (again.status, heading(again)) == (410, "Shown once")
    assert len(devices.show(at.site, f'by "{kind}" <b>').certificates) == 1


def test_a_renewal_by_file(at: Consoling) -> None:
    """As PEM; the earlier certificate stays good."""
    one = at.key("To be renewed")
    answer = at.post(f"/devices/{one.id}/renew", {"format": "pem", "mark": "renewal"})
    files = data_urls(answer)
    assert set(files) >= {"key.pem", "cert.pem"}
    found = fingerprint(load_certificates(files["cert.pem"])[0])
    shown = devices.show(at.site, "To be renewed").certificates
    assert {one.fingerprint for one in shown} == {found, one.issued.fingerprint}
    assert all(each.revoked_at is None for each in shown)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "x", "format": "zip"}, "there is no format 'zip'"),
        ({"name": "x", "days": "400"}, "a device certificate cannot live for 400 days"),
        ({"name": "x", "days": "-1"}, "is no number that fits here"),
        ({"name": "x", "key": "dsa"}, "there is no kind of key 'dsa'"),
        ({"name": "x", "role": "king"}, "there is no role 'king'"),
        ({"name": "the owner"}, "a device named 'the owner' exists already"),
        ({"name": ""}, "name"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(at: Consoling, form: dict[str, str], says: str) -> None:
    """And nothing of it happened."""
    before = len(devices.list_devices(at.site))
    answer = at.post("/devices/new", form | {"mark": repr(form)})
    assert answer.status in (400, 409)
    assert says in text_of(answer)
    assert len(devices.list_devices(at.site)) == before
    # Put right, the same form does it.
    right = {"name": f"put right {form}"[:60], "mark": repr(form)}
    assert at.post("/devices/new", right).status == 200


def test_the_list_reads_no_more_than_it_shows(tmp_path: Path) -> None:
    """Every statement of the list goes along an index, and counts nothing: by SQLite's own word."""
    with consoling(tmp_path) as served:
        insert(served, 300)
        connection = served.site.store._connection
        seen: list[str] = []
        connection.set_trace_callback(seen.append)
        served.get("/devices")
        served.get("/devices?after=d00100")
        served.get("/devices?revoked=1")
        connection.set_trace_callback(None)
        statements = [one for one in seen if one.startswith("SELECT")]
        assert len(statements) > 6
        for one in statements:
            assert "COUNT(" not in one, one
            for _, _, _, plan in connection.execute(f"EXPLAIN QUERY PLAN {one}"):
                assert not re.fullmatch(r"SCAN (d|devices|c|certificates|s|sightings)", plan), (one, plan)
                assert "TEMP B-TREE" not in plan, (one, plan)
