"""What is killed, garbled, full or taken: enforced all the same, said, and brought back with the current lists."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clients import Refused, WebSocket, request
from tests.support.running_gateway import PROGRAMS, RUN, RunningGateway, accepts, running, upstream
from tests.support.site import Device, Site
from tests.support.wait import until

from redlatch.engines.haproxy.model import Upstream, gateway_json


@pytest.fixture(params=PROGRAMS)
def program(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def gateway(program: str, tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path, program) as made:
        yield made


def is_let_in(gateway: RunningGateway, device: Device | None, target: str = "/flows") -> bool:
    try:
        return request(gateway.port, "GET", target, device).status == 200
    except (Refused, ConnectionError):
        return False


def device(gateway: RunningGateway, name: str) -> Device:
    made = gateway.site.device(name)
    gateway.wait()
    return made


def is_alive(socket: WebSocket) -> bool:
    socket.send_text("still there")
    return socket.receive() == "still there"


def test_run_is_killed_and_the_next_one_takes_over(gateway: RunningGateway) -> None:
    laptop, phone, guest = (device(gateway, name) for name in ("laptop", "phone", "guest"))
    gateway.site.list(guest, not_after=int(time.time()) + 3)
    gateway.site.revoke(phone)
    gateway.wait()
    tablet = device(gateway, "tablet")
    master = gateway.haproxy
    sockets = {one.name: WebSocket(gateway.port, "/comms", one) for one in (laptop, tablet, guest)}
    gateway.kill()
    assert is_let_in(gateway, laptop)
    assert not is_let_in(gateway, phone)
    until(lambda: not is_let_in(gateway, guest), what="the end of a certificate")
    gateway.site.revoke(tablet)  # nobody hears of it yet
    assert is_let_in(gateway, tablet)
    gateway.start()
    assert gateway.haproxy == master
    assert sockets["tablet"].is_closed(5)
    assert sockets["guest"].is_closed(5)
    assert not is_let_in(gateway, tablet)
    assert is_alive(sockets["laptop"])
    assert is_let_in(gateway, laptop)


@pytest.mark.parametrize("which", ["worker", "master"])
def test_haproxy_is_killed(gateway: RunningGateway, which: str) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    gateway.site.revoke(phone)
    gateway.wait()
    found = gateway.runtime.processes()
    assert found.present is not None
    os.kill(found.master if which == "master" else found.present.pid, signal.SIGKILL)
    until(lambda: gateway.haproxy != found.master and is_let_in(gateway, laptop), what="another haproxy")
    assert not is_let_in(gateway, phone)
    until(lambda: not Path(f"/proc/{found.present.pid}").exists() if found.present else True, what="its end")
    until(lambda: gateway.problem() is None, what="no problem any more")


@pytest.mark.parametrize("which", ["worker", "master"])
def test_all_is_killed_and_the_list_changes_meanwhile(gateway: RunningGateway, which: str) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    assert is_let_in(gateway, phone)
    found = gateway.runtime.processes()
    assert found.present is not None
    gateway.kill()
    os.kill(found.master if which == "master" else found.present.pid, signal.SIGKILL)
    gateway.site.revoke(phone)
    gateway.start()
    assert is_let_in(gateway, laptop)
    assert not is_let_in(gateway, phone)
    assert gateway.haproxy != found.master


def test_garbage_leaves_the_old_snapshot_in_force(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    good = (gateway.site.published / "snapshot.json").read_bytes()
    version = gateway.site.snapshot.version
    for data in (b"", b"garbage", good[:-10], good.replace(b'"strict"', b'"explai"')):
        gateway.site.put("snapshot.json", data)
        problem = until(gateway.problem, what="a problem")
        assert "garbled" in problem or "form" in problem
        assert is_let_in(gateway, laptop)
        claim = gateway.claim()
        assert claim is not None
        assert claim.version == version
    # a part that is missing
    gateway.site.put("snapshot.json", good)
    until(lambda: gateway.problem() is None, what="no problem")
    parts = {path: path.read_bytes() for path in (gateway.site.published / "snapshot").iterdir()}
    third = gateway.site.device("third", listed=False)
    gateway.site.list(third)
    assert gateway.wait().problem is None
    gateway.site.revoke(third)
    gateway.wait()
    for path, data in parts.items():
        if not path.exists():
            path.write_bytes(data)
    gateway.site.put("snapshot.json", good)
    gateway.wait(version)
    assert "Traceback" not in gateway.told()
    gateway.site.revoke(phone)
    gateway.wait()
    assert not is_let_in(gateway, phone)
    assert all(line.startswith("{") for line in gateway.told().splitlines())


def test_no_good_snapshot_at_the_start_refuses_everybody(program: str, tmp_path: Path) -> None:
    with upstream() as server:
        site = Site(tmp_path / "h")
        laptop = site.device("laptop")
        good = (site.published / "snapshot.json").read_bytes()
        site.put("snapshot.json", b"garbage\n")
        gateway = RunningGateway(site, PROGRAMS[program], server.server_address[1])
        gateway.start(wait=False)
        try:
            until(lambda: accepts(gateway.port), what="haproxy")
            until(gateway.problem, what="a problem")
            assert not is_let_in(gateway, laptop)
            claim = gateway.claim()
            assert claim is not None
            assert claim.version == 0
            site.put("snapshot.json", good)
            gateway.wait()
            assert is_let_in(gateway, laptop)
            assert gateway.problem() is None
        finally:
            gateway.stop()


def test_garbage_when_the_next_run_takes_over(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    version = gateway.site.snapshot.version
    good = (gateway.site.published / "snapshot.json").read_bytes()
    gateway.kill()
    gateway.site.put("snapshot.json", b"garbage\n")
    gateway.start(wait=False)
    gateway.wait(version)
    # said after what is wrong with the file
    until(lambda: "stays in force" in (gateway.problem() or ""), what="that what was told before is kept")
    assert is_let_in(gateway, laptop)
    gateway.site.put("snapshot.json", good)
    gateway.site.revoke(phone)
    assert gateway.wait().problem is None
    assert not is_let_in(gateway, phone)


def test_a_full_disk_leaves_all_as_it_was(gateway: RunningGateway) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    gateway.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", gateway.site.spool], check=True)
    try:
        gateway.start()
        laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
        files = {path.name: path.read_bytes() for path in (gateway.root / "current").iterdir()}
        filler = gateway.site.spool / "filler"
        descriptor = os.open(filler, os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(descriptor, b"x" * 4096)
        os.close(descriptor)
        gateway.site.revoke(phone)
        until(lambda: "no space left" in gateway.told(), what="the problem on stderr")
        gateway.site.publish_server()  # what needs a whole new folder
        time.sleep(1.5)
        assert is_let_in(gateway, laptop)
        assert is_let_in(gateway, phone)
        assert {path.name: path.read_bytes() for path in (gateway.root / "current").iterdir()} == files
        filler.unlink()
        assert gateway.wait().problem is None
        assert not is_let_in(gateway, phone)
        assert is_let_in(gateway, laptop)
    finally:
        gateway.stop()
        subprocess.run(["umount", "-l", gateway.site.spool], check=True)
        gateway.start(wait=False)


def test_a_bad_certificate_stands_in_the_way_of_nothing(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    good = (gateway.site.published / "server.pem").read_bytes()
    gateway.site.put("server.pem", b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    assert "does not take" in until(gateway.problem, what="a problem")
    gateway.site.change(names=("localhost", "another.example"))  # needs a reload
    gateway.site.revoke(phone)
    gateway.wait()
    assert "does not take" in (gateway.problem() or "")
    assert not is_let_in(gateway, phone)
    assert is_let_in(gateway, laptop)
    gateway.site.put("gateway.json", b"{}\n")
    until(lambda: "garbled" in (gateway.problem() or ""), what="another problem")
    assert is_let_in(gateway, laptop)
    gateway.site.put("server.pem", good)
    gateway.site.put("gateway.json", gateway_json(gateway.gateway))
    until(lambda: gateway.problem() is None, what="no problem")
    assert is_let_in(gateway, laptop)


def test_a_port_that_is_taken(program: str, tmp_path: Path) -> None:
    with upstream() as server:
        site = Site(tmp_path / "h")
        laptop = site.device("laptop")
        gateway = RunningGateway(site, PROGRAMS[program], server.server_address[1])
        with socket.create_server(("127.0.0.1", gateway.port)):
            gateway.start(wait=False)
            assert str(gateway.port) in until(gateway.problem, what="a problem")
        try:
            gateway.wait()
            assert gateway.problem() is None
            assert is_let_in(gateway, laptop)
            # one more, later: the first goes on
            with socket.create_server(("127.0.0.1", 0)) as taken:
                listen = (*gateway.gateway.listen, f"127.0.0.1:{taken.getsockname()[1]}")
                more = type(gateway.gateway)(
                    listen=listen, upstreams=(Upstream(f"http://127.0.0.1:{server.server_address[1]}"),)
                )
                site.put("gateway.json", gateway_json(more))
                until(gateway.problem, what="a problem")
                assert is_let_in(gateway, laptop)
                site.revoke(laptop)
                gateway.wait()
                assert not is_let_in(gateway, laptop)
        finally:
            gateway.stop()


def test_only_one_runs_and_both_end_together(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    other = subprocess.run(
        [sys.executable, "-c", RUN, gateway.site.root, PROGRAMS["2.6"]],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert other.returncode == 1
    assert b"runs already" in other.stderr
    assert is_let_in(gateway, laptop)
    master = gateway.haproxy
    gateway.stop()
    assert not accepts(gateway.port)
    assert not Path(f"/proc/{master}").exists()
    assert gateway.problem() == "the gateway was stopped"
    assert "Traceback" not in gateway.told()
    gateway.start()
    assert is_let_in(gateway, laptop)
