"""Who knows the gateway's secret is answered, on every way in; nobody else is; and flows do not get to see it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

import pytest
from tests.integration.behind.houses import OTHER, SECRET, Behind, Plain, known
from tests.support.clients import Refused

PATHS = (
    "/",
    "/flows",
    "/settings",
    "/red/red.min.js",
    "/look",
    "/dashboard/",
    "/dashboard/socket.io/?EIO=4&transport=polling",
    "/nothing",
)
WEBSOCKETS = ("/comms", "/chat", "/dashboard/socket.io/?EIO=4&transport=websocket")
STRANGERS: Mapping[str, Mapping[str, str | None]] = {
    "none": {},
    "another": {"X-Redlatch-Secret": OTHER},
    "empty": {"X-Redlatch-Secret": ""},
    "longer": {"X-Redlatch-Secret": SECRET + "0"},
    "upper-case": {"X-Redlatch-Secret": SECRET.upper()},
    "the digest": {"X-Redlatch-Secret": "f" * 64},
    "doubled": {"X-Redlatch-Secret": SECRET, "x-redlatch-secret": SECRET},
    "right then wrong": {"X-Redlatch-Secret": SECRET, "x-redlatch-secret": OTHER},
    "wrong then right": {"X-Redlatch-Secret": OTHER, "x-redlatch-secret": SECRET},
    "underscores": {"X_Redlatch_Secret": SECRET},
    "listed": {"X-Redlatch-Secret": f"{SECRET}, {SECRET}"},
}
IDENTITY = {"X-Redlatch-User": "ann", "X-Redlatch-Permission": "*"}


@pytest.mark.parametrize("path", PATHS)
def test_with_the_secret(behind: Behind, path: str) -> None:
    """Everything of Node-RED is there."""
    found = behind.ask("GET", path, known("ann", "*"))
    assert (found.status in (200, 400)) is (path != "/nothing"), found
    assert b"redlatch's gateway" not in found.body


@pytest.mark.parametrize("path", WEBSOCKETS)
def test_websocket_with_the_secret(behind: Behind, path: str) -> None:
    """Editor, websocket node and dashboard open."""
    with behind.websocket(path, known("ann", "*")) as opened:
        assert opened.is_open, opened.upgrade
        if path == "/chat":
            opened.send_text("hello")
            assert opened.receive() == "hello"


@pytest.mark.parametrize("who", STRANGERS)
def test_without_the_secret(behind: Behind, who: str) -> None:
    """Nothing of Node-RED is there, whoever the headers say it is, on no way in."""
    headers = {**IDENTITY, **STRANGERS[who]}
    for path in PATHS:
        found = behind.ask("GET", path, headers)
        assert (found.status, found.headers.get("connection")) == (403, "close")
        assert found.body == b"This Node-RED answers redlatch's gateway and nobody else.\n"
    for path in WEBSOCKETS:
        with behind.websocket(path, headers) as refused:
            assert refused.upgrade.status == 403
            assert refused.is_closed()
    assert behind.ask("POST", "/flows", headers, []).status == 403
    assert behind.ask("OPTIONS", "/flows", {**headers, "Origin": "https://elsewhere"}).status == 403


def test_expectations_of_strangers(behind: Behind) -> None:
    """Node.js itself answers them where nobody listens for them, and then nothing of Node-RED does."""
    headers = {**IDENTITY, "Content-Length": "2", "Content-Type": "application/json"}
    for expect, status in (("100-continue", 403), ("something", 417)):
        with Plain(behind.node_red.port) as connection:
            found = connection.request("POST", "/look", headers={**headers, "Expect": expect})
            if found.status == 100:
                connection.send(b"{}")
                found = connection.response()
            assert found.status == status


def test_expectations_of_the_gateway(behind: Behind) -> None:
    """A body that waits for its 100 arrives."""
    with Plain(behind.node_red.port) as connection:
        headers = {**known(), "Expect": "100-continue", "Content-Length": "2", "Content-Type": "application/json"}
        assert connection.request("POST", "/look", headers=headers).status == 100
        connection.send(b"{}")
        assert connection.response().status == 200


@pytest.mark.parametrize("headers", [{"X-Redlatch-Secret": OTHER}, known("ann", "*")])
def test_connect_is_refused(behind: Behind, headers: dict[str, str | None]) -> None:
    """Node-RED is no proxy, for nobody."""
    with Plain(behind.node_red.port) as connection, pytest.raises(Refused):
        connection.request("CONNECT", "127.0.0.1:80", headers=headers)


def test_each_request_needs_the_secret(behind: Behind) -> None:
    """A connection that the gateway used before is nobody's: what comes next on it must know the secret too."""
    with Plain(behind.node_red.port) as connection:
        assert connection.request("GET", "/look", headers=known()).status == 200
        assert connection.request("GET", "/look").status == 403
        assert connection.is_closed()


def test_flows_see_who_and_not_the_secret(behind: Behind) -> None:
    """The secret is in nothing that hangs on a request; who it is from is plain information."""
    found = behind.ask("GET", "/look", {**known("ann", "read"), "X-Mine": "kept", "Cookie": "a=b"})
    assert found.status == 200
    assert SECRET not in found.body.decode().lower()
    assert "redlatch-secret" not in found.body.decode().lower()
    seen = found.json()
    assert seen["headers"]["x-redlatch-device"] == "ann-device"
    assert seen["headers"]["x-redlatch-user"] == "ann"
    assert seen["headers"]["x-redlatch-role"] == "role"
    assert seen["headers"]["x-redlatch-permission"] == "read"
    assert (seen["headers"]["x-mine"], seen["distinct"]["x-mine"]) == ("kept", ["kept"])
    assert dict(zip(seen["raw"][::2], seen["raw"][1::2], strict=True)) == {
        "Host": f"localhost:{behind.node_red.port}",
        "X-Redlatch-Device": "ann-device",
        "X-Redlatch-User": "ann",
        "X-Redlatch-Role": "role",
        "X-Redlatch-Permission": "read",
        "X-Mine": "kept",
        "Cookie": "a=b",
    }


def test_published_is_the_digest_alone(behind: Behind) -> None:
    """Whoever reads the published folder, as flows may, finds no secret."""
    for path in behind.settings.published.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()
    told = json.loads((behind.settings.published / "behind.json").read_text())
    with contextlib.suppress(Refused):
        assert behind.ask("GET", "/look", {"X-Redlatch-Secret": told["secret_sha256"]}).status == 403
