"""Who may do what in the console: every address with every role, and every way in, each with one refused case."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from tests.support.clients import Refused, request
from tests.support.consoling import PAGE, ROLES, Consoling, consoling, heading, text_of

from redlatch.operations import devices, links, roles
from redlatch.service.console.access import Need, need
from redlatch.service.console.app import WAYS
from redlatch.service.console.asking import Way
from redlatch.service.visitor import Visitor

LOOKS = ("owner", "admin")
NOT_OWNERS = tuple(role for role in ROLES if role != "owner")


async def renew(scope: Any, receive: Any, send: Any) -> None:
    """Stands for enrolment's application: says whom it sees."""
    visitor: Visitor = scope["redlatch.visitor"]
    await PlainTextResponse(f"{scope['method']} {scope['path']} {visitor.device.name}")(scope, receive, send)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with consoling(tmp_path_factory.mktemp("console"), renew=renew) as served:
        roles.add(served.site, "kiosk", like="user")
        roles.add(served.site, "chief", like="owner")
        links.invite(served.site, [links.Wanted("invited")], trust_lan=True)
        yield served


def address(at: Consoling, way: Way, **other: str) -> str:
    values = {
        "{device}": at.keys["thing"].id, "{rule}": "1", "{network}": "private", "{role}": "kiosk", "{link}": "1",
        "{change}": "AAAAAAAAAAAAAAAA",
    } | {f"{{{name}}}": value for name, value in other.items()}  # fmt: skip
    found = way.path
    for name, value in values.items():
        found = found.replace(name, value)
    assert "{" not in found, f"say in this test what {way.path} stands for"
    return found


def state(at: Consoling) -> tuple[int, int, str]:
    """What any change of the store changes. (What forms weigh is written and taken back again.)"""
    with at.site.store.read() as view:
        everything = "\n".join(at.site.store._connection.iterdump())
        digest = hashlib.sha256(everything.encode()).hexdigest()
        return view.site().revision, view.audit_head().seq, digest


GETS = [way for way in WAYS if way.get is not None]
POSTS = [way for way in WAYS if way.post is not None]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("way", GETS, ids=lambda way: way.path)
def test_who_may_see(at: Consoling, way: Way, role: str) -> None:
    """Owners see every page, admins every page that is of use without changing, nobody else any. GET never changes
    anything.
    """
    before = state(at)
    answer = at.get(address(at, way), role)
    sees = role == "owner" or (role == "admin" and not way.form)
    if sees:
        assert answer.status == (404 if "{change}" in way.path else 200)
    else:
        assert answer.status == 403
    if role not in LOOKS:
        assert heading(answer) == "Your key may renew itself here, nothing else"
        assert 'href="/renew"' in answer.body.decode()
        assert "attic" not in text_of(answer)
    assert state(at) == before


@pytest.mark.parametrize("role", NOT_OWNERS)
@pytest.mark.parametrize("way", POSTS, ids=lambda way: way.path)
def test_who_may_not_change(at: Consoling, way: Way, role: str) -> None:
    """Every POST of everybody but an owner is refused, and nothing happens."""
    before = state(at)
    answer = at.post(address(at, way), {"name": "taken", "role": "owner", "trust": "1", "mark": "m"}, role)
    assert answer.status == 403
    assert state(at) == before
    if role == "admin":
        assert "your role may look at everything here and change nothing" in text_of(answer)


@pytest.mark.parametrize("way", POSTS, ids=lambda way: way.path)
def test_an_owner_may_change(at: Consoling, way: Way) -> None:
    """The same POSTs are an owner's to make: what is wrong with them is what they say."""
    one = at.key(f"for {way.path}")
    answer = at.post(address(at, way, device=one.id, role="nobodys", rule="99"), {"nothing": ""})
    assert answer.status in (200, 303, 400, 404, 409, 410)


