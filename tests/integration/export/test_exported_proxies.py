"""Exports as the real programs enforce them: one accepted and one refused case for every way in."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.integration.export.proxies import Behind, Caddy, Nginx, Proxy, export_of, fields_of, running, unlisted
from tests.support.clients import Connection, Refused, Response, WebSocket, context, request
from tests.support.requests import network
from tests.support.site import Device, Site
from tests.support.wait import until

from redlatch.engines.export.model import Export
from redlatch.pki.authority import Authority
from redlatch.policy.model import DEFAULT_RULES, Areas, Rule

RULES = (
    *DEFAULT_RULES,
    Rule(10, roles=("thing",), path="/hello", methods=("GET", "POST")),
    Rule(11, roles=("thing",), path="/near", networks=("near",)),
    Rule(12, roles=("thing",), area="websockets"),
)

ODD_NAME = (
    'x\n acl "`{$HOME}\\ }\r\nserver { # \x85\u2028'  # nobody can call a device so; who could, injects nothing
)


class House(SimpleNamespace):
    """A proxy with its export, what is behind it, and devices: admin, viewer, user, thing, gone, over."""

    proxy: Proxy
    export: Export
    behind: Behind
    site: Site
    admin: Device
    viewer: Device
    user: Device
    thing: Device

    def ask(self, method: str, target: str, device: Device | None, **more: object) -> int:
        """The status, 0 where the connection ended without an answer; what came back came from behind, or not."""
        before = len(self.behind.seen)
        try:
            status = self.answer(method, target, device, **more).status
        except Refused:
            status = 0
        assert (status == 200) == (len(self.behind.seen) == before + 1), (status, self.behind.seen[before:])
        return status

    def answer(self, method: str, target: str, device: Device | None, **more: object) -> Response:
        return request(self.proxy.port, method, target, device, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=[Nginx, Caddy], ids=["nginx", "caddy"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("proxy")
    site = Site(
        folder / "site",
        areas=Areas(dashboards=("/dashboard",), http_in=("/hello", "/light/:who/on"), websockets=("/ws/echo",)),
        rules=RULES,
        networks={"near": network("127.0.0.2")},
        origins=("https://panel.example",),
    )
    people = {name: site.device(name, name) for name in ("admin", "viewer", "user", "thing", "gone")}
    odd = site.device("odd", "viewer")
    over = site.device("over", "admin", begin=timedelta(days=-2), end=timedelta(days=-1))
    ended = site.device("ended", listed=False)
    site.list(ended, role="admin", not_after=site.snapshot.time + 1)
    behind = Behind()
    with running(request.param, folder) as proxy:
        known = [*people.values(), odd, over, ended]
        export = unlisted(export_of(site, known, proxy.port, behind), people["gone"])
        export = replace(export, labels={**export.labels, odd.id: ODD_NAME})
        proxy.load(export)
        yield House(
            proxy=proxy,
            export=export,
            behind=behind,
            site=site,
            odd=odd,
            over=over,
            ended=ended,
            known=known,
            **people,
        )
    behind.shutdown()


def test_who_comes_in(house: House) -> None:
    """A listed device, also one with a name that tries to break out; nobody with no certificate, a foreign one,
    one that is over (as TLS sees it, or as the list says), or one that is not in the list any more.
    """
    assert house.ask("GET", "/flows", house.admin) == 200
    assert house.ask("GET", "/flows", house.odd) == 200
    foreign = Authority.create_device("test", now=datetime.now(UTC))  # the same name
    stranger = house.site.device("stranger", authority=foreign, listed=False)
    server = house.site.device("server", listed=False, purpose=ExtendedKeyUsageOID.SERVER_AUTH)
    unknown = house.site.device("unknown", listed=False)
    ended = house.site.snapshot.time + 1
    until(lambda: time.time() >= ended + 1, what="the end of a certificate, in the list")
    for device in (None, stranger, server, unknown, house.gone, house.over, house.ended):
        assert house.ask("GET", "/flows", device) == 0, device
        assert house.ask("GET", "/nowhere", device) == 0, device


def test_a_certificate_ends_while_its_connection_is_open(house: House) -> None:
    """The dates in the list count for each request, not for the handshake alone; not yet valid is refused too."""
    late = house.site.device("late", listed=False)
    entries = {
        **house.export.snapshot.devices,
        late.fingerprint: replace(late.entry, not_after=int(time.time()) + 3),
    }
    early = house.site.device("early", listed=False)
    entries[early.fingerprint] = replace(early.entry, not_before=int(time.time()) + 600)
    export = export_of(house.site, [*house.known, late, early], house.proxy.port, house.behind)
    house.proxy.load(replace(export, snapshot=replace(export.snapshot, devices=entries)))
    try:
        assert house.ask("GET", "/flows", early) == 0
        with Connection(house.proxy.port, late) as connection:
            assert connection.request("GET", "/flows").status == 200
            end = entries[late.fingerprint].not_after + 1
            until(lambda: time.time() > end, what="the end of the certificate")
            with pytest.raises(Refused):
                connection.request("GET", "/flows")
    finally:
        house.proxy.load(house.export)


@pytest.mark.parametrize(
    ("who", "method", "target", "status"),
    [
        ("admin", "POST", "/flows", 200),
        ("admin", "GET", "/nowhere", 200),
        ("viewer", "GET", "/flows", 200),
        ("viewer", "HEAD", "/", 200),
        ("viewer", "POST", "/flows", 403),
        ("viewer", "GET", "/FLOWS", 403),  # what Node-RED answers to all the same is the editor's, unread
        ("viewer", "GET", "/hello", 403),
        ("user", "GET", "/dashboard", 200),
        ("user", "GET", "/dashboard/page?x=/../y", 200),
        ("user", "GET", "/dashboards", 403),
        ("user", "GET", "/dashboard/api/v1/x", 403),
        ("user", "GET", "/flows", 403),
        ("thing", "GET", "/hello", 200),
        ("thing", "GET", "/hello/", 200),
        ("thing", "HEAD", "/hello/deep", 200),
        ("thing", "POST", "/hello", 200),
        ("thing", "PUT", "/hello", 403),
        ("thing", "GET", "/helloworld", 403),
        ("thing", "GET", "/Hello", 403),
        ("thing", "GET", "//hello", 403),
        ("thing", "GET", "/hello//deep", 403),
        ("thing", "GET", "/hello%2fdeep", 403),
        ("thing", "GET", "/%68ello", 403),
        ("thing", "GET", "/hello/../flows", 403),
        ("thing", "GET", "/flows/../hello", 403),
        ("thing", "GET", "/hello/%2e%2e/flows", 403),
        ("thing", "GET", "/hello/.", 403),
        ("thing", "GET", "/hello;x=1", 403),
        ("thing", "GET", "/hello\\deep", 403),
        ("thing", "GET", "/hello%5cdeep", 403),
        ("thing", "GET", "/hello%00", 403),
        ("thing", "GET", "/hello/{env.HOME}", 403),
        ("thing", "GET", "/hello?{env.HOME}=$host&/../flows", 200),
        ("admin", "GET", "/{env.HOME}/$host", 200),
    ],
)
def test_what_a_role_reaches(house: House, who: str, method: str, target: str, status: int) -> None:
    """Rules by role, area, path and method; a prefix ends with its segment, a trick is the editor's."""
    got = house.ask(method, target, getattr(house, who), body=b"{}" if method in ("POST", "PUT") else None)
    assert got == status or (status == 403 and got in (400, 403))


