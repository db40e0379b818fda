"""What rules cost: a lock with fifty rules of its own against one with none, in turn in one run.

    python bench/rules.py [--rounds 20] [--requests 500] [--handshakes 25] [--only requests,handshakes,parts]

Needs the test cache that scripts/test makes, and Linux (/proc). Prints ratios, never fails on them. CPU is that
of all threads of Node-RED's process (schedstat, nanoseconds); medians over the rounds. Beside the lock with rules
runs a second one without: what its ratio is off 1 tells how exact the others are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import HELLO, TAB, handshakes, in_turn, load, measure, node, ratio, requests
from tests.support.nodered import VERSIONS, NodeRed, Version, write_settings
from tests.support.nodered import node as program
from tests.support.site import Site

from redlatch.policy.model import DEFAULT_RULES, Areas, Rule
from redlatch.policy.networks import Network, compiled, encode, parse

FLOWS = [
    TAB,
    *HELLO,
    node("open-in", "http in", [["out"]], url="/open", method="get"),
]
AREAS = Areas(
    dashboards=("/dashboard", "/ui"),
    http_in=("/hello", "/open", *(f"/hook-{number}/:what" for number in range(30))),
    static=("/static",),
    websockets=("/ws",),
)


def network(*entries: str) -> Network:
    return compiled(parse(entry) for entry in entries)


NETWORKS = {
    "home": network("127.0.0.0/8", "192.168.0.0/16", "fd00::/8"),
    "office": network("203.0.113.0/24", "2001:db8::/32"),
    "partners": network(*(f"{11 + number // 250}.{number % 250}.7.0/24" for number in range(1000))),
}


def fifty(device: str) -> tuple[Rule, ...]:
    """Fifty rules of every kind; about half of them speak of the device of this id where it is."""
    rules: list[Rule] = []
    for number in range(5):
        rules += [
            Rule(0, roles=(f"crew-{number}",), area="dashboards"),
            Rule(0, roles=("admin",), networks=("home",), path=f"/admins-{number}"),
            Rule(0, devices=(str(uuid.uuid4()), device), path=f"/mine-{number}", methods=("GET", "POST")),
            Rule(0, devices=tuple(str(uuid.uuid4()) for _ in range(10)), area="http-in"),
            Rule(0, any_device=True, networks=("partners", "home"), path=f"/sensors/{number}"),
            Rule(0, anyone=True, networks=("partners",), path=f"/hook-{number}", methods=("POST",)),
            Rule(0, roles=("user", "viewer"), area="http-in", networks=("office", "home")),
            Rule(0, roles=("thing",), path=f"/things-{number}", methods=("GET",)),
            Rule(0, roles=("admin",), area="editor", networks=("partners",)),
            Rule(
                0, anyone=True, networks=("home",), path=f"/open-{number}" if number else "/open", methods=("GET",)
            ),
        ]
    return tuple(replace(rule, id=5 + at) for at, rule in enumerate(rules))


class Lock:
    """A locked Node-RED with the rules that every site begins with, and with fifty more."""

    def __init__(self, version: Version, root: Path, *, rules: bool) -> None:
        roles = {f"crew-{number}": "user" for number in range(5)}
        self.site = Site(root / "site", areas=AREAS, roles=roles if rules else {})
        self.device = self.site.device("bench")
        if rules:
            self.site.change(rules=(*DEFAULT_RULES, *fifty(self.device.id)), networks=NETWORKS)
        write_settings(root / "user", published=self.site.published, flows=FLOWS)
        self.red = NodeRed(version, root / "user")


def compare(label: str, rounds: int, works: dict[str, Callable[[], float]]) -> None:
    """A line: what it costs without rules, the ratios of the lock with rules and of a second one without."""
    figures = in_turn(works, rounds)
    cells = f"{statistics.median(figures['without']):9.1f}"
    for name in ("rules", "again"):
        cells += f" {ratio(figures[name], figures['without']):7.3f}"
    print(f"{label:60}{cells}   {load()}", flush=True)


def against(version: Version, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        locks = {
            name: Lock(version, Path(folder) / name, rules=name == "rules")
            for name in ("without", "rules", "again")
        }
        with locks["without"].red, locks["rules"].red, locks["again"].red:

            def asking(path: str, *, unlike: bool = False, anyone: bool = False) -> dict[str, Callable[[], float]]:
                def one(name: str) -> float:
                    lock = locks[name]
                    device = None if anyone and name == "rules" else lock.device
                    return measure(
                        lock.red, lambda: requests(lock.red.port, device, path, options.requests, unlike=unlike)
                    )

                return {name: lambda name=name: one(name) for name in locks}  # type: ignore[misc]

            if "requests" in options.only:
                label = f"{version} CPU per keep-alive request, us"
                compare(f"{label}: http-in", options.rounds, asking("/hello"))
                compare(f"{label}: each with another query", options.rounds, asking("/hello", unlike=True))
                compare(f"{label}: editor API", options.rounds, asking("/settings"))
                compare(f"{label}: no certificate", options.rounds, asking("/open", anyone=True))
            if "handshakes" in options.only:

                def shaking(lock: Lock) -> float:
                    return measure(lock.red, lambda: handshakes(lock.red.port, lock.device, options.handshakes))

                works = {name: lambda lock=lock: shaking(lock) for name, lock in locks.items()}  # type: ignore[misc]
                compare(f"{version} CPU per full handshake, us", options.rounds, works)


def scripts(version: Version) -> None:
    """What the guard's own parts cost, by this Node-RED's Node.js."""
    print(f"Node.js of {version}, {load()}", flush=True)
    here, device = Path(__file__).parent, str(uuid.uuid4())
    facts = {
        "device": device,
        "areas": asdict(AREAS),
        "roles": {f"crew-{number}": "user" for number in range(5)},
        "networks": {name: encode(one).hex() for name, one in NETWORKS.items()},
        "rules": {
            "4 rules": [asdict(rule) for rule in DEFAULT_RULES],
            "54 rules": [asdict(rule) for rule in (*DEFAULT_RULES, *fifty(device))],
        },
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(facts, file)
        file.flush()
        subprocess.run([str(program(version)), str(here / "decide.js"), file.name], check=True)
    subprocess.run([str(program(version)), "--expose-gc", str(here / "lookup.js")], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--handshakes", type=int, default=25)
    parser.add_argument("--only", default="requests,handshakes,parts")
    parser.add_argument("--versions", default=",".join(VERSIONS))
    options = parser.parse_args()
    options.only = options.only.split(",")
    if {"requests", "handshakes"} & set(options.only):
        print(f"{'':60}{'without':>9} {'rules':>7} {'again':>7}", flush=True)
    for version in options.versions.split(","):
        if {"requests", "handshakes"} & set(options.only):
            against(version, options)
        if "parts" in options.only:
            scripts(version)


if __name__ == "__main__":
    main()