def test_what_is_not_known_takes_the_most(at: Consoling) -> None:
    """A path or method that no way declares is nobody's by mistake."""
    assert need("GET", "/nowhere", None) is Need.SEE
    assert need("POST", "/nowhere", None) is Need.CHANGE
    assert need("DELETE", "/", None) is Need.CHANGE
    assert need("POST", "/", Way("/")) is Need.CHANGE
    assert need("GET", "/staticky", None) is Need.SEE
    assert need("GET", "/renewal", None) is Need.SEE
    assert at.get("/nowhere", "user").status == 403
    assert at.get("/nowhere", "admin").status == 404
    assert at.post("/nowhere", who="admin").status == 403
    assert at.get("/static/../devices", "user").status == 403
    assert at.get("//devices", "user").status == 403


def test_a_role_of_ones_own_counts_as_what_it_is_like(at: Consoling) -> None:
    chief, kiosk = at.key("a chief", "chief"), at.key("a kiosk", "kiosk")
    assert at.get("/devices/new", chief).status == 200
    assert at.get("/devices", kiosk).status == 403


def test_admins_see_no_buttons(at: Consoling) -> None:
    """What an admin cannot do is not offered."""
    for way in GETS:
        if way.form or "{change}" in way.path:
            continue
        page = at.get(address(at, way), "admin").body.decode()
        assert 'method="post"' not in page, way.path
        for other in WAYS:
            if other.form and "{" not in other.path:
                assert f'href="{other.path}' not in page, (way.path, other.path)


# --- who comes


def test_without_a_certificate_there_is_no_handshake(at: Consoling) -> None:
    with pytest.raises(Refused):
        at.get("/", None)
    assert at.get("/").status == 200


def test_a_revoked_key_is_out_in_the_middle_of_a_connection(at: Consoling) -> None:
    """The next request on the same connection gets words, and the connection ends."""
    one = at.key("an owner to be revoked", "owner")
    headers = {"Host": f"localhost:{at.port}"}
    with at.connection(one) as connection:
        assert connection.request("GET", "/devices", headers=headers).status == 200
        devices.revoke(at.site, one.issued.device.name)
        answer = connection.request("GET", "/devices", headers=headers)
        assert answer.status == 403
        assert heading(answer) == "This certificate opens nothing here"
        assert "the owner" not in text_of(answer)
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    assert at.get("/static/console.css", one).status == 403
    assert at.get("/renew", one).status == 403


def test_an_expired_key_is_out_in_the_middle_of_a_connection(at: Consoling) -> None:
    """OpenSSL looked at the dates when the connection was made; the console looks with every request."""
    site = at.context.site
    headers = {"Host": f"localhost:{at.port}"}
    with at.connection() as connection:
        assert connection.request("GET", "/", headers=headers).status == 200
        at.context.site = replace(site, clock=lambda: site.clock() + timedelta(days=366))
        try:
            assert connection.request("GET", "/", headers=headers).status == 403
        finally:
            at.context.site = site


def test_a_renewed_device_comes_with_either_key(at: Consoling) -> None:
    first = at.key("renewed owner", "owner")
    second = at.file(devices.renew(at.site, "renewed owner"))
    assert at.get("/", first).status == 200
    assert at.get("/", second).status == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X-Client-Cert", "X-SSL-Client-Verify", "X-Remote-User"])
def test_headers_say_nothing_of_who_comes(at: Consoling, name: str) -> None:
    assert at.get("/devices", "user", **{name: "127.0.0.1"}).status == 403


def test_the_store_that_cannot_be_read_opens_nothing(at: Consoling) -> None:
    """A fault on the way to who it is is no way in."""
    site = at.context.site

    class Broken:
        def read(self) -> Any:
            raise OSError("disk")

    at.context.site = replace(site, store=Broken())  # type: ignore[arg-type]
    try:
        answer = at.get("/")
    finally:
        at.context.site = site
    assert (answer.status, heading(answer)) == (500, "The console cannot answer now")
    assert "disk" not in text_of(answer)


# --- how they come


