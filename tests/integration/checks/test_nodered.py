"""Checks on Node-RED itself: each finds what it is for on a site that is broken in that way, and nothing
before.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.integration.checks.conftest import Home, by_code, house
from tests.integration.operations.conftest import House
from tests.integration.operations.gateways import Gate, web
from tests.support.nodered import NodeRed
from tests.support.wait import until

from redlatch.checks import knocking, looking, nodered
from redlatch.checks.model import Check, Found, Scene, Unknown
from redlatch.engines.nodered import dropin, publish, units
from redlatch.operations import gateway_standing, ports, setup

CODES = {check.code: check for check in nodered.CHECKS}


def look(home: Home, code: str, **changes: Any) -> list[Found]:
    return home.found(CODES[code], **changes)


def texts(found: list[Found]) -> str:
    return "\n".join(one.text for one in found)


@pytest.mark.parametrize("check", nodered.CHECKS, ids=lambda check: check.code)
def test_a_healthy_node_red_has_nothing(home: Home, check: Check) -> None:
    """Locked, running, with a credentialSecret: no check finds anything."""
    with contextlib.suppress(Unknown) if check.code.startswith("drop-in") else contextlib.nullcontext():
        assert home.found(check) == []


def test_a_settings_file_that_cannot_be_loaded(home: Home) -> None:
    """A comma too few: found with its line; what needs it loaded says that it cannot look."""
    with home.wrote(home.settings_file, "module.exports = {\n  a: 1\n  b: 2\n};\n"):
        (found,) = look(home, "settings-broken")
        assert "line 3" in found.text
        with pytest.raises(Unknown):
            look(home, "lock-fallen-off")


@pytest.mark.parametrize("what", ["gone", "switched off"])
def test_a_lock_that_has_fallen_off(home: Home, what: str) -> None:
    """The block is gone, or stands behind a return: loaded and asked, not read."""
    text = home.settings_file.read_text()
    end = text.index("// ---") if "// ---" in text else text.index("};\n") + 3
    changed = text[:end] if what == "gone" else text[:end] + "return;\n" + text[end:]
    with home.wrote(home.settings_file, changed):
        (found,) = look(home, "lock-fallen-off")
    assert found.subject == str(home.settings_file)


def test_a_guard_that_is_not_this_redlatchs(home: Home) -> None:
    """Another guard is published than this redlatch has, and another one runs than is published."""
    published = home.house.settings.published
    other = published / "guard-000000000000"
    (now,) = published.glob("guard-????????????")
    shutil.copytree(now, other)
    try:
        with home.wrote(published / "guard.js", f'module.exports = require("./{other.name}/guard.js");\n'):
            assert "000000000000" in texts(look(home, "guard-outdated"))
            assert publish.guard_hash() in texts(look(home, "guard-not-restarted"))
    finally:
        shutil.rmtree(other)


@pytest.fixture(scope="module")
def open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Node-RED was started before `redlatch up`, without a credentialSecret, at all addresses, and still runs."""
    made = house(tmp_path_factory.mktemp("open"), body='credentialSecret: undefined, uiHost: "0.0.0.0",')
    with NodeRed("5.0", made.user_dir, port=made.port):
        made.up()
        yield made


def test_a_node_red_that_was_never_restarted(open_house: House) -> None:
    """It answers, by plain http, and no guard speaks for it."""
    scene = Scene(open_house.open(), open_house.environ)
    assert str(open_house.port) in texts(list(CODES["no-guard"].look(scene)))
    assert "plain http" in texts(list(CODES["plain-http"].look(scene)))
    assert list(CODES["lock-fallen-off"].look(scene)) == []


def test_another_open_node_red_of_the_same_user(home: Home, open_house: House) -> None:
    """It is found from the site that is locked, with its port."""
    assert f"port {open_house.port}" in [one.subject for one in look(home, "second-node-red")]


