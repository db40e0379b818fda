"""How fast a change is in force at the gateway, and what long lists cost it.

    python bench/gateway_live.py [--program 2.6] [--websockets 1000] [--changes 40] [--only revoke,networks]

Needs the test cache that scripts/test makes, haproxy, and Linux (/proc). Asserts nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import load, requests
from bench.gateway import Proxy, crowd
from tests.support.clients import WebSocket
from tests.support.haproxy import PROGRAMS, Counting, Door
from tests.support.running_gateway import RunningGateway, running

from redlatch.policy.model import DEFAULT_RULES, Rule
from redlatch.policy.networks import Network, compiled


def revocations(gateway: RunningGateway, count: int, others: int) -> list[float]:
    """Milliseconds from the start of writing the snapshot (synced, renamed) to the closed websocket, with as many
    other websockets open.
    """
    times = []
    with contextlib.ExitStack() as stack:
        bystander = gateway.site.device("bystander", "owner")
        gateway.wait()
        open_ones = [stack.enter_context(WebSocket(gateway.port, "/comms", bystander)) for _ in range(others)]
        for number in range(count):
            lost = gateway.site.device(f"lost-{number}", "owner")
            gateway.wait()
            with WebSocket(gateway.port, "/comms", lost) as websocket:
                websocket.send_text("here")
                assert websocket.receive() == "here"
                begin = time.perf_counter()
                gateway.site.revoke(lost)
                assert websocket.is_closed()
                times.append((time.perf_counter() - begin) * 1000)
        for one in open_ones:
            one.send_text("here")
            assert one.receive() == "here"
    return times


def subnets(count: int) -> Network:
    """As many that do not touch, a third of them IPv6."""
    dice = random.Random(1)
    v4 = dice.sample(range(1 << 23), count - count // 3)
    v6 = dice.sample(range(1 << 30), count // 3)
    return compiled(
        [(4, (2 << 24) + (one << 8), (2 << 24) + (one << 8) + 127) for one in v4]
        + [(6, (0x2A00 << 112) + (one << 80), (0x2A00 << 112) + (one << 80) + 255) for one in v6]
    )


def lists(program: str, folder: Path) -> None:
    """Start, memory and CPU per request with networks of more and more subnets."""
    upstream = Counting()
    for count in (10, 1_000_000):
        door = Door(program, folder / f"with-{count}", upstream.port)
        network = subnets(count)
        begin = time.perf_counter()
        door.site.change(
            devices={door.admin.fingerprint: replace(door.admin.entry, role="owner")},
            rules=(*DEFAULT_RULES, Rule(5, any_device=True, networks=("list",), area="http-in")),
            networks={"list": network},
        )
        with door:
            started = time.perf_counter() - begin
            assert door.process is not None
            proxy = Proxy("haproxy", door.port, door.process.pid)
            figures = [proxy.measure(lambda d=door: requests(d.port, d.admin, "/hello", 1000)) for _ in range(9)]
            print(
                f"{count} subnets: published, rendered, started in {started:.1f} s; {proxy.resident():.0f} MiB; "
                f"CPU per keep-alive request, us: {statistics.median(figures):.1f}",
                flush=True,
            )
    upstream.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--program", default="2.6", choices=list(PROGRAMS))
    parser.add_argument("--websockets", type=int, default=1000)
    parser.add_argument("--changes", type=int, default=40)
    parser.add_argument("--only", default="revoke,networks")
    options = parser.parse_args()
    only = options.only.split(",")
    print(load())
    if "revoke" in only:
        for devices in (10, 100_000):
            with tempfile.TemporaryDirectory() as folder, running(Path(folder), options.program) as gateway:
                gateway.site.change(devices={**gateway.site.snapshot.devices, **crowd(devices)})
                gateway.wait(seconds=60)
                times = revocations(gateway, options.changes, options.websockets)
                print(
                    f"revoke -> websocket closed, ms, {options.websockets} others open, {devices} devices: "
                    f"median {statistics.median(times):.1f}, worst {max(times):.1f} of {len(times)}",
                    flush=True,
                )
    if "networks" in only:
        with tempfile.TemporaryDirectory() as folder:
            lists(options.program, Path(folder))
    print(load())


if __name__ == "__main__":
    main()
