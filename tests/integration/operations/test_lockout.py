"""The lock-out guard on a real store: what nobody could undo is refused, at the latest moment there is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.home import copied, small_site

from redlatch.errors import Conflict, InvalidInput, LockOut
from redlatch.operations import (
    devices,
    emergency,
    exchange,
    lockout,
    networks,
    origins,
    roles,
    rules,
    server,
    service,
    weighing,
)
from redlatch.operations.site import Maker, Service, Site, Target, changing, set_config
from redlatch.store import Store

EDITOR = "nobody could reach the editor any more"
OWNER = "no device would be left that manages keys"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One owner, one admin, one user, and the rules of a new site."""
    made = small_site(tmp_path_factory.mktemp("house"))
    with closing(made.store):
        for name, role in (("boss", "owner"), ("desk", "admin"), ("tablet", "user")):
            devices.add(made, name, role=role)
    return made


@pytest.fixture
def site(house: Site, tmp_path: Path) -> Iterator[Site]:
    """A copy of it for one test."""
    with copied(house, tmp_path) as made:
        yield made


def everything(site: Site) -> str:
    """The whole store but for the counters of what was tried, as SQL."""
    with site.store.read():
        return "\n".join(site.store._connection.iterdump())


def nobody(_: Any) -> dict[str, Any]:
    return {}


def only_at_home(site: Site) -> None:
    networks.add(site, "home", ["192.168.1.0/24"], resolver=nobody)
    rules.add(site, rules.Wanted(area="all", roles=("owner", "admin"), networks=("home",)))
    for number in (1, 2):
        rules.remove(site, number)


def two_rules_less(site: Site) -> None:
    rules.remove(site, 1)
    rules.remove(site, 2)


def rules_of(text: str) -> Callable[[Site], None]:
    def apply(site: Site) -> None:
        file = site.settings.home / "rules.toml"
        file.write_text(text)
        wanted = exchange.read(site, file, resolver=nobody)
        exchange.apply(site, wanted, exchange.plan(site, wanted))

    return apply


def shrunk_home(site: Site) -> None:
    only_at_home(site)
    networks.remove(site, "home", ["192.168.1.0/24"])


def last_certificate(site: Site) -> None:
    with changing(site) as tx:
        device = tx.device_by_name("boss")
        assert device is not None
        for one in tx.certificates(device.id):
            tx.revoke_certificate(one.fingerprint, site.clock(), "lost")
        tx.record("certificate.revoked", device=device.id)


def like_an_owner(site: Site) -> None:
    roles.add(site, "chief", like="owner")
    devices.set_role(site, "desk", "chief")
    devices.revoke(site, "boss")
    devices.set_role(site, "desk", "admin")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda s: devices.revoke(s, "boss"), OWNER, id="the last owner revoked"),
        pytest.param(lambda s: devices.set_role(s, "boss", "admin"), OWNER, id="its role changed"),
        pytest.param(last_certificate, OWNER, id="its last certificate revoked"),
        pytest.param(like_an_owner, OWNER, id="a role that is like owner"),
        pytest.param(two_rules_less, EDITOR, id="the rules removed one by one"),
        pytest.param(rules_of("[[rule]]\nany_device = true\narea = 'dashboards'\n"), EDITOR, id="a file"),
        pytest.param(rules_of("[[rule]]\nroles = ['thing']\narea = 'all'\n"), EDITOR, id="a role nobody has"),
        pytest.param(shrunk_home, EDITOR, id="a network that gets empty"),
    ],
)
def test_what_nobody_could_undo_is_refused(site: Site, change: Callable[[Site], Any], says: str) -> None:
    """And done when somebody insists. Refused, nothing of it happened."""
    with pytest.raises(LockOut, match=says) as caught:
        change(site)
    assert caught.value.code == "lock-out"
    assert "--emergency" in caught.value.hint
    with site.store.read() as view:
        before = view.audit_head().seq
    assert lockout.has_owner(site)
    change_again = replace(site, insist=True)
    if says is OWNER and change is not like_an_owner:
        change(change_again)
        assert not lockout.has_owner(site)
        with site.store.read() as view:
            assert view.audit_head().seq > before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda s: devices.revoke(s, "tablet"), id="somebody else"),
        pytest.param(lambda s: rules.remove(s, 1), id="the rule of owners, while admins reach the editor"),
        pytest.param(only_at_home, id="only from home"),
        pytest.param(lambda s: devices.add(s, "more"), id="one more"),
        pytest.param(lambda s: devices.rename(s, "boss", "the boss"), id="another name"),
    ],
)
def test_what_somebody_can_undo_is_done(site: Site, change: Callable[[Site], Any]) -> None:
    change(site)


