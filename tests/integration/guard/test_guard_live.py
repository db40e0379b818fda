"""What changes while Node-RED runs: revocation, expiry, roles, files; and files that go bad."""

from __future__ import annotations

import hashlib
import json
import os
import socket as sockets
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.guard.test_guard_certificates import reaches, settled
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.site import Device
from tests.support.wait import until

from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import Rule, Snapshot
from redlatch.policy.snapshot import encode


def claim(lock: Lock) -> dict[str, Any]:
    path = lock.site.spool / "in-force.json"
    return json.loads(path.read_text()) if path.exists() else {}


def in_force(lock: Lock) -> dict[str, Any]:
    """The guard's claim, once it names the newest snapshot."""
    return until(
        lambda: found if (found := claim(lock)).get("version") == lock.site.snapshot.version else None,
        what="the guard's acknowledgement",
    )


@pytest.mark.parametrize("path", ["/comms", "/ws/echo", "/dashboard/socket.io/?EIO=4&transport=websocket"])
def test_revocation_cuts_what_is_open(lock: Lock, path: str) -> None:
    """A revoked device loses its websocket and its idle connection; others keep theirs."""
    device = lock.device()
    in_force(lock)
    with (
        WebSocket(lock.port, path, device) as websocket,
        Connection(lock.port, device) as connection,
        WebSocket(lock.port, path, lock.admin) as other,
    ):
        assert websocket.is_open
        assert connection.request("GET", "/hello").status == 200
        lock.site.revoke(device)
        assert websocket.is_closed()
        assert connection.is_closed()
        assert in_force(lock)["closed"] == 2
        assert not other.is_closed(0.2)
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello", device)


