"""What the gateway tells: access log over its rotation, who knocked, connections, metrics, systemd."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.nodered import free_port
from tests.support.running_gateway import PROGRAMS, RunningGateway, running
from tests.support.site import Device
from tests.support.wait import until

from redlatch.engines.haproxy import metrics
from redlatch.engines.haproxy.accesslog import AccessLog
from redlatch.engines.haproxy.knocks import Knocks
from redlatch.engines.nodered.claims import AccessTail, read_access, read_connections
from redlatch.errors import FileProblem


@pytest.fixture(params=PROGRAMS)
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path, request.param, metrics=free_port()) as made:
        yield made


def device(gateway: RunningGateway, name: str, role: str = "admin") -> Device:
    made = gateway.site.device(name, role)
    gateway.wait()
    return made


def knock(gateway: RunningGateway, device: Device | None = None) -> None:
    with pytest.raises(Refused):
        request(gateway.port, "GET", "/", device)


def scraped(gateway: RunningGateway) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.gateway.metrics}/redlatch", timeout=5) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (one.rpartition(" ") for one in lines if one[0] != "#")}


def test_the_log_is_rotated_under_load(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    tail = AccessTail(gateway.settings, os.geteuid())
    seen: list[str] = []
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.05):
            seen.extend(one.path or "" for one in tail.read())

    thread = threading.Thread(target=follow)
    thread.start()
    with Connection(gateway.port, laptop) as connection:  # each write is told: 6 MB of them
        long = "x" * 300
        paths = [f"/{number:05d}/{long}" for number in range(9000)]
        for path in paths:
            assert connection.request("POST", path, body=b"").status == 200
    socket = WebSocket(gateway.port, "/comms", laptop)
    until(lambda: "/comms" in seen, what="the last line")
    stop.set()
    thread.join()
    told = [path[:6] for path in seen if path.startswith("/0")]
    assert told == [path[:6] for path in paths]  # nothing lost, nothing twice, in order
    assert scraped(gateway)["redlatch_log_dropped_total"] == 0
    sizes = {name: (gateway.site.spool / name).stat().st_size for name in ("access.jsonl", "access.1.jsonl")}
    assert all(size < 8 << 20 for size in sizes.values())
    assert read_access(gateway.settings, os.geteuid(), limit=1)[0].path == "/comms"
    # what opened before the rotation, and after it, is still known
    gateway.site.revoke(laptop)
    assert socket.is_closed(5)


def test_who_knocks_is_told_folded(gateway: RunningGateway) -> None:
    laptop, stranger = device(gateway, "laptop"), gateway.site.device("stranger", listed=False)
    for _ in range(7):
        knock(gateway)
    for _ in range(3):
        knock(gateway, stranger)
    assert request(gateway.port, "GET", "/", laptop).status == 200

    def counted() -> dict[str, int]:
        found: dict[str, int] = {}
        for one in read_access(gateway.settings, os.geteuid(), limit=1000):
            if one.method is None and one.reason != "bad-handshake":
                assert (one.address, one.allow) == ("127.0.0.1", False)
                found[one.reason] = found.get(one.reason, 0) + one.count
        return found

    wanted = {"no-certificate": 7, "unknown-certificate": 3}
    until(lambda: counted() == wanted, what="all knocks")
    # a reload and a restart tell nothing twice
    gateway.site.publish_server()
    until(lambda: "haproxy has reloaded" in gateway.told(), what="a reload")
    gateway.kill()
    gateway.start()
    knock(gateway)
    until(lambda: counted()["no-certificate"] == 8, what="one more")
    assert counted() == {**wanted, "no-certificate": 8}


def test_connections_are_listed(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    sockets = [WebSocket(gateway.port, "/comms", one) for one in (laptop, phone)]

    def listed() -> set[str]:
        found = read_connections(gateway.settings, os.geteuid()) or []
        return {one.device_id for one in found if one.websocket and one.address == "127.0.0.1"}

    until(lambda: listed() == {laptop.id, phone.id}, what="both connections")
    gateway.site.revoke(phone)
    until(lambda: listed() == {laptop.id}, what="one connection")
    sockets[0].close()
    until(lambda: listed() == set(), what="no connection")


def test_metrics(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    gateway.site.list(phone, not_after=phone.entry.not_after - 340 * 86400)
    gateway.wait()
    viewer = device(gateway, "viewer", "viewer")
    socket = WebSocket(gateway.port, "/comms", laptop)
    assert request(gateway.port, "GET", "/flows", viewer).status == 200
    assert request(gateway.port, "POST", "/flows", viewer, body=b"").status == 403
    until(lambda: scraped(gateway)["redlatch_open_streams"] == 1, what="one stream")
    before = scraped(gateway)
    assert before["redlatch_devices"] == 3
    assert before["redlatch_certificates_ending"] == 1
    assert 24 * 86400 < before["redlatch_certificate_expiry_seconds"] < 26 * 86400
    assert before['redlatch_decisions_total{reason="read-only"}'] == 1
    assert before['redlatch_decisions_total{reason="ok"}'] == 2
    assert before["redlatch_snapshot_version"] == gateway.site.snapshot.version
    assert 0 <= before["redlatch_snapshot_age_seconds"] < 60
    assert before["redlatch_log_dropped_total"] == 0
    # nothing falls when workers come and go
    socket.close()
    gateway.site.publish_server()
    until(lambda: "haproxy has reloaded" in gateway.told(), what="a reload")
    assert request(gateway.port, "GET", "/flows", laptop).status == 200
    after = scraped(gateway)
    assert after['redlatch_decisions_total{reason="ok"}'] == 3
    assert after['redlatch_decisions_total{reason="read-only"}'] == 1
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.gateway.metrics}/metrics", timeout=5) as answer:
        assert b"haproxy_process_uptime_seconds" in answer.read()
    log = (gateway.site.spool / "access.jsonl").read_text()
    assert "metrics" not in log.replace("Proxy metrics stopped", "")  # scrapes are no accesses
    assert json.loads(log.splitlines()[0])["reason"] == "ok"


def test_somebody_who_asks_for_metrics_and_says_nothing_holds_nothing_up(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(gateway.root / "metrics.sock"))
        gateway.site.revoke(laptop)
        gateway.wait()
        assert scraped(gateway)["redlatch_devices"] == 0


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with running(tmp_path, "2.6") as gateway:
            assert listening.recv(4096).startswith(b"READY=1\n")
            environ = Path(f"/proc/{gateway.haproxy}/environ").read_bytes()
            assert b"NOTIFY_SOCKET" not in environ
        assert listening.recv(4096) == b"STOPPING=1"


def test_a_handshake_that_is_none(gateway: RunningGateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
        raw.recv(100)
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        context.wrap_socket(raw, server_hostname="localhost")
    until(
        lambda: [one.reason for one in read_access(gateway.settings, os.geteuid())] == ["bad-handshake"] * 2,
        what="two lines",
    )


# --- the parts by themselves


def test_sums_never_fall() -> None:
    sums = metrics.Sums()
    assert sums.look({1: {"ok": 5}}) == {"ok": 5}
    assert sums.look({1: {"ok": 7}, 2: {"ok": 1, "expired": 1}}) == {"ok": 8, "expired": 1}
    assert sums.look({2: {"ok": 2}}) == {"ok": 9, "expired": 1}
    assert sums.look({2: {}}) == {"ok": 9, "expired": 1}
    assert sums.look({}) == {"ok": 9, "expired": 1}


def test_a_reason_cannot_break_out_of_its_label() -> None:
    figures = metrics.Figures(0, 0, 0, 0, None, 0, {'a"} 1\nb \\': 1}, 0, 0)
    assert 'redlatch_decisions_total{reason="a\\"} 1\\nb \\\\"} 1\n' in metrics.shown(figures)
    assert "expiry_seconds" not in metrics.shown(figures)


def test_knocks_that_expired_begin_anew(tmp_path: Path) -> None:
    knocks = Knocks(tmp_path / "knocks.json")
    assert [one["count"] for one in knocks.fold({1: {"::1|expired": 4}})] == [4]
    assert knocks.fold({1: {"::1|expired": 4}}) == []
    again = Knocks(tmp_path / "knocks.json")
    assert again.fold({1: {"::1|expired": 4}}) == []
    assert [(one["from"], one["count"]) for one in again.fold({1: {"::1|expired": 1}})] == [("::1", 1)]
    assert len(again.fold({2: {f"10.0.{at // 256}.{at % 256}|expired": 1 for at in range(5000)}})) == 2000
    (tmp_path / "knocks.json").write_text('{"1": [1]}')
    assert len(Knocks(tmp_path / "knocks.json").fold({1: {"::1|expired": 1}})) == 1


def test_what_stands_in_place_of_the_log_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "access.jsonl"
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileProblem):
        AccessLog(tmp_path, tmp_path / "pipe", descriptor=60)
    assert not (tmp_path / "elsewhere").exists()
    log.unlink()
    os.mkfifo(log)
    with pytest.raises(FileProblem):
        AccessLog(tmp_path, tmp_path / "pipe", descriptor=60)
    log.unlink()
    (tmp_path / "pipe").write_text("no pipe")
    AccessLog(tmp_path, tmp_path / "pipe", descriptor=60).close()


def test_lines_wait_in_the_pipe_for_the_next_run(tmp_path: Path) -> None:
    first = AccessLog(tmp_path, tmp_path / "pipe", descriptor=61)
    assert first.start() == []
    haproxy = os.dup(61)
    os.write(haproxy, b'{"n":1}\n{"n"')
    until(lambda: first.read() == [b'{"n":1}'], what="a line")
    first.close()
    os.write(haproxy, b':2}\n{"n":3}\n')
    second = AccessLog(tmp_path, tmp_path / "pipe", descriptor=61)
    try:
        assert second.start() == [b'{"n":1}', b'{"n"']
        until(lambda: (tmp_path / "access.jsonl").read_bytes().endswith(b"3}\n"), what="the lines")
        second.append([{"n": 4}])
        assert (tmp_path / "access.jsonl").read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n{"n":4}\n'
        assert second.is_that_of(os.getpid())
        (tmp_path / "pipe").unlink()
        os.mkfifo(tmp_path / "other")
        assert not AccessLog(tmp_path, tmp_path / "other", descriptor=62).is_that_of(1)
    finally:
        second.close()
        os.close(haproxy)
        os.close(62)


def test_a_log_that_cannot_be_written_says_so_and_goes_on(tmp_path: Path) -> None:
    log = AccessLog(tmp_path, tmp_path / "pipe", descriptor=63, most=20)
    (tmp_path / "access.1.jsonl").mkdir()
    (tmp_path / "access.1.jsonl" / "x").touch()
    log.append([{"n": "a longer line than that"}])
    assert log.problem is None
    log.append([{"n": 1}, {"n": 2}])
    assert "access.jsonl" in str(log.problem)
    assert log.dropped == 2
    (tmp_path / "access.1.jsonl" / "x").unlink()
    (tmp_path / "access.1.jsonl").rmdir()
    log.append([{"n": 3}])
    assert log.problem is None
    assert (tmp_path / "access.jsonl").read_bytes() == b'{"n":3}\n'
    log.close()
