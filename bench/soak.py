"""A soak: both engines and the service under a steady, mixed load, and whether anything of them grows.

    python bench/soak.py [--minutes 65] [--out FOLDER] [--rate 24]

A Node-RED with the guard, a gateway in front of another Node-RED, and `redlatch serve`, all of one site. Each
minute: requests by kept-alive connections and by new ones, websockets, strangers and foreign certificates, devices
that are added and revoked, rules and networks that come and go, pages of the console, enrolments by a link.
Memory, descriptors and threads of each process are read from /proc, and bench/flat.py judges them.

In FOLDER: minutes.csv (a line a minute, as it goes), result.md (the table), the log of each process. Exit code 0:
all flat, and every answer was as it should be; 1: something grows, or somebody came in who may not, or an answer
was another one. Needs the test cache that scripts/test makes, and Linux (/proc).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, centile, load, resident
from bench.flat import judge_all, table
from tests.integration.operations.gateways import Both, Key
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.enrolling import make_csr
from tests.support.nodered import NodeRed, free_port, write_settings
from tests.support.serving import is_open
from tests.support.wait import until

from redlatch.operations import service
from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem, load_certificates
from redlatch.pki.keys import generate_key, private_key_pem

SAMPLE_SECONDS = 5.0
DONE = ("requests", "websockets", "strangers", "revocations", "rules", "pages", "enrolments", "reopened")


@dataclass(frozen=True)
class Pem:
    """A file with certificate and key."""

    cert_file: Path


class House(Both):
    """A site with both engines and its service, and what asks them."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        write_settings(self.user_dir, published=self.settings.published, flows=[TAB, *HELLO])
        self.up()
        self.console_port, self.enrolment_port = free_port(), free_port()
        service.configure(self.open(), console_port=self.console_port, enrolment_port=self.enrolment_port)
        write_settings(root / "behind", flows=[TAB, *HELLO])
        now = datetime.now(UTC)
        key, other = generate_key(), Authority.create_device("elsewhere", now=now)
        leaf = other.issue_device(
            key.public_key(), device_id=str(uuid.uuid4()), name="stranger", site_host="localhost", now=now
        )
        self.foreign = self.pem("foreign", certificate_pem(leaf) + private_key_pem(key, None))

    def pem(self, name: str, data: bytes) -> Pem:
        path = self.root / f"{name}.pem"
        path.write_bytes(data)
        return Pem(path)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "redlatch", "--home", str(self.settings.home), *arguments]

    def cli(self, *arguments: str) -> Any:
        """What the command says, as JSON; RuntimeError when it fails."""
        done = subprocess.run(
            self.command(*arguments, "--json"), capture_output=True, text=True, timeout=120, check=False,
            cwd=self.root, env={**self.environ, "PYTHONPATH": os.pathsep.join(sys.path)}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout} {done.stderr}")
        return json.loads(done.stdout)

    @contextmanager
    def serve(self) -> Iterator[subprocess.Popen[bytes]]:
        with (self.root / "serve.log").open("ab") as log:
            process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *self.command("serve", "--json")],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, cwd=self.root,
                env={**self.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )  # fmt: skip
        try:
            until(lambda: process.poll() is not None or is_open(self.console_port), seconds=60, what="the console")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def children(pid: int) -> list[int]:
    """The processes that it started, and theirs."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *children(child)]
    return found


class Samples:
    """Memory, descriptors and threads of some processes, by minute."""

    def __init__(self, processes: dict[str, Callable[[], list[int]]]) -> None:
        self.processes = processes
        self.present: dict[str, list[float]] = defaultdict(list)

    def take(self) -> None:
        for name, pids in self.processes.items():
            sums = [0.0, 0.0, 0.0]
            with suppress(OSError):  # a worker that ended just now: the next sample has the rest
                for pid in pids():
                    sums[0] += resident(pid)
                    sums[1] += len(list(Path(f"/proc/{pid}/fd").iterdir()))
                    sums[2] += len(list(Path(f"/proc/{pid}/task").iterdir()))
                for kind, value in zip(("rss", "fds", "threads"), sums, strict=True):
                    self.present[f"{name}.{kind}"].append(value)

    def minute(self) -> dict[str, float]:
        """The medians since the last call."""
        found = {name: statistics.median(values) for name, values in self.present.items()}
        self.present.clear()
        return found


class Load:
    """What is done to the house, each kind in a thread of its own, until `stop` is set."""

    def __init__(self, house: House, rate: float) -> None:
        self.house, self.rate = house, rate
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.times: dict[str, list[float]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.doors = {"node-red": house.node_red_port, "gateway": house.port}
        self.owner = house.key("owner", role="owner")
        self.devices = [house.key(f"device {number}", role="viewer") for number in range(4)]

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = work()
        with self.lock:
            self.times[what].append((time.perf_counter() - begin) * 1000)
        return found

    def count(self, what: str, many: int = 1) -> None:
        with self.lock:
            self.counts[what] += many

    def problem(self, what: str) -> None:
        with self.lock:
            self.counts["wrong"] += 1
            self.wrong.append(f"{datetime.now(UTC):%H:%M:%S} {what}"[:300])

    def run(self, what: str, every: float, work: Callable[[], None]) -> threading.Thread:
        """`work` every so many seconds."""

        def turns() -> None:
            due = time.monotonic()
            while not self.stop.wait(max(0.0, due - time.monotonic())):
                due = max(due + every, time.monotonic() - every)
                try:
                    work()
                except Exception as error:  # noqa: BLE001 - what it was is told, and the soak goes on
                    self.problem(f"{what}: {type(error).__name__}: {error}")

        thread = threading.Thread(target=turns, name=what, daemon=True)
        thread.start()
        return thread

    def steps(self, what: str, every: float, make: Callable[[], Iterator[None]]) -> threading.Thread:
        """A step of `make()` every so many seconds; after one that failed, from the beginning."""
        going = make()

        def step() -> None:
            nonlocal going
            try:
                next(going)
            except Exception:
                going = make()
                raise

        return self.run(what, every, step)

    def start(self) -> list[threading.Thread]:
        threads = []
        workers = len(self.doors) * len(self.devices)
        for door, port in self.doors.items():
            for number, device in enumerate(self.devices):
                threads.append(
                    self.steps(
                        f"{door} kept alive {number}",
                        workers / self.rate,
                        partial(self.kept_alive, door, port, device),
                    )
                )
            threads.append(self.run(f"{door} anew", 1, lambda d=door, p=port: self.anew(d, p)))
            threads.append(self.run(f"{door} stranger", 2, lambda d=door, p=port: self.stranger(d, p)))
            threads.append(self.steps(f"{door} websockets", 2, partial(self.websockets, door, port)))
        threads.append(self.steps("console", 1, self.console))
        threads.append(self.run("yardstick", 0.5, self.yardstick))
        threads.append(self.steps("changes", 10, self.changes))
        threads.append(self.run("enrolment", 30, self.enrol))
        return threads

    # --- what comes in

    def kept_alive(self, door: str, port: int, device: Key) -> Iterator[None]:
        """Two hundred requests a connection, or until it is closed between two of them: a client asks anew then
        (RFC 9112, 9.3.1). A busy machine does that: Node.js closes what was idle for five seconds just while
        HAProxy passes a request on.
        """
        while True:
            answered = 0
            try:
                with Connection(port, device) as connection:
                    while answered < 200:
                        answer = self.timed(door, lambda c=connection: c.request("GET", "/settings"))
                        answered += 1
                        self.expect(door, answer.status, 200)
                        yield
            except Refused as error:
                if not answered:
                    self.problem(f"{door}: a device was refused: {error}")
                    yield
                self.count("reopened")

    def anew(self, door: str, port: int) -> None:
        answer = self.timed(f"{door}-anew", lambda: request(port, "GET", "/settings", self.devices[0]))
        self.expect(f"{door} anew", answer.status, 200)

    def stranger(self, door: str, port: int) -> None:
        for who in (None, self.house.foreign):
            try:
                status = request(port, "GET", "/settings", who).status
            except Refused:
                status = 0
            self.count("strangers")
            if status not in (0, 403):
                self.count("admitted")
                self.problem(f"{door}: a stranger got {status}")

    def websockets(self, door: str, port: int) -> Iterator[None]:
        """Five open ones; each turn the oldest goes and a new one comes."""
        with ExitStack() as stack:
            kept: list[WebSocket] = []
            while True:
                one = stack.enter_context(WebSocket(port, "/comms", self.devices[1]))
                self.expect(f"{door} websocket", one.upgrade.status, 101)
                kept.append(one)
                if len(kept) > 5:
                    kept.pop(0).close()
                self.count("websockets")
                yield

    def yardstick(self) -> None:
        """Work that has nothing to do with redlatch: how busy the machine is, and this very process."""
        self.timed("yardstick", lambda: sum(index * index for index in range(20_000)))

    # --- the service

    def console(self) -> Iterator[None]:
        pages = ("/", "/devices", "/rules", "/networks", "/log", "/audit")
        while True:
            try:
                with Connection(self.house.console_port, self.owner) as connection:
                    for page in pages * 4:
                        answer = self.timed("serve", lambda c=connection, p=page: c.request("GET", p))
                        self.expect(f"console {page}", answer.status, 200)
                        self.count("pages")
                        yield
            except Refused as error:
                self.problem(f"console: {error}")
                yield

    def enrol(self) -> None:
        """A link, its device, a look, and the end of it."""
        name = f"enrolled {time.monotonic_ns()}"
        made = self.house.cli("device", "invite", name, "--role", "viewer", "--trust-lan")
        until(lambda: is_open(self.house.enrolment_port), seconds=20, what="the enrolment port")
        key = generate_key()
        headers = {
            "Content-Type": "application/pkcs10", "Authorization": f"Bearer {made['url'].partition('#')[2]}"
        }  # fmt: skip
        answer = request(self.house.enrolment_port, "POST", "/redeem", headers=headers, body=make_csr(key))
        self.expect("enrolment", answer.status, 200)
        pem = certificate_pem(load_certificates(answer.body)[0]) + private_key_pem(key, None)
        device = self.house.pem("enrolled", pem)
        for door, port in self.doors.items():
            self.in_or_out(door, port, device, admitted=True)
        self.house.cli("device", "revoke", name)
        for door, port in self.doors.items():
            self.in_or_out(door, port, device, admitted=False)
        self.count("enrolments")

    # --- changes

    def changes(self) -> Iterator[None]:
        """One command a turn."""
        cli = self.house.cli
        while True:
            name = f"passing {time.monotonic_ns()}"
            folder = tempfile.mkdtemp(dir=self.house.root)
            cli("device", "add", name, "--role", "viewer", "--format", "pem", "--out", f"{folder}/key")
            yield
            pem = (Path(folder) / "key/cert.pem").read_bytes() + (Path(folder) / "key/key.pem").read_bytes()
            device = self.house.pem("passing", pem)
            open_ones = []
            for door, port in self.doors.items():
                self.in_or_out(door, port, device, admitted=True)
                open_ones.append(WebSocket(port, "/comms", device))
            cli("device", "revoke", name)
            for (door, port), websocket in zip(self.doors.items(), open_ones, strict=True):
                self.in_or_out(door, port, device, admitted=False)
                if not websocket.is_closed():
                    self.problem(f"{door}: the websocket of a revoked device lives on")
                websocket.close()
            self.count("revocations")
            yield
            cli("network", "add", "soak", "10.0.0.0/8", "192.168.0.0/16", "2001:db8::/32")
            yield
            rule = cli("rule", "add", "--area", "http-in", "--role", "viewer", "--from", "soak")["rule"]["id"]
            yield
            cli("rule", "remove", str(rule))
            yield
            cli("network", "remove", "soak")
            self.count("rules")
            yield

    def in_or_out(self, door: str, port: int, device: Pem, *, admitted: bool) -> None:
        def status() -> int:
            try:
                return request(port, "GET", "/settings", device).status
            except Refused:
                return 0

        try:
            until(lambda: (status() == 200) == admitted, seconds=10, what="it")
        except AssertionError:
            self.problem(f"{door}: a device is {'out' if admitted else 'in'} ten seconds after the command")

    def expect(self, what: str, status: int, wanted: int) -> None:
        self.count("requests")
        if status != wanted:
            self.problem(f"{what}: {status} where {wanted} was due")

    def minute(self) -> dict[str, float]:
        """p50 and p99 of each kind since the last call, and what was done."""
        with self.lock:
            times, self.times = self.times, defaultdict(list)
            counts, self.counts = self.counts, Counter()
        found: dict[str, float] = dict(counts)
        for name, values in times.items():
            found |= {f"{name}.p50": statistics.median(values), f"{name}.p99": centile(values, 0.99)}
        return found


def soak(minutes: int, out: Path, rate: float) -> int:
    """The exit code."""
    rows: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="rl-") as folder, ExitStack() as stack:
        house = House(Path(folder))
        red = stack.enter_context(house.node_red())
        stack.enter_context(NodeRed("5.0", house.root / "behind", port=house.behind))
        run = stack.enter_context(house.run())
        serve = stack.enter_context(house.serve())
        samples = Samples(
            {
                "node-red": lambda: [red.pid],
                "run": lambda: [run.pid],
                "haproxy": lambda: children(run.pid),
                "serve": lambda: [serve.pid],
            }
        )
        work = Load(house, rate)
        threads = work.start()
        begin = time.monotonic()
        for minute in range(minutes):
            while (left := begin + (minute + 1) * 60 - time.monotonic()) > 0:
                samples.take()
                time.sleep(min(SAMPLE_SECONDS, left))
            row = {"minute": minute + 1, "load": float(load().split()[1]), **samples.minute(), **work.minute()}
            rows.append(row)
            write(out, rows)
            print(told(row), flush=True)
            for ended in (one for one in (red.process, run, serve) if one is None or one.poll() is not None):
                work.problem(f"a process has ended: {ended}")
        work.stop.set()
        for thread in threads:
            thread.join(15)
        for name in ("user.log", "run.log", "serve.log"):
            with suppress(OSError):
                (out / name).write_bytes((house.root / name).read_bytes())
    return finish(out, rows, work.wrong)


def told(row: dict[str, float]) -> str:
    parts = [f"minute {row['minute']:.0f}", f"load {row['load']:.1f}", f"{row.get('requests', 0):.0f} requests"]
    for name in ("node-red", "haproxy", "run", "serve"):
        parts.append(f"{name} {row.get(f'{name}.rss', math.nan):.1f} MiB {row.get(f'{name}.fds', 0):.0f} fds")
    return ", ".join([*parts, f"wrong {row.get('wrong', 0):.0f}"])


def write(out: Path, rows: list[dict[str, float]]) -> None:
    names = sorted({name for row in rows for name in row} - {"minute", "load"})
    with (out / "minutes.csv").open("w") as stream:
        writer = csv.DictWriter(stream, ["minute", "load", *names])
        writer.writeheader()
        writer.writerows({name: round(value, 2) for name, value in row.items()} for row in rows)


def finish(out: Path, rows: list[dict[str, float]], wrong: list[str]) -> int:
    names = {name for row in rows for name in row if "." in name}
    verdicts = judge_all({name: [row.get(name, math.nan) for row in rows] for name in names})
    totals: Counter[str] = Counter()
    for row in rows:
        totals.update({name: round(value) for name, value in row.items() if "." not in name})
    grows = [one.name for one in verdicts if one.grows]
    did = ", ".join(f"{totals[what]} {what}" for what in DONE)
    flat = not grows and not totals["admitted"]
    loads = [row["load"] for row in rows]
    lines = [
        f"{len(rows)} minutes, load of the machine {min(loads):.1f} to {max(loads):.1f}: {did}.",
        f"{totals['admitted']} strangers admitted, {len(wrong)} answers not as they should be.",
        "",
        table(verdicts),
        "Flat." if flat else f"Grows: {', '.join(grows) or 'nothing'}; admitted: {totals['admitted']}.",
        "",
        *(f"- {one}" for one in wrong[:50]),
    ]
    (out / "result.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    return 0 if flat and not wrong else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=int, default=65)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    parser.add_argument("--rate", type=float, default=24, help="kept-alive requests a second, over both engines")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    return soak(options.minutes, options.out, options.rate)


if __name__ == "__main__":
    sys.exit(main())
