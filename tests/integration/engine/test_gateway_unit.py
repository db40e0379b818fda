"""`redlatch gateway up` as root under a real systemd: its own user, its own unit, and nothing left of either
after `down`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.integration.engine.machine import REPOSITORY, Machine
from tests.integration.engine.test_systemd import UNIT as NODE_RED
from tests.support.nodered import red_js
from tests.support.wait import until

HOME = "/var/lib/redlatch"
UNIT = "redlatch-gateway.service"
# The checkout and its Python lie where the unit's own limits hide them; devices are few in this machine.
DROP_IN = f"""\
[Service]
Environment=PYTHONPATH={REPOSITORY}/src
ProtectHome=no
PrivateTmp=no
PrivateDevices=no
StandardOutput=append:/var/log/gateway.log
StandardError=append:/var/log/gateway.log
"""
WEB = f"systemd-run --unit=web {sys.executable} -m http.server --bind ADDRESS --directory /srv 1880"


HAPROXY = """\
defaults
 mode http
 timeout client 1s
 timeout connect 1s
 timeout server 1s
frontend f
 bind :8443
"""


class Place:
    """The machine, and redlatch's commands in it as root."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def redlatch(self, *arguments: str, code: int = 0) -> str:
        done = self.machine.run(sys.executable, "-m", "redlatch", *arguments, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def document(self, *arguments: str, code: int = 0) -> Any:
        done = self.machine.run(sys.executable, "-m", "redlatch", *arguments, "--json", check=False)
        assert done.returncode == code, done.stdout + done.stderr + self.log()
        return json.loads(done.stdout)

    def log(self) -> str:
        return self.machine.run("tail", "-n", "20", "/var/log/gateway.log", check=False).stdout

    def web(self, address: str) -> None:
        """Something that answers in place of a Node-RED, on that address."""
        self.machine.run("systemctl", "stop", "web", check=False)
        self.machine.run("sh", "-c", WEB.replace("ADDRESS", address))
        until(lambda: "1880" in self.machine.run("ss", "-Hltn", "sport = 1880").stdout, what="something on 1880")

    def ask(self, *options: str) -> str:
        curl = ("curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", *options, "https://localhost:8443/")
        return self.machine.run(*curl, check=False).stdout


@pytest.fixture
def place(machine: Machine) -> Iterator[Place]:
    before = machine.run("cat", "/etc/passwd", "/etc/group").stdout
    machine.run("useradd", "--system", "--user-group", "--no-create-home", "redlatch")
    machine.run("mkdir", "-p", f"/etc/systemd/system/{UNIT}.d")
    machine.write(f"/etc/systemd/system/{UNIT}.d/test.conf", DROP_IN)
    made = Place(machine)
    made.web("127.0.0.1")
    yield made
    machine.run(sys.executable, "-m", "redlatch", "gateway", "down", "--yes", check=False)
    machine.run("systemctl", "stop", "web", check=False)
    machine.run("rm", "-rf", HOME, f"/etc/systemd/system/{UNIT}.d", f"/etc/systemd/system/{UNIT}")
    machine.run("systemctl", "daemon-reload")
    machine.run("userdel", "redlatch")
    machine.run("groupdel", "redlatch", check=False)  # where userdel leaves it
    assert machine.run("cat", "/etc/passwd", "/etc/group").stdout == before


UP = ("gateway", "up", "--listen", ":8443", "--to", "http://127.0.0.1:1880", "--yes")


def test_the_gateway_runs_as_its_own_user_and_goes_without_a_trace(place: Place) -> None:
    """Up: locked, a device in, a stranger out, files readable for nobody else. Down: user, unit and files are
    gone.
    """
    up = place.document(*UP)
    assert (up["locked"], up["started"], up["force"]["state"]) == (True, True, "in-force")
    place.redlatch("device", "add", "phone", "--format", "pem", "--out", "/root/phone")
    key = ("--cert", "/root/phone/cert.pem", "--key", "/root/phone/key.pem")
    assert (place.ask(*key), place.ask()) == ("200", "000")
    run = place.machine.run
    listing = run("stat", "-c", "%U:%G %a %n", f"{HOME}/gateway", f"{HOME}/gateway/published").stdout.splitlines()
    assert listing == [
        f"root:root 755 {HOME}/gateway",
        f"redlatch:redlatch-gateway 2750 {HOME}/gateway/published",
    ]
    assert (
        run("stat", "-c", "%U:%G %a", f"{HOME}/gateway/published/secret").stdout
        == "redlatch:redlatch-gateway 640\n"
    )
    owners = run("sh", "-c", "ps -eo user:32,comm | grep haproxy").stdout.split()
    assert set(owners) == {"redlatch-gateway", "haproxy"}
    assert place.document(*UP)["changed"] is False

    revoked = place.document("device", "revoke", "phone", "--force")
    assert (revoked["force"]["state"], revoked["force"]["by"]) == ("in-force", "the gateway")
    assert place.ask(*key) == "000"

    place.redlatch("gateway", "down", "--yes")
    assert place.ask() == "000"
    assert run("sh", "-c", "ps -eo comm | grep -c haproxy", check=False).stdout == "0\n"
    assert run("id", "redlatch-gateway", check=False).returncode != 0
    assert run("ls", f"/etc/systemd/system/{UNIT}", f"{HOME}/gateway", check=False).stdout == ""
    assert "devices" not in run("ls", HOME).stdout


def test_python_killed_haproxy_goes_on_and_is_taken_over(place: Place) -> None:
    """kill -9 of the process that drives HAProxy: devices still come in, and the next one takes the same HAProxy
    over.
    """
    place.document(*UP)
    place.redlatch("device", "add", "phone", "--format", "pem", "--out", "/root/second")
    key = ("--cert", "/root/second/cert.pem", "--key", "/root/second/key.pem")
    run = place.machine.run
    before = run("pgrep", "-o", "haproxy").stdout
    main = place.machine.show(UNIT, "MainPID")["MainPID"]
    run("kill", "-9", main)
    assert (place.ask(*key), place.ask()) == ("200", "000")
    until(
        lambda: place.machine.show(UNIT, "MainPID")["MainPID"] not in ("0", main), seconds=20, what="the next one"
    )
    until(lambda: _lives(place), seconds=20, what="its word")
    assert place.document("device", "revoke", "phone", "--force")["force"]["state"] == "in-force"
    assert run("pgrep", "-o", "haproxy").stdout == before
    assert place.ask(*key) == "000"


def _lives(place: Place) -> bool:
    found = place.machine.run(sys.executable, "-m", "redlatch", "gateway", "status", "--json", check=False).stdout
    return json.loads(found)["in_force"] is not None


def test_a_node_red_on_all_addresses_is_not_called_locked(place: Place) -> None:
    """Exit code 1, and where it can be reached past the gateway; nothing of the gateway is missing for that."""
    place.web("0.0.0.0")
    place.machine.run("ip", "address", "add", "192.168.77.5/32", "dev", "lo")
    try:
        said = place.redlatch(*UP, code=1)
        assert "not locked: Node-RED can still be reached at http://192.168.77.5:1880" in said
        assert place.document("gateway", "status", code=1)["in_force"] is not None
        place.web("127.0.0.1")
        assert "locked: only devices with a key get through" in place.redlatch("gateway", "status")
    finally:
        place.machine.run("ip", "address", "del", "192.168.77.5/32", "dev", "lo")


def test_the_distributions_own_haproxy_is_left_alone(place: Place) -> None:
    """It has the port: refused, named, and not touched. It has another one: said, and not touched."""
    machine = place.machine
    machine.write("/srv/haproxy.cfg", HAPROXY)
    machine.write(
        "/etc/systemd/system/haproxy.service", "[Service]\nExecStart=/usr/sbin/haproxy -db -f /srv/haproxy.cfg\n"
    )
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "haproxy")
    try:
        until(lambda: "8443" in machine.run("ss", "-Hltn", "sport = 8443").stdout, what="something on 8443")
        said = place.redlatch(*UP, code=1)
        assert "unit haproxy.service" in said
        assert "distribution's own HAProxy" in said
        assert machine.run("ls", f"{HOME}/gateway", check=False).returncode != 0
        up = place.document("gateway", "up", "--listen", ":8444", "--to", "http://127.0.0.1:1880", "--yes")
        assert any("haproxy.service runs too" in one for one in up["warnings"])
        assert machine.show("haproxy", "ActiveState")["ActiveState"] == "active"
    finally:
        machine.run("systemctl", "stop", "haproxy")
        machine.run("rm", "/etc/systemd/system/haproxy.service")


