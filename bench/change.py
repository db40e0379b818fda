"""How fast a change is in force with 10, 1,000 and 100,000 devices, and what that many cost.

    python bench/change.py [--rounds 30] [--devices 10,1000,100000] [--only revoke,command,memory]

For each number a real store, published for a real Node-RED, all of them running; a round revokes one device in
each, which holds an open connection. Needs the test cache that scripts/test makes, and Linux. Prints, never fails.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, centile, fill, in_turn, load, ratio, resident
from tests.integration.operations.conftest import House
from tests.support.clients import Connection
from tests.support.nodered import VERSIONS, NodeRed, Version, node, write_settings
from tests.support.wait import until

from redlatch.engines.nodered import publish
from redlatch.operations import devices
from redlatch.operations.devices import enforce

READ = """
const { Published } = require(process.argv[1] + "/published.js");
gc();
const before = process.memoryUsage().rss;
const begin = performance.now();
const published = new Published(process.argv[2]);
published.read();
const took = performance.now() - begin;
if (published.problem !== null) throw new Error(published.problem);
gc();
console.log(JSON.stringify([took, (process.memoryUsage().rss - before) / 2 ** 20]));
"""


class Home(House):
    """A site with `count` devices beside those that a round adds, and its Node-RED."""

    def __init__(self, root: Path, version: Version, count: int) -> None:
        root.mkdir()
        super().__init__(root, version)
        self.count = count
        write_settings(self.user_dir, flows=[TAB, *HELLO])
        self.up()
        fill(self.settings.database, count)
        begin = time.perf_counter()
        enforce(self.open(), anew=True)
        self.published_in = time.perf_counter() - begin
        self.late = root / "late.json"
        env = {"NODE_OPTIONS": f"--require={Path(__file__).with_name('late.js')}", "BENCH_LATE": str(self.late)}
        self.red = NodeRed(version, self.user_dir, port=self.port, env=env)
        self.revocations: list[dict[str, float]] = []
        self.lateness: dict[str, list[float]] = {"change": [], "nothing": []}

    def next_phase(self) -> None:
        """See late.js: a change, nothing, the end."""
        os.kill(self.red.pid, signal.SIGWINCH)

    def revocation(self, number: int) -> float:
        """Adds a device, lets it in and revokes it; milliseconds from that call to the closed socket."""
        key = self.key(f"lost {number}")
        ours, theirs = multiprocessing.Pipe()
        # Another process: what notes when the socket closes must not wait for the interpreter that revokes.
        client = multiprocessing.get_context("fork").Process(
            target=hold, args=(self.port, key.cert_file, theirs), daemon=True
        )
        client.start()
        assert ours.recv() == "open"
        time.sleep(0.05)
        PASSED.clear()
        self.next_phase()
        begin = time.perf_counter()
        done = devices.revoke(self.open(), f"lost {number}")
        end = time.perf_counter()
        assert done.force.state == "in-force", done.force
        closed = ours.recv()
        client.join()
        time.sleep(0.05)
        self.next_phase()
        time.sleep(time.perf_counter() - begin)
        self.next_phase()
        until(self.late.exists, seconds=5, what="the file of late.js")
        for phase, values in json.loads(self.late.read_text()).items():
            self.lateness[phase] += values
        self.late.unlink()
        passed = {**PASSED, "closed": closed, "said": end}
        figures = {name: (at - begin) * 1000 for name, at in passed.items()}
        self.revocations.append({**figures, "guard": done.force.ms or 0.0})
        return self.revocations[-1]["closed"]

    def command(self, number: int) -> float:
        """`redlatch device revoke`, a process from its start to its end: milliseconds."""
        self.key(f"lost {number}")
        command = [sys.executable, "-m", "redlatch", "--home", str(self.settings.home)]
        command += ["device", "revoke", f"lost {number}", "--force"]  # it may be the last one in the editor
        begin = time.perf_counter()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, **self.environ}
        )
        took = (time.perf_counter() - begin) * 1000
        assert "in force" in done.stdout, done.stdout + done.stderr
        return took

    def reading(self) -> tuple[float, float]:
        """What the guard does when Node-RED starts, in a Node.js of its own: milliseconds, MiB."""
        folder = self.settings.published
        guard = folder / f"guard-{publish.published_guard(self.settings)}"
        command = [str(node(self.version)), "--expose-gc", "-e", READ, str(guard), str(folder)]
        took, grown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return took, grown


PASSED: dict[str, float] = {}  # what the present revocation came past, and when


def noting(name: str, work: Callable[..., Any], *, before: bool) -> Callable[..., Any]:
    """The same function, which also notes when it begins or has ended."""

    def noted(*arguments: Any, **named: Any) -> Any:
        if before:
            PASSED[name] = time.perf_counter()
        result = work(*arguments, **named)
        if not before:
            PASSED[name] = time.perf_counter()
        return result

    return noted


def hold(port: int, cert_file: Path, pipe: Any) -> None:
    """Holds a connection of a device and tells when it is closed (CLOCK_MONOTONIC, as perf_counter)."""
    with Connection(port, FileKey(cert_file)) as connection:
        assert connection.request("GET", "/hello").status == 200
        pipe.send("open")
        pipe.send(time.perf_counter() if connection.is_closed() else None)


@dataclass(frozen=True)
class FileKey:
    """What Connection takes for a device."""

    cert_file: Path


def revocations(homes: dict[str, Home], rounds: int) -> None:
    for number in range(rounds + 1):
        order = list(homes.values())
        for home in order if number % 2 else reversed(order):
            home.revocation(number)
        if number == 0:  # the first one warms up
            for home in homes.values():
                home.revocations.clear()
                home.lateness = {"change": [], "nothing": []}
    for name, home in homes.items():
        figures = {
            step: [one[step] for one in home.revocations] for step in ("recorded", "published", "closed", "said")
        }
        medians = ", ".join(f"{step} {statistics.median(values):.1f}" for step, values in figures.items())
        print(
            f"{home.version} {name} devices, ms after the call: {medians};"
            f" closed at worst {max(figures['closed']):.1f} of {rounds}, {load()}"
        )
        late = {
            phase: f"99.9 % {centile(values, 0.999):.1f}, worst {max(values):.1f}"
            for phase, values in home.lateness.items()
        }
        guard = [one["guard"] for one in home.revocations]
        print(f"    the guard's own part, ms: median {statistics.median(guard):.2f}, worst {max(guard):.2f}")
        print(
            f"    1 ms timer of Node-RED late by ms: {late['change']}; without a change {late['nothing']}",
            flush=True,
        )


def commands(homes: dict[str, Home], rounds: int) -> None:
    number = 0

    def work(home: Home) -> float:
        nonlocal number
        number += 1
        return home.command(10**6 + number)

    figures = in_turn({name: lambda home=home: work(home) for name, home in homes.items()}, rounds)  # type: ignore[misc]
    fewest = next(iter(figures.values()))
    for name, values in figures.items():
        print(
            f"{homes[name].version} {name} devices, redlatch device revoke: {statistics.median(values):.0f} ms,"
            f" ratio {ratio(values, fewest):.2f}, {load()}",
            flush=True,
        )


def memory(homes: dict[str, Home]) -> None:
    for name, home in homes.items():
        read = [home.reading() for _ in range(5)]
        took, grown = (statistics.median(one[at] for one in read) for at in (0, 1))
        print(
            f"{home.version} {name} devices: all published in {home.published_in:.2f} s, read by the guard in"
            f" {took:.0f} ms, {grown:.0f} MiB; Node-RED {resident(home.red.pid):.0f} MiB, {load()}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--devices", default="10,1000,100000")
    parser.add_argument("--only", default="revoke,command,memory")
    parser.add_argument("--versions", default=",".join(VERSIONS))
    options = parser.parse_args()
    devices.enforce = noting("recorded", devices.enforce, before=True)
    publish.publish_snapshot = noting("published", publish.publish_snapshot, before=False)
    for version in options.versions.split(","):
        with tempfile.TemporaryDirectory(dir=".") as folder, ExitStack() as running:  # a disk, not a tmpfs
            homes = {
                count: Home(Path(folder).absolute() / count, version, int(count))
                for count in options.devices.split(",")
            }
            for home in homes.values():
                running.enter_context(home.red)
            if "memory" in options.only:
                time.sleep(5)
                memory(homes)
            if "revoke" in options.only:
                revocations(homes, options.rounds)
            if "command" in options.only:
                commands(homes, max(5, options.rounds // 3))


if __name__ == "__main__":
    main()
