"""Names against how the site is reached: each check finds its own kind of disagreement, and nothing on a
healthy site.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.integration.checks.conftest import Home
from tests.integration.operations.gateways import Gate
from tests.support.clients import request
from tests.support.wait import until

from redlatch.checks import names
from redlatch.checks.model import Check, Found, Scene
from redlatch.operations import machine, rules

CODES = {check.code: check for check in names.CHECKS}


def look(home: Home, code: str) -> list[Found]:
    return home.found(CODES[code])


@pytest.mark.parametrize("check", names.CHECKS, ids=lambda check: check.code)
def test_a_healthy_site_has_nothing(home: Home, check: Check) -> None:
    """Nothing is found."""
    assert home.found(check) == []


def test_a_name_that_the_certificate_lacks(home: Home) -> None:
    """A host name that came after the certificate: named, for the engine that shows it."""
    hosts = (*home.house.open().config().hosts, "cellar.lan")
    with home.configured(hosts=hosts):
        (found,) = look(home, "certificate-lacks-name")
    assert "cellar.lan" in found.text
    assert found.subject == "node-red"


def test_an_address_that_the_certificate_lacks(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine moved to another network."""
    monkeypatch.setattr(machine, "private_addresses", lambda: (ipaddress.ip_address("192.168.77.5"),))
    assert "192.168.77.5" in look(home, "certificate-lacks-name")[0].text


def test_a_machine_with_another_name(home: Home) -> None:
    """It was set up under another one."""
    with home.configured(machine="attic"):
        (found,) = look(home, "machine-renamed")
    assert "attic" in found.text


def test_a_name_without_an_answer(home: Home) -> None:
    """RFC 6761 keeps .invalid without one."""
    with home.configured(names=("home.invalid",)):
        assert [one.subject for one in look(home, "name-unanswered")] == ["home.invalid"]
        assert look(home, "name-elsewhere") == []


@pytest.mark.parametrize(
    ("address", "words"),
    [("192.168.250.250", "another machine"), ("203.0.113.9", "your router"), ("127.0.0.1", "")],
)
def test_a_name_that_leads_elsewhere(home: Home, address: str, words: str) -> None:
    """To a private address of somebody else's, to a router, and here."""
    answer: Callable[[str], set[machine.Address] | None] = lambda _: {ipaddress.ip_address(address)}  # noqa: E731
    with home.configured(names=("home.example",)):
        found = list(names._elsewhere(home.scene(), answer))
    assert [words in one.text for one in found] == ([True] if words else [])


def test_devices_that_ask_for_another_name(home: Home) -> None:
    """A device calls it by a name that is none of its own: refused, and found; our own probes are not counted."""
    refused = request(home.house.port, "GET", "/", home.admin, headers={"Host": "cellar.lan"})
    assert refused.status == 403
    until(lambda: look(home, "name-not-ours") != [], what="the access log")
    (found,) = look(home, "name-not-ours")
    assert "127.0.0.1" in found.text


def test_everybody_from_one_address(home: Home, tmp_path: Path) -> None:
    """Behind a proxy all come from one private address, and a rule has a network."""
    spool = home.house.settings.spool
    line = {"at": time.time(), "from": "172.17.0.1", "method": "GET", "path": "/", "allow": True, "reason": "ok"}
    access = spool / "access.jsonl"
    with home.wrote(access, f"{json.dumps(line)}\n" * 30):
        assert look(home, "everybody-from-one-address") == []  # no rule has a network: it does not matter
        made = rules.add(
            home.house.open(), rules.Wanted(roles=("user",), networks=("private",), area="static"), force=True
        )
        assert made.shown is not None
        try:
            assert "172.17.0.1" in look(home, "everybody-from-one-address")[0].text
        finally:
            rules.remove(home.house.open(), made.shown.rule.id)


def test_a_proxy_that_ends_tls(tmp_path: Path) -> None:
    """None of Cloudflare's connections brings a certificate."""
    gate = Gate(tmp_path)
    gate.up()
    scene = Scene(gate.open(), gate.environ)
    assert list(CODES["proxy-ends-tls"].look(scene)) == []
    line = {
        "at": 1.5,
        "from": "162.158.1.9",
        "method": None,
        "path": None,
        "allow": False,
        "reason": "no-certificate",
    }
    (gate.settings.gateway.spool / "access.jsonl").write_text(f"{json.dumps(line)}\n" * 8)
    (found,) = CODES["proxy-ends-tls"].look(scene)
    assert "Cloudflare" in found.text
    assert "DNS only" in found.remedy
