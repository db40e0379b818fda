"""Rules on a real store: what is recorded and published, what is refused, what is said first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.integration.operations.conftest import House
from tests.support.site import published

from redlatch.errors import Conflict, InvalidInput, LockOut, NotFound, RedlatchError, UsageError
from redlatch.operations import devices, machine, networks, rules
from redlatch.operations.rules import Wanted
from redlatch.operations.site import Site
from redlatch.policy.model import DEFAULT_RULES, Rule


@pytest.fixture
def site(newest: House) -> Site:
    newest.up()
    networks.add(newest.open(), "home", ["192.168.1.0/24"], resolver=lambda _: {})
    return newest.open()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that nothing may change."""
    house = House(tmp_path_factory.mktemp("shared"), "5.0")
    house.up()
    networks.add(house.open(), "home", ["192.168.1.0/24"], resolver=lambda _: {})
    return house.open()


def in_force(site: Site) -> tuple[Rule, ...]:
    return published(site.settings.published).rules


def kinds(site: Site) -> list[str]:
    with site.store.read() as view:
        return [one.event.kind for one in view.audit_events()]


def seen(site: Site, *addresses: str) -> None:
    """An access log as the guard writes it, one entry for each address."""
    entries = [
        {"at": 1.0, "from": address, "device": None, "fp": None, "method": "GET", "path": "/", "allow": False,
         "reason": "no-certificate", "upgrade": False, "count": 1}
        for address in addresses
    ]  # fmt: skip
    path = site.settings.spool / "access.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in entries))
    path.chmod(0o600)


def test_a_rule_is_recorded_and_published(site: Site) -> None:
    """With the next number, an audit event, and its network in the snapshot."""
    assert in_force(site) == DEFAULT_RULES
    change = rules.add(site, Wanted(area="dashboards", networks=("home",)))
    assert change.shown is not None
    assert change.shown.sentence == "any device, from home, may reach the dashboards"
    assert change.shown.rule == Rule(5, any_device=True, networks=("home",), area="dashboards")
    assert (change.changed, change.question, change.remarks) == (True, "", ())
    assert in_force(site)[-1] == change.shown.rule
    assert published(site.settings.published).networks["home"].contains("192.168.1.7")
    assert kinds(site)[-1] == "rule.added"
    gone = rules.remove(site, 5)
    assert gone.shown == change.shown
    assert in_force(site) == DEFAULT_RULES
    assert kinds(site)[-1] == "rule.removed"


def test_a_dry_run_changes_nothing(site: Site) -> None:
    """Neither of adding, removing nor of the open port."""
    before = _state(site)
    dry = rules.add(site, Wanted(path="/hook", anyone=True, open_port=1890), dry_run=True)
    assert (dry.changed, dry.force, dry.open_port) == (True, None, 1890)
    assert rules.remove(site, 2, dry_run=True).force is None
    assert rules.set_open_port(site, 1890, dry_run=True).force is None
    assert _state(site) == before


def test_the_same_rule_is_added_once(site: Site) -> None:
    """However it is worded; the one that is there is shown."""
    first = rules.add(site, Wanted(path="/x", roles=("user", "admin"), methods=("post", "GET")))
    before = _state(site)
    again = rules.add(site, Wanted(path="/x", roles=("admin", "user", "user"), methods=("GET", "POST")))
    assert first.shown is not None
    assert again.shown is not None
    assert (again.changed, again.shown.rule.id) == (False, first.shown.rule.id)
    assert _state(site) == before
    assert rules.add(site, Wanted(path="/x", roles=("admin", "user")), dry_run=True).changed
    assert [shown.rule for shown in rules.list_rules(site)] == list(in_force(site))


def test_devices_are_named_and_revoked_ones_said(site: Site) -> None:
    """By name when adding, by id in the store: a new device of the same name gets nothing."""
    devices.add(site, "Bart's phone")
    change = rules.add(site, Wanted(area="static", devices=("bart’s PHONE",)))
    assert change.shown is not None
    assert change.shown.sentence == "Bart's phone, from anywhere, may reach the static files"
    devices.revoke(replace(site, insist=True), "Bart's phone")
    devices.add(site, "Bart's phone")
    shown = rules.list_rules(site)[-1]
    assert shown.sentence == "Bart's phone (revoked), from anywhere, may reach the static files"
    assert shown.gone == ("Bart's phone",)
    assert devices.show(site, "Bart's phone").device.id not in shown.rule.devices


def test_the_first_rule_without_a_certificate_is_asked_about(site: Site) -> None:
    """It changes the handshake for everybody; the second one changes nothing more, a port of its own nothing."""
    wanted = Wanted(path="/hook", anyone=True)
    assert "handshake" in rules.add(site, wanted, dry_run=True).question
    on_a_port = rules.add(site, Wanted(path="/hook", anyone=True, open_port=1890), dry_run=True)
    assert on_a_port.question == ""
    assert "1890" in on_a_port.remarks[0]
    rules.add(site, wanted)
    assert rules.add(site, Wanted(path="/other", anyone=True), dry_run=True).question == ""
    remarks = rules.remove(site, 5).remarks
    assert "certificate at the handshake again" in remarks[0]