def test_a_node_red_of_systemds_is_put_behind_and_given_back(place: Place) -> None:
    """Bound to loopback from its restart on, deaf without the secret; afterwards as it was, byte for byte."""
    machine = place.machine
    machine.run("systemctl", "stop", "web")
    file, user_dir = "/home/pi/.node-red/settings.js", "/home/pi/.node-red"
    folder = "/opt/cache/node-red-5.0/node_modules/node-red"
    machine.write("/etc/systemd/system/nodered.service", NODE_RED.format(bin=f"{folder}/bin", node="node24"))
    machine.write(file, (red_js("5.0").parent / "settings.js").read_text(), owner="pi")
    before = machine.run("cat", file).stdout
    machine.run("systemctl", "daemon-reload")
    try:
        machine.run("systemctl", "start", "nodered")
        until(lambda: _listens(machine), seconds=60, what="Node-RED")
        arguments = ("gateway", "up", "--listen", ":8443", "--to", "http://127.0.0.1:1880", "--user-dir", user_dir)
        up = place.document(*arguments, "--yes", code=1 if _has_addresses(machine) else 0)
        assert "nodered" in up["restart"]
        machine.run("systemctl", "restart", "nodered")
        until(lambda: _listens(machine) == ["127.0.0.1:1880"], seconds=60, what="Node-RED on loopback")
        assert place.document("gateway", "status")["locked"] is True
        place.redlatch("device", "add", "phone", "--role", "owner", "--format", "pem", "--out", "/root/third")
        key = ("--cert", "/root/third/cert.pem", "--key", "/root/third/key.pem")
        until(lambda: place.ask(*key) == "200", seconds=30, what="Node-RED behind the gateway")
        assert place.ask() == "000"
        direct = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:1880/flows")
        assert machine.run(*direct, check=False).stdout != "200"
        place.redlatch("gateway", "down", "--yes")
        assert machine.run("cat", file).stdout == before
        machine.run("systemctl", "restart", "nodered")
        until(lambda: machine.run(*direct, check=False).stdout == "200", seconds=60, what="Node-RED as it was")
    finally:
        machine.run("systemctl", "stop", "nodered", check=False)
        machine.run("rm", "-rf", "/etc/systemd/system/nodered.service", "/etc/systemd/system/nodered.service.d")
        machine.run("sh", "-c", f"rm -rf {user_dir}/*")


def _listens(machine: Machine) -> list[str]:
    lines = machine.run("ss", "-Hltn", "sport = 1880").stdout.splitlines()
    return [line.split()[3] for line in lines]


def _has_addresses(machine: Machine) -> bool:
    return any(not one.startswith("127.") for one in _listens(machine))
