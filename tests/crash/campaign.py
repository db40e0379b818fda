"""Kills, failing writes and power cuts at the write points of one operation, and what is found after each.

    python tests/crash/campaign.py [--only "device add"] [--every N] [--out docs/proof-crash.md]

All points of all operations take their time; tests/crash/test_every_write.py takes a spread of them, or all
(REDLATCH_KILLS=all). Needs strace, and the test cache that scripts/test makes.
"""

from __future__ import annotations

import argparse
import mmap
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.crash.operations import OPERATIONS, Operation, Place
from tests.crash.syscalls import (
    DONE,
    REFUSED,
    Call,
    PowerCut,
    Ran,
    failing_at,
    full_from,
    killed_at,
    run,
)
from tests.crash.whole import Admits, admitted, damage, dump, folders, more_open, noted, states_noted

from redlatch.errors import Conflict, NotSetUp, RedlatchError
from redlatch.operations import server

KINDS: Final = ("killed", "disk full", "input/output error", "power cut")


@dataclass
class Campaign:
    """One operation at one place. `done` counts what was injected, by kind; `wrong` is what was found."""

    operation: Operation
    at: Place
    logs: Path
    done: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def begin(self) -> list[Call]:
        """Does the operation once, undisturbed: its write points."""
        self.at.restore()
        self.operation.do(self.at)  # whatever is imported late is imported now
        self.at.restore()
        self.old: list[Admits | None] = [admitted(folder) for folder in folders(self.at)]
        first, text = dump(self.at.settings.database), self.at.settings_file.read_bytes()
        self.ran = self._run()
        assert self.ran.ended == DONE, self.ran.said
        self.states = [first, *noted(self.memory)]
        assert dump(self.at.settings.database) == self.states[-1]
        self.texts = {text, self.at.settings_file.read_bytes()}
        self._judge("undisturbed", self.states[-1:], "undisturbed")
        return self.ran.below(self.at.root)

    def _run(self, inject: Iterable[str] = ()) -> Ran:
        self.memory = mmap.mmap(-1, 1 << 25)

        def work() -> None:
            with states_noted(self.memory):
                self.operation.do(self.at)

        return run(work, self.logs, tuple(inject))

    def kill(self, call: Call, *, cuts: Callable[[list[str]], Iterable[str]] = list) -> None:
        """Kills it there, and then takes what a power cut at that moment takes; `cuts` chooses of the ways."""
        self.at.restore()
        ran = self._run(killed_at(call))
        if ran.ended != -signal.SIGKILL:
            self.ended["missed"] += 1
            return
        self._after(ran, f"killed at {call}", self.states, cuts)

    def acknowledge(self, *, cuts: Callable[[list[str]], Iterable[str]] = list) -> None:
        """A power cut after it has ended well: what was acknowledged is there."""
        self.at.restore()
        ran = self._run()
        assert ran.ended == DONE, ran.said
        self._after(ran, "acknowledged", self.states[-1:], cuts)

    def _after(self, ran: Ran, where: str, allowed: list[str], cuts: Callable[[list[str]], Iterable[str]]) -> None:
        cut = PowerCut(ran, self.at.root, self.at.before)
        ways = cut.variants()
        chosen = list(cuts(list(ways)))
        kept = self.at.root.with_name(f"{self.at.root.name}-after")
        if chosen:
            subprocess.run(["cp", "-a", self.at.root, kept], check=True)
        try:
            self._judge(where, allowed, "killed")
            for name in chosen:
                self.at.restore(kept)
                ways[name]()
                self._judge(f"{where}, {name}", allowed, "power cut")
        finally:
            shutil.rmtree(kept, ignore_errors=True)

    def fail(self, call: Call, kind: str) -> None:
        """The call fails: "disk full" from there on, "input/output error" once."""
        self.at.restore()
        inject = full_from(call, self.ran) if kind == "disk full" else failing_at(call, "EIO")
        ran = self._run(inject)
        hit = next((one for one in ran.calls if "INJECTED" in one.result), None)
        piped = any("INJECTED" in one.result and "pipe:" in "".join(one.paths) for one in ran.calls)
        if hit is None or not hit.changes or piped:  # calls that only read, or tell others, are not always as many
            self.ended["missed"] += 1
            return
        where = f"{kind} at {call}"
        self.ended[{DONE: "done", REFUSED: "refused"}.get(ran.ended, "broken")] += 1
        if ran.ended not in (DONE, REFUSED):
            self.wrong.append(f"{self.operation.name}: {where}: ended with {ran.ended}: {ran.said[-900:]}")
        self._judge(where, self.states[-1:] if ran.ended == DONE else self.states, kind)

    def _judge(self, where: str, allowed: list[str], kind: str) -> None:
        self.done[kind] += 1
        for problem in self._problems(allowed):
            self.wrong.append(f"{self.operation.name}: {where}: {problem}")

    def _problems(self, allowed: list[str]) -> Iterable[str]:
        try:
            found = dump(self.at.settings.database)
            if found not in allowed and not self._taken_back(found):
                yield f"neither the old state nor the new: {_lines(found, allowed)}"
            if self.at.settings_file.read_bytes() not in self.texts:
                yield "settings.js is neither the old one nor the new"
            if too_open := more_open(self.at, self.old):
                yield f"more open than the store: {too_open}"
            self._next()
            if damaged := damage(self.at):
                yield damaged
        except RedlatchError as error:
            yield f"the next command fails: {error.message} ({error.hint})"
        except sqlite3.Error as error:
            yield f"the store cannot be read: {error}"

    def _taken_back(self, found: str) -> bool:
        """Whether it is the state before but for what says that it was undone, or that of another beginning."""
        if self.operation.unread and self.operation.unread in found:
            return True
        kind = self.operation.taken_back
        return (
            bool(kind) and f'"{kind}"' in found and _but_for_the_audit(found) == _but_for_the_audit(self.states[0])
        )

    def _next(self) -> None:
        """The next command."""
        if not self.operation.again:
            server.refresh(self.at.open())
            return
        try:
            self.operation.do(self.at)
        except (NotSetUp, Conflict):
            self.at.close()
            self.at.open()


