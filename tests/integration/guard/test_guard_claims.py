"""What the guard tells redlatch, and that nothing about telling can stop or open anything."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.guard.test_guard_live import connections, in_force
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.wait import until

from redlatch.policy.snapshot import digest


def accesses(lock: Lock) -> list[dict[str, Any]]:
    path = lock.site.spool / "access.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def logged(lock: Lock, **fields: Any) -> dict[str, Any]:
    """The first line of the access log with these fields."""

    def found() -> dict[str, Any] | None:
        return next((one for one in accesses(lock) if fields.items() <= one.items()), None)

    return until(found, what=f"a line with {fields}")


def test_in_force_names_what_is_enforced(lock: Lock) -> None:
    """Version, digest and site are those of the file, and versions of guard and Node-RED are right."""
    lock.site.change()
    claim = in_force(lock)
    data = (lock.site.published / "snapshot.json").read_bytes()
    assert claim["digest"] == digest(data)
    assert claim["site"] == lock.site.snapshot.site
    assert claim["port"] == lock.port
    assert claim["pid"] == lock.red.pid
    assert claim["node_red"].startswith(lock.version)
    assert claim["problem"] is None
    assert isinstance(claim["ms"], int | float)
    assert (lock.site.published / f"guard-{claim['guard']}").is_dir()


def test_connections_are_listed(lock: Lock) -> None:
    """An open connection is listed with its device, and gone when it ends."""
    device = lock.device()
    with WebSocket(lock.port, "/ws/echo", device):
        until(lambda: device.id in connections(lock), what="the connection")
        listed = json.loads((lock.site.spool / "connections.json").read_text())["connections"]
        mine = next(one for one in listed if one["id"] == device.id)
        assert mine["websocket"] is True
        assert mine["from"] == "127.0.0.1"
    until(lambda: device.id not in connections(lock), what="the end of the connection")


def test_the_access_log(lock: Lock) -> None:
    """First requests, writes, upgrades and refusals are logged; further reads and queries are not."""
    device = lock.device("viewer")
    in_force(lock)
    with Connection(lock.port, device) as connection:
        connection.request("GET", "/flows?secret=1")
        connection.request("GET", "/settings")
        connection.request("POST", "/flows", body=b"[]")
    with WebSocket(lock.port, "/comms", device):
        pass
    logged(lock, device=device.id, method="POST", path="/flows", allow=False, reason="read-only")
    assert logged(lock, device=device.id, path="/comms")["upgrade"] is True
    mine = [one for one in accesses(lock) if one["device"] == device.id]
    assert [one["path"] for one in mine] == ["/flows", "/flows", "/comms"]
    assert mine[0]["fp"] == device.fingerprint[:12]
    assert "secret" not in json.dumps(mine)


def test_refusals_at_the_handshake_are_logged(lock: Lock) -> None:
    """No certificate, an untrusted one, a garbled handshake: each with its reason; repeated ones are folded."""
    from tests.integration.guard.test_guard_certificates import foreign

    for _ in range(5):
        with pytest.raises(Refused):
            request(lock.port, "GET", "/", source="127.0.5.1")
    line = logged(lock, **{"from": "127.0.5.1", "reason": "no-certificate"})
    lines = [one for one in accesses(lock) if one["from"] == "127.0.5.1"]
    assert line["allow"] is False
    assert len(lines) < 5
    assert sum(one["count"] for one in lines) == 5
    with pytest.raises(Refused):
        request(lock.port, "GET", "/", foreign(lock), source="127.0.5.2")
    logged(lock, **{"from": "127.0.5.2", "reason": "untrusted-certificate"})


def test_the_access_log_is_rotated(lock: Lock) -> None:
    """At 4 MiB the log becomes access.1.jsonl, and one of those is kept."""
    log, older = lock.site.spool / "access.jsonl", lock.site.spool / "access.1.jsonl"
    older.write_text("oldest\n")
    log.write_text('{"old": true}\n' * 310_000)
    request(lock.port, "POST", "/hello", lock.admin, body=b"{}")
    until(lambda: older.stat().st_size > 4 * 1024 * 1024, what="the rotation")
    assert '"path":"/hello"' in older.read_text()[-300:]
    request(lock.port, "POST", "/hello", lock.admin, body=b"{}")
    logged(lock, path="/hello")
    assert log.stat().st_size < 10_000
    older.unlink()


def test_claims_are_written_by_the_owner_and_read_by_the_services_group(lock: Lock) -> None:
    """Every claim is a plain file with mode 0640, in a folder whose group is the service's; others get nothing."""
    request(lock.port, "POST", "/hello", lock.admin, body=b"{}")
    logged(lock, allow=True)
    until((lock.site.spool / "connections.json").exists, what="the list of connections")
    for name in ("in-force.json", "access.jsonl", "connections.json"):
        state = (lock.site.spool / name).lstat()
        assert stat.S_ISREG(state.st_mode)
        assert stat.S_IMODE(state.st_mode) == 0o640


def missing(spool: Path) -> None:
    shutil.rmtree(spool)


def a_file(spool: Path) -> None:
    shutil.rmtree(spool)
    spool.write_text("")


def fifos(spool: Path) -> None:
    for name in ("in-force.json", "access.jsonl", "connections.json"):
        (spool / name).unlink(missing_ok=True)
        os.mkfifo(spool / name)


def folders(spool: Path) -> None:
    for name in ("in-force.json", "access.jsonl", "connections.json"):
        (spool / name).unlink(missing_ok=True)
        (spool / name).mkdir()


def full(spool: Path) -> None:
    shutil.rmtree(spool)
    spool.symlink_to("/dev/full")


@pytest.mark.parametrize("spoil", [missing, a_file, fifos, folders, full])
def test_a_spoilt_spool_changes_nothing(unstarted: Callable[..., Lock], spoil: Callable[[Path], None]) -> None:
    """Whatever became of the spool folder: devices get in, strangers don't, a revocation cuts."""
    lock = unstarted()
    spoil(lock.site.spool)
    device = lock.site.device("phone")
    with lock.red, WebSocket(lock.port, "/ws/echo", device) as websocket:
        for _ in range(3):
            assert request(lock.port, "POST", "/hello", lock.admin, body=b"{}").status == 200
            with pytest.raises(Refused):
                request(lock.port, "GET", "/hello")
        lock.site.revoke(device)
        assert websocket.is_closed()
        with pytest.raises(Refused):
            request(lock.port, "GET", "/hello", device)
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200


def test_a_link_in_the_spool_is_not_followed(lock: Lock, tmp_path: Path) -> None:
    """The access log is not appended to what a link of its name points at."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    log = lock.site.spool / "access.jsonl"
    log.unlink(missing_ok=True)
    log.symlink_to(victim)
    try:
        request(lock.port, "POST", "/hello", lock.admin, body=b"{}")
        device = lock.device()
        with WebSocket(lock.port, "/ws/echo", device):
            until(lambda: device.id in connections(lock), what="the next claim")  # the log is written as often
        assert victim.read_text() == "mine"
    finally:
        log.unlink()