def test_the_open_port_is_opened_changed_and_closed(site: Site) -> None:
    """With a rule or by itself; closing it while rules need it is asked about."""
    rules.add(site, Wanted(path="/hook", anyone=True, open_port=1890))
    assert published(site.settings.published).open_port == 1890
    assert kinds(site)[-2:] == ["open-port.changed", "rule.added"]
    again = rules.add(site, Wanted(path="/hook", anyone=True, open_port=1891))
    assert any("1890" in one for one in again.remarks)
    assert published(site.settings.published).open_port == 1891
    assert [shown.rule.id for shown in rules.list_rules(site)] == [1, 2, 3, 4, 5]
    assert "handshake" in rules.set_open_port(site, None, dry_run=True).question
    assert rules.set_open_port(site, None).changed
    assert published(site.settings.published).open_port is None
    assert not rules.set_open_port(site, None).changed
    rules.remove(site, 5)
    low = rules.set_open_port(site, 443)
    assert any("below 1024" in one for one in low.remarks)
    assert any("nobody gets in there" in one for one in low.remarks)


def test_removing_the_last_way_into_the_editor_is_refused(site: Site) -> None:
    """While somebody is there who has it."""
    devices.add(site, "desk")
    rules.remove(site, 1)
    careful = replace(site, insist=False)
    with pytest.raises(LockOut):
        rules.remove(careful, 2)
    devices.revoke(site, "desk")
    rules.remove(careful, 2)


@pytest.mark.parametrize(
    ("attempt", "error", "message", "hint"),
    [
        (lambda s: rules.add(s, Wanted(area="all", roles=("amdin",))), NotFound, "role 'amdin'", "'admin'"),
        (lambda s: rules.add(s, Wanted(area="all", networks=("hom",))), NotFound, "network 'hom'", "'home'"),
        (lambda s: rules.add(s, Wanted(area="all", devices=("Bart",))), NotFound, "named 'Bart'", "device list"),
        (lambda s: rules.add(s, Wanted(area="all", anyone=True)), Conflict, "everybody", "redlatch down"),
        (lambda s: rules.add(s, Wanted(area="all", anyone=True), force=True), Conflict, "everybody", "down"),
        (lambda s: rules.add(s, Wanted(path="/x", anyone=True, networks=("cloudflare",))), Conflict, "Cloudflare",
         "--force"),
        (lambda s: rules.add(s, Wanted(path="/a/../b")), InvalidInput, "dots", "letter by letter"),
        (lambda s: rules.add(s, Wanted(path="/flows")), InvalidInput, "editor", "--area editor"),
        (lambda s: rules.add(s, Wanted(path="/x", open_port=1890)), UsageError, "no certificate", "--anyone"),
        (lambda s: rules.add(s, Wanted(path="/x", anyone=True, open_port=0)), InvalidInput, "no port", "65535"),
        (lambda s: rules.set_open_port(s, s.target().listen_port), Conflict, "own port", "choose another"),
        (lambda s: rules.remove(s, 99), NotFound, "no rule 99", "rule list"),
    ],
)  # fmt: skip
def test_what_is_refused_changes_nothing(
    shared: Site, attempt: Callable[[Site], object], error: type[RedlatchError], message: str, hint: str
) -> None:
    """Each with what would be right."""
    before = _state(shared)
    with pytest.raises(error) as caught:
        attempt(shared)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert _state(shared) == before


def test_a_proxys_address_is_not_taken_for_an_address(site: Site) -> None:
    """When all that came in came from this machine, a network with it admits everybody: not without --force."""
    wanted = Wanted(area="dashboards", anyone=True, networks=("localhost",))
    assert rules.add(site, wanted, dry_run=True).remarks  # said, not refused: nothing was seen yet
    seen(site, *["127.0.0.1"] * 30)
    with pytest.raises(Conflict) as caught:
        rules.add(site, wanted)
    assert "all of the last 30 connections came from 127.0.0.1" in caught.value.message
    assert "--force" in caught.value.hint
    assert any("last 30" in one for one in rules.add(site, wanted, force=True).remarks)
    assert rules.add(site, Wanted(area="dashboards", networks=("localhost",))).changed  # with a certificate
    seen(site, *["127.0.0.1"] * 30, "192.168.1.7")
    assert rules.add(site, Wanted(path="/y", anyone=True, networks=("localhost",))).changed


def test_one_laptop_at_home_is_not_taken_for_a_proxy(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address may be all that was seen; the router's may not."""
    seen(site, *["192.168.1.20"] * 30)
    change = rules.add(site, Wanted(path="/y", anyone=True, networks=("home",)))
    assert any("192.168.1.20" in one for one in change.remarks)
    address = machine.ipaddress.ip_address("192.168.1.20")
    monkeypatch.setattr(machine, "gateways", lambda: (address,))
    with pytest.raises(Conflict, match=r"192\.168\.1\.20"):
        rules.add(site, Wanted(path="/z", anyone=True, networks=("home",)))


def _state(site: Site) -> tuple[object, ...]:
    with site.store.read() as view:
        found = (view.site().revision, view.rules(), view.site().config, view.audit_head())
    files = {str(path): path.read_bytes() for path in site.settings.published.rglob("*") if path.is_file()}
    return (*found, files)