def test_ports_that_say_nothing_are_looked_at_for_half_a_minute(
    home: Home, open_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take ten seconds: when the time is over that is said, and what was found before it counts."""
    now = 0.0

    def slow(*_: object) -> str:
        nonlocal now
        now += 5
        return knocking.SILENT

    (first,) = (one for one in ports.listening() if one.port == open_house.port and one.address.version == 4)
    many = tuple(replace(first, port=port) for port in range(20000, 20090))
    monkeypatch.setattr(nodered.ports, "listening", lambda: many)
    monkeypatch.setattr(knocking, "ask", slow)
    monkeypatch.setattr(knocking, "plain", slow)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(Unknown, match="30 seconds"):
        look(home, "second-node-red")
    assert now <= 40


def test_passwords_of_the_flows(open_house: House, home: Home) -> None:
    """Without a credentialSecret Node-RED keeps the key beside them; with `false` it keeps them in plain."""
    flows = [
        {"id": "t", "type": "tab", "label": "t"},
        {"id": "a", "type": "http request", "z": "t", "credentials": {"user": "u", "password": "secret"}},
    ]
    post(open_house.port, json.dumps(flows).encode())
    scene = Scene(open_house.open(), open_house.environ)
    until(lambda: list(CODES["credentials-key"].look(scene)) != [], what="the credentials on disk")
    found = texts(list(CODES["credentials-key"].look(Scene(open_house.open(), open_house.environ))))
    assert "flows_cred.json" in found
    assert "secret" not in found.replace("credentialSecret", "")
    assert list(CODES["credentials-plain"].look(Scene(open_house.open(), open_house.environ))) == []

    plain = home.house.user_dir / "flows_cred.json"
    with home.wrote(plain, json.dumps({"a": {"user": "u", "password": "secret"}})):
        assert str(plain) in texts(look(home, "credentials-plain"))
    with home.wrote(plain, json.dumps({"$": "0123"})):
        assert look(home, "credentials-plain") == []


def post(port: int, body: bytes) -> None:
    """Deploys to a Node-RED that is open."""
    import urllib.request

    headers = {"Content-Type": "application/json", "Node-RED-Deployment-Type": "full"}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/flows", body, headers, method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.status < 300


def test_a_site_without_a_lock(tmp_path: Path) -> None:
    """Set up and taken down again: open, and said so."""
    made = house(tmp_path)
    made.up()
    assert list(CODES["not-locked"].look(Scene(made.open(), made.environ))) == []
    setup.down(made.open(), made.environ)
    assert texts(list(CODES["not-locked"].look(Scene(made.open(), made.environ))))


def test_a_password_of_ones_own(home: Home) -> None:
    """httpNodeAuth, and an adminAuth that was kept."""
    text = home.settings_file.read_text()
    own = text.replace(
        "telemetry:",
        'httpNodeAuth: {user: "u", pass: "p"}, adminAuth: {type: "credentials", users: []}, telemetry:',
        1,
    )
    with home.wrote(home.settings_file, own), home.configured(keep_auth=True):
        found = texts(look(home, "own-password"))
    assert "httpNodeAuth" in found
    assert "adminAuth" in found


# --- systemd: the unit's files are real, the manager is not asked


@pytest.fixture
def unit(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Path, dict[str, Any]]:
    """The same Node-RED as if a unit of systemd's ran it, in an installation of root's, with its drop-in."""
    etc = tmp_path / "system"
    etc.mkdir()
    (etc / "nodered.service").write_text("[Service]\nExecStart=/usr/bin/node-red\n")
    monkeypatch.setattr(dropin, "ETC", etc)
    monkeypatch.setattr(units, "UNIT_DIRS", (etc,))
    real = looking.node_red(home.scene())
    monkeypatch.setattr(nodered.looking, "node_red", lambda _: replace(real, unit="nodered.service"))
    changes = {"settings": replace(home.house.settings, system=True)}
    planned = dropin.plan_dropin(
        replace(real, unit="nodered.service"), changes["settings"], etc=etc, unit_dirs=(etc,)
    )
    assert planned is not None
    planned.path.parent.mkdir()
    planned.path.write_text(planned.text)
    planned.environment_path.write_text(planned.environment)
    assert look(home, "drop-in-gone", **changes) == []
    assert look(home, "drop-in-beaten", **changes) == []
    return home, planned.path, changes


def test_a_drop_in_that_is_gone_or_changed(unit: tuple[Home, Path, dict[str, Any]]) -> None:
    """Another text, then no file at all."""
    home, path, changes = unit
    path.write_text(path.read_text().replace("RestartPreventExitStatus", "#"))
    assert "was changed" in texts(look(home, "drop-in-gone", **changes))
    path.unlink()
    assert "is gone" in texts(look(home, "drop-in-gone", **changes))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[Service]\nEnvironmentFile=\n", "takes redlatch's EnvironmentFile= away"),
        ("[Service]\nEnvironmentFile=-/home/pi/env\n", "the last one counts"),
        ("[Service]\nUnsetEnvironment=NODE_OPTIONS\n", "NODE_OPTIONS"),
    ],
)
def test_a_drop_in_that_is_beaten(unit: tuple[Home, Path, dict[str, Any]], text: str, words: str) -> None:
    """A later file of somebody else's."""
    home, path, changes = unit
    (path.parent / "zz.conf").write_text(text)
    assert words in texts(look(home, "drop-in-beaten", **changes))


# --- behind a gateway


def test_past_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bound to all addresses it is reached; on another machine redlatch cannot see."""
    gate = Gate(tmp_path)
    gate.up()
    past, far = (by_code(nodered.CHECKS, code) for code in ("past-gateway", "gateway-to-elsewhere"))
    scene = Scene(gate.open(), gate.environ)
    with web(gate.behind):
        assert list(past.look(scene)) == []
    with web(gate.behind, "0.0.0.0"):
        assert str(gate.behind) in texts(list(past.look(scene)))
    assert list(far.look(scene)) == []
    monkeypatch.setattr(gateway_standing, "_answers", lambda *_: False)  # nobody is waited for
    gate.up(to=("http://192.0.2.8:1880",))
    assert "another machine" in texts(list(far.look(Scene(gate.open(), gate.environ))))
