"""What the gateway costs: HAProxy with all of redlatch's questions, beside bare nginx and Caddy with mutual TLS.

    python bench/gateway.py [--rounds 20] [--requests 2000] [--handshakes 50] [--devices 100000]
                            [--only requests,handshakes,rate,websockets]

Needs the test cache that scripts/test makes, haproxy, nginx and caddy, and Linux (/proc). Prints ratios, never
fails on them. All of them stand in front of the same small server; CPU is that of all threads and workers of the
proxy (schedstat, nanoseconds), median over the rounds, in turn. See gateway_live.py for changes and networks.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, centile, cpu, handshakes, in_turn, load, ratio, requests
from tests.support.clients import Connection, WebSocket
from tests.support.haproxy import PROGRAMS, Counting, Door
from tests.support.nodered import NodeRed, free_port, write_settings
from tests.support.requests import network
from tests.support.site import Device
from tests.support.wait import until

from redlatch.policy.model import DEFAULT_RULES, Areas, Entry, Rule

YEAR = 365 * 86400
# A house with its rules: roles, networks, areas, paths, methods
RULES = (
    *DEFAULT_RULES,
    Rule(5, any_device=True, networks=("home", "office"), area="http-in"),
    Rule(6, roles=("thing",), path="/webhook", methods=("POST",)),
    *(Rule(10 + n, roles=("user",), networks=("home",), path=f"/room/{n}", methods=("GET",)) for n in range(40)),
)


@dataclass
class Proxy:
    """A server at `port` whose CPU is that of `pid` and its children."""

    name: str
    port: int
    pid: int

    def cpu(self) -> float:
        return sum(cpu(pid) for pid in family(self.pid))

    def resident(self) -> float:
        """MiB, what is shared counted once (PSS)."""
        total = 0
        for pid in family(self.pid):
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(next(line for line in text.splitlines() if line.startswith("Pss:")).split()[1])
        return total / 1024

    def measure(self, work: Callable[[], int]) -> float:
        """Microseconds of CPU per piece of work."""
        before = self.cpu()
        count = work()
        time.sleep(0.05)  # what it still does after the last answer counts too
        return (self.cpu() - before) / count * 1e6


def family(pid: int) -> list[int]:
    found = [pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid:
                    found += family(int(entry.name))
    return found


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{ access_log {log}; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b;
fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000;
{body} }}
"""
SMALL = 'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }}'
MUTUAL = """
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
upstream behind {{ server 127.0.0.1:{upstream}; keepalive 16; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};
ssl_client_certificate {ca}; ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;
location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade; proxy_read_timeout 1h; }} }}
"""
BARE = """
defaults
 mode http
 log stdout format raw local0
 option httplog
 timeout connect 3s
 timeout client 60s
 timeout server 60s
frontend door
 bind 127.0.0.1:{port} ssl crt {pem} ca-file {ca} verify required alpn h2,http/1.1 ssl-min-ver TLSv1.2
 default_backend behind
backend behind
 server behind 127.0.0.1:{upstream}
"""
CADDY = """
{{
 admin off
 auto_https off
 storage file_system {folder}
}}
https://localhost:{port} {{
 bind 127.0.0.1
 tls {pem} {key} {{
  client_auth {{
   mode require_and_verify
   trusted_ca_cert_file {ca}
  }}
 }}
 reverse_proxy 127.0.0.1:{upstream}
}}
"""


@contextlib.contextmanager
def started(name: str, command: list[str], port: int, folder: Path) -> Iterator[Proxy]:
    with (folder / f"{name}.out").open("wb") as out:
        environment = {**os.environ, "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "--", *command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment,
        )  # fmt: skip
        try:
            until(lambda: listens(port), what=f"{name}'s start")
            yield Proxy(name, port, process.pid)
        finally:
            process.terminate()
            process.wait()


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def nginx(folder: Path, name: str, body: str, port: int) -> contextlib.AbstractContextManager[Proxy]:
    place = folder / name
    place.mkdir()
    log = "off" if name == "small" else f"{place}/access.log"
    (place / "nginx.conf").write_text(NGINX.format(folder=place, body=body, log=log))
    return started(name, ["nginx", "-p", str(place), "-c", str(place / "nginx.conf")], port, folder)


def crowd(count: int) -> dict[str, Entry]:
    """As many devices, with certificates that nobody has."""
    now, roles = int(time.time()), ("user", "thing", "viewer")
    entries = (Entry(f"id-{number}", roles[number % 3], f"u{number}", now, now + YEAR) for number in range(count))
    return {secrets.token_hex(32): entry for entry in entries}


