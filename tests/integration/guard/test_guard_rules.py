"""Who may reach what, from where: one accepted and one refused case for every way in, on the real Node-REDs."""

from __future__ import annotations

import contextlib
import json
import os
import socket as sockets
import ssl
from collections.abc import Callable
from typing import Any

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.guard.rules import (
    AWAY,
    HOME,
    NETWORKS,
    OFFICE,
    SOCKET_IO,
    gets_nothing,
    is_refused,
    ruled,
)
from tests.integration.guard.test_guard_claims import logged
from tests.integration.guard.test_guard_live import claim, in_force
from tests.support.clients import Connection, Refused, WebSocket, context, request
from tests.support.netns import own_network
from tests.support.nodered import free_port
from tests.support.requests import network
from tests.support.site import Device
from tests.support.wait import until

from redlatch.policy.model import Areas, Rule

TLS = pytest.mark.parametrize("tls", ["1.2", "1.3"])
TABLET = Rule(2, anyone=True, networks=("home",), area="dashboards")
USERS = Rule(3, roles=("user",), area="dashboards")


# --- who and where -----------------------------------------------------------------------------------------------


def test_certificate_and_address(house: Lock) -> None:
    """A device at home gets in; the same one elsewhere, and a stranger at home, do not."""
    ruled(house, Rule(2, roles=("user",), networks=("home",), area="dashboards"))
    device = house.device("user")
    in_force(house)
    assert request(house.port, "GET", "/dashboard/", device, source=HOME).status == 200
    assert is_refused(request(house.port, "GET", "/dashboard/", device, source=AWAY), "wrong-network")
    assert gets_nothing(house, "GET", "/dashboard/", source=HOME)


def test_certificate_or_address(house: Lock) -> None:
    """With a rule for each, a device gets in from anywhere and anybody from home; a stranger elsewhere does
    not.
    """
    ruled(
        house,
        Rule(2, roles=("user",), area="dashboards"),
        Rule(3, anyone=True, networks=("home",), area="dashboards"),
    )
    device = house.device("user")
    in_force(house)
    assert request(house.port, "GET", "/dashboard/", device, source=AWAY).status == 200
    assert request(house.port, "GET", "/dashboard/", source=HOME).status == 200
    assert gets_nothing(house, "GET", "/dashboard/", source=AWAY)


def test_address_alone(house: Lock) -> None:
    """Where only the address counts, it counts for devices too: home gets in, elsewhere not."""
    ruled(house, Rule(2, anyone=True, networks=("home",), area="http-in"))
    device = house.device("thing")
    in_force(house)
    assert request(house.port, "GET", "/hello", source=HOME).body == b"hello false"
    assert request(house.port, "GET", "/hello", device, source=HOME).body == b"hello true"
    assert is_refused(request(house.port, "GET", "/hello", device, source=AWAY), "wrong-network")
    assert gets_nothing(house, "GET", "/hello", source=AWAY)


def test_a_wall_tablet(house: Lock) -> None:
    """Without a certificate at home: the dashboard and its websocket, no write, no editor; elsewhere nothing."""
    ruled(house, Rule(2, anyone=True, networks=("home",), area="dashboards", methods=("GET",)))
    assert b"<!doctype html>" in request(house.port, "GET", "/dashboard/", source=HOME).body
    with WebSocket(house.port, SOCKET_IO, source=HOME) as websocket:
        assert websocket.is_open
        assert websocket.receive().startswith("0{")  # engine.io's greeting: Node-RED's dashboard answers
    assert is_refused(request(house.port, "POST", "/dashboard/", body=b"{}", source=HOME), "no-certificate")
    for target in ("/", "/flows", "/settings", "/hello", "/note.txt", "/dashboard/chart/x/clear"):
        assert is_refused(request(house.port, "GET", target, source=HOME), "no-certificate")
    for target in ("/comms", "/ws/echo"):
        with WebSocket(house.port, target, source=HOME) as websocket:
            assert is_refused(websocket.upgrade, "no-certificate")
    with pytest.raises(Refused):
        WebSocket(house.port, SOCKET_IO, source=AWAY)