def test_an_upload_is_cut(lock: Lock) -> None:
    """A request whose body is still on its way ends with the revocation."""
    device = lock.device()
    in_force(lock)
    with Connection(lock.port, device) as connection:
        connection.send(b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        until(lambda: device.id in connections(lock), what="the connection in the claim")
        lock.site.revoke(device)
        assert connection.is_closed()


def connections(lock: Lock) -> list[str]:
    path = lock.site.spool / "connections.json"
    return [one["id"] for one in json.loads(path.read_text())["connections"]] if path.exists() else []


def test_expiry_cuts_what_is_open(lock: Lock) -> None:
    """When a certificate's time is over its open connections end, by themselves and without a change of files."""
    device = lock.device()
    lock.site.list(device, not_after=int(datetime.now(UTC).timestamp()) + 2)
    in_force(lock)
    with WebSocket(lock.port, "/ws/echo", device) as websocket, Connection(lock.port, device) as connection:
        assert websocket.is_open
        assert connection.request("GET", "/hello").status == 200
        assert websocket.is_closed()
        assert connection.is_closed()
    assert datetime.now(UTC).timestamp() > lock.site.snapshot.devices[device.fingerprint].not_after
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello", device)


def test_a_new_role_counts_at_once(lock: Lock) -> None:
    """A role taken away cuts what was opened under it, and the next connection has the new one."""
    device = lock.device("admin")
    in_force(lock)
    with WebSocket(lock.port, "/comms", device) as websocket:  # which a viewer may open, too
        assert websocket.is_open
        lock.site.list(device, role="viewer")
        assert websocket.is_closed()
    assert request(lock.port, "GET", "/flows", device).status == 200
    assert request(lock.port, "POST", "/flows", device, body=b"[]").status == 403


def test_a_renewed_entry_stays_connected(lock: Lock) -> None:
    """A change that leaves a device what it was does not end its connections."""
    device = lock.device()
    in_force(lock)
    with WebSocket(lock.port, "/ws/echo", device) as websocket:
        lock.site.list(device, not_after=lock.site.snapshot.time + 9999)
        in_force(lock)
        websocket.send_text("still here")
        assert websocket.receive() == "still here"


def test_a_lost_name_cuts_what_came_by_it(lock: Lock) -> None:
    """A websocket that was opened under a host name ends when that name is no longer ours."""
    names = lock.site.snapshot.names
    lock.site.change(names=(*names, "old.lan"))
    in_force(lock)
    with WebSocket(lock.port, "/ws/echo", lock.admin, headers={"Host": "old.lan"}) as websocket:
        assert websocket.is_open
        lock.site.change(names=names)
        assert websocket.is_closed()


def newer(lock: Lock, **fields: Any) -> bytes:
    return headed(replace(lock.site.snapshot, version=lock.site.snapshot.version + 1, **fields))


def headed(snapshot: Snapshot) -> bytes:
    """The head alone: its parts are published already, or there are none."""
    return encode(snapshot)[0]


def with_part(lock: Lock, content: bytes, name: str | None = None) -> bytes:
    """A head whose devices are a part with `content`, published under its digest or another name."""
    digest = hashlib.sha256(content).hexdigest()
    (lock.site.published / "snapshot" / (name or digest)).write_bytes(content)
    body = {**json.loads(newer(lock).split(b"\n")[0]), "devices": name or digest}
    return with_digest(json.dumps(body).encode())


def with_digest(line: bytes) -> bytes:
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


# Each would shut everybody out, or let a stranger in, if it were believed
BAD_SNAPSHOTS: list[tuple[str, Callable[[Lock], bytes | None], str]] = [
    ("missing", lambda lock: None, "missing"),
    ("empty", lambda lock: b"", "cut short"),
    ("truncated", lambda lock: newer(lock, devices={})[:-40], "digest"),
    ("torn", lambda lock: newer(lock, devices={})[: len(newer(lock, devices={})) // 2], ""),
    ("garbage", lambda lock: os.urandom(500).replace(b"\n", b" "), "cut short"),
    ("garbage-with-digest", lambda lock: with_digest(b"{]"), "JSON"),
    ("wrong-digest", lambda lock: newer(lock, devices={}).replace(b'"mode"', b'"Mode"'), "digest"),
    ("appended", lambda lock: newer(lock, devices={}) + b"x", "digest"),
    ("older", lambda lock: headed(replace(lock.site.snapshot, version=1, devices={})), "not newer"),
    ("same-version", lambda lock: headed(replace(lock.site.snapshot, devices={})), "not newer"),
    ("foreign-site", lambda lock: newer(lock, site="other", devices={}), "another site"),
    ("foreign-format", lambda lock: with_digest(b'{"format":3}'), "format"),
    ("wrong-type", lambda lock: with_digest(newer(lock).split(b"\n")[0].replace(b"[]", b"0")), "origins"),
    ("wrong-mode", lambda lock: newer(lock, mode="open"), "mode"),
    ("old-format", lambda lock: with_digest(b'{"format":1}'), "format"),
    ("odd-rule", lambda lock: newer(lock, rules=(Rule(1, anyone=True, area="everything"),)), "rules"),
    ("part-missing", lambda lock: newer(lock, devices={"a" * 64: lock.admin.entry}), "missing"),
    ("part-empty", lambda lock: with_part(lock, b"", "b" * 64), "torn or garbled"),
    ("part-torn", lambda lock: with_part(lock, b'{"leaf":{', "c" * 64), "torn or garbled"),
    ("part-odd", lambda lock: with_part(lock, b'{"leaf":{"x":[]}}'), "garbled device"),
    ("part-no-json", lambda lock: with_part(lock, b"\0\0"), "JSON"),
    ("network-missing", lambda lock: newer(lock, networks={"n": BUILTIN["private"]}), "missing"),
    ("list-of-devices", lambda lock: with_digest(
        json.dumps({**json.loads(newer(lock).split(b"\n")[0]), "devices": []}).encode()), "devices"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "words"), BAD_SNAPSHOTS, ids=[name for name, _, _ in BAD_SNAPSHOTS])
def test_a_bad_snapshot_changes_nothing(
    lock: Lock, name: str, make: Callable[[Lock], bytes | None], words: str
) -> None:
    """The last good snapshot stays in force, the trouble is reported, and the next good one counts."""
    in_force(lock)
    path = lock.site.published / "snapshot.json"
    good = path.read_bytes()
    data = make(lock)
    with WebSocket(lock.port, "/ws/echo", lock.admin) as websocket:
        try:
            if data is None:
                path.unlink()
            else:
                lock.site.put("snapshot.json", data)
            problem = until(lambda: claim(lock).get("problem"), what="the report of the trouble")
            assert "snapshot.json" in problem
            assert words in problem
            assert claim(lock)["version"] == lock.site.snapshot.version
            assert request(lock.port, "GET", "/hello", lock.admin).status == 200
            with pytest.raises(Refused):
                request(lock.port, "GET", "/hello")
            websocket.send_text("open")
            assert websocket.receive() == "open"
        finally:
            lock.site.put("snapshot.json", good)
    until(lambda: claim(lock).get("problem") is None, what="the end of the trouble")
    device = lock.device()
    until(lambda: reaches(lock, device), what="the next snapshot")


def served(lock: Lock) -> bytes:
    """The DER of the certificate that the server shows."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    with (
        sockets.create_connection(("127.0.0.1", lock.port), 10) as raw,
        made.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def test_a_new_server_certificate_is_served(lock: Lock) -> None:
    """A renewed server.pem is served without a restart, and open connections go on."""
    before = served(lock)
    with WebSocket(lock.port, "/ws/echo", lock.admin) as websocket:
        lock.site.publish_server(days=60)
        until(lambda: served(lock) != before, what="the new certificate")
        websocket.send_text("open")
        assert websocket.receive() == "open"
    until(lambda: claim(lock)["server_not_after"] < datetime.now(UTC).timestamp() + 61 * 86400, what="the claim")
    assert request(lock.port, "GET", "/hello", lock.admin).status == 200


def other_key(lock: Lock) -> bytes:
    """The key of one certificate before another one."""
    parts = (lock.site.published / "server.pem").read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    own = Authority.create_server("x", ["localhost"], now=datetime.now(UTC))
    return parts[0] + certificate_pem(own.certificate)


BAD_FILES: list[tuple[str, str, Callable[[Lock], bytes | None]]] = [
    ("server-missing", "server.pem", lambda lock: None),
    ("server-empty", "server.pem", lambda lock: b""),
    ("server-garbage", "server.pem", lambda lock: os.urandom(300)),
    ("server-truncated", "server.pem", lambda lock: (lock.site.published / "server.pem").read_bytes()[:-200]),
    ("server-mismatch", "server.pem", other_key),
    ("ca-missing", "device-ca.pem", lambda lock: None),
    ("ca-empty", "device-ca.pem", lambda lock: b""),
    ("ca-garbage", "device-ca.pem", lambda lock: b"-----BEGIN CERTIFICATE-----\nA\n-----END CERTIFICATE-----\n"),
    ("ca-is-no-ca", "device-ca.pem", lambda lock: certificate_pem(lock.admin.certificate)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "file", "make"), BAD_FILES, ids=[name for name, _, _ in BAD_FILES])
def test_a_bad_key_file_changes_nothing(
    lock: Lock, name: str, file: str, make: Callable[[Lock], bytes | None]
) -> None:
    """A server.pem or device-ca.pem that cannot be used is reported; the last good one stays."""
    before = served(lock)
    good = (lock.site.published / file).read_bytes()
    data = make(lock)
    try:
        if data is None:
            (lock.site.published / file).unlink()
        else:
            lock.site.put(file, data)
        problem = until(lambda: claim(lock).get("problem"), what="the report of the trouble")
        assert file in problem
        assert "PRIVATE" not in problem
        assert served(lock) == before
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200
        with pytest.raises(Refused):
            request(lock.port, "GET", "/hello")
        if file == "device-ca.pem":  # nor does the bad one come along with the next change
            lock.site.publish_server()
            until(lambda: served(lock) != before, what="the new server certificate")
            assert request(lock.port, "GET", "/hello", lock.admin).status == 200
    finally:
        lock.site.put(file, good)
    until(lambda: claim(lock).get("problem") is None, what="the end of the trouble")


def test_a_second_device_ca_counts_at_once(lock: Lock) -> None:
    """A device of a CA that was added is let in without a restart; one of a CA that was taken away is not."""
    second = Authority.create_device("second", now=datetime.now(UTC))
    device: Device = lock.site.device("of-second", authority=second)
    settled(lock)
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello", device)
    lock.site.publish_device_ca(lock.site.device_ca, second)
    until(lambda: reaches(lock, device), what="the second CA")
    assert reaches(lock, lock.admin)
    lock.site.publish_device_ca(lock.site.device_ca)
    until(lambda: not reaches(lock, device), what="the end of the second CA")


def test_the_mode_changes_at_once(lock: Lock) -> None:
    """Strict to explaining and back without a restart."""
    lock.site.change(mode="explain")
    in_force(lock)
    try:
        assert request(lock.port, "GET", "/hello").status == 403
        with Connection(lock.port) as stranger:
            until(stranger.socket.version, what="the handshake")
            lock.site.change(mode="strict")
            assert stranger.is_closed()
    finally:
        lock.site.change(mode="strict")
        in_force(lock)
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello")
    assert reaches(lock, lock.admin)


def test_the_device_is_not_yet_valid_in_the_list(lock: Lock) -> None:
    """The dates of the list count besides those that TLS looks at."""
    device = lock.site.device("later", listed=False)
    lock.site.list(device, not_before=int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
    settled(lock)
    with pytest.raises(Refused):
        request(lock.port, "GET", "/hello", device)
