"""File events that never come: what the kernel does not tell, both engines find out by looking."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support.clients import Connection, Refused, request
from tests.support.nodered import NodeRed, Version, write_settings
from tests.support.running_gateway import running
from tests.support.site import Device, Site
from tests.support.wait import until

#: Each engine looks by itself every second.
SECONDS = 5

# As when all inotify instances of the user are taken, but that no error tells of it
_DEAF_NODE = """
require("fs").watch = () => ({ on() {}, close() {} });
"""
_DEAF_PYTHON = """
import fcntl

real = fcntl.fcntl


def deaf(descriptor, command, *rest):
    return 0 if command == fcntl.F_NOTIFY else real(descriptor, command, *rest)


fcntl.fcntl = deaf
"""


def follows(site: Site, port: int, target: str, before: Device) -> None:
    """A new device comes in, and neither its open connection nor a new one is answered once it is revoked: without
    an event, and then in a folder that was replaced by another one of the same name.
    """
    for number in (1, 2):
        device = site.device(f"device {number}", "owner")
        until(lambda d=device: _status(port, target, d) == 200, seconds=SECONDS, what="the new device")
        with Connection(port, device) as connection:
            assert connection.request("GET", target).status == 200
            site.revoke(device)
            until(lambda c=connection: not _answers(c, target), seconds=SECONDS, what="its end")
        assert _status(port, target, device) != 200
        assert _status(port, target, before) == 200
        if number == 1:
            aside = site.published.with_name("aside")
            site.published.rename(aside)
            shutil.copytree(aside, site.published)


def _status(port: int, target: str, device: Device) -> int:
    try:
        return request(port, "GET", target, device).status
    except Refused:
        return 0


def _answers(connection: Connection, target: str) -> bool:
    try:
        return connection.request("GET", target).status == 200
    except Refused:
        return False


@pytest.mark.parametrize("version", ["5.0"])
def test_the_guard_looks_by_itself(version: Version, tmp_path: Path) -> None:
    """Node-RED's fs.watch is deaf: devices come, go, and are cut all the same, within seconds."""
    site = Site(tmp_path / "site")
    laptop = site.device("laptop", "owner")
    write_settings(tmp_path / "user", published=site.published)
    deaf = tmp_path / "deaf.js"
    deaf.write_text(_DEAF_NODE)
    with NodeRed(version, tmp_path / "user", env={"NODE_OPTIONS": f"--require {deaf}"}) as red:
        follows(site, red.port, "/settings", laptop)


def test_the_gateway_looks_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gateway run` gets no signal of its folder: the same."""
    (tmp_path / "deaf").mkdir()
    (tmp_path / "deaf/sitecustomize.py").write_text(_DEAF_PYTHON)
    monkeypatch.syspath_prepend(tmp_path / "deaf")
    with running(tmp_path, "2.6") as gateway:
        laptop = gateway.site.device("laptop", "owner")
        follows(gateway.site, gateway.port, "/", laptop)