def test_a_house_full_of_tablets(house: Lock) -> None:
    """Who is let in without a certificate takes none of the places that strangers of one address have."""
    ruled(house, TABLET)
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            websocket = stack.enter_context(WebSocket(house.port, SOCKET_IO, source=HOME))
            assert websocket.is_open
            connection = stack.enter_context(Connection(house.port, source=HOME))
            assert connection.request("GET", "/dashboard/").status == 200
        # where what is refused does take one
        reading = [stack.enter_context(Connection(house.port, source=HOME)) for _ in range(16)]
        assert all(is_refused(one.request("GET", "/flows"), "no-certificate") for one in reading)
        with pytest.raises((Refused, OSError)):
            Connection(house.port, source=HOME)


def test_a_webhook_and_nothing_beside_it(house: Lock) -> None:
    """A path that is open to anyone opens that path with that method, in that spelling, and no other."""
    ruled(house, Rule(2, anyone=True, path="/hello", methods=("POST",)))
    assert request(house.port, "POST", "/hello", body=b"{}", source=AWAY).body == b"hello false"
    assert request(house.port, "POST", "/hello?a=1", body=b"{}", source=AWAY).status == 200
    beside = [
        ("GET", "/hello"), ("HEAD", "/hello"), ("PUT", "/hello"), ("POST", "/HELLO"), ("POST", "//hello"),
        ("POST", "/hell%6f"), ("POST", "/helloworld"), ("POST", "/hello;x"), ("POST", "/hello/../flows"),
        ("POST", "/hello/%2e%2e/flows"), ("POST", "/hello%2f..%2fflows"), ("POST", "/hello\\..\\flows"),
        ("POST", "/./hello"), ("POST", "/flows"), ("POST", "/"), ("GET", "/flows"), ("GET", "/note.txt"),
    ]  # fmt: skip
    with Connection(house.port, source=AWAY) as connection:
        for method, target in beside:
            answer = connection.request(method, target, body=b"{}" if method in ("POST", "PUT") else None)
            assert answer.status == 403, target
            assert method == "HEAD" or is_refused(answer, "no-certificate"), target
        # and still open, on the very same connection
        assert connection.request("POST", "/hello", body=b"{}").status == 200
    with WebSocket(house.port, "/hello", source=AWAY) as websocket:
        assert websocket.upgrade.status == 403


def test_a_right_to_a_websocket_is_none_to_the_page(house: Lock) -> None:
    """An Upgrade header that Connection does not name is served as a plain request: refused, whatever the
    websocket's rule.
    """
    ruled(
        house,
        Rule(2, anyone=True, area="websockets"),
        areas=Areas(websockets=("/ws/echo", "/hello"), http_in=("/hello",)),
    )
    with WebSocket(house.port, "/ws/echo", source=AWAY) as websocket:
        assert websocket.is_open
    for connection in (None, "close", "keep-alive", "x-upgrade"):
        fields = {"Upgrade": "websocket", "Connection": connection}
        with Connection(house.port, source=AWAY) as raw:
            assert is_refused(raw.request("GET", "/hello", headers=fields), "bad-upgrade")


def test_a_plain_request_is_not_the_websockets(house: Lock) -> None:
    """The same path by GET belongs to another area than by upgrade."""
    ruled(house, Rule(2, anyone=True, networks=("home",), area="websockets"))
    with WebSocket(house.port, "/ws/echo", source=HOME) as websocket:
        websocket.send_text("hi")
        assert websocket.receive() == "hi"
    assert is_refused(request(house.port, "GET", "/ws/echo", source=HOME), "no-certificate")


# --- sessions without a certificate ------------------------------------------------------------------------------


