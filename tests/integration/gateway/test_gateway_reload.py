"""A new server certificate while many come and go: nobody is turned away, and no websocket is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.clients import Connection, WebSocket, context
from tests.support.haproxy import PROGRAMS
from tests.support.running_gateway import RunningGateway, running
from tests.support.wait import until

RELOADS = 5
LOADS = 3


@pytest.fixture(params=PROGRAMS)
def gateway(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path, request.param) as made:
        yield made


def shown(port: int) -> bytes:
    """The certificate that a new handshake gets to see, as DER."""
    with Connection(port) as connection:
        return connection.socket.getpeercert(binary_form=True) or b""


class Load(threading.Thread):
    """One client that connects, asks and leaves, again and again; `failed` says what went wrong."""

    def __init__(self, gateway: RunningGateway, made: object) -> None:
        super().__init__(daemon=True)
        self.port, self.made = gateway.port, made
        self.ended = threading.Event()
        self.done, self.failed = 0, []  # type: int, list[str]

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                with Connection(self.port, with_context=self.made) as connection:  # type: ignore[arg-type]
                    status = connection.request("GET", "/hello").status
                if status != 200:
                    self.failed.append(str(status))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test is about
                self.failed.append(repr(error))
            self.done += 1


def test_reload_under_load(gateway: RunningGateway) -> None:
    """No handshake and no request fails over five reloads, and what is open stays so, on the old workers."""
    laptop = gateway.site.device("laptop", "owner")
    gateway.wait()
    loads = [Load(gateway, context(laptop)) for _ in range(LOADS)]
    websockets = [WebSocket(gateway.port, "/comms", laptop) for _ in range(5)]
    for load in loads:
        load.start()
    seen = {shown(gateway.port)}
    for _ in range(RELOADS):
        done = [load.done for load in loads]
        gateway.site.publish_server()
        # For a moment the old worker takes connections too
        seen.add(until(lambda: {shown(gateway.port)} - seen, seconds=20, what="the new certificate").pop())
        websockets.append(WebSocket(gateway.port, "/comms", laptop))
        until(
            lambda before=done: all(load.done > one + 5 for load, one in zip(loads, before, strict=True)),
            what="requests after the reload",
        )
    for load in loads:
        load.ended.set()
        load.join()
    assert [load.failed for load in loads] == [[]] * LOADS
    assert len(seen) == RELOADS + 1
    for websocket in websockets:
        websocket.send_text("still here")
        assert websocket.receive() == "still here"
