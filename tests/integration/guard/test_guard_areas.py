"""Everything that Node-RED serves, each with a device and with a stranger."""

from __future__ import annotations

import pytest
from tests.integration.guard.conftest import Lock
from tests.support.clients import Refused, WebSocket, request
from tests.support.site import Device

AREAS = [
    pytest.param("GET", "/", b"<!DOCTYPE html>", id="editor"),
    pytest.param("GET", "/red/red.min.js", b"", id="editor-script"),
    pytest.param("GET", "/flows", b'"tab"', id="flows"),
    pytest.param("GET", "/settings", b'"version"', id="settings"),
    pytest.param("GET", "/hello", b"hello true", id="http-in"),
    pytest.param("POST", "/hello", b"hello true", id="http-in-post"),
    pytest.param("GET", "/note.txt", b"a static file", id="static"),
    pytest.param("GET", "/dashboard/", b"<!doctype html>", id="dashboard"),
    pytest.param("GET", "/dashboard/socket.io/?EIO=4&transport=polling", b'"sid"', id="socket.io-polling"),
    pytest.param("OPTIONS", "/flows", b"", id="options"),
]
TLS = pytest.mark.parametrize("tls", ["1.2", "1.3"])
WEBSOCKETS = pytest.mark.parametrize(
    "path",
    [
        pytest.param("/comms", id="comms"),
        pytest.param("/ws/echo", id="websocket-node"),
        pytest.param("/dashboard/socket.io/?EIO=4&transport=websocket", id="socket.io"),
    ],
)


def body_of(method: str) -> bytes | None:
    return b"{}" if method == "POST" else None


@pytest.mark.parametrize(("method", "path", "holds"), AREAS)
def test_a_device_reaches_everything(lock: Lock, method: str, path: str, holds: bytes) -> None:
    """A listed device reaches every area over plain requests."""
    answer = request(lock.port, method, path, lock.admin, body=body_of(method))
    assert answer.status in (200, 204)
    assert holds in answer.body


@TLS
@pytest.mark.parametrize(("method", "path", "holds"), AREAS)
def test_a_stranger_reaches_nothing(lock: Lock, tls: str, method: str, path: str, holds: bytes) -> None:
    """Without a certificate not a byte of HTTP comes back, whatever is asked for."""
    with pytest.raises(Refused):
        request(lock.port, method, path, body=body_of(method), tls=tls)


def test_a_device_deploys(lock: Lock) -> None:
    """A device deploys the flows that it read."""
    flows = request(lock.port, "GET", "/flows", lock.admin)
    answer = request(
        lock.port, "POST", "/flows", lock.admin, body=flows.body, headers={"Content-Type": "application/json"}
    )
    assert answer.status == 204


@TLS
def test_a_stranger_deploys_nothing(lock: Lock, tls: str) -> None:
    """A stranger's POST /flows ends at the handshake, and the flows are the same after."""
    before = request(lock.port, "GET", "/flows", lock.admin).body
    with pytest.raises(Refused):
        request(lock.port, "POST", "/flows", body=b"[]", headers={"Content-Type": "application/json"}, tls=tls)
    assert request(lock.port, "GET", "/flows", lock.admin).body == before


@WEBSOCKETS
def test_a_device_opens_websockets(lock: Lock, path: str) -> None:
    """A device's upgrade passes to each of the three websocket servers in Node-RED."""
    with WebSocket(lock.port, path, lock.admin) as socket:
        assert socket.is_open
        if path == "/ws/echo":
            socket.send_text("marco")
            assert socket.receive() == "marco"
        elif path == "/comms":
            assert '"hb"' in socket.receive()  # sent to those alone who are signed on
        else:
            assert '"sid"' in socket.receive()


@TLS
@WEBSOCKETS
def test_a_stranger_opens_no_websocket(lock: Lock, path: str, tls: str) -> None:
    """A stranger's upgrade is not even answered."""
    with pytest.raises(Refused):
        WebSocket(lock.port, path, tls=tls)


def test_a_device_sends_after_100_continue(lock: Lock) -> None:
    """`Expect: 100-continue` is judged and answered like any other request."""
    answer = request(
        lock.port, "POST", "/hello", lock.admin, body=b"{}", headers={"Expect": "100-continue", "X-Test": "1"}
    )
    assert answer.status in (100, 200)


def roles(lock: Lock) -> dict[str, Device]:
    return {role: lock.device(role) for role in ("owner", "admin", "viewer", "user", "thing")}


def test_what_each_role_reaches(lock: Lock) -> None:
    """Owner and admin everything; viewer the editor, reading; user the dashboards; thing nothing."""
    asked = [
        ("GET", "/flows"), ("POST", "/flows"), ("GET", "/hello"), ("GET", "/dashboard/"), ("GET", "/note.txt"),
        ("GET", "/nowhere"), ("GET", "/FLOWS"), ("GET", "//flows"), ("DELETE", "/nodes/x"), ("GET", "/dashboards"),
    ]  # fmt: skip
    seen = {}
    for role, device in roles(lock).items():
        answers = []
        for method, path in asked:
            if (role, method) in (("owner", "POST"), ("admin", "POST")):
                continue  # deploying is tested above
            answers.append(request(lock.port, method, path, device, body=body_of(method)).status == 403)
        seen[role] = answers
    everything = [False] * (len(asked) - 1)
    assert seen["owner"] == everything
    assert seen["admin"] == everything
    assert seen["viewer"] == [False, True, True, True, True, True, True, True, True, True]
    assert seen["user"] == [True, True, True, False, True, True, True, True, True, True]
    assert seen["thing"] == [True] * len(asked)


@pytest.mark.parametrize(
    ("role", "path", "opens"),
    [
        ("viewer", "/comms", True),
        ("viewer", "/ws/echo", False),
        ("viewer", "/dashboard/socket.io/?EIO=4&transport=websocket", False),
        ("user", "/dashboard/socket.io/?EIO=4&transport=websocket", True),
        ("user", "/comms", False),
        ("thing", "/ws/echo", False),
    ],
)
def test_which_websockets_each_role_opens(lock: Lock, role: str, path: str, opens: bool) -> None:
    """A viewer's upgrade passes for /comms, a user's for the dashboards', and no other."""
    with WebSocket(lock.port, path, lock.device(role)) as socket:
        assert socket.upgrade.status == (101 if opens else 403)
