"""A change of the snapshot, in force in every worker at once; and who is cut by it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.support.clients import Connection, Refused, Response, WebSocket, request
from tests.support.running_gateway import PROGRAMS, RunningGateway, running
from tests.support.site import Device
from tests.support.wait import until

from redlatch.engines.haproxy.runtime import Gone
from redlatch.policy.model import DEFAULT_RULES, Entry, Rule
from redlatch.policy.networks import compiled, parse


@pytest.fixture(params=PROGRAMS)
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path, request.param) as made:
        yield made


def is_let_in(gateway: RunningGateway, device: Device | None, target: str = "/flows", **fields: Any) -> bool:
    """Whether a request of its own reaches what is behind."""
    try:
        answer: Response = request(gateway.port, "GET", target, device, **fields)
    except Refused:
        return False
    return answer.status == 200


def device(gateway: RunningGateway, name: str, role: str = "admin") -> Device:
    made = gateway.site.device(name, role)
    gateway.wait()
    return made


def is_alive(socket: WebSocket) -> bool:
    socket.send_text("still there")
    return socket.receive() == "still there"


def workers(gateway: RunningGateway) -> int:
    """How many there are; 0 while the master starts itself anew."""
    try:
        return len(gateway.runtime.processes().workers)
    except Gone:
        return 0


def told(gateway: RunningGateway, count: int) -> None:
    """Waits until the log tells of so many websockets."""
    log = gateway.site.spool / "access.jsonl"
    until(lambda: log.read_bytes().count(b'"upgrade":true') >= count, what="the log")


def test_one_of_fifty(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    ours = [WebSocket(gateway.port, "/comms", laptop) for _ in range(49)]
    theirs = WebSocket(gateway.port, "/comms", phone)
    assert is_let_in(gateway, phone)
    told(gateway, 50)
    begin = time.monotonic()
    gateway.site.revoke(phone)
    assert theirs.is_closed(5)
    assert time.monotonic() - begin < 0.5
    claim = gateway.wait()
    assert (claim.closed, claim.problem) == (1, None)
    assert not is_let_in(gateway, phone)
    assert is_let_in(gateway, laptop)
    assert all(is_alive(one) for one in ours)
    gateway.site.list(phone)
    gateway.wait()
    assert is_let_in(gateway, phone)
    assert all(is_alive(one) for one in ours)


def test_old_workers_too(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    ours, theirs = (WebSocket(gateway.port, "/comms", one) for one in (laptop, phone))
    kept = Connection(gateway.port, phone)
    assert kept.request("GET", "/flows").status == 200
    before = gateway.runtime.processes()
    gateway.site.publish_server()
    until(lambda: workers(gateway) == 2, what="a reload")
    after = gateway.runtime.processes()
    assert before.present is not None
    assert before.present.pid in {one.pid for one in after.workers if one.old}
    assert is_alive(ours)
    assert is_alive(theirs)
    newer = WebSocket(gateway.port, "/comms", phone)
    gateway.site.revoke(phone)
    assert theirs.is_closed(5)
    assert newer.is_closed(5)
    gateway.wait()
    with pytest.raises(Refused):
        kept.request("GET", "/flows")
    assert not is_let_in(gateway, phone)
    assert is_alive(ours)
    ours.close()
    until(lambda: workers(gateway) == 1, what="the old worker's end")


def test_what_expires_is_cut(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    end = int(time.time()) + 2
    gateway.site.list(phone, not_after=end)
    gateway.wait()
    ours, theirs = (WebSocket(gateway.port, "/comms", one) for one in (laptop, phone))
    assert is_alive(theirs)
    assert theirs.is_closed(10)
    assert end <= time.time() < end + 3
    assert not is_let_in(gateway, phone)
    assert is_alive(ours)


def test_a_role_and_a_rule(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    sockets = {
        name: WebSocket(gateway.port, "/comms", one) for name, one in (("laptop", laptop), ("phone", phone))
    }
    told(gateway, 2)
    gateway.site.list(phone, role="user")
    assert sockets["phone"].is_closed(5)
    gateway.wait()
    assert not is_let_in(gateway, phone)
    assert is_alive(sockets["laptop"])
    # a rule of its own for one device, and the end of the roles'
    rules = (Rule(7, devices=(phone.id,), area="all"),)
    gateway.site.change(rules=rules)
    assert sockets["laptop"].is_closed(5)
    gateway.wait()
    assert is_let_in(gateway, phone)
    assert not is_let_in(gateway, laptop)
    socket = WebSocket(gateway.port, "/comms", phone)
    gateway.site.change(rules=(*rules, *DEFAULT_RULES))
    gateway.wait()
    assert is_let_in(gateway, laptop)
    assert is_alive(socket)
    assert gateway.runtime.processes().reloads == 0


def test_a_network(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    home = compiled([parse("127.0.0.2-127.0.0.3")])
    rules = (Rule(1, any_device=True, networks=("home",), area="all"),)
    gateway.site.change(rules=rules, networks={"home": home})
    gateway.wait()
    near, far = (WebSocket(gateway.port, "/comms", laptop, source=f"127.0.0.{at}") for at in (2, 3))
    assert not is_let_in(gateway, laptop, source="127.0.0.4")
    told(gateway, 2)
    gateway.site.change(networks={"home": compiled([parse("127.0.0.2"), parse("127.0.0.4")])})
    assert far.is_closed(5)
    gateway.wait()
    assert is_alive(near)
    assert not is_let_in(gateway, laptop, source="127.0.0.3")
    assert is_let_in(gateway, laptop, source="127.0.0.4")
    assert gateway.runtime.processes().reloads == 0


def test_many_at_once_by_a_reload(gateway: RunningGateway) -> None:
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    entries = {
        sha256(b"%d" % at).hexdigest(): Entry(f"d{at}", "user", "u", 0, 2_000_000_000) for at in range(5500)
    }
    gateway.site.change(devices={**gateway.site.snapshot.devices, **entries})
    gateway.wait()
    until(lambda: gateway.runtime.processes().reloads == 1, what="a reload")
    ours, theirs = (WebSocket(gateway.port, "/comms", one) for one in (laptop, phone))
    told(gateway, 2)
    # one change of a few goes without
    gateway.site.change(devices=dict(list(gateway.site.snapshot.devices.items())[:-500]))
    gateway.wait()
    assert gateway.runtime.processes().reloads == 1
    gateway.site.change(devices={laptop.fingerprint: laptop.entry})
    assert theirs.is_closed(10)
    assert gateway.wait().closed == 1
    assert gateway.runtime.processes().reloads == 2
    assert not is_let_in(gateway, phone)
    assert is_let_in(gateway, laptop)
    assert is_alive(ours)


def test_what_the_configuration_says_by_a_reload(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    socket = WebSocket(gateway.port, "/comms", laptop)
    assert not is_let_in(gateway, laptop, headers={"Host": "new.example"})
    gateway.site.change(names=("new.example",))
    gateway.wait()
    assert is_let_in(gateway, laptop, headers={"Host": "new.example"})
    assert not is_let_in(gateway, laptop)
    assert is_alive(socket)


def test_requests_under_way(gateway: RunningGateway) -> None:
    """Those that the log does not tell of: later GETs, and first ones that nobody has answered yet."""
    laptop, phone = device(gateway, "laptop"), device(gateway, "phone")
    theirs, mine, first = (
        Connection(gateway.port, phone),
        Connection(gateway.port, laptop),
        Connection(gateway.port, phone),
    )
    for one in (theirs, mine):
        assert one.request("GET", "/flows").status == 200
    for one in (theirs, mine, first):
        one.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: _doors(gateway) == 3, what="three requests under way")
    begin = time.monotonic()
    gateway.site.revoke(phone)
    assert theirs.is_closed(2)  # whose it is is known by its connection
    assert first.is_closed(10)
    assert time.monotonic() - begin < 8
    gateway.behind.slow.set()
    assert mine.response().status == 200


def _doors(gateway: RunningGateway) -> int:
    present = gateway.runtime.processes().present
    assert present is not None
    return sum(one.frontend == "door" for one in gateway.runtime.sessions(present.pid))


def test_who_comes_costs_nobody_anything(gateway: RunningGateway) -> None:
    laptop = device(gateway, "laptop")
    first = Connection(gateway.port, laptop)
    first.send(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: _doors(gateway) == 1, what="a request under way")
    phone = device(gateway, "phone")
    assert is_let_in(gateway, phone)
    time.sleep(5.2)  # beyond the time after which unknown streams are cut, where rights were taken
    gateway.behind.slow.set()
    assert first.response().status == 200
