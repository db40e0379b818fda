"""A change on trial with real commands: the countdown, the answers, and what takes it back when all are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.harness import Person
from tests.cli.terminal import Terminal
from tests.support.home import small_site
from tests.support.nodered import free_port
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.operations import devices
from redlatch.operations.site import Service, Site, changing, set_config
from redlatch.settings import from_environment
from redlatch.store import Store

RULES = [1, 2, 3, 4]


class House:
    """A site whose commands run on terminals; asked without opening it, which would take a trial back itself."""

    def __init__(self, root: Path) -> None:
        site = small_site(root)
        devices.add(site, "boss", role="owner")
        site.store.close()
        self.person = Person(root)
        self.home = str(site.settings.home)

    def terminal(self, *arguments: str) -> Terminal:
        return Terminal(self.person, *arguments, "--home", self.home)

    def serve(self) -> subprocess.Popen[bytes]:
        """The service of this house, running."""
        settings = from_environment(Path(self.home), {})
        with closing(bootstrap.open_site(settings, actor="test").store) as store:
            site = Site(settings, store, "test", bootstrap.now, bootstrap.no_passphrase)
            with changing(site) as tx:
                set_config(tx, service=Service(console_port=free_port(), enrolment_port=free_port()))
                tx.record("service.changed")
        made = subprocess.Popen(
            [sys.executable, "-m", "redlatch", "serve", "--home", self.home, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert made.stdout is not None
        assert b"serving" in made.stdout.readline()
        return made

    def rules(self) -> list[int]:
        with Store.open(from_environment(Path(self.home), {}).database) as store, store.read() as view:
            return [rule.id for rule in view.rules()]

    def watchers(self) -> list[int]:
        """The processes that take this home's trial back."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"--when-over" in line and self.home.encode() in line:
                    found.append(int(entry.name))
        return found


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    for pid in made.watchers():
        os.kill(pid, signal.SIGKILL)


def test_kept_in_another_window(house: House) -> None:
    """The command counts down and ends when somebody keeps it; its watcher ends too."""
    with house.terminal("rule", "remove", "3", "--try", "1h") as first:
        first.expect("on trial until")
        first.expect("taken back in 3[56][0-9]+ s")
        with house.terminal("trial", "keep") as second:
            second.expect("kept: removed the rule: devices with the role viewer")
            assert second.end() == 0
        first.expect("kept")
        assert first.end() == 0
    assert house.rules() == [1, 2, 4]
    until(lambda: not house.watchers(), what="that nothing waits for a trial that is over")


def test_ctrl_c_takes_it_back_at_once(house: House) -> None:
    with house.terminal("rule", "remove", "3", "--try", "1h") as first:
        first.expect("taken back in")
        assert house.rules() == [1, 2, 4]
        first.type("\x03")
        first.expect("nobody kept it: everything is as it was before")
        assert first.end() == 1
    assert house.rules() == RULES


def test_whoever_is_killed_it_is_taken_back(tmp_path: Path) -> None:
    """The command killed: its watcher does it. The watcher killed: the command does. Both: the service, or else
    whatever command comes next.

    Four houses at once, for ten seconds are the least that a trial lasts.
    """
    houses = [House(tmp_path / name) for name in ("command", "watcher", "service", "both")]
    served = houses[2].serve()
    terminals = [one.terminal("rule", "remove", "3", "--try", "10s") for one in houses]
    try:
        for one, terminal in zip(houses, terminals, strict=True):
            terminal.expect("taken back in")
            assert one.rules() == [1, 2, 4]
            until(lambda one=one: len(one.watchers()) == 1, what="a watcher")
        _, watcher, service, both = houses
        for terminal in (terminals[0], terminals[2], terminals[3]):
            terminal.process.kill()  # what started it on its terminal became the command itself
            terminal.process.wait(10)
        for one in (watcher, service, both):
            os.kill(one.watchers()[0], signal.SIGKILL)
        until(lambda: all(one.rules() == RULES for one in houses[:3]), seconds=20, what="that all took it back")
        assert terminals[1].end() == 1
        assert "nobody kept it" in terminals[1].shown
        assert both.rules() == [1, 2, 4]

        def next_command() -> bool:  # its time may be over a little later than that of the others
            bootstrap.open_site(from_environment(Path(both.home), {}), actor="the next one").store.close()
            return both.rules() == RULES

        until(next_command, seconds=20, what="that the next command took it back")
    finally:
        served.kill()
        served.wait(10)
        for terminal in terminals:
            terminal.__exit__()
        for one in houses:
            for pid in one.watchers():
                os.kill(pid, signal.SIGKILL)
