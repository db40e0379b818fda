"""What the guard costs and how fast it is: guarded against unguarded mutual-TLS Node-RED, interleaved in one run.

    python bench/guard.py [--rounds 30] [--requests 500] [--handshakes 25] [--only requests,revoke]

Needs the test cache that scripts/test makes, and Linux (/proc). Prints ratios, never fails on them. CPU is
that of all threads of Node-RED's process (schedstat, nanoseconds); medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, centile, handshakes, in_turn, measure, node, ratio, requests
from tests.support.clients import Connection, request
from tests.support.nodered import VERSIONS, NodeRed, Version, write_settings
from tests.support.site import Device, Site

PATHS = {"http-in": "/hello", "editor API": "/settings"}


# A timer of a flow that notes how late it came, and an endpoint that tells and forgets
_TIMER = """
let before = Date.now();
const timer = setInterval(() => {
    const now = Date.now();
    const late = flow.get("late") || [];
    late.push(now - before - 50);
    flow.set("late", late);
    before = now;
}, 50);
context.set("timer", timer);
"""
FLOWS = [
    TAB,
    *HELLO,
    node("late-in", "http in", [["late"]], url="/late", method="get"),
    node("late", "function", [["late-out"]], outputs=1, initialize=_TIMER, finalize="", libs=[],
         func='msg.payload = {late: flow.get("late") || []}; flow.set("late", []); return msg;'),
    node("late-out", "http response", []),
]  # fmt: skip


class Pair:
    """The same Node-RED twice: behind the guard, and with the TLS options that a person would write."""

    def __init__(self, version: Version, root: Path) -> None:
        self.site = Site(root / "site")
        self.device: Device = self.site.device("bench")
        write_settings(root / "guarded", published=self.site.published, flows=FLOWS)
        pem = self.site.published / "server.pem"
        ca = self.site.published / "device-ca.pem"
        plain = (
            f'https: {{key: require("fs").readFileSync("{pem}"), cert: require("fs").readFileSync("{pem}"), '
            f'ca: require("fs").readFileSync("{ca}"), requestCert: true, rejectUnauthorized: true}}'
        )
        write_settings(root / "unguarded", body=plain, flows=FLOWS)
        self.guarded = NodeRed(version, root / "guarded")
        self.unguarded = NodeRed(version, root / "unguarded")

    def each(self) -> Iterator[tuple[str, NodeRed]]:
        yield "guarded", self.guarded
        yield "unguarded", self.unguarded


def compare(pair: Pair, rounds: int, work: Callable[[NodeRed], int]) -> tuple[float, float, float]:
    """Medians (guarded, unguarded) and the median of the rounds' ratios."""
    figures = in_turn(
        {name: lambda red=red: measure(red, lambda: work(red)) for name, red in pair.each()},  # type: ignore[misc]
        rounds,
    )
    one, other = figures["guarded"], figures["unguarded"]
    return statistics.median(one), statistics.median(other), ratio(one, other)


def revocations(pair: Pair, count: int) -> list[float]:
    """Milliseconds from the start of writing the snapshot (synced, renamed) to the closed socket."""
    times = []
    for number in range(count):
        device = pair.site.device(f"lost-{number}")
        connection = None
        while connection is None:
            with contextlib.suppress(Exception):
                candidate = Connection(pair.guarded.port, device)
                candidate.request("GET", "/hello")
                connection = candidate
        begin = time.perf_counter()
        pair.site.revoke(device)
        assert connection.is_closed()
        times.append((time.perf_counter() - begin) * 1000)
        connection.close()
    return times


def hello() -> bytes:
    """The first packet of a TLS client: what a stranger needs to send to make the server work."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    tls = made.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def flood(red: NodeRed, device: Device, seconds: float, threads: int) -> tuple[list[int], int]:
    """Lateness (ms) of the flow's 50 ms timer, and the server's answers per second to strangers' hellos."""
    packet, stop, answered = hello(), threading.Event(), [0] * threads

    def attack(number: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                raw = socket.create_connection(
                    ("127.0.0.1", red.port), 1, source_address=(f"127.0.{20 + number}.1", 0)
                )
                with raw:
                    raw.sendall(packet)
                    answered[number] += bool(raw.recv(1))

    request(red.port, "GET", "/late", device)
    attackers = [threading.Thread(target=attack, args=(number,), daemon=True) for number in range(threads)]
    for attacker in attackers:
        attacker.start()
    time.sleep(seconds)
    stop.set()
    for attacker in attackers:
        attacker.join()
    late = request(red.port, "GET", "/late", device).json()["late"]
    return late, round(sum(answered) / seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--handshakes", type=int, default=25)
    parser.add_argument("--only", default="requests,handshakes,revoke,flood")
    parser.add_argument("--versions", default=",".join(VERSIONS))
    options = parser.parse_args()
    only = options.only.split(",")
    print(f"{'':42} {'guarded':>9} {'unguarded':>9} {'ratio':>6}")
    for version in options.versions.split(","):
        with tempfile.TemporaryDirectory() as folder:
            pair = Pair(version, Path(folder))
            with pair.guarded, pair.unguarded:
                if "requests" in only:
                    for name, path in PATHS.items():
                        one, other, ratio = compare(
                            pair, options.rounds,
                            lambda red, p=path, d=pair.device: requests(red.port, d, p, options.requests),
                        )  # fmt: skip
                        label = f"{version} CPU per keep-alive request, {name}, us"
                        print(f"{label:42} {one:9.1f} {other:9.1f} {ratio:6.3f}", flush=True)
                if "handshakes" in only:
                    one, other, ratio = compare(
                        pair,
                        options.rounds,
                        lambda red, d=pair.device: handshakes(red.port, d, options.handshakes),
                    )
                    label = f"{version} CPU per full handshake, us"
                    print(f"{label:42} {one:9.1f} {other:9.1f} {ratio:6.3f}", flush=True)
                if "revoke" in only:
                    times = revocations(pair, 50)
                    print(
                        f"{version} revoke -> closed, ms: median {statistics.median(times):.1f}, "
                        f"worst {max(times):.1f} of {len(times)}"
                    )
                if "flood" in only:
                    for name, red in pair.each():
                        late, rate = flood(red, pair.device, 5, 32)
                        print(
                            f"{version} flood, {name}: {rate} handshakes begun/s, timer late by ms: "
                            f"median {centile(late, 0.5):.0f}, 99 % {centile(late, 0.99):.0f}, worst {max(late)}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
