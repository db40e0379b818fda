"""A change on trial as root under a real systemd: a timer takes it back, and no process waits for that."""

from __future__ import annotations

import json
import sys

from tests.integration.engine.machine import Machine
from tests.support.wait import until

HOME = "/var/lib/trial/home"
SITE = """
from pathlib import Path
from tests.support.home import small_site
from redlatch.operations import devices
Path("/var/lib/trial").mkdir()
devices.add(small_site(Path("/var/lib/trial")), "boss", role="owner")
"""
# A command of redlatch's would take it back itself.
RULES = f"""
from pathlib import Path
from redlatch.settings import from_environment
from redlatch.store import Store
with Store.open(from_environment(Path("{HOME}"), {{}}).database) as store, store.read() as view:
    print([rule.id for rule in view.rules()], [one.event.kind for one in view.audit_events()][-1])
"""


def redlatch(machine: Machine, *arguments: str) -> str:
    done = machine.run(sys.executable, "-m", "redlatch", "--home", HOME, *arguments)
    return done.stdout


def rules(machine: Machine) -> str:
    return machine.python(RULES).strip()


def timers(machine: Machine) -> list[str]:
    """The units of systemd-run."""
    listed = machine.run("systemctl", "list-timers", "--all", "--output=json", "run-*").stdout
    return [one["unit"] for one in json.loads(listed)]


def test_a_timer_takes_it_back(machine: Machine) -> None:
    """Kept, the timer finds nothing to do; not kept, it takes the change back at its end; it goes either way."""
    path = machine.run("sh", "-c", "echo $PYTHONPATH").stdout.strip()
    machine.run("systemctl", "set-environment", f"PYTHONPATH={path}", "PYTHONDONTWRITEBYTECODE=1")
    machine.python(SITE)

    redlatch(machine, "rule", "remove", "4", "--try", "10s", "--json")
    (timer,) = timers(machine)
    redlatch(machine, "trial", "keep")
    assert rules(machine) == "[1, 2, 3] trial.kept"
    until(lambda: timer not in timers(machine), seconds=60, what="the end of the timer")
    assert rules(machine) == "[1, 2, 3] trial.kept"

    redlatch(machine, "rule", "remove", "3", "--try", "10s", "--json")
    assert rules(machine) == "[1, 2] trial.begun"
    assert machine.run("sh", "-c", "grep -l when-ove[r] /proc/[0-9]*/cmdline", check=False).stdout == ""
    until(lambda: rules(machine) == "[1, 2, 3] trial.undone", seconds=60, what="that it is taken back")
    until(lambda: not timers(machine), what="the end of the timer")
