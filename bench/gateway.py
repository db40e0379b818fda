"""What the gateway costs: HAProxy with all of redlatch's questions, beside bare nginx and Caddy with mutual TLS.

    python bench/gateway.py [--rounds 20] [--requests 2000] [--handshakes 50] [--devices 100000]
                            [--only requests,handshakes,rate,websockets,networks,revoke]

Needs the test cache that scripts/test makes, haproxy, nginx and caddy, and Linux (/proc). Prints ratios, never fails
on them. All of them stand in front of the same small nginx; CPU is that of all threads and workers of the proxy
(schedstat, nanoseconds), median over the rounds, in turn.
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
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import centile, cpu, handshakes, in_turn, load, ratio, requests
from tests.support.clients import Connection, WebSocket, context
from tests.support.haproxy import PROGRAMS, Door
from tests.support.nodered import free_port
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
    *(
        Rule(10 + n, roles=("user",), networks=("home",), path=f"/room/{n}", methods=("GET", "POST"))
        for n in range(40)
    ),
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
http {{ access_log {log}; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000; {body} }}
"""
SMALL = 'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "hello"; }} }}'
MUTUAL = """
map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
upstream behind {{ server 127.0.0.1:{upstream}; keepalive 16; keepalive_requests 1000000; }}
server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_client_certificate {ca};
ssl_verify_client on; ssl_protocols TLSv1.2 TLSv1.3;
location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade; proxy_read_timeout 1h; }} }}
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


def crowd(door: Door, count: int) -> dict[str, Entry]:
    """As many devices, with certificates that nobody has."""
    now = int(time.time())
    return {
        secrets.token_hex(32): Entry(
            f"id-{number}", ("user", "thing", "viewer")[number % 3], f"u{number}", now, now + YEAR
        )
        for number in range(count)
    }


@contextlib.contextmanager
def contestants(folder: Path, devices: int, programs: list[str]) -> Iterator[tuple[dict[str, Proxy], Device]]:
    """All proxies by name, and the device that they all let in."""
    with contextlib.ExitStack() as stack:
        small = free_port()
        stack.enter_context(nginx(folder, "small", SMALL.format(port=small), small))
        found: dict[str, Proxy] = {}
        first: Door | None = None
        for name in programs:
            door = Door(name, folder / f"haproxy-{name}", small)
            if first is None:
                first = door
            else:  # the same site for all: one device, one CA
                door.site = first.site
                door.admin = first.admin
            first.site.change(
                devices={
                    **crowd(door, devices),
                    first.admin.fingerprint: replace(first.admin.entry, role="owner"),
                },
                rules=RULES,
                networks={"home": network("127.0.0.0/8"), "office": network("10.0.0.0/8")},
                areas=Areas(dashboards=("/dashboard",), http_in=("/hello", "/light/:who/on")),
            )
            stack.enter_context(door)
            assert door.process is not None
            found[f"haproxy {name}"] = Proxy(f"haproxy {name}", door.port, door.process.pid)
        assert first is not None
        site, device = first.site, first.admin
        pem, ca = site.published / "server.pem", site.published / "device-ca.pem"
        port = free_port()
        body = MUTUAL.format(port=port, upstream=small, pem=pem, ca=ca)
        found["nginx"] = stack.enter_context(nginx(folder, "nginx", body, port))
        port = free_port()
        (folder / "Caddyfile").write_text(
            CADDY.format(folder=folder / "caddy", port=port, pem=pem, key=pem, ca=ca, upstream=small)
        )
        command = ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]
        found["caddy"] = stack.enter_context(started("caddy", command, port, folder))
        yield found, device


def compare(label: str, proxies: Mapping[str, Proxy], rounds: int, work: Callable[[Proxy], int]) -> None:
    works = {name: lambda one=one: one.measure(lambda: work(one)) for name, one in proxies.items()}
    figures = in_turn(works, rounds)  # type: ignore[arg-type]
    cells = [
        f"{name} {statistics.median(values):.1f} ({ratio(values, figures['nginx']):.2f})"
        for name, values in figures.items()
    ]
    print(f"{label}: {'; '.join(cells)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--handshakes", type=int, default=50)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--programs", default=",".join(PROGRAMS))
    parser.add_argument("--only", default="requests,handshakes")
    options = parser.parse_args()
    only = options.only.split(",")
    print(load())
    with (
        tempfile.TemporaryDirectory() as folder,
        contestants(Path(folder), options.devices, options.programs.split(",")) as (proxies, device),
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
    print(load())


if __name__ == "__main__":
    main()