def test_who_stays_for_minutes_only_does_not_stay(site: Site) -> None:
    """The other owner's certificate ends within the hour: it is no reason to let the last one go. That it ends is
    no reason to refuse what has nothing to do with it.
    """
    devices.add(site, "short", role="owner", days=1)
    later = replace(site, clock=lambda: datetime.now(UTC) + timedelta(hours=23, minutes=30))
    with pytest.raises(LockOut, match=OWNER):
        devices.revoke(later, "boss")
    devices.revoke(replace(later, insist=True), "boss")
    rules.remove(later, 3)
    with pytest.raises(LockOut, match=OWNER):
        devices.revoke(later, "short")


def test_what_was_not_there_is_not_lost(tmp_path: Path) -> None:
    """A site without owners, in whose editor nobody was."""
    site = small_site(tmp_path)
    with closing(site.store):
        assert not lockout.has_owner(site)
        devices.add(site, "first", role="user")
        devices.revoke(site, "first")
        rules.remove(site, 1)


# --- the device that makes the change


def by(site: Site, name: str, address: str) -> Site:
    """The site as the console hands it to that device's changes."""
    found = devices.show(site, name)
    return replace(site, maker=Maker(found.device.id, found.certificates[0].fingerprint, address))


def test_the_device_that_acts_does_not_cut_itself(site: Site) -> None:
    """By its device, its role, and the address that it has now."""
    devices.add(site, "second", role="owner")
    networks.add(site, "home", ["192.168.1.0/24"], resolver=nobody)
    rules.add(site, rules.Wanted(area="all", roles=("owner",), networks=("home",)))
    at_home, away = by(site, "boss", "192.168.1.7"), by(site, "boss", "203.0.113.9")
    for change, says in (
        (lambda s: devices.revoke(s, "boss"), "would manage nothing here any more"),
        (lambda s: devices.set_role(s, "boss", "admin"), "would manage nothing here any more"),
        (lambda s: rules.remove(s, 1), "would not reach the editor any more, from the address it has"),
    ):
        with pytest.raises(LockOut, match=says):
            change(away)
    rules.remove(at_home, 1)
    with pytest.raises(LockOut, match="would not reach the editor any more"):
        networks.remove(at_home, "home", ["192.168.1.0/24"])
    devices.revoke(by(site, "second", "203.0.113.9"), "boss")


def test_a_console_for_this_machine_alone_is_said(site: Site) -> None:
    """Where it listens is the command line's to say, which it cannot cut off: so it warns."""
    with changing(site) as tx:
        set_config(tx, service=Service(console=("lan",)))
        tx.record("service.changed")
    (warning,) = service.plan(site, console=["loopback"]).warnings
    assert "nobody reaches it from another machine any more" in warning
    assert service.plan(site, console=["lan"]).warnings == ()


# --- no race


def test_two_who_each_revoke_one_of_two_owners(site: Site) -> None:
    """At the same instant, each with a store of its own: one of them is refused, always the second one."""
    for number in range(3):
        devices.add(site, f"other {number}", role="owner")
        start, said = threading.Barrier(2), []

        def revoke(name: str, start: threading.Barrier = start, said: list[str] = said) -> None:
            with Store.open(site.settings.database) as store:
                start.wait(10)
                try:
                    devices.revoke(replace(site, store=store), name)
                    said.append("revoked")
                except LockOut:
                    said.append("refused")

        owner = "boss" if number == 0 else next(
            one.device.name for one in devices.list_devices(site)
            if (one.device.role, one.device.revoked_at) == ("owner", None)
            and one.device.name != f"other {number}"
        )  # fmt: skip
        both = [threading.Thread(target=revoke, args=(name,)) for name in (owner, f"other {number}")]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join(30)
        assert sorted(said) == ["refused", "revoked"]
        assert lockout.has_owner(site)


def test_two_processes_who_each_revoke_one_of_two_owners(site: Site) -> None:
    """The same with two commands."""
    devices.add(site, "other", role="owner")
    home = str(site.settings.home)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "redlatch", "device", "revoke", name, "--home", home, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        for name in ("boss", "other")
    ]
    found = [json.loads(one.communicate(timeout=60)[0]) for one in both]
    refused = [one["error"]["code"] for one in found if "error" in one]
    assert refused == ["lock-out"]
    assert lockout.has_owner(site)


# --- what it would do


