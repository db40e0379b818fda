"""What a gateway cannot be told: refused with the reason and the way on, before anything is changed."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.gateways import Gate, web
from tests.integration.operations.test_gateway_life import _contents as contents
from tests.support.clients import request

from redlatch.engines.nodered import publish
from redlatch.errors import Conflict, EngineError, FileProblem, InvalidInput, RedlatchError, UsageError
from redlatch.operations import gateway_plan, ports, rules, service
from redlatch.operations.publishing import enforce


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.mark.parametrize(
    ("told", "kind", "said"),
    [
        ({"to": ("ftp://127.0.0.1:1880",)}, InvalidInput, "no address of a Node-RED"),
        ({"to": ("http://127.0.0.1:1880/path",)}, InvalidInput, "no address of a Node-RED"),
        ({"to": ("http://127.0.0.1:1880\n acl x",)}, InvalidInput, "no address of a Node-RED"),
        ({"to": ("http://a:1880", "http://b:1880")}, InvalidInput, "for the same requests"),
        ({"to": ("/../x=http://127.0.0.1:1880",)}, InvalidInput, "canonical"),
        ({"to": ("x y=http://127.0.0.1:1880",)}, InvalidInput, "host name"),
        ({"to": ()}, UsageError, "which Node-RED"),
        ({"listen": ("nowhere",)}, InvalidInput, "port"),
        ({"listen": ("::1:443",)}, InvalidInput, "no address and port"),
        ({"listen": ("192.0.2.1:18443",)}, InvalidInput, "no address of this machine"),
        ({"metrics": 70000}, InvalidInput, "no port"),
        ({"trusted_proxies": ("10.0.0.300",)}, InvalidInput, "10.0.0.300"),
        ({"admin_root": "/../admin"}, InvalidInput, "no path of an editor"),
        ({"mode": "open"}, UsageError, "no mode"),
        ({"server_cert": Path("cert.pem")}, UsageError, "belong together"),
        ({"names": ("not a name",)}, InvalidInput, "not a name"),
        ({"user_dir": Path("/nonexistent")}, RedlatchError, "/nonexistent"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_senseless_call_changes_nothing(
    gate: Gate, told: dict[str, Any], kind: type[RedlatchError], said: str
) -> None:
    """The reason names what is wrong, there is a hint, and not even a folder is made."""
    with pytest.raises(kind) as raised:
        gate.plan(**told)
    assert said in raised.value.message
    assert raised.value.hint
    assert not gate.settings.home.exists()


def test_a_port_that_is_taken_is_refused_with_who_has_it(gate: Gate) -> None:
    """The process that holds the port is named, whether it listens on that address or on all."""
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        for listen in (f":{port}", f"127.0.0.1:{port}"):
            with pytest.raises(Conflict) as raised:
                gate.plan(listen=(listen,))
            assert f"process {os.getpid()}" in raised.value.message
        holder = ports.holder(port)
        assert holder is not None
        assert holder.uid == os.geteuid()
    assert not gate.settings.home.exists()
    assert ports.holder(port) is None
    assert gate.plan(listen=(f":{port}",)).gateway.listen == (f":{port}",)


def test_the_gateways_own_haproxy_is_no_stranger(gate: Gate) -> None:
    """`up` on a running gateway does not stumble over the port that this very gateway holds."""
    gate.up()
    with gate.run():
        assert gate.plan().changes == ()


def test_the_port_of_node_red_itself_is_refused(gate: Gate) -> None:
    """On all addresses the gateway would take the very port that it is to lead to."""
    with pytest.raises(Conflict) as raised:
        gate.plan(listen=(f":{gate.behind}",))
    assert "to stand in front of" in raised.value.message


def _haproxy(folder: Path, answer: str) -> dict[str, str]:
    folder.mkdir()
    program = folder / "haproxy"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("HA-Proxy version 2.4.22-1 2023/02/14", "2.6 or newer"),
        ("nginx version 1.22", "does not say which HAProxy"),
    ],
)
def test_an_haproxy_that_is_too_old_is_refused(
    gate: Gate, monkeypatch: pytest.MonkeyPatch, answer: str, said: str
) -> None:
    """With what is there and the command that brings another one."""
    monkeypatch.setenv("PATH", _haproxy(gate.root / "bin", answer)["PATH"])
    with pytest.raises(EngineError) as raised:
        gate.plan()
    assert said in raised.value.message
    assert "apt-get install haproxy" in raised.value.hint
    assert not gate.settings.home.exists()


def test_without_haproxy_the_command_that_installs_it_is_said(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is made before."""
    monkeypatch.setattr("redlatch.engines.haproxy.program.shutil.which", lambda *_, **__: None)
    with pytest.raises(EngineError) as raised:
        gate.plan()
    assert "apt-get install haproxy" in raised.value.hint
    assert not gate.settings.home.exists()