def test_a_foreign_name_is_not_served(at: Consoling) -> None:
    assert at.get("/", Host=f"evil.example:{at.port}").status == 421
    assert at.get("/", Host=f"attic.local:{at.port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://localhost:1880"},
        {"Origin": "null"},
        {"Origin": "https://evil.example"},
        {"Origin": "", "Sec-Fetch-Site": "same-site"},
        {"Origin": "", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "", "Sec-Fetch-Site": "none"},
    ],
)
def test_only_its_own_pages_may_post(at: Consoling, headers: dict[str, str]) -> None:
    """Another port of the same host is another site. The certificate is sent by the browser all the same."""
    one = at.key(f"safe from {headers}"[:60])
    before = state(at)
    sent = {"Content-Type": "application/x-www-form-urlencoded", **PAGE, **headers}
    sent = {name: value for name, value in sent.items() if value}
    answer = request(
        at.port, "POST", f"/devices/{one.id}/revoke", at.keys["owner"], headers=sent, body=b"reason=x"
    )
    assert answer.status == 403
    assert state(at) == before
    assert "is revoked" in at.change(f"/devices/{one.id}/revoke")


def test_a_page_of_a_flow_reads_nothing(at: Consoling) -> None:
    """What another port's page fetches with the browser's certificate is refused; following a link is not."""
    assert at.get("/devices", **{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"}).status == 403
    followed = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    answer = at.get("/links/new", **followed)
    assert answer.status == 200
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


def test_nothing_is_upgraded(at: Consoling) -> None:
    answer = at.get("/log", Connection="Upgrade", Upgrade="websocket")
    assert answer.status == 400


def test_fifty_megabytes_are_not_taken(at: Consoling) -> None:
    """Said beforehand or not; and the console goes on."""
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(50 << 20)}
    answer = request(at.port, "POST", "/devices/new", at.keys["owner"], headers=headers, body=b"")
    assert answer.status == 413
    with at.connection() as connection:
        connection.send(
            f"POST /devices/new HTTP/1.1\r\nHost: localhost:{at.port}\r\nTransfer-Encoding: chunked\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n\r\n".encode()
        )
        sent = 0
        try:
            while sent < 50 << 20:
                connection.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
                sent += 65536
        except (TimeoutError, OSError, Refused):
            pass
        assert sent < 5 << 20
    assert at.get("/").status == 200


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "text/plain", "application/json", ""])
def test_only_forms_are_taken(at: Consoling, kind: str) -> None:
    sent = {"Content-Type": kind} if kind else {}
    answer = request(at.port, "POST", "/roles/add", at.keys["owner"], headers=sent, body=b"name=x&like=user")
    assert answer.status == 415


@pytest.mark.parametrize("body", [b"name=%ff%fe", b"&".join(b"a=1" for _ in range(600)), "naïve=1".encode()])
def test_a_garbled_form_is_said_to_be(at: Consoling, body: bytes) -> None:
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = request(at.port, "POST", "/roles/add", at.keys["owner"], headers=sent, body=body)
    assert answer.status == 400
    assert "the form cannot be read" in text_of(answer)


# --- what every device may


@pytest.mark.parametrize("role", ROLES)
def test_every_device_may_renew_its_own_key(at: Consoling, role: str) -> None:
    """/renew and what is below it goes to enrolment's application, with who it is."""
    assert at.get("/renew", role).body.decode() == f"GET /renew the {role}"
    assert at.post("/renew/arrived", who=role).body.decode() == f"POST /renew/arrived the {role}"
    assert at.get("/renewed", role).status == (404 if role in LOOKS else 403)


def test_static_files_are_every_devices_and_kept(at: Consoling) -> None:
    page = at.get("/").body.decode()
    address = page.partition('href="/static/console.css')[2].partition('"')[0]
    answer = at.get(f"/static/console.css{address}", "thing")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert "immutable" in answer.headers["cache-control"]
    assert at.get("/static/console.css").headers["cache-control"] == "no-store"
    for name in ("", "../app.py", "%2e%2e/app.py", "nothing.css"):
        assert at.get(f"/static/{name}").status == 404, name


def test_no_console_without_enrolment(tmp_path: Path) -> None:
    """Without an application for it, /renew is no page; it is no way past the roles either."""
    with consoling(tmp_path) as alone:
        assert alone.get("/renew").status == 404
        assert alone.get("/renew", "user").status == 403
