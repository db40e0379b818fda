"""What a device may not do, because its browser could be made to: hosts, origins, targets, upgrades."""

from __future__ import annotations

import pytest
from tests.integration.guard.conftest import Lock
from tests.support.clients import Connection, WebSocket, request

REFUSED = [
    pytest.param("GET", "/hello", {"Host": "evil.example"}, "foreign-host", id="rebound-name"),
    pytest.param("GET", "/hello", {"Host": "localhost.evil.example"}, "foreign-host", id="longer-name"),
    pytest.param("GET", "/hello", {"Host": "localhost@evil.example"}, "foreign-host", id="user-info"),
    pytest.param("GET", "/hello", {"Host": ""}, "foreign-host", id="empty-host"),
    pytest.param("GET", "http://localhost/flows", {}, "bad-target", id="absolute-form"),
    pytest.param("OPTIONS", "*", {}, "bad-target", id="asterisk"),
    pytest.param("GET", "/" + "a" * 8192, {}, "bad-target", id="too-long"),
    pytest.param("POST", "/hello", {"Origin": "https://evil.example"}, "cross-origin", id="cross-origin-write"),
    pytest.param("POST", "/hello", {"Origin": "null"}, "cross-origin", id="null-origin"),
    pytest.param("POST", "/hello", {"Origin": "https://localhost:1"}, "cross-origin", id="other-port"),
    pytest.param("POST", "/hello", {"Sec-Fetch-Site": "same-site"}, "cross-origin", id="same-site-write"),
    pytest.param(
        "POST", "/hello",
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        "cross-origin", id="form-post",
    ),
    pytest.param(
        "GET", "/hello",
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        "cross-origin", id="embedded-image",
    ),
    pytest.param(
        "GET", "/hello",
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
        "cross-origin", id="embedded-frame",
    ),
    pytest.param("GET", "/hello", {"Origin": "https://evil.example"}, "cross-origin", id="cors-read"),
    pytest.param("GET", "/hello", {"Upgrade": "h2c", "HTTP2-Settings": "AA"}, "bad-upgrade", id="h2c-lone"),
    pytest.param(
        "POST", "/hello", {"Expect": "100-continue", "Origin": "https://evil.example"}, "cross-origin",
        id="expect-continue",
    ),
]  # fmt: skip
ADMITTED = [
    pytest.param("GET", {"Host": "LOCALHOST:1"}, id="upper-case-host"),
    pytest.param("GET", {"Host": "pi.local."}, id="trailing-dot"),
    pytest.param("GET", {"Host": "192.168.1.5:1880"}, id="address"),
    pytest.param("GET", {"Host": "[fe80::1]:1880"}, id="ipv6-address"),
    pytest.param("GET", {"Sec-Fetch-Site": "none"}, id="typed"),
    pytest.param("POST", {"Origin": "https://pi.local:1880", "Host": "pi.local:1880"}, id="own-origin"),
    pytest.param("POST", {"Sec-Fetch-Site": "same-origin"}, id="same-origin"),
    pytest.param(
        "GET",
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        id="link-from-elsewhere",
    ),
    pytest.param("POST", {}, id="a-script"),
]


@pytest.mark.parametrize(("method", "target", "headers", "reason"), REFUSED)
def test_a_device_is_refused(lock: Lock, method: str, target: str, headers: dict[str, str], reason: str) -> None:
    """Refused with 403 and the reason, before Node-RED sees it: what a page elsewhere could have sent."""
    body = b"{}" if method == "POST" else None
    with Connection(lock.port, lock.admin) as connection:
        answer = connection.request(method, target, headers=headers, body=body)
        if answer.status == 100:  # Node.js asks for the body before anybody may look at the request
            answer = connection.response()
    assert answer.status == 403
    assert f"({reason})" in answer.body.decode()


@pytest.mark.parametrize(("method", "headers"), ADMITTED)
def test_a_device_is_let_in(lock: Lock, method: str, headers: dict[str, str]) -> None:
    """Own names, any address, own origin, links from elsewhere and clients that are no browsers pass."""
    body = b"{}" if method == "POST" else None
    assert request(lock.port, method, "/hello", lock.admin, headers=headers, body=body).body == b"hello true"


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Origin": "https://evil.example"}, "cross-origin"),
        ({"Origin": "null"}, "cross-origin"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross-origin"),
        ({"Upgrade": "h2c"}, "bad-upgrade"),
        ({"Upgrade": "websocket, h2c"}, "bad-upgrade"),
        ({"Host": "evil.example"}, "foreign-host"),
    ],
)
def test_an_upgrade_is_refused(lock: Lock, headers: dict[str, str], reason: str) -> None:
    """A websocket from another page, and any other upgrade, gets 403 and the connection ends."""
    with WebSocket(lock.port, "/comms", lock.admin, headers=headers) as socket:
        assert socket.upgrade.status == 403
        assert f"({reason})" in socket.upgrade.body.decode()
        assert socket.is_closed()


def test_connect_is_refused(lock: Lock) -> None:
    """CONNECT makes no proxy of Node-RED: it ends the connection."""
    with Connection(lock.port, lock.admin) as connection:
        connection.send(b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.rest() == b""


def test_an_own_websocket_passes(lock: Lock) -> None:
    """The editor's own /comms, with the Origin that a browser sends, is the accepted case."""
    headers = {"Origin": f"https://localhost:{lock.port}", "Sec-Fetch-Site": "same-origin"}
    with WebSocket(lock.port, "/comms", lock.admin, headers=headers) as socket:
        assert socket.is_open


def test_every_request_of_a_connection_is_judged(lock: Lock) -> None:
    """A good request on a kept-alive connection opens nothing for the next one."""
    with Connection(lock.port, lock.admin) as connection:
        assert connection.request("GET", "/hello").status == 200
        assert connection.request("GET", "/hello", headers={"Host": "evil.example"}).status == 403
        assert connection.request("GET", "/hello").status == 200
        assert connection.request("POST", "/hello", headers={"Origin": "null"}, body=b"{}").status == 403
        assert connection.request("POST", "/hello", body=b"{}").status == 200


def test_a_refusal_gives_other_pages_nothing(lock: Lock) -> None:
    """The 403 may not be read by another origin, framed, cached or sniffed."""
    answer = request(lock.port, "GET", "/hello", lock.admin, headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_nothing_of_a_request_is_echoed(lock: Lock) -> None:
    """The page of a refusal holds no byte that the request brought along."""
    answer = request(
        lock.port, "GET", "/<script>x</script>", lock.admin,
        headers={"Host": "<b>evil</b>", "Accept": "text/html", "Origin": "<i>"},
    )  # fmt: skip
    assert answer.status in (400, 403)
    assert b"script" not in answer.body
    assert b"evil" not in answer.body
