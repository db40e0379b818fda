"""Connections that outlive a right, at live HAProxy: class 6 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from tests.integration.gateway.house import House, Live, reason
from tests.integration.guard.rules import OWNER
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.http2 import Http2
from tests.support.site import Device
from tests.support.wait import until

from redlatch.policy.model import Rule

ADMIN = Rule(2, roles=("admin",), area="all")
WEBHOOK = Rule(3, anyone=True, path="/hello", methods=("POST",))

# --- 6 what is open outlives its right ---------------------------------------------------------------------------


@dataclass
class Open:
    """A device's connections: requests kept alive and websockets, of both versions of HTTP."""

    device: Device
    plain: Connection
    echo: WebSocket
    http2: Http2
    stream: int

    @classmethod
    def of(cls, gateway: Live, device: Device) -> Open:
        plain = Connection(gateway.port, device)
        assert reason(plain.request("GET", "/hello")) == "ok"
        echo = WebSocket(gateway.port, "/ws/echo", device)
        assert echo.is_open
        http2 = Http2(gateway.port, device)
        assert reason(http2.request("GET", "/hello")) == "ok"
        stream = http2.websocket("/ws/echo")
        assert http2.head(stream).status == 200
        http2.data(stream, b"one")
        assert http2.receive(stream, 3) == b"one"
        return cls(device, plain, echo, http2, stream)

    def goes_on(self) -> None:
        assert reason(self.plain.request("GET", "/hello")) == "ok"
        self.echo.send(b"two")
        assert self.echo._exactly(3) == b"two"
        self.http2.data(self.stream, b"three")
        assert self.http2.receive(self.stream, 5) == b"three"
        assert reason(self.http2.request("GET", "/hello")) == "ok"

    def is_over(self, why: str) -> None:
        """The websockets are cut, and what is asked on the connections is refused, or they are cut as well."""
        assert self.echo.is_closed()
        assert self.http2.ended(self.stream)
        for ask in (self.plain.request, self.http2.request):
            with contextlib.suppress(Refused):  # cut
                assert reason(ask("GET", "/hello")) == why

    def close(self) -> None:
        self.plain.close()
        self.echo.close()
        self.http2.connection.close()


def revoked(live: Live, device: Device) -> None:
    live.revoke(device)


def over(live: Live, device: Device) -> None:
    live.site.list(device, not_after=live.site.snapshot.time - 1)
    live.wait()


@pytest.mark.parametrize(
    ("end", "why"), [(revoked, "unknown-certificate"), (over, "expired")], ids=["revoked", "expired"]
)
def test_6_what_is_open_ends(live: Live, end: Callable[[Live, Device], None], why: str) -> None:
    """Keep-alive connections and websockets, over HTTP/1.1 and HTTP/2; those of another device go on."""
    one, other = Open.of(live, live.device()), Open.of(live, live.device())
    end(live, one.device)
    one.is_over(why)
    other.goes_on()
    one.close()
    other.close()


def test_6_expiry_by_the_clock(live: Live) -> None:
    """An end that comes while connections are open, without any change: the next request is refused."""
    device = live.site.device("short", listed=False)
    end = int(datetime.now(UTC).timestamp()) + 2
    live.site.list(device, not_after=end)
    live.wait()
    one, other = Open.of(live, device), Open.of(live, live.admin)
    until(lambda: datetime.now(UTC).timestamp() > end + 1, what="the end of the certificate")
    with Connection(live.port, device) as anew:
        assert reason(anew.request("GET", "/hello")) == "expired"
    one.is_over("expired")
    other.goes_on()
    one.close()
    other.close()


def test_6_expiry_without_anybody_who_cuts(house: House) -> None:
    """The same where nothing but HAProxy runs: on a connection that stays open, by HTTP/1.1 and HTTP/2."""
    device = house.site.device("short", listed=False)
    end = int(datetime.now(UTC).timestamp()) + 2
    house.site.list(device, role="admin", not_after=end)
    house.ruled(ADMIN)
    with Connection(house.port, device) as plain, Http2(house.port, device) as http2:
        for ask in (plain.request, http2.request):
            assert reason(ask("GET", "/hello")) == "ok"
        until(lambda: datetime.now(UTC).timestamp() > end + 1, what="the end of the certificate")
        for ask in (plain.request, http2.request):
            assert reason(ask("GET", "/hello")) == "expired"
    assert reason(request(house.port, "GET", "/hello", house.admin)) == "ok"


def test_6_the_later_of_clock_and_snapshot(house: House) -> None:
    """A snapshot from beyond a certificate's end shuts it out, though the machine's clock says otherwise."""
    device = house.site.device("early", listed=False)
    now = int(datetime.now(UTC).timestamp())
    house.site.list(device, role="admin", not_after=now + 3600)
    try:
        for time, wanted in ((now, "ok"), (now + 3601, "expired"), (now - 3600, "ok")):
            house.ruled(ADMIN, time=time)
            assert reason(request(house.port, "GET", "/hello", device)) == wanted
            assert reason(request(house.port, "GET", "/hello", house.admin)) == "ok"
    finally:
        house.ruled(time=now)


def test_6_a_right_that_went_is_gone_on_an_open_connection(live: Live) -> None:
    """Who may no more than before is asked anew on the connection that is there, by HTTP/1.1 and HTTP/2."""
    live.site.change(rules=(OWNER, ADMIN, WEBHOOK))
    live.wait()
    with Connection(live.port) as plain, Http2(live.port) as http2:
        assert reason(plain.request("POST", "/hello", body=b"")) == "ok"
        assert reason(http2.request("POST", "/hello", body=b"")) == "ok"
        live.site.change(rules=(OWNER, ADMIN))
        live.wait()
        for ask in (plain.request, http2.request):
            with contextlib.suppress(Refused):
                assert reason(ask("POST", "/hello", body=b"")) == "no-certificate"
    assert reason(request(live.port, "POST", "/hello", live.admin, body=b"")) == "ok"
