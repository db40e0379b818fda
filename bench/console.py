"""What the service costs: the console's list with 100 and with 100,000 devices, its memory, enrolments a second.

    python bench/console.py [--rounds 300] [--devices 100,100000] [--links 200]

For each number a real site with a Node-RED that runs, and a real `redlatch serve`; requests go in turn, over one
connection each with an owner's certificate. Enrolments are redemptions of links with a CSR over new connections,
from eight threads of this process, which shares the machine's cores with the service. Needs the test cache that
scripts/test makes, and Linux. Prints, never fails.
"""

from __future__ import annotations

import argparse
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, centile, fill, in_turn, load, ratio, resident
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from tests.integration.operations.conftest import House
from tests.support.clients import Connection, Refused, context
from tests.support.nodered import NodeRed, free_port, write_settings
from tests.support.wait import until

from redlatch.operations import links, service
from redlatch.operations.devices import enforce

THREADS = 8


class Served:
    """A site with `count` devices, its Node-RED, and its service."""

    def __init__(self, root: Path, count: int) -> None:
        root.mkdir()
        self.house = House(root, "5.0")
        write_settings(self.house.user_dir, flows=[TAB, *HELLO])
        self.house.up()
        fill(self.house.settings.database, count)
        enforce(self.house.open(), anew=True)
        self.red = NodeRed("5.0", self.house.user_dir, port=self.house.port)
        self.owner = self.house.key("Owner", role="owner")
        self.console, self.enrolment = free_port(), free_port()
        service.configure(self.house.open(), console_port=self.console, enrolment_port=self.enrolment)

    @contextmanager
    def running(self) -> Iterator[None]:
        """With Node-RED and the service."""
        command = [sys.executable, "-m", "redlatch", "--home", str(self.house.settings.home), "serve"]
        with (
            self.red,
            subprocess.Popen(
                command,
                env={**os.environ, **self.house.environ},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as self.process,
        ):
            try:
                until(self.answers, seconds=20, what="the console")
                self.resident_idle = resident(self.process.pid)
                yield
            finally:
                self.process.terminate()

    def answers(self) -> bool:
        """Whether the console is there."""
        try:
            with Connection(self.console, self.owner, tls="1.3") as connection:
                return connection.request("GET", "/").status == 200
        except (OSError, Refused):
            return False

    def pages(self) -> dict[str, Callable[[], float]]:
        """Works that give milliseconds of a page."""
        connection = Connection(self.console, self.owner, tls="1.3")
        return {
            name: partial(page, connection, target)
            for name, target in (
                ("first page", "/devices"),
                ("a page in the middle", "/devices?after=sensor%205"),
                ("search, many matches", "/devices?q=sensor"),
                ("search, one match", "/devices?q=owner"),
                ("search, no match", "/devices?q=nobody%20has%20this"),
                ("one device", "/devices?q=sensor%207"),
                ("overview", "/"),
            )
        }


def page(connection: Connection, target: str) -> float:
    begin = time.perf_counter()
    answer = connection.request("GET", target)
    took = (time.perf_counter() - begin) * 1000
    assert answer.status == 200, answer.body[:300]
    return took


def csr() -> bytes:
    """A request as a device makes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def enrolments(served: Served, count: int) -> float:
    """How many links a second get their certificates, each over a connection of its own."""
    site = served.house.open()
    made = links.invite(site, [links.Wanted(f"enrolled {number}") for number in range(count)], trust_lan=True)
    requests = [(one.token, csr()) for one in made]
    until(lambda: is_open(served.enrolment), seconds=10, what="the enrolment port")
    shared = context()
    shared.verify_mode = ssl.CERT_NONE
    with ThreadPoolExecutor(THREADS) as pool:
        begin = time.perf_counter()
        statuses = list(pool.map(lambda one: redeem(served.enrolment, shared, *one), requests))
        took = time.perf_counter() - begin
    assert set(statuses) == {200}, statuses
    return count / took


def redeem(port: int, shared: ssl.SSLContext, token: str, request: bytes) -> int:
    headers = {"Content-Type": "application/pkcs10", "Authorization": f"Bearer {token}"}
    with Connection(port, with_context=shared) as connection:
        return connection.request("POST", "/redeem", headers=headers, body=request).status


def is_open(port: int) -> bool:
    try:
        with Connection(port):
            return True
    except (OSError, Refused):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--devices", default="100,100000")
    parser.add_argument("--links", type=int, default=200)
    told = parser.parse_args()
    counts = [int(one) for one in told.devices.split(",")]
    print(load())
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        homes = {count: Served(Path(folder) / str(count), count) for count in counts}
        for served in homes.values():
            stack.enter_context(served.running())
        works = {
            f"{name}|{count}": work for count, served in homes.items() for name, work in served.pages().items()
        }
        figures = in_turn(works, told.rounds)
        print(f"{'ms':24}" + "".join(f"{count:>12,} p50 {'p95':>6}" for count in counts) + "   ratio of p95, p50")
        for name in homes[counts[0]].pages():
            few, many = figures[f"{name}|{counts[0]}"], figures[f"{name}|{counts[-1]}"]
            shown = "".join(
                f"{centile(found, 0.5):16.2f} {centile(found, 0.95):6.2f}"
                for found in (figures[f"{name}|{count}"] for count in counts)
            )
            print(f"{name:24}{shown}   {centile(many, 0.95) / centile(few, 0.95):.2f}, {ratio(many, few):.2f}")
        for count, served in homes.items():
            print(f"resident, {count:,} devices: {served.resident_idle:.1f} MiB at first, ", end="")
            print(f"{resident(served.process.pid):.1f} MiB after these requests")
        for count, served in homes.items():
            rate = enrolments(served, told.links)
            print(f"enrolments, {count:,} devices: {rate:.0f} a second, ", end="")
            print(f"then {resident(served.process.pid):.1f} MiB resident, ", end="")
            until(lambda: not is_open(served.enrolment), seconds=20, what="the end of enrolment")  # noqa: B023
            time.sleep(0.5)  # it gives memory back after it has closed the port
            print(f"{resident(served.process.pid):.1f} when its port is closed again")
    print(load())


if __name__ == "__main__":
    main()
