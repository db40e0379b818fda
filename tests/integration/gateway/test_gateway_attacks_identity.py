"""What attackers say about themselves, at live HAProxy: classes 7 and 8 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.gateway.house import House, Live, fields, reason
from tests.integration.guard.rules import AWAY, HOME
from tests.support.clients import Connection, Refused, request
from tests.support.haproxy import SECRET, Door
from tests.support.http2 import Http2
from tests.support.nodered import free_port, node
from tests.support.site import Device, odd_certificate

from redlatch.pki.keys import generate_key
from redlatch.policy.model import Rule

WEBHOOK = Rule(2, anyone=True, path="/hello")
VIEWER = Rule(3, roles=("viewer",), area="editor-read")

# --- 7 names in certificates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "admin",
        "admin\0.evil",
        "admin\0",
        "ADMIN",
        "owner",
        "https://localhost/device/x",
        "x\r\nX-Redlatch-User: admin",
    ],
)
def test_7_a_borrowed_name_is_nobody(house: House, name: str) -> None:
    """The common name and the alternative name of a device that is let in make nobody that device."""
    key = generate_key()
    made = odd_certificate(house.site.device_ca, key, name, house.admin.id)
    device = Device("forged", house.admin.id, made, key, house.site.root / "devices")
    house.ruled(WEBHOOK)
    assert reason(request(house.port, "GET", "/flows", device)) == "unknown-certificate"
    assert reason(request(house.port, "GET", "/hello", device)) == "ok"
    assert reason(request(house.port, "GET", "/flows", house.admin)) == "ok"
    anyone, owner = map(fields, house.upstream.seen)
    assert (anyone["x-redlatch-user"], owner["x-redlatch-user"]) == (["anyone"], ["admin"])
    assert "x-redlatch-device" not in anyone


def test_7_two_devices_of_one_name(live: Live) -> None:
    """Two certificates with one common name are two devices: each has its own role, and one goes without the
    other.
    """
    one, other = live.site.device("twin", "owner"), live.site.device("twin", "thing")
    live.wait()
    assert reason(request(live.port, "POST", "/flows", one, body=b"[]")) == "ok"
    assert reason(request(live.port, "POST", "/flows", other, body=b"[]")) == "no-rule"
    live.site.list(other, role="owner")
    live.revoke(one)
    assert reason(request(live.port, "GET", "/flows", one)) == "unknown-certificate"
    assert reason(request(live.port, "GET", "/flows", other)) == "ok"


# --- 8 identity headers ------------------------------------------------------------------------------------------

OURS = ("Secret", "Device", "User", "Role", "Permission", "Anything-Later")
# As other programs (CGI, WSGI, nginx with underscores_in_headers) would read the same name
SPELLINGS = (
    "X-Redlatch-{}", "x-redlatch-{}", "X-REDLATCH-{}", "X_Redlatch_{}", "X-Redlatch_{}", "X_Redlatch-{}",
    "X.Redlatch.{}", "X-Redlatch-{}!", "X-Redlatch~{}",
)  # fmt: skip


def is_ours(name: str) -> bool:
    """Whether some program could take it for one of the gateway's."""
    return "".join(one for one in name.lower() if one.isalnum()).startswith("xredlatch")


def identity(head: bytes) -> dict[str, list[str]]:
    return {name: values for name, values in fields(head).items() if is_ours(name)}


def of_viewer(device: Device) -> dict[str, list[str]]:
    return {
        "x-redlatch-secret": [SECRET], "x-redlatch-device": [device.id], "x-redlatch-user": [device.name],
        "x-redlatch-role": ["viewer"], "x-redlatch-permission": ["read"],
    }  # fmt: skip


OF_ANYONE = {"x-redlatch-secret": [SECRET], "x-redlatch-user": ["anyone"]}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_8_what_a_client_says_of_itself_never_arrives(house: House, spelling: str) -> None:
    """In whatever spelling, twice, alone or with a name in Connection; over HTTP/1.1 and HTTP/2; a device's and a
    stranger's."""
    device = house.device("viewer")
    house.ruled(WEBHOOK, VIEWER)
    said = [(spelling.format(name), "admin") for name in OURS for _ in range(2)]
    lines = "".join(f"{name}: {value}\r\n" for name, value in said)
    named = ", ".join(name for name, _ in said if is_token(name))
    for one, target, wanted in ((device, "/flows", of_viewer(device)), (None, "/hello", OF_ANYONE)):
        with Connection(house.port, one) as plain:
            for connection in ("", f"Connection: {named}\r\n", f"Connection: keep-alive, {named}, close\r\n"):
                house.upstream.seen.clear()
                plain.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{connection}{lines}\r\n".encode())
                assert reason(plain.response()) == "ok"
                assert identity(house.upstream.seen[0]) == wanted
        house.upstream.seen.clear()
        with Http2(house.port, one) as http2:
            lower = [(name.lower(), value) for name, value in said]
            assert reason(http2.request("GET", target, headers=lower)) == "ok"
            assert identity(house.upstream.seen[0]) == wanted
            try:  # upper case is malformed there
                http2.request("GET", target, headers=said)
            except Refused:
                continue
            assert identity(house.upstream.seen[1]) == wanted


def is_token(name: str) -> bool:
    return all(one.isalnum() or one in "!#$%&'*+-.^_`|~" for one in name)