def resumed(port: int, again_at: int, tls: str, source: str = AWAY) -> Connection:
    """A connection to `again_at` that resumes the session of one to `port`, both without a certificate."""
    shared = context(tls=tls)
    with Connection(port, with_context=shared, source=source) as first:
        assert first.request("POST", "/hello", body=b"{}").status == 200
        session = first.socket.session
    return Connection(again_at, with_context=shared, session=session, source=source)


@TLS
def test_a_session_without_a_certificate_is_resumed(house: Lock, tls: str) -> None:
    """nodejs/node #35317: it says authorized. The webhook is open to it as before, the editor is not."""
    ruled(house, Rule(2, anyone=True, path="/hello", methods=("POST",)))
    with resumed(house.port, house.port, tls) as connection:
        assert connection.socket.session_reused
        assert connection.request("POST", "/hello", body=b"{}").body == b"hello false"
        assert is_refused(connection.request("GET", "/flows"), "no-certificate")
        assert is_refused(connection.request("POST", "/flows", body=b"[]"), "no-certificate")


@TLS
def test_a_session_of_the_open_port_opens_nothing_else(house: Lock, tls: str) -> None:
    """Resumed on the open port it is anybody's; on the main port it gets not a byte."""
    port = free_port()
    ruled(house, Rule(2, anyone=True, path="/hello", methods=("POST",)), open_port=port)
    with resumed(port, port, tls) as connection:
        assert connection.socket.session_reused
        assert connection.request("POST", "/hello", body=b"{}").status == 200
    with pytest.raises(Refused), resumed(port, house.port, tls) as connection:
        connection.request("POST", "/hello", body=b"{}")


# --- the open port -----------------------------------------------------------------------------------------------


