"""Handshakes by the hundred at live HAProxy: class 22. They cost its own process, never the flows' thread."""

from __future__ import annotations

import contextlib
import socket
import time

from tests.integration.gateway.house import House, reason
from tests.support.clients import Connection, Refused, request


def test_22_strangers_keep_no_device_out(house: House) -> None:
    """Hundreds of connections that are never finished and a hundred full handshakes of strangers: a device is let
    in meanwhile, and nothing of them reaches Node-RED.
    """
    house.ruled(mode="strict")
    with contextlib.ExitStack() as held:
        for number in range(400):
            idle = held.enter_context(socket.create_connection(("127.0.0.1", house.port), timeout=10))
            if number % 2:
                idle.sendall(b"\x16\x03\x01\x02")  # a handshake that does not go on
        refused = 0
        for _ in range(100):
            with contextlib.suppress(OSError):
                try:
                    with Connection(house.port) as stranger:
                        stranger.request("GET", "/hello")
                except Refused:
                    refused += 1
        assert refused == 100
        assert house.reached == []
        begin = time.monotonic()
        assert reason(request(house.port, "GET", "/hello", house.admin)) == "ok"
        assert time.monotonic() - begin < 5