@contextlib.contextmanager
def contestants(
    folder: Path, devices: int, programs: list[str], *, upstream: int | None = None
) -> Iterator[tuple[dict[str, Proxy], Device]]:
    """All proxies by name, and the device that they all let in; in front of `upstream`, or of a small nginx."""
    with contextlib.ExitStack() as stack:
        if upstream is None:
            upstream = free_port()
            stack.enter_context(nginx(folder, "small", SMALL.format(port=upstream), upstream))
        found: dict[str, Proxy] = {}
        doors = [Door(name, folder / f"haproxy-{name}", upstream) for name in programs]
        site, device = doors[0].site, doors[0].admin
        site.change(
            devices={**crowd(devices), device.fingerprint: replace(device.entry, role="owner")},
            rules=RULES,
            networks={"home": network("127.0.0.0/8"), "office": network("10.0.0.0/8")},
            areas=Areas(dashboards=("/dashboard",), http_in=("/hello", "/light/:who/on")),
        )
        for door in doors:
            door.site, door.admin = site, device  # one site and one device for all
            stack.enter_context(door)
            assert door.process is not None
            found[f"haproxy {door.name}"] = Proxy(f"haproxy {door.name}", door.port, door.process.pid)
        pem, ca = site.published / "server.pem", site.published / "device-ca.pem"
        for door in doors:
            port = free_port()
            place = folder / f"bare-{door.name}.cfg"
            place.write_text(BARE.format(port=port, upstream=upstream, pem=pem, ca=ca))
            command = [str(door.program), "-db", "-f", str(place)]
            name = f"haproxy {door.name} without redlatch"
            found[name] = stack.enter_context(started(name, command, port, folder))
        port = free_port()
        body = MUTUAL.format(port=port, upstream=upstream, pem=pem, ca=ca)
        found["nginx"] = stack.enter_context(nginx(folder, "nginx", body, port))
        port = free_port()
        (folder / "Caddyfile").write_text(
            CADDY.format(folder=folder / "caddy", port=port, pem=pem, key=pem, ca=ca, upstream=upstream)
        )
        command = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        found["caddy"] = stack.enter_context(started("caddy", command, port, folder))
        # No proxy: what it takes to answer is in its figures
        write_settings(folder / "node-red", published=site.published, flows=[TAB, *HELLO])
        red = stack.enter_context(NodeRed("5.0", folder / "node-red"))
        found["node-red 5.0 with the guard"] = Proxy("node-red", red.port, red.pid)
        yield found, device


def compare(label: str, proxies: Mapping[str, Proxy], rounds: int, work: Callable[[Proxy], int]) -> None:
    """Prints for each proxy the median and the median of the rounds' ratios to nginx."""
    works = {name: partial(one.measure, partial(work, one)) for name, one in proxies.items()}
    figures = in_turn(works, rounds)
    cells = [
        f"{name} {statistics.median(of):.1f} ({ratio(of, figures['nginx']):.2f})" for name, of in figures.items()
    ]
    print(f"{label}: {'; '.join(cells)}", flush=True)


def paced(port: int, device: Device, rate: int, seconds: float) -> list[float]:
    """Milliseconds of each request at a fixed rate, from when it was due."""
    times = []
    line = f"GET /hello HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    with Connection(port, device) as connection:
        begin = time.perf_counter()
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            while (left := due - time.perf_counter()) > 0:
                time.sleep(left)  # at a fixed rate
            connection.send(line)
            assert connection.response().status == 200
            times.append((time.perf_counter() - due) * 1000)
    return times


def websockets(proxy: Proxy, device: Device, count: int) -> float:
    """KiB of memory per idle websocket."""
    with contextlib.ExitStack() as stack:
        for _ in range(20):  # what a proxy allocates once
            stack.enter_context(WebSocket(proxy.port, "/comms", device))
        before = proxy.resident()
        for _ in range(count):
            assert stack.enter_context(WebSocket(proxy.port, "/comms", device)).is_open
        return (proxy.resident() - before) * 1024 / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--handshakes", type=int, default=50)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--only", default="requests,handshakes,rate,websockets")
    options = parser.parse_args()
    only, programs = options.only.split(","), options.programs.split(",")
    print(load())
    with (
        tempfile.TemporaryDirectory() as folder,
        contestants(Path(folder), options.devices, programs) as (proxies, device),
    ):
        if "requests" in only:
            compare(
                "CPU per keep-alive request, us (against nginx)", proxies, options.rounds,
                lambda one: requests(one.port, device, "/hello", options.requests),
            )  # fmt: skip
        if "handshakes" in only:
            compare(
                "CPU per full handshake, us (against nginx)", proxies, options.rounds,
                lambda one: handshakes(one.port, device, options.handshakes),
            )  # fmt: skip
        if "rate" in only:
            for name, one in proxies.items():
                times = [ms for _ in range(3) for ms in paced(one.port, device, 500, 4)]
                print(f"500 requests/s, ms: {name} p50 {centile(times, 0.5):.2f}, p99 {centile(times, 0.99):.2f}")
    if "websockets" in only:
        upstream = Counting()
        with (
            tempfile.TemporaryDirectory() as folder,
            contestants(Path(folder), 1000, programs, upstream=upstream.port) as (proxies, device),
        ):
            cells = [f"{name} {websockets(one, device, 300):.0f}" for name, one in proxies.items()]
            print(f"memory per idle websocket, KiB: {'; '.join(cells)}")
        upstream.close()
    print(load())


if __name__ == "__main__":
    main()