def hello_of(port: int, source: str) -> bytes:
    """What comes back for the first packet of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    with sockets.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)) as raw:
        raw.sendall(outgoing.read())
        try:
            return raw.recv(1)
        except ConnectionError:
            return b""


def is_listening(port: int) -> bool:
    try:
        sockets.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionError:
        return False
    return True


def test_the_open_port(house: Lock) -> None:
    """It opens and closes while Node-RED runs, asks nobody for a certificate, and knows nobody who shows one."""
    port = free_port()
    webhook = Rule(2, anyone=True, networks=("home",), path="/hello", methods=("POST",))
    assert not is_listening(port)
    ruled(house, webhook, open_port=port)
    until(lambda: is_listening(port), what="the open port")
    assert request(port, "POST", "/hello", body=b"{}", source=HOME).body == b"hello false"
    assert is_refused(request(port, "GET", "/flows", source=HOME), "no-certificate")
    assert is_refused(request(port, "GET", "/flows", house.admin, source=HOME), "no-certificate")
    assert gets_nothing(house, "POST", "/hello", body=b"{}", source=HOME)  # the main port insists
    assert request(house.port, "POST", "/hello", house.admin, body=b"{}", source=HOME).status == 200
    ruled(house, webhook)
    until(lambda: not is_listening(port), what="the end of the open port")
    assert request(house.port, "POST", "/hello", body=b"{}", source=HOME).status == 200


def test_the_open_port_talks_to_nobody_without_a_rule(house: Lock) -> None:
    """From where no rule lets anyone in, not even the handshake begins; it is logged."""
    port = free_port()
    ruled(house, Rule(2, anyone=True, networks=("home",), path="/hello"), open_port=port)
    until(lambda: is_listening(port), what="the open port")
    assert hello_of(port, HOME) == b"\x16"
    assert hello_of(port, AWAY) == b""
    logged(house, **{"from": AWAY, "reason": "no-certificate", "allow": False, "method": None})


def test_an_open_port_that_is_in_use(house: Lock) -> None:
    """It is reported, the main port goes on, and the next change tries again."""
    with sockets.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ruled(house, Rule(2, anyone=True, path="/hello"), open_port=port)
        problem = until(lambda: claim(house).get("problem"), what="the report")
        assert problem == f"the open port {port} cannot be opened: it is in use"
        assert request(house.port, "GET", "/hello", house.admin).status == 200
        assert gets_nothing(house, "GET", "/hello", source=HOME)
    ruled(house, Rule(2, anyone=True, path="/hello"), open_port=port)
    until(lambda: is_listening(port), what="the open port")
    assert claim(house)["problem"] is None
    ruled(house)


# --- what a stranger gets to read --------------------------------------------------------------------------------


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own needs root; scripts/test in CI is root")
def test_modes_by_address(unstarted: Callable[..., Lock]) -> None:
    """strict: nobody reads why. explain: everybody. auto: who comes from a private network; elsewhere not a
    byte.
    """
    public, private = ("203.0.113.7", "198.51.100.9"), ("127.0.0.1", "10.1.2.3", "192.168.7.7")
    with own_network(*public, *private[1:]):
        lock = unstarted(mode="auto")
        with lock.red:
            for mode, reading in (("auto", private), ("explain", (*private, *public)), ("strict", ())):
                lock.site.change(mode=mode)
                in_force(lock)
                for source in (*private, *public):
                    assert request(lock.port, "GET", "/hello", lock.admin, source=source).status == 200
                    if source not in reading:
                        assert gets_nothing(lock, "GET", "/hello", source=source)
                        continue
                    answer = request(lock.port, "GET", "/hello", headers={"Accept": "text/html"}, source=source)
                    assert answer.status == 403
                    assert b"your browser" not in answer.body  # a sentence begins with a capital
                    assert b"Install the certificate that you were given" in answer.body


# --- changes while connections are open --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "rules"),
    [
        pytest.param({}, (USERS,), id="rule-removed"),
        pytest.param(
            {"networks": {**NETWORKS, "home": network("127.1.0.2")}}, (TABLET, USERS), id="network-changed"
        ),
        pytest.param({"networks": {}}, (TABLET, USERS), id="network-removed"),
    ],
)
def test_a_lost_right_cuts_who_had_it(house: Lock, fields: dict[str, Any], rules: tuple[Rule, ...]) -> None:
    """The tablet's websocket and idle connection end; a device's beside it, from the same address, do not."""
    ruled(house, TABLET, USERS)
    device = house.device("user")
    in_force(house)
    with (
        WebSocket(house.port, SOCKET_IO, source=HOME) as websocket,
        Connection(house.port, source=HOME) as connection,
        WebSocket(house.port, SOCKET_IO, device, source=HOME) as others,
        Connection(house.port, device, source=HOME) as other,
    ):
        assert websocket.is_open
        assert others.is_open
        assert connection.request("GET", "/dashboard/").status == 200
        assert other.request("GET", "/dashboard/").status == 200
        ruled(house, *rules, **fields)
        assert websocket.is_closed()
        assert connection.is_closed()
        assert in_force(house)["closed"] == 2
        assert other.request("GET", "/dashboard/").status == 200
        assert not others.is_closed(0.2)
    assert gets_nothing(house, "GET", "/dashboard/", source=HOME)


def test_a_lost_area_cuts_who_was_in_it(house: Lock) -> None:
    """When a path is no dashboard any more, what came for it ends; the owner, who may everything, stays."""
    ruled(house, TABLET, USERS)
    device = house.device("user")
    in_force(house)
    with (
        WebSocket(house.port, SOCKET_IO, device, source=AWAY) as websocket,
        WebSocket(house.port, SOCKET_IO, source=HOME) as tablet,
        WebSocket(house.port, SOCKET_IO, house.admin, source=AWAY) as owner,
    ):
        assert websocket.is_open
        assert tablet.is_open
        ruled(house, TABLET, USERS, areas=Areas(http_in=("/hello",)))
        assert websocket.is_closed()
        assert tablet.is_closed()
        assert not owner.is_closed(0.2)
    assert is_refused(request(house.port, "GET", "/dashboard/", device), "no-rule")


def test_a_request_behind_another_hides_nothing(house: Lock) -> None:
    """A poll that is still being answered ends with its right, though a request behind it may go on."""
    ruled(house, TABLET, Rule(3, anyone=True, path="/hello"))
    with Connection(house.port, source=HOME) as hiding, Connection(house.port, source=HOME) as other:
        session = hiding.request("GET", "/dashboard/socket.io/?EIO=4&transport=polling").body
        sid = json.loads(session[1:])["sid"]
        poll = f"GET /dashboard/socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        behind = "POST /hello?behind HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        assert other.request("POST", "/hello", body=b"").status == 200
        (house.site.spool / "access.jsonl").unlink(missing_ok=True)
        hiding.send((poll + behind).encode())
        logged(house, **{"from": HOME, "method": "POST", "allow": True})
        ruled(house, Rule(3, anyone=True, path="/hello"))
        assert hiding.is_closed()
        assert other.request("POST", "/hello", body=b"").status == 200


def test_a_role_that_is_like_another(house: Lock) -> None:
    """A role of the operator's own reaches what the one that it is like does, and no more when it is like
    another.
    """
    ruled(house, USERS, roles={"family": "user"})
    device = house.device("family")
    in_force(house)
    with WebSocket(house.port, SOCKET_IO, device) as websocket, Connection(house.port, device) as connection:
        assert websocket.is_open
        assert connection.request("GET", "/dashboard/").status == 200
        ruled(house, USERS, roles={"family": "thing"})
        assert websocket.is_closed()
        assert connection.is_closed()
    assert is_refused(request(house.port, "GET", "/dashboard/", device), "no-rule")


def test_a_new_rule_counts_on_open_connections(house: Lock) -> None:
    """A keep-alive connection that was refused something may have it with the next request, and loses it again."""
    ruled(house)
    device = house.device("thing")
    in_force(house)
    with Connection(house.port, device, source=OFFICE) as connection:
        assert is_refused(connection.request("GET", "/hello"), "no-rule")
        ruled(house, Rule(2, devices=(device.id,), networks=("office",), area="http-in"))
        assert connection.request("GET", "/hello").status == 200
        assert is_refused(connection.request("GET", "/note.txt"), "no-rule")
        ruled(house, Rule(2, devices=(device.id,), networks=("office",), area="static"))
        assert connection.is_closed()  # its last request was for what it may no longer have


def test_an_admitted_request_opens_nothing_for_the_next(house: Lock) -> None:
    """Keep-alive without a certificate: the page is shown, the editor behind it is not, in any order."""
    ruled(house, TABLET)
    with Connection(house.port, source=HOME) as connection:
        for _ in range(3):
            assert connection.request("GET", "/dashboard/").status == 200
            assert is_refused(connection.request("GET", "/flows"), "no-certificate")
            assert is_refused(connection.request("POST", "/flows", body=b"[]"), "no-certificate")
        both = "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        connection.send((both.format("/dashboard/") + both.format("/flows")).encode())
        assert connection.response().status == 200
        assert is_refused(connection.response(), "no-certificate")


# --- single sign-on ----------------------------------------------------------------------------------------------


def user_of(house: Lock, device: Device | None, source: str) -> Any:
    return request(house.port, "GET", "/settings", device, source=source).json().get("user")


def test_the_editor_is_told_what_the_rules_say(house: Lock) -> None:
    """The same device deploys from home and reads from the office, also on /comms; elsewhere there is no
    editor.
    """
    ruled(
        house,
        Rule(2, roles=("viewer",), networks=("home",), area="editor"),
        Rule(3, roles=("viewer",), networks=("office",), area="editor-read"),
    )
    device = house.device("viewer")
    in_force(house)
    assert user_of(house, device, HOME) == {"username": device.name, "permissions": "*"}
    assert user_of(house, device, OFFICE) == {"username": device.name, "permissions": "read"}
    assert is_refused(request(house.port, "GET", "/settings", device, source=AWAY), "wrong-network")
    flows = request(house.port, "GET", "/flows", device, source=OFFICE).body
    deploy = {"Content-Type": "application/json"}
    refused = request(house.port, "POST", "/flows", device, source=OFFICE, body=flows, headers=deploy)
    assert is_refused(refused, "read-only")
    assert request(house.port, "POST", "/flows", device, source=HOME, body=flows, headers=deploy).status == 204
    with WebSocket(house.port, "/comms", device, source=OFFICE) as comms:
        assert comms.is_open


def test_anyone_may_be_let_into_the_editor(house: Lock) -> None:
    """An editor rule for anyone at home makes a Node-RED user of who has no certificate; without it there is
    none.
    """
    ruled(house, Rule(2, anyone=True, networks=("home",), area="editor"))
    assert user_of(house, None, HOME) == {"username": "anyone", "permissions": "*"}
    flows = request(house.port, "GET", "/flows", source=HOME).body
    deploy = {"Content-Type": "application/json"}
    assert request(house.port, "POST", "/flows", source=HOME, body=flows, headers=deploy).status == 204
    with WebSocket(house.port, "/comms", source=HOME) as comms:
        assert comms.is_open
        ruled(house, Rule(2, anyone=True, networks=("home",), area="editor-read"))
        assert comms.is_closed()  # Node-RED knows it by the permission that it came with
    assert user_of(house, None, HOME) == {"username": "anyone", "permissions": "read"}
    assert gets_nothing(house, "GET", "/settings", source=AWAY)
    ruled(house, TABLET)
    assert is_refused(request(house.port, "GET", "/settings", source=HOME), "no-certificate")


# --- other origins -----------------------------------------------------------------------------------------------


def test_other_origins_that_are_named(house: Lock) -> None:
    """A named origin may call and frame; its neighbours may not; the browser is told who may frame, only then."""
    frame = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
    call = {"Origin": "https://panel.example", "Sec-Fetch-Site": "cross-site"}
    ruled(house)
    assert "content-security-policy" not in request(house.port, "GET", "/hello", house.admin).headers
    assert is_refused(request(house.port, "GET", "/hello", house.admin, headers=frame), "cross-origin")
    assert is_refused(request(house.port, "POST", "/hello", house.admin, headers=call, body=b"{}"), "cross-origin")
    ruled(house, origins=("https://panel.example",))
    answer = request(house.port, "GET", "/hello", house.admin, headers=frame)
    assert answer.status == 200
    assert answer.headers["content-security-policy"] == "frame-ancestors 'self' https://panel.example"
    assert request(house.port, "POST", "/hello", house.admin, headers=call, body=b"{}").status == 200
    for origin in ("https://panel.example.evil", "http://panel.example", "https://panel.example:8443", "null"):
        headers = {**call, "Origin": origin}
        assert is_refused(
            request(house.port, "POST", "/hello", house.admin, headers=headers, body=b"{}"), "cross-origin"
        )
    image = {**frame, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
    assert is_refused(request(house.port, "GET", "/hello", house.admin, headers=image), "cross-origin")
    assert (
        "frame-ancestors 'none'"
        in request(house.port, "GET", "/x", headers=image, device=house.admin).headers["content-security-policy"]
    )


# --- having a browser forget -------------------------------------------------------------------------------------

OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
AGAIN, PROBE = "/.redlatch/again", "/.redlatch/probe"


def insists(house: Lock, source: str) -> bool:
    return gets_nothing(house, "GET", "/hello", source=source)


def test_a_stranger_has_the_guard_insist(house: Lock) -> None:
    """From the page of a refusal: for a second the handshake insists, at that address alone; devices notice
    nothing.
    """
    ruled(house, mode="explain")
    shared, strangers = context(house.admin), context()
    with Connection(house.port, with_context=shared, source=HOME) as device:
        assert device.request("GET", "/hello").status == 200
        session = device.socket.session
        with Connection(house.port, with_context=strangers, source=HOME) as reading:
            assert is_refused(reading.request("GET", "/hello"), "no-certificate")
            old = reading.socket.session
        with Connection(house.port, source=HOME) as waiting:
            assert request(house.port, "POST", AGAIN, headers=OWN_PAGE, body=b"", source=HOME).status == 204
            assert waiting.is_closed()  # it would be used instead of a new one
        # Only a handshake that fails has a browser forget, so a session of before must not get round it
        with (
            pytest.raises(Refused, match="CERTIFICATE_REQUIRED"),
            Connection(house.port, with_context=strangers, session=old, source=HOME) as resuming,
        ):
            resuming.request("GET", "/hello")
        other = request(house.port, "POST", AGAIN, headers=OWN_PAGE, body=b"", source=OFFICE)
        assert (other.status, other.body) == (403, b"busy")  # one address at a time
        assert insists(house, HOME)
        assert not insists(house, OFFICE)
        assert device.request("GET", "/hello").status == 200
        with Connection(house.port, with_context=shared, session=session, source=HOME) as again:
            assert not again.socket.session_reused  # a device shakes hands anew, and that is all
            assert again.request("GET", "/hello").status == 200
        until(lambda: not insists(house, HOME), seconds=3, what="the end of the second")


def test_a_probe_says_who_it_is(house: Lock) -> None:
    """204 for a device; for others 403 and the reason code: what the page waits to see changed."""
    ruled(house, mode="explain")
    unlisted = house.site.device("unlisted", listed=False)
    answers = {"unknown-certificate": unlisted, "no-certificate": None}
    for reason, device in answers.items():
        answer = request(house.port, "GET", PROBE, device, headers=OWN_PAGE, source=HOME)
        assert (answer.status, answer.body) == (403, reason.encode())
    assert request(house.port, "GET", PROBE, house.admin, headers=OWN_PAGE, source=HOME).status == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Host": "evil.example", "Origin": "https://evil.example"},
        {"Host": "evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_another_page_has_the_guard_do_nothing(house: Lock, headers: dict[str, str]) -> None:
    """Who does not come from a page of ours gets the ordinary refusal, and nothing is insisted on."""
    ruled(house, mode="explain")
    assert is_refused(
        request(house.port, "POST", AGAIN, headers=headers, body=b"", source=OFFICE), "no-certificate"
    )
    assert is_refused(request(house.port, "GET", PROBE, headers=headers, source=OFFICE), "no-certificate")
    assert not insists(house, OFFICE)


def test_who_shows_a_certificate_and_who_comes_by_the_open_port_cannot_ask(house: Lock) -> None:
    """A device's question goes its ordinary way, and the open port has no such page."""
    port = free_port()
    ruled(house, Rule(2, anyone=True, path="/hello"), open_port=port, mode="explain")
    until(lambda: is_listening(port), what="the open port")
    assert (
        request(house.port, "POST", AGAIN, house.admin, headers=OWN_PAGE, body=b"").status == 404
    )  # Node-RED's own
    assert is_refused(request(port, "POST", AGAIN, headers=OWN_PAGE, body=b"", source=AWAY), "no-certificate")
    assert is_refused(request(port, "GET", PROBE, headers=OWN_PAGE, source=AWAY), "no-certificate")
    assert not insists(house, AWAY)


def test_rules_are_published_as_they_are(house: Lock) -> None:
    """What is in force is what was published: the head names these rules."""
    ruled(house, TABLET, USERS)
    head = json.loads((house.site.published / "snapshot.json").read_bytes().split(b"\n")[0])
    assert [rule["id"] for rule in head["rules"]] == [1, 2, 3]
    assert claim(house)["version"] == head["version"]