def test_from_where(house: House) -> None:
    """A rule for a network holds for the address of the connection, whatever headers say."""
    assert house.ask("GET", "/near", house.thing, source="127.0.0.2") == 200
    for name in ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded"):
        value = "for=127.0.0.2" if name == "Forwarded" else "127.0.0.2"
        assert house.ask("GET", "/near", house.thing, headers={name: value}) == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "pi.local", "PI.local"])
def test_own_names(house: House, host: str) -> None:
    """Names of the site are answered."""
    with Connection(house.proxy.port, house.admin, server_name=host.partition(":")[0].lower()) as connection:
        assert connection.request("GET", "/flows", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "evillocalhost", "localhost@evil.example", "", "pi.localx", None],
)
def test_foreign_names(house: House, host: str | None) -> None:
    """No other name is, whatever TLS was told: DNS rebinding."""
    for server_name in ("localhost", "evil.example", None):
        before = len(house.behind.seen)
        with Connection(house.proxy.port, house.admin, server_name=server_name) as connection:
            assert connection.request("GET", "/flows", headers={"Host": host}).status in (400, 403, 421)
        assert len(house.behind.seen) == before


CROSS: list[tuple[Mapping[str, str], str, bool]] = [
    ({}, "POST", True),
    ({"Origin": "https://localhost:{port}"}, "POST", True),
    ({"Origin": "https://panel.example"}, "POST", True),
    ({"Origin": "https://evil.example"}, "POST", False),
    ({"Origin": "null"}, "POST", False),
    ({"Origin": "http://localhost:{port}"}, "POST", False),
    ({"Origin": "https://localhost:{port}.evil.example"}, "POST", False),
    ({"Origin": "https://localhost"}, "POST", False),
    ({"Origin": "https://localhost:{port}|x"}, "POST", False),
    ({"Origin": "|x"}, "POST", False),
    ({"Origin": "https://panel.example|x"}, "POST", False),
    ({"Sec-Fetch-Site": "same-origin"}, "POST", True),
    ({"Sec-Fetch-Site": "same-site"}, "POST", False),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, "GET", False),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, "GET", True),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, "POST", False),
    ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, "GET", False),
]