@pytest.mark.parametrize(
    ("name", "said"), [("a b", "characters"), ("x" * 90, "too long"), ("a'acl", "characters")]
)
def test_a_home_that_haproxy_cannot_be_told_of_is_refused(tmp_path: Path, name: str, said: str) -> None:
    """Its configuration has words between blanks, and its sockets names of 107 bytes; another home is fine."""
    gate = Gate(tmp_path / name)
    with pytest.raises(InvalidInput) as raised:
        gate.plan()
    assert said in raised.value.message
    assert not gate.settings.home.exists()
    assert Gate(tmp_path / "a").plan().changes


def test_certificate_and_key_that_do_not_match_leave_the_old_ones_in_force(gate: Gate) -> None:
    """The gateway goes on with what it had, byte for byte; a pair that matches is taken."""
    other = Gate(gate.root / "b")
    other.up()
    mine, theirs = (one.settings.gateway.published / "server.pem" for one in (gate, other))
    gate.up()
    before = contents(gate)
    phone = gate.key("phone")
    with web(gate.behind), gate.run():
        with pytest.raises(InvalidInput):
            gate.up(**_pair(gate.root, mine.read_text(), theirs.read_text()))
        assert contents(gate)["server.pem"] == before["server.pem"]
        assert contents(gate)["gateway.json"] == before["gateway.json"]
        assert request(gate.port, "GET", "/", phone).status == 200
    gate.up(**_pair(gate.root, theirs.read_text(), theirs.read_text()))
    assert contents(gate)["server.pem"] != before["server.pem"]


def _pair(folder: Path, cert: str, key: str) -> dict[str, Path]:
    mark = "-----BEGIN CERTIFICATE-----"
    (folder / "cert.pem").write_text(mark + cert.split(mark, 1)[1])
    (folder / "key.pem").write_text(key.split(mark, 1)[0])
    return {"server_cert": folder / "cert.pem", "server_key": folder / "key.pem"}


def test_a_first_up_that_fails_leaves_no_gateway(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full while things are published: said so, and nothing of the gateway is left."""

    def full(*_: object, **__: object) -> bool:
        raise FileProblem("cannot write server.pem: no space left on device", hint="free some space")

    with monkeypatch.context() as patched:
        patched.setattr(publish, "publish_server", full)
        with pytest.raises(FileProblem):
            gate.up()
    assert not gate.settings.gateway.home.exists()
    assert gate.up().changed


def test_a_full_disk_later_leaves_the_old_state_in_force(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that cannot be published is recorded, said so, and published by the next command."""
    gate.up()
    phone = gate.key("phone")
    with web(gate.behind), gate.run():

        def full(*_: object, **__: object) -> bool:
            raise FileProblem("cannot write snapshot.json: no space left on device", hint="free some space")

        with monkeypatch.context() as patched:
            patched.setattr(publish, "publish_snapshot", full)
            force = gate.key("laptop").issued.force
        assert (force.state, "not published to the gateway" in force.note) == ("recorded", True)
        assert request(gate.port, "GET", "/", phone).status == 200
        assert enforce(gate.open()).state == "in-force"


def test_two_things_do_not_get_one_port(gate: Gate) -> None:
    """Neither the open port, nor console and enrolment, nor metrics may have the gateway's."""
    gate.up()
    config = gate.open().config()
    with pytest.raises(Conflict):
        rules.check_port(config, gate.port)
    with pytest.raises(InvalidInput):
        service.plan(gate.open(), console_port=gate.port)
    with pytest.raises(InvalidInput):
        gate.plan(metrics=gate.port)
    with pytest.raises(Conflict):
        gate.plan(metrics=config.service.console_port)


def test_a_name_that_the_server_ca_may_not_name_is_refused(gate: Gate) -> None:
    """A site that is there has a CA for its own names: another one needs a new root, which is said."""
    gate.up()
    before = gate.open().config()
    with pytest.raises(Conflict) as raised:
        gate.up(names=("pi.example.org",))
    assert "--new-root" in raised.value.hint
    assert gate.open().config() == before


def test_what_is_told_is_kept_until_it_is_told_otherwise(gate: Gate) -> None:
    """A second `up` that says one thing leaves the others; 0 takes the metrics away."""
    gate.up(metrics=gate.port + 1, trusted_proxies=("10.0.0.0/8",), accept_proxy=True)
    plan = gateway_plan.plan(gate.settings, gateway_plan.Options(metrics=0), gate.environ, gate.open().config())
    assert plan.gateway.metrics is None
    assert plan.gateway.trusted_proxies == ("10.0.0.0/8",)
    assert (plan.gateway.accept_proxy, plan.gateway.listen) == (True, (f"127.0.0.1:{gate.port}",))