def _but_for_the_audit(state: str) -> list[str]:
    return [re.sub(r", \d+", "", line) for line in state.splitlines() if not line.startswith("audit:")]


def _lines(found: str, allowed: list[str]) -> str:
    """The lines in which it differs from the state that is nearest."""
    here = set(found.splitlines())
    differing = min((here ^ set(one.splitlines()) for one in allowed), key=len)
    return "; ".join(sorted(f"{'+' if line in here else '-'} {line}"[:240] for line in differing))[:1500]


def everywhere(campaign: Campaign, every: int = 1) -> int:
    """All kinds at every so-manieth write point; how many points there are."""
    points = campaign.begin()
    campaign.acknowledge()
    for number, call in enumerate(points):
        if number % every:
            continue
        campaign.kill(call)
        campaign.fail(call, "disk full")
        campaign.fail(call, "input/output error")
    return len(points)


def table(rows: list[tuple[str, int, Counter[str], Counter[str], int]]) -> str:
    """Markdown: operation, points, what was injected, what did not survive."""
    lines = [f"| operation | write points | {' | '.join(KINDS)} | not survived |", "|---|" + "---:|" * 6]
    total: Counter[str] = Counter()
    for name, points, done, _, wrong in rows:
        lines.append(f"| {name} | {points} | {' | '.join(str(done[kind]) for kind in KINDS)} | {wrong} |")
        total.update(done)
    sums = " | ".join(f"**{total[kind]}**" for kind in KINDS)
    lines.append(
        f"| **{len(rows)} operations** | **{sum(row[1] for row in rows)}** | {sums} |"
        f" **{sum(row[4] for row in rows)}** |"
    )
    return "\n".join(lines) + "\n"


def memory() -> str | None:
    """Where files cost least: what a power cut takes is worked out, the disk need not be a real one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="these operations, commas between them; default: all")
    parser.add_argument("--every", type=int, default=1, help="every so-manieth write point")
    parser.add_argument("--out", type=Path, help="where the table is written, too")
    options = parser.parse_args()
    only = options.only.split(",") if options.only else [one.name for one in OPERATIONS]
    rows = []
    wrong: list[str] = []
    places: dict[str, Place] = {}
    with tempfile.TemporaryDirectory(prefix="rl-crash-", dir=memory()) as folder:
        logs = Path(folder) / "logs"
        logs.mkdir()
        for operation in (one for one in OPERATIONS if one.name in only):
            if operation.base not in places:
                places[operation.base] = Place(Path(folder) / operation.base, operation.base)
            campaign = Campaign(operation, places[operation.base], logs)
            points = everywhere(campaign, options.every)
            rows.append((operation.name, points, campaign.done, campaign.ended, len(campaign.wrong)))
            wrong += campaign.wrong
            print(operation.name, points, dict(campaign.done), dict(campaign.ended), flush=True)
            for line in campaign.wrong[:20]:
                print(f"  {line}", flush=True)
            if options.out:
                options.out.write_text(table(rows))
    print(table(rows))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
