"""Websockets, and what only looks like one, at live HAProxy: class 11 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import contextlib

import pytest
from tests.integration.gateway.house import AREAS, BOTH, WEBHOOK, WEBSOCKETS, House, asks, fields, reason
from tests.integration.guard.rules import AWAY
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.http2 import Http2, frame

from redlatch.policy.model import Rule

# --- 11 upgrades -------------------------------------------------------------------------------------------------


def test_11_websockets_pass_and_echo(house: House) -> None:
    """Over HTTP/1.1 and HTTP/2, which the server offers; two on one connection, beside requests."""
    house.ruled(WEBHOOK, WEBSOCKETS, areas=AREAS)
    with WebSocket(house.port, "/ws/echo", source=AWAY) as websocket:
        assert websocket.is_open
        websocket.send(b"abc")
        assert websocket._exactly(3) == b"abc"
    with Http2(house.port, source=AWAY) as http2:
        one, other = http2.websocket("/ws/echo"), http2.websocket("/ws/echo")
        for stream, data in ((one, b"abc"), (other, b"defg")):
            assert http2.head(stream).status == 200
            http2.data(stream, data)
        assert http2.receive(other, 4) == b"defg"
        assert reason(http2.request("GET", "/flows")) == "no-certificate"
        assert http2.receive(one, 3) == b"abc"
        assert http2.offers_websockets
    assert house.reached == ["GET /ws/echo"] * 3


@BOTH
def test_11_a_right_to_a_websocket_is_none_to_the_page(house: House, http2: bool) -> None:
    """Nor the other way round; and no other protocol than websocket is one."""
    house.ruled(WEBHOOK, WEBSOCKETS, areas=AREAS)
    with asks(http2, house) as connection:
        for target in ("/ws/echo", "/ws/plain"):
            assert reason(connection.request("GET", target)) == "no-certificate"
    for target, wanted in (
        ("/hello", "ok"),
        ("/hello/x", "no-certificate"),
        ("/comms", "no-certificate"),
        ("/", "no-certificate"),
    ):
        assert upgrade(house, http2, target) == wanted
    for protocol in ("h2c", "WebSocket2", "websocket, h2c", "h2", "tcp", "TLS/1.0", "websocket/13", ""):
        got = upgrade(house, http2, "/ws/echo", protocol)
        # 2.8 itself takes h2c out of the list
        assert got in ("bad-upgrade", "no-certificate", "reset", "400") or (got, protocol) == (
            "ok",
            "websocket, h2c",
        )
    assert set(house.reached) <= {"GET /hello", "GET /ws/echo"}
    assert [fields(head)["upgrade"] for head in house.upstream.seen] == [["websocket"]] * len(house.reached)


def upgrade(house: House, http2: bool, target: str, protocol: str = "websocket") -> str:
    """ "ok" when a websocket opens."""
    try:
        if http2:
            with Http2(house.port, source=AWAY) as connection:
                number = connection.websocket(target, protocol=protocol)
                if connection.head(number).status == 200:
                    return "ok"
                return reason(connection.response(number))
        with WebSocket(house.port, target, headers={"Upgrade": protocol}, source=AWAY) as websocket:
            return "ok" if websocket.is_open else reason(websocket.upgrade)
    except Refused:
        return "reset"


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
        {"Connection": "Upgrade", "Upgrade": "h2c"}, {"Upgrade": "h2c"}, {"Connection": "HTTP2-Settings",
        "HTTP2-Settings": "AA"},
        {"Upgrade": "websocket", "Connection": None}, {"Upgrade": "websocket", "Connection": "close"},
        {"Upgrade": "websocket", "Connection": "x-upgrade"}, {"Upgrade": "h2c, websocket",
        "Connection": "Upgrade"},
    ],
)  # fmt: skip
def test_11_no_upgrade_gets_to_node_red_but_websocket(house: House, headers: dict[str, str | None]) -> None:
    """Refused, or served as the plain request that it then is, without a word of an upgrade."""
    house.ruled(Rule(2, anyone=True, path="/hello", methods=("GET",)), WEBSOCKETS, areas=AREAS)
    with Connection(house.port, source=AWAY) as connection:
        assert reason(connection.request("GET", "/hello", headers=headers)) in ("ok", "bad-upgrade", "400")
        with contextlib.suppress(Refused):
            assert connection.request("GET", "/flows").status == 403
    for head in house.upstream.seen:
        assert "upgrade" not in fields(head)
    assert set(house.reached) <= {"GET /hello"}
    assert reason(request(house.port, "GET", "/hello")) == "ok"


@BOTH
def test_11_an_upgrade_that_node_red_declines_opens_no_tunnel(house: House, http2: bool) -> None:
    """What follows on the connection is a request like any other, and judged."""
    house.ruled(WEBSOCKETS, areas=AREAS)
    if http2:
        with Http2(house.port, source=AWAY) as connection:
            number = connection.websocket("/ws/plain")
            connection.head(number)
            connection.data(number, b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n", end=True)
            connection.ended(number)
            assert reason(connection.request("GET", "/flows")) == "no-certificate"
    else:
        with WebSocket(house.port, "/ws/plain", source=AWAY) as websocket:
            assert not websocket.is_open
            websocket.send(b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with contextlib.suppress(Refused):
                assert reason(websocket.response()) == "no-certificate"
    assert house.reached == ["GET /ws/plain"]


def test_11_http2_without_being_offered_is_judged(house: House) -> None:
    """A client that begins with HTTP/2 unasked, and one that asks for it in the middle."""
    house.ruled(WEBHOOK)
    with contextlib.suppress(Refused), Http2(house.port, source=AWAY, alpn=False) as http2:
        assert reason(http2.request("GET", "/flows")) == "no-certificate"
        assert reason(http2.request("POST", "/hello", body=b"")) == "ok"
    house.upstream.seen.clear()
    with Connection(house.port, source=AWAY) as plain:
        assert reason(plain.request("POST", "/hello", body=b"")) == "ok"
        plain.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        plain.rest()
    assert house.reached == ["POST /hello"]
    # CONNECT is nobody's
    with Connection(house.port, house.admin) as plain:
        assert plain.request("CONNECT", "localhost:1880").status in (400, 403)
    with Http2(house.port, house.admin) as http2:
        asked = http2.open([(":method", "CONNECT"), (":authority", "localhost")], end=False)
        with contextlib.suppress(Refused):
            assert reason(http2.head(asked)) != "ok"
            assert http2.head(asked).status in (400, 403)
    assert house.reached == ["POST /hello"]