def test_8_what_others_would_read_does_not_change_who_it_is(house: House) -> None:
    """Headers of other gateways and of forwarders: they open nothing, and those that we write are ours."""
    device = house.device("viewer")
    house.ruled(VIEWER)
    said = {
        "X-Forwarded-User": "admin", "Remote-User": "admin", "X-SSL-Client-Verify": "SUCCESS",
        "X-Client-Cert": "admin", "X-HTTP-Method-Override": "GET", "X-Original-URL": "/flows",
        "X-Rewrite-URL": "/flows", "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http",
        "X-Forwarded-For": HOME, "Forwarded": f"for={HOME};host=evil.example;proto=http",
    }  # fmt: skip
    assert reason(request(house.port, "GET", "/flows", headers=said)) == "no-certificate"
    assert reason(request(house.port, "POST", "/flows", device, headers=said, body=b"[]")) == "read-only"
    assert reason(request(house.port, "GET", "/flows", device, headers=said, source=AWAY)) == "ok"
    arrived = fields(house.upstream.seen[0])
    assert arrived["x-forwarded-for"] == [AWAY]
    assert arrived["x-forwarded-proto"] == ["https"]
    assert arrived["x-forwarded-host"] == [f"localhost:{house.port}"]
    assert "forwarded" not in arrived
    assert identity(house.upstream.seen[0]) == of_viewer(device)


def test_8_a_name_or_value_that_ends_a_line(house: House) -> None:
    """No header of a client's becomes two, whatever it holds."""
    device = house.device("viewer")
    house.ruled(VIEWER)
    for name, value in (
        ("x", "1\r\nX-Redlatch-Role: owner"), ("x", "1\nX-Redlatch-Role: owner"),
        ("x", "1\rX-Redlatch-Role: owner"),
        ("x\r\nx-redlatch-role", "owner"), ("x\nx-redlatch-role", "owner"), ("x", "1\0X-Redlatch-Role: owner"),
        ("x: 1\r\nx-redlatch-role", "owner"), ("", "x-redlatch-role: owner"), (" x-redlatch-role", "owner"),
        ("x-redlatch-role ", "owner"), ("x-redlatch-role\t", "owner"), (":x-redlatch-role", "owner"),
    ):  # fmt: skip
        for how in (over_http2, over_http1):
            house.upstream.seen.clear()
            # refused, or no answer that means anything
            with how(house, device, name, value) as ask, contextlib.suppress(Refused, AssertionError):
                ask()
            for head in house.upstream.seen:
                assert identity(head) == of_viewer(device), (name, value)
                assert b"owner" not in head or b"\nx-redlatch-role: owner" not in head.lower()


@contextmanager
def over_http2(house: House, device: Device, name: str, value: str) -> Iterator[Any]:
    with Http2(house.port, device) as http2:
        yield lambda: http2.request("GET", "/flows", headers=[(name, value)])


@contextmanager
def over_http1(house: House, device: Device, name: str, value: str) -> Iterator[Any]:
    with Connection(house.port, device) as plain:
        plain.send(f"GET /flows HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n\r\n".encode("latin-1"))
        yield plain.response


TRAILERS = [("x-redlatch-role", "owner"), ("x_redlatch_user", "admin"), ("x-redlatch-secret", "ab" * 32)]
_NODE = """
require("node:http").createServer((req, res) => {
  req.resume().on("end", () => res.end(JSON.stringify({headers: req.headers, distinct: req.headersDistinct,
    raw: req.rawHeaders})));
}).listen(Number(process.argv[1]), "127.0.0.1", () => console.log("ready"));
"""


def test_8_trailers_are_no_headers(house: House, tmp_path: Path) -> None:
    """HAProxy hands trailers on behind the body, where Node.js keeps them apart: no flow takes them for
    headers.
    """
    port = free_port()
    with (
        subprocess.Popen([node(), "-e", _NODE, str(port)], stdout=subprocess.PIPE) as server,
        Door(house.name, tmp_path, port, mode="explain") as door,
    ):
        try:
            assert server.stdout is not None
            server.stdout.readline()
            device = door.site.device("viewer", "viewer")
            door.publish(rules=(Rule(1, roles=("viewer",), path="/hook"),))
            chunks = b"3\r\nabc\r\n0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in TRAILERS)
            with Connection(door.port, device) as plain:
                plain.send(
                    b"POST /hook HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                    b"Trailer: X-Redlatch-Role\r\n\r\n" + chunks + b"\r\n"
                )
                answers = [plain.response()]
            with Http2(door.port, device) as http2:
                answers.append(http2.request("POST", "/hook", body=b"abc", trailers=TRAILERS))
            for answer in answers:
                shown = json.loads(answer.body)
                assert {name: value for name, value in shown["headers"].items() if is_ours(name)} == {
                    "x-redlatch-secret": SECRET, "x-redlatch-device": device.id, "x-redlatch-role": "viewer",
                    "x-redlatch-user": "viewer",
                }  # fmt: skip
                assert shown["distinct"]["x-redlatch-role"] == ["viewer"]
                assert "owner" not in shown["raw"]
        finally:
            server.kill()


def test_8_a_role_follows_its_device_at_once(live: Live) -> None:
    """What Node-RED is told on a connection that stays open is what holds for that very request."""
    device = live.device("admin")
    with Connection(live.port, device) as plain, Http2(live.port, device) as http2:
        for role in ("admin", "owner"):
            live.site.list(device, role=role)
            live.wait()
            for ask in (plain.request, http2.request):
                answer = ask("GET", "/hello")
                assert reason(answer) == "ok"
                head = live.seen[int(answer.headers["x-reached"]) - 1]
                assert identity(head)["x-redlatch-role"] == [role]
