"""`redlatch serve` as a process beside a real Node-RED: its ports, its races, its ends."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.clients import Connection, Refused, request
from tests.support.enrolling import make_csr
from tests.support.netns import own_network
from tests.support.serving import FOLLOWS, Served, is_open
from tests.support.wait import until

from redlatch.operations import links, service
from redlatch.operations.site import exclusive
from redlatch.pki.certificates import fingerprint, load_certificates

MANY = 200


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served")) as found:
        yield found


@pytest.fixture(autouse=True)
def _as_before(running: Served) -> None:
    """Each test begins with a service that runs, without open links and with a closed enrolment port."""
    assert running.process is not None
    if running.process.poll() is not None:
        running.start()
    for link in links.open_links(running.site):
        links.withdraw(running.site, link.id)
    running.enrolment_is("closed")


@dataclass(frozen=True)
class Pem:
    """A file with certificate and key."""

    cert_file: Path


def redeem_by_csr(served: Served, token: str) -> int:
    """The status that a command line gets."""
    headers = {"Content-Type": "application/pkcs10", "Authorization": f"Bearer {token}"}
    return request(served.enrolment_port, "POST", "/redeem", headers=headers, body=make_csr()).status


def test_the_enrolment_port_is_open_while_a_link_is(running: Served) -> None:
    """From two seconds after the invitation until it was redeemed by a command line, which waits for nothing."""
    link = running.invite("sensor 1")
    running.enrolment_is("open")
    assert redeem_by_csr(running, link.token) == 200
    running.enrolment_is("closed")


def test_it_closes_when_a_link_is_withdrawn(running: Served) -> None:
    """And not before the last one is."""
    first, second = running.invite("sensor 2"), running.invite("sensor 3")
    running.enrolment_is("open")
    assert running.run("device", "withdraw", str(first.number)).returncode == 0
    version = running.log().count("enrolment is closed")
    assert redeem_by_csr(running, first.token) == 410
    assert is_open(running.enrolment_port)
    assert running.run("device", "withdraw", str(second.number)).returncode == 0
    running.enrolment_is("closed")
    assert running.log().count("enrolment is closed") == version + 1


def test_it_closes_when_a_link_expires(running: Served) -> None:
    """Nobody does anything; its time is over (the shortest is 30 s: its end is brought nearer in the store)."""
    link = running.invite("sensor 4", "--role", "thing", "--trust-lan", "--valid", "30s")
    running.enrolment_is("open")
    with closing(sqlite3.connect(running.house.settings.database, timeout=20)) as store, store:
        store.execute("UPDATE links SET expires_at = ? WHERE id = ?", (int(time.time()) + 1, link.number))
    until(lambda: not is_open(running.enrolment_port), seconds=1 + FOLLOWS, what="the port's end")


def test_it_stays_open_for_a_page_until_its_device_is_in(running: Served, tmp_path: Path) -> None:
    """The page waits for its tick: the port outlives the link, and ends soon after the device came to Node-RED."""
    link = running.invite("tablet")
    running.enrolment_is("open")

    def post(path: str, **document: object) -> Any:
        headers = {"Content-Type": "application/json"}
        answer = request(running.enrolment_port, "POST", path, headers=headers, body=json.dumps(document).encode())
        assert answer.status in (200, 204), answer
        return answer.json() if answer.body else None

    handed = post("/redeem", token=link.token, format="pem")
    receipt = handed["receipt"]
    post("/received", receipt=receipt)
    assert links.open_links(running.site) == ()
    assert post("/arrived", receipt=receipt)["in"] is False
    before = running.log().count("enrolment is closed")

    files = {one["name"]: base64.b64decode(one["base64"]) for one in handed["files"]}
    key = Pem(tmp_path / "tablet.pem")
    key.cert_file.write_bytes(files["cert.pem"] + files["key.pem"])
    assert request(running.port, "GET", "/settings", key).status == 200
    until(lambda: post("/arrived", receipt=receipt)["in"], seconds=10, what="the tick")
    assert running.log().count("enrolment is closed") == before
    until(lambda: not is_open(running.enrolment_port), seconds=12, what="the port's end")


def test_of_many_who_come_at_once_one_gets_the_key(running: Served) -> None:
    """200 TLS connections, each with a whole request but for its last byte; then 200 last bytes."""
    link = running.invite("contested")
    running.enrolment_is("open")
    body = make_csr()
    head = (
        f"POST /redeem HTTP/1.1\r\nHost: localhost:{running.enrolment_port}\r\n"
        f"Content-Type: application/pkcs10\r\nAuthorization: Bearer {link.token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with ExitStack() as stack:
        many = [
            stack.enter_context(Connection(running.enrolment_port, source=f"127.0.1.{number + 1}"))
            for number in range(MANY)
        ]
        for one in many:
            one.send(head + body[:-1])
        for one in many:
            one.send(body[-1:])
        answers = [one.response("POST") for one in many]
    assert Counter(answer.status for answer in answers) == {200: 1, 410: MANY - 1}
    told = {answer.body for answer in answers if answer.status == 410}
    assert len(told) == 1
    assert told.pop().startswith(b"this link was used already")
    with running.site.store.read() as view:
        (device,) = [one for one in view.devices() if one.name == "contested"]
        (certificate,) = view.certificates(device.id)
        events = [one.event for one in view.audit_before(None, 500) if one.event.data.get("link") == link.number]
    (winner,) = [load_certificates(answer.body)[0] for answer in answers if answer.status == 200]
    assert fingerprint(winner) == certificate.fingerprint
    assert sorted(one.kind for one in events) == ["link.made", "link.redeemed"]


def test_changes_that_wait_hold_up_nobody_who_reads(running: Served) -> None:
    """More redemptions than threads wait for a command that is changing the site; a page is shown at once."""
    waiting = [running.invite(f"patient {number}") for number in range(6)]
    owner = running.key("reader")
    running.enrolment_is("open")
    with ThreadPoolExecutor(len(waiting)) as pool:
        with exclusive(running.site.settings):
            answers = [pool.submit(redeem_by_csr, running, link.token) for link in waiting]
            with Connection(running.console_port, owner, tls="1.3") as connection:
                connection.socket.settimeout(3)  # they wait for 10
                for _ in range(10):
                    assert connection.request("GET", "/devices").status == 200
            assert not any(answer.done() for answer in answers)
        assert [answer.result(30) for answer in answers] == [200] * len(waiting)


def test_nobody_else_keeps_the_enrolment_port_open(running: Served) -> None:
    """Asking for a tick with a receipt that was never given prolongs nothing."""
    link = running.invite("sensor 5")
    running.enrolment_is("open")
    headers = {"Content-Type": "application/json"}
    body = json.dumps({"receipt": "x" * 22}).encode()
    assert request(running.enrolment_port, "POST", "/arrived", headers=headers, body=body).status == 404
    links.withdraw(running.site, link.number)
    running.enrolment_is("closed")


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_nobody_else_gets_the_enrolment_port(running: Served, address: str) -> None:
    """Closed, while a link is open, and closed again, with its connections not yet forgotten: it stays ours."""

    def taken() -> None:
        with pytest.raises(OSError, match="in use"), socket.create_server((address, running.enrolment_port)):
            pass

    taken()
    link = running.invite(f"sensor, {address}")
    running.enrolment_is("open")
    taken()
    assert redeem_by_csr(running, link.token) == 200
    running.enrolment_is("closed")
    taken()


def test_a_link_of_device_send_is_none_of_its_business(running: Served) -> None:
    """It neither opens the enrolment port nor keeps it open."""
    (sent,) = links.invite(running.site, [links.Wanted("sent", "owner")], compared=True)
    link = running.invite("sensor 55")
    running.enrolment_is("open")
    links.withdraw(running.site, link.number)
    running.enrolment_is("closed")
    assert state(running, sent.link.id) == "open"
    links.withdraw(running.site, sent.link.id)


def test_a_link_does_not_outlive_that_somebody_else_has_the_port(running: Served) -> None:
    """A flow that listened there before the service did could take the link of whoever opens it: it is worth
    nothing by then.
    """
    assert running.stop() == 0
    with socket.create_server(("127.0.0.1", running.enrolment_port)):
        running.start()
        link = running.invite("deceived")
        until(lambda: state(running, link.number) == "withdrawn", seconds=FOLLOWS, what="the link's end")
        assert "enrolment cannot be opened" in running.log()
    again = running.invite("deceived")
    running.enrolment_is("open")
    assert redeem_by_csr(running, link.token) == 410
    assert redeem_by_csr(running, again.token) == 200


def state(served: Served, number: int) -> str:
    (found,) = [one for one in links.list_links(served.site) if one.id == number]
    return links.state(found, served.site.clock())


def test_killed_it_leaves_the_door_as_it_was(running: Served) -> None:
    """Node-RED goes on enforcing, also what the command line changes meanwhile; a restart goes on with links."""
    phone, lost = running.key("phone"), running.key("lost phone")
    link = running.invite("for later")
    running.enrolment_is("open")
    running.kill()
    assert not is_open(running.console_port)
    assert not is_open(running.enrolment_port)
    assert running.run("device", "revoke", "lost phone").returncode == 0
    assert request(running.port, "GET", "/settings", phone).status == 200
    with pytest.raises(Refused):
        request(running.port, "GET", "/settings", lost)
    with pytest.raises(Refused):
        request(running.port, "GET", "/settings")
    running.start()
    running.enrolment_is("open")
    assert redeem_by_csr(running, link.token) == 200
    assert request(running.console_port, "GET", "/", phone).status == 200
    assert request(running.console_port, "GET", "/", lost).status == 403


def test_sigterm_ends_it_cleanly(running: Served) -> None:
    """Exit code 0, both ports closed at once, also while a connection is open and a link is."""
    running.invite("never")
    running.enrolment_is("open")
    with Connection(running.enrolment_port) as connection:
        assert connection.request("GET", "/").status == 200
        assert running.stop() == 0
        assert not is_open(running.console_port)
        assert not is_open(running.enrolment_port)
        assert connection.is_closed()


def test_a_taken_console_port_is_named(running: Served) -> None:
    """A second service says which port is taken and what to do, and ends."""
    done = running.run("serve")
    assert done.returncode == 1
    assert f"port {running.console_port}: address already in use" in done.stderr
    assert "redlatch console --port" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invitation_without_the_service_makes_no_link(running: Served) -> None:
    """It says so instead of showing an address where nobody answers."""
    assert running.stop() == 0
    before = len(links.list_links(running.site))
    done = running.run("device", "invite", "nobody", "--trust-lan")
    assert done.returncode == 1
    assert "the service does not run" in done.stderr
    assert len(links.list_links(running.site)) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of its own needs root")
def test_it_follows_the_machines_addresses(tmp_path: Path) -> None:
    """Started before there is a network, as at boot: it listens on the address that comes, and no flow does."""
    moving = Served(tmp_path)
    service.configure(moving.site, console=("lan",), enrolment=("lan",))
    with own_network():
        moving.start()
        try:
            moving.invite("early")
            moving.enrolment_is("open")
            subprocess.run(["ip", "address", "add", "192.168.77.5/32", "dev", "lo"], check=True, timeout=10)
            for port in (moving.console_port, moving.enrolment_port):
                until(partial(is_open, port, "192.168.77.5"), seconds=FOLLOWS, what="the new address")
                with pytest.raises(OSError, match="in use"), socket.create_server(("192.168.77.5", port)):
                    pass
            assert moving.stop() == 0
        finally:
            moving.kill()
            moving.site.store.close()