def log(site: Site, *lines: dict[str, Any]) -> None:
    """Node-RED's access log, for a site whose Node-RED is this very user's."""
    import os

    with changing(site) as tx:
        target = Target("me", os.getuid(), os.getgid(), "/nowhere", "/nowhere/settings.js", 1)
        set_config(tx, target=target, adopted=True)
        tx.record("site.changed")
    site.settings.spool.mkdir(mode=0o700, exist_ok=True)
    now = datetime.now(UTC).timestamp()
    with (site.settings.spool / "access.jsonl").open("a") as stream:
        for one in lines:
            line = {"at": now - 60, "from": "192.168.1.7", "device": None, "fp": None, "method": "GET",
                    "path": "/", "allow": True, "reason": "ok", "count": 1} | one  # fmt: skip
            stream.write(json.dumps(line) + "\n")


def test_a_rehearsal_says_whom_and_changes_nothing(site: Site) -> None:
    """The last seven days by device and by address; refusals that no rule decided are not counted."""
    held = {name: devices.show(site, name) for name in ("boss", "desk")}
    told = {
        name: {"device": one.device.id, "fp": one.certificates[0].fingerprint[:12]} for name, one in held.items()
    }
    week = {"at": datetime.now(UTC).timestamp() - 8 * 86400}
    log(
        site,
        told["desk"] | {"path": "/flows", "method": "POST", "count": 3},
        told["desk"] | {"path": "/"},
        told["boss"] | {"path": "/"},
        told["desk"] | week,
        {"allow": False, "reason": "cross-origin", "path": "/x"},
        {"allow": False, "reason": "bad-handshake", "method": None, "path": None},
        {"allow": False, "reason": "no-certificate", "path": "/hook", "from": "203.0.113.9"},
    )
    before = everything(site)
    found = weighing.rehearse(site, lambda one: rules.remove(one, 2))
    (cut,) = found.cut
    assert (cut.name, cut.address, cut.what, cut.times) == ("desk", "192.168.1.7", "the editor", 4)
    assert abs((datetime.now(UTC) - cut.last).total_seconds()) < 120
    assert (found.let_in, found.judged, found.lost, found.by) == ((), 6, "", "Node-RED")
    hook = rules.Wanted(path="/hook", anyone=True)
    (let_in,) = weighing.rehearse(site, lambda one: rules.add(one, hook)).let_in
    assert (let_in.name, let_in.address, let_in.what) == (None, "203.0.113.9", "/hook")
    found = weighing.rehearse(site, lambda one: devices.revoke(one, "boss"))
    assert OWNER in found.lost
    assert [one.name for one in found.cut] == ["boss"]
    assert weighing.rehearse(site, lambda one: devices.set_role(one, "desk", "viewer")).cut[0].times == 3
    for harmless in (
        lambda one: origins.add(one, "https://ha.local"),
        lambda one: server.add_name(one, "pi.lan"),
        lambda one: rules.set_open_port(one, 1890),
        lambda one: roles.add(one, "kiosk", like="user"),
        lambda one: rules.set_open_port(one, None),
    ):
        found = weighing.rehearse(site, harmless)
        assert (found.cut, found.let_in, found.lost) == ((), (), "")
    assert everything(site) == before


def test_a_rehearsal_has_the_errors_of_the_change(site: Site) -> None:
    with pytest.raises(Conflict, match="exists already"):
        weighing.rehearse(site, lambda one: devices.rename(one, "boss", "desk"))


# --- the way back in


def test_the_way_back_in(site: Site) -> None:
    """With the rules broken: an owner's device for seven days at most, and the rule that it needs; said, audited,
    warned of until its end.
    """
    devices.revoke(replace(site, insist=True), "boss")
    for number in (1, 2):
        rules.remove(replace(site, insist=True), number)
    said = emergency.plan(site, "again", days=7)
    assert "a rule is added: devices with the role owner, from anywhere, may reach everything" in said
    opened = emergency.open_(site, "again")
    assert opened.issued.device.role == "owner"
    assert opened.issued.not_after <= site.clock() + timedelta(days=7)
    assert opened.rule == 5
    assert lockout.has_owner(site)
    with site.store.read() as reader:
        maker = lockout.look(by(site, "again", "203.0.113.9"), reader).maker
        assert maker is not None
        assert maker.deploy
        (event, *_) = reader.audit_before(None, 1)
        (warning,) = emergency.warnings(reader, site.config(), site.clock())
        assert emergency.warnings(reader, site.config(), site.clock() + timedelta(days=8)) == []
    assert event.event.kind == "emergency.opened"
    assert "'again'" in warning
    devices.add(site, "boss", role="owner")
    assert emergency.open_(site, "once more").rule is None
    devices.revoke(site, "again")
    with site.store.read() as reader:
        assert len(emergency.warnings(reader, site.config(), site.clock())) == 1


@pytest.mark.parametrize("days", [0, 8, 365])
def test_a_way_back_in_is_short(site: Site, days: int) -> None:
    with pytest.raises(InvalidInput, match="is not open for"):
        emergency.open_(site, "again", days=days)
