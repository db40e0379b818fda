"""The passphrase of the CA keys handed to redlatch's units by a real systemd."""

from __future__ import annotations

import json
import sys

from tests.integration.engine.machine import Machine
from tests.support.wait import until

HOME = "/var/lib/ca/home"
CREDENTIAL = "/etc/credstore.encrypted/redlatch-ca"
UNIT = """
[Service]
Type=oneshot
User={user}
Environment=PYTHONPATH={path} PYTHONDONTWRITEBYTECODE=1
ExecStart={python} /srv/say.py
StandardOutput=append:/var/log/{name}.log
StandardError=append:/var/log/{name}.log
"""
SAY = """
from redlatch.cli.session import passphrase_from_systemd
print((passphrase_from_systemd() or b"none").decode())
"""
SITE = """
from pathlib import Path
from tests.support.home import small_site
Path("/var/lib/ca").mkdir()
print(small_site(Path("/var/lib/ca")).settings.system)
"""
# This machine's disk is memory, on which systemd-creds keeps no key of its own accord.
CREDS = """#!/bin/sh
exec /usr/bin/systemd-creds --with-key=host "$@"
"""


def redlatch(machine: Machine, *arguments: str, check: bool = True, **environ: str) -> str:
    """A command of redlatch's in there; what it printed."""
    names = [f"{name}={value}" for name, value in {"PATH": "/srv/bin:/usr/sbin:/usr/bin", **environ}.items()]
    done = machine.run("env", *names, sys.executable, "-m", "redlatch", "--home", HOME, *arguments, check=check)
    return done.stdout


def said_by(machine: Machine, name: str) -> str:
    """What a run of the unit printed."""
    machine.run("sh", "-c", f"rm -f /var/log/{name}.log")
    started = machine.run("systemctl", "start", name, check=False)
    assert started.returncode == 0, machine.run("cat", f"/var/log/{name}.log").stdout
    return until(machine.run("cat", f"/var/log/{name}.log").stdout.strip, what="the unit's words")


def test_systemd_hands_the_passphrase_over_and_nobody_else_can(machine: Machine) -> None:
    """`ca lock --credential`: encrypted on the disk, given to both units as their users; `unlock` ends that."""
    path = machine.run("sh", "-c", "echo $PYTHONPATH").stdout.strip()
    for name, user in (("redlatch", "pi"), ("redlatch-refresh", "root")):
        unit = UNIT.format(user=user, path=path, python=sys.executable, name=name)
        machine.write(f"/etc/systemd/system/{name}.service", unit)
    # The folder of credentials is mounted beside the unit, and has to arrive here: as on any machine of its own.
    machine.run("mount", "--make-rshared", "/run")
    machine.run("systemctl", "daemon-reload")
    machine.run("mkdir", "/srv/bin")
    for file, content, mode in (
        ("/srv/say.py", SAY, "644"),
        ("/srv/bin/systemd-creds", CREDS, "755"),
        ("/srv/new", "the passphrase\n", "600"),
    ):
        machine.write(file, content)
        machine.run("chmod", mode, file)
    assert machine.python(SITE).strip() == "True"

    told = json.loads(redlatch(machine, "ca", "lock", "--credential", "--new-passphrase", "/srv/new", "--json"))
    assert told["credential"][0] == CREDENTIAL
    assert len(told["keys"]) == 2
    assert "passphrase" not in machine.run("cat", CREDENTIAL).stdout
    assert machine.run("stat", "-c", "%a %U", CREDENTIAL).stdout.split() == ["600", "root"]
    for name in ("redlatch", "redlatch-refresh"):
        assert said_by(machine, name) == "the passphrase"
    refused = redlatch(machine, "device", "add", "phone", "--out", "/srv/phone.p12", "--json", check=False)
    assert json.loads(refused)["error"]["code"] == "passphrase"

    redlatch(machine, "ca", "unlock", "--yes", REDLATCH_PASSPHRASE_FILE="/srv/new")
    assert "redlatch.service.d" not in machine.run("ls", "/etc/systemd/system").stdout
    assert machine.run("test", "-e", CREDENTIAL, check=False).returncode == 1
    assert said_by(machine, "redlatch") == "none"
    redlatch(machine, "device", "add", "phone", "--out", "/srv/phone.p12")