@pytest.mark.parametrize(("headers", "method", "allowed"), CROSS)
def test_other_pages(house: House, headers: Mapping[str, str], method: str, *, allowed: bool) -> None:
    """Another site's page writes nothing, loads nothing, and may be left by a link."""
    filled = {name: value.replace("{port}", str(house.proxy.port)) for name, value in headers.items()}
    body = b"{}" if method == "POST" else None
    assert house.ask(method, "/flows", house.admin, headers=filled, body=body) == (200 if allowed else 403)


def test_websockets(house: House) -> None:
    """They pass for who may have them, and for no other page, path or protocol."""
    for device, target in ((house.admin, "/comms"), (house.viewer, "/comms"), (house.thing, "/ws/echo")):
        with WebSocket(house.proxy.port, target, device) as socket:
            assert socket.is_open
            socket.send_text("hello")
            assert socket.receive() == "hello"
    own = {"Origin": f"https://localhost:{house.proxy.port}"}
    with WebSocket(house.proxy.port, "/comms", house.admin, headers=own) as socket:
        assert socket.is_open
    before = len(house.behind.seen)
    refused: list[tuple[Device, str, dict[str, str]]] = [
        (house.thing, "/comms", {}),
        (house.viewer, "/ws/echo", {}),
        (house.admin, "/comms", {"Origin": "https://evil.example"}),
        (house.admin, "/comms", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket"}),
        (house.admin, "/comms", {"Upgrade": "h2c"}),
        (house.admin, "/comms", {"Upgrade": "websocket, h2c"}),
        (house.admin, "/comms", {"Connection": "keep-alive"}),
    ]
    for device, target, headers in refused:
        with WebSocket(house.proxy.port, target, device, headers=headers) as socket:
            assert socket.upgrade.status == 403, (target, headers)
    assert len(house.behind.seen) == before
    with pytest.raises(Refused):
        WebSocket(house.proxy.port, "/comms", house.gone)


@pytest.mark.parametrize(
    "spoofed",
    [
        {"X-Redlatch-User": "owner"},
        {"x-redlatch-role": "owner"},
        {"X_Redlatch_User": "owner", "X-Redlatch_Role": "owner"},
        {"X-Redlatch-Permission": "*", "X-Redlatch-Secret": "0"},
        {"Connection": "close, X-Redlatch-User, X-Redlatch-Role, X-Redlatch-Device"},
    ],
)
def test_identity_headers(house: House, spoofed: Mapping[str, str]) -> None:
    """What Node-RED is told is what the certificate says, whatever the client says of itself."""
    got = house.answer("GET", "/hello", house.thing, headers=spoofed).json()
    told = {name: value for name, value in got.items() if "redlatch" in name and value}
    assert told == {
        "x-redlatch-device": house.thing.id,
        "x-redlatch-user": "thing",
        "x-redlatch-role": "thing",
    }


def test_after_a_revocation(house: House) -> None:
    """What was written after it and loaded holds for new connections, for open ones that ask again, and for TLS
    sessions of before.
    """
    session_context = context(house.viewer, tls="1.2")
    with Connection(house.proxy.port, with_context=session_context) as first:
        assert first.request("GET", "/flows").status == 200
        session = first.socket.session
    with Connection(house.proxy.port, with_context=session_context, session=session) as again:
        assert again.request("GET", "/flows").status == 200
        assert again.socket.session_reused is (house.proxy.name == "caddy")  # nginx is told not to
        kept = again.socket.session
    with Connection(house.proxy.port, house.viewer) as open_one:
        assert open_one.request("GET", "/flows").status == 200
        house.proxy.reload(unlisted(house.export, house.viewer))
        try:
            assert house.ask("GET", "/flows", house.viewer) == 0
            assert house.ask("GET", "/flows", house.admin) == 200
            with (
                pytest.raises((Refused, ssl.SSLError)),
                Connection(house.proxy.port, with_context=session_context, session=kept) as resumed,
            ):
                resumed.request("GET", "/flows")
        finally:
            house.proxy.reload(house.export)


def test_tls_1_3_sessions(house: House) -> None:
    """nginx resumes none; with Caddy's, the list is asked again."""
    made = context(house.viewer, tls="1.3")
    with Connection(house.proxy.port, with_context=made) as first:
        assert first.request("GET", "/flows").status == 200
        session = first.socket.session
    if house.proxy.name == "nginx":  # OpenSSL hands one out; nobody takes it back
        with Connection(house.proxy.port, with_context=made, session=session) as again:
            assert again.request("GET", "/flows").status == 200
            assert not again.socket.session_reused
        return
    house.proxy.reload(unlisted(house.export, house.viewer))
    try:
        with pytest.raises(Refused), Connection(house.proxy.port, with_context=made, session=session) as resumed:
            resumed.request("GET", "/flows")
    finally:
        house.proxy.reload(house.export)


def test_plain_http(house: House) -> None:
    """On a port of https it gets nothing."""
    before = len(house.behind.seen)
    with socket.create_connection(("127.0.0.1", house.proxy.port), 10) as plain:
        plain.sendall(b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"X-Reached" not in plain.recv(65536)
    assert len(house.behind.seen) == before


def test_who_needs_no_certificate(house: House) -> None:
    """A rule for anyone: that path without a certificate, nothing else; a bad certificate is still refused."""
    snapshot = house.export.snapshot
    rules = (*RULES, Rule(20, anyone=True, path="/webhook"))
    house.proxy.load(replace(house.export, snapshot=replace(snapshot, rules=rules)))
    try:
        assert house.ask("POST", "/webhook/github", None, body=b"{}") == 200
        told = fields_of(house.behind.seen[-1])
        assert (told.get("x-redlatch-user"), told.get("x-redlatch-device")) == ("anyone", None)
        assert house.ask("GET", "/webhooks", None) == 0
        assert house.ask("GET", "/flows", None) == 0
        assert house.ask("GET", "/webhook", None, headers={"Host": "evil.example"}) in (0, 403, 421)
        foreign = Authority.create_device("test", now=datetime.now(UTC))
        assert house.ask("GET", "/webhook", house.site.device("f", authority=foreign, listed=False)) == 0
        house.proxy.load(replace(house.export, snapshot=replace(snapshot, rules=rules, open_port=1890)))
        assert house.ask("GET", "/webhook", None) == 0
        assert house.ask("GET", "/webhook", house.thing) == 200
    finally:
        house.proxy.load(house.export)


def test_nothing_named_breaks_out(house: House) -> None:
    """Paths, roles, people, networks and devices with odd names: the real program loads them as what they are."""
    word = "x\n acl \"`{$HOME}\\ }\r\n; # '${x} $host {http.request.uri} é"
    snapshot = house.export.snapshot
    devices = {key: replace(entry, user=word) for key, entry in snapshot.devices.items()}
    odd = replace(
        snapshot,
        site=word,
        areas=Areas(
            dashboards=("/d" + word,), http_in=("/h" + word,), static=("/s" + word,), websockets=("/w" + word,)
        ),
        rules=(*RULES, Rule(30, roles=(word, "user"), networks=(word,), path="/" + word)),
        networks={**snapshot.networks, word: network("127.0.0.0/8")},
        roles={word: "admin"},
        devices={**devices, house.viewer.fingerprint: replace(house.viewer.entry, role=word)},
    )
    house.proxy.load(replace(house.export, snapshot=odd, labels=dict.fromkeys(house.export.labels, word)))
    try:
        assert house.ask("POST", "/flows", house.viewer, body=b"{}") == 200  # a role that is like admin
        assert house.ask("GET", "/x", house.user) == 403
        assert house.ask("GET", "/flows", house.user) == 403
        assert house.ask("GET", "/flows", None) == 0
        told = house.answer("GET", "/hello", house.thing).json()
        assert told["x-redlatch-user"] == quote(word, safe="")
    finally:
        house.proxy.load(house.export)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_without_a_device_ca_nothing_is_served(tmp_path: Path, content: bytes | None) -> None:
    """nginx reads the CA from a file: one that is missing, empty or garbled has it refuse the configuration."""
    site, behind = Site(tmp_path / "site"), Behind()
    with running(Nginx, tmp_path) as proxy:
        export = export_of(site, [], proxy.port, behind)
        proxy.write(export)
        assert proxy.check().returncode == 0
        (site.published / "device-ca.pem").unlink()
        if content is not None:
            (site.published / "device-ca.pem").write_bytes(content)
        assert proxy.check().returncode != 0
    behind.shutdown()


def test_caddy_by_http2(house: House) -> None:
    """Caddy speaks it: decisions are the same. nginx is told not to."""
    port, ca = house.proxy.port, house.site.server_ca_file

    def ask(target: str, device: Device, *more: str) -> str:
        name = f"localhost:{port}:127.0.0.1"
        done = subprocess.run(
            ["curl", "-s", "--http2", "--resolve", name, "--cacert", ca, "-E", device.cert_file, "-o", "/dev/null",
             "-w", "%{http_code} %{http_version}", *more, f"https://localhost:{port}{target}"],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout

    version = "2" if house.proxy.name == "caddy" else "1.1"
    assert ask("/flows", house.admin) == f"200 {version}"
    assert ask("/hello", house.thing) == f"200 {version}"
    assert ask("/flows", house.thing) == f"403 {version}"
    assert ask("/flows", house.admin, "-H", "Origin: https://evil.example") == f"403 {version}"
    assert ask("/flows", house.gone).startswith("000")
