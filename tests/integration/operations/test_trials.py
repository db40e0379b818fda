"""A change on trial on a real store: exactly what was comes back, whoever is left to bring it back."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.home import copied, small_site
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.errors import Conflict, InvalidInput, LockOut, NotFound, NotPermitted, StoreError
from redlatch.operations import devices, emergency, exchange, networks, origins, roles, rules, trial_watch, trials
from redlatch.operations.publishing import build
from redlatch.operations.site import Maker, Site
from redlatch.settings import Settings
from redlatch.store import Store, Transaction

TWO_MINUTES = timedelta(minutes=2)


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with devices, a role and networks of its own, rules with gaps in their numbers, an origin."""
    made = small_site(tmp_path_factory.mktemp("lived-in"))
    with closing(made.store):
        for name, role in (("boss", "owner"), ("desk", "admin"), ("tablet", "user")):
            devices.add(made, name, role=role)
        roles.add(made, "kiosk", like="user")
        networks.add(made, "home", ["192.168.1.0/24 # the flat", "ada.example.org"], resolver=known)
        networks.add(made, "idle", ["10.0.0.1"], resolver=known)
        rules.add(made, rules.Wanted(area="dashboards", networks=("home",)))
        rules.add(made, rules.Wanted(area="http-in", devices=("tablet",), methods=("POST",)))
        rules.remove(made, 5)
        rules.add(made, rules.Wanted(path="/hook", anyone=True), force=True)
        rules.set_open_port(made, 1890)
        origins.add(made, "https://ha.local")
    return made


@pytest.fixture
def site(lived_in: Site, tmp_path: Path) -> Iterator[Site]:
    """A copy of it for one test."""
    with copied(lived_in, tmp_path) as made:
        yield made


def known(names: Any) -> dict[str, Any]:
    return dict.fromkeys(names, ("192.0.2.7",))


def on_trial(site: Site, length: timedelta = TWO_MINUTES, **fields: Any) -> Site:
    return replace(site, trial=trials.Asked(length, "something was changed", "test"), **fields)


def state(site: Site) -> Any:
    """All that a taken-back change must leave as it was: what engines enforce, and what the store says besides."""
    with site.store.read() as view:
        made = build(view, site.config(), spool=site.settings.spool)
        rows = [(row, view.network_table(row.name)) for row in view.networks()]
        people = [(one.name, one.role, one.revoked_at) for one in view.devices()]
    return replace(made, version=0, time=0), rows, people, exchange.export(site)


def audit(site: Site) -> list[str]:
    with site.store.read() as view:
        return [one.event.kind for one in view.audit_events()]


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = trials.uptime()
    monkeypatch.setattr(trials, "uptime", lambda: now + seconds)


def applied(text: str) -> Callable[[Site], Any]:
    def apply(site: Site) -> None:
        file = site.settings.home / "rules.toml"
        file.write_text(text)
        wanted = exchange.read(site, file, resolver=known)
        exchange.apply(site, wanted, exchange.plan(site, wanted))

    return apply


CHANGES = [
    pytest.param(lambda s: rules.remove(s, 2), id="rule remove"),
    pytest.param(lambda s: rules.add(s, rules.Wanted(area="static")), id="rule add"),
    pytest.param(lambda s: rules.add(s, rules.Wanted(path="/x", anyone=True, open_port=1891)), id="with a port"),
    pytest.param(lambda s: rules.set_open_port(s, None), id="open port"),
    pytest.param(lambda s: networks.add(s, "home", ["10.1.0.0/16"], resolver=known), id="network add"),
    pytest.param(lambda s: networks.add(s, "new", ["10.1.0.0/16"], resolver=known), id="a new network"),
    pytest.param(lambda s: networks.remove(s, "home", ["ada.example.org"]), id="network remove"),
    pytest.param(lambda s: networks.remove(s, "idle"), id="the whole network"),
    pytest.param(lambda s: roles.add(s, "panel", like="viewer"), id="role add"),
    pytest.param(lambda s: roles.remove(s, "kiosk"), id="role remove"),
    pytest.param(lambda s: devices.set_role(s, "tablet", "kiosk"), id="device role"),
    pytest.param(lambda s: origins.add(s, "https://b.local"), id="origin add"),
    pytest.param(lambda s: origins.remove(s, "https://ha.local"), id="origin remove"),
    pytest.param(
        applied(
            "[roles]\nkiosk = 'viewer'\n[networks]\nhome = ['10.9.9.9']\n"
            "[[rule]]\nany_device = true\nfrom = ['home']\narea = 'all'\n"
        ),
        id="rules apply",
    ),
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_comes_back(site: Site, change: Callable[[Site], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules with their numbers, roles, networks with their comments and answers, origins, port, devices' roles.

    When its time is over, by whatever command comes next; in one transaction, audited.
    """
    before = state(site)
    change(on_trial(site))
    assert state(site) != before
    assert trials.settle(site) is None
    found = trials.show(site)
    assert found is not None
    assert 100 < found.seconds <= 120
    assert found.until - found.begun == TWO_MINUTES
    later(monkeypatch, 121)
    with closing(bootstrap.open_site(site.settings, actor="somebody").store):
        assert state(site) == before
    assert trials.show(site) is None
    assert [one for one in audit(site) if one.startswith("trial.")] == ["trial.begun", "trial.undone"]
    with site.store.read() as view:
        assert view.verify_audit().ok
        assert view.audit_before(None, 1)[0].event.actor == "redlatch itself"


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_kept_stays(site: Site, change: Callable[[Site], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    change(on_trial(site))
    after = state(site)
    assert trials.keep(site).kept
    assert trials.was_kept(site)
    later(monkeypatch, 5000)
    assert trials.settle(site) is None
    assert state(site) == after
    with pytest.raises(NotFound):
        trials.undo(site)


def test_what_changes_nothing_is_on_no_trial(site: Site) -> None:
    rules.set_open_port(on_trial(site), 1890)
    assert trials.show(site) is None


@pytest.mark.parametrize("length", [timedelta(seconds=9), timedelta(hours=1, seconds=1), timedelta(0)])
def test_a_trial_has_its_limits(site: Site, length: timedelta) -> None:
    before = state(site)
    with pytest.raises(InvalidInput, match="cannot be on trial"):
        rules.remove(on_trial(site, length), 2)
    assert state(site) == before


def test_a_trial_is_no_way_past_the_guard(site: Site) -> None:
    """What locks out everybody wants --force, on trial too; then it comes back by itself."""
    rules.remove(site, 1)
    before = state(site)
    with pytest.raises(LockOut):
        rules.remove(on_trial(site), 2)
    rules.remove(on_trial(site, insist=True), 2)
    trials.undo(site)
    assert state(site) == before


@pytest.mark.parametrize("change", CHANGES)
def test_beside_a_trial_there_is_no_other_change(site: Site, change: Callable[[Site], Any]) -> None:
    """Of what taking it back would undo, on trial or not: refused, with the way out."""
    rules.add(on_trial(site), rules.Wanted(area="websockets"))
    before = state(site)
    for tried in (site, on_trial(site)):
        with pytest.raises(Conflict, match="a change is on trial") as caught:
            change(tried)
        assert "redlatch trial keep" in caught.value.hint
    assert state(site) == before


def test_beside_a_trial_a_lost_phone_is_shut_out(site: Site) -> None:
    """And devices come: neither waits for a trial, and neither is taken back with it."""
    rules.add(on_trial(site), rules.Wanted(area="websockets"))
    devices.revoke(site, "tablet")
    devices.add(site, "phone", role="user")
    trials.undo(site)
    found = {one.device.name: one.device for one in devices.list_devices(site)}
    assert found["tablet"].revoked_at is not None
    assert found["phone"].revoked_at is None


def test_what_a_device_needs_stays(site: Site) -> None:
    """A role that a device got meanwhile stays when its making is taken back, and that is said.

    A role that was to be given back to a device that is revoked by now is not.
    """
    roles.add(on_trial(site), "panel", like="viewer")
    devices.add(site, "wall", role="panel")
    ended = trials.undo(site)
    assert ended.stayed == ("the role panel, which a device got meanwhile",)
    assert devices.show(site, "wall").device.role == "panel"
    devices.set_role(on_trial(site), "tablet", "kiosk")
    devices.revoke(site, "tablet")
    assert trials.undo(site).stayed == ()


def test_a_revocation_is_on_no_trial(site: Site) -> None:
    with pytest.raises(Conflict, match="cannot be taken back by itself"):
        devices.revoke(on_trial(site), "tablet")
    assert devices.show(site, "tablet").device.revoked_at is None


# --- the clock


def test_no_clock_makes_a_trial_longer(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back by years or forward: what counts is how long the machine runs.

    After a restart it is over when less time has passed since the start than had before.
    """
    past, future = (
        replace(site, clock=lambda days=days: bootstrap.now() + timedelta(days=days)) for days in (-3000, 3000)
    )
    before = state(site)
    rules.remove(on_trial(site), 2)
    for jumped in (past, future):
        assert trials.settle(jumped) is None
    now = trials.uptime()
    monkeypatch.setattr(trials, "uptime", lambda: now + 119)
    assert trials.settle(site) is None
    monkeypatch.setattr(trials, "uptime", lambda: now - 1)
    assert trials.show(site).seconds == 0  # type: ignore[union-attr]
    with pytest.raises(Conflict, match="its time is over"):
        trials.keep(site)
    assert trials.settle(site) is not None
    assert state(site) == before


@pytest.mark.parametrize("days", [-3000, 3000])
@pytest.mark.parametrize("passed", [121, -1])
def test_a_clock_that_jumped_is_no_reason_to_leave_it(
    site: Site, days: int, passed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no other change would be made by takes a trial back all the same, at a time that can be."""
    before = state(site)
    rules.remove(on_trial(site), 2)
    later(monkeypatch, passed)
    jumped = replace(site, clock=lambda: bootstrap.now() + timedelta(days=days))
    assert trials.settle(jumped) is not None
    assert state(site) == before
    with site.store.read() as view:
        at = view.audit_before(None, 1)[0].event.at
    assert abs(at - bootstrap.now()) < timedelta(minutes=5)


def test_only_what_is_over_is_taken_back_by_itself(site: Site) -> None:
    rules.remove(on_trial(site), 2)
    with pytest.raises(Conflict, match="not over"):
        trials.undo(site, only_over=True)


# --- who keeps it


def test_kept_over_a_new_connection_only(site: Site) -> None:
    """A connection that was there when the change was made proves nothing, whoever uses it."""
    connected = trials.uptime()
    rules.add(on_trial(site), rules.Wanted(area="websockets"))
    with pytest.raises(Conflict, match="there before the change"):
        trials.keep(site, connected=connected)
    assert trials.show(site) is not None
    assert trials.keep(site, connected=trials.uptime()).kept


def test_kept_by_an_owner_only(site: Site) -> None:
    """By the rules on trial: who is no owner any more keeps nothing."""
    devices.add(site, "second", role="owner")
    held = devices.show(site, "boss")
    asked = replace(site, maker=Maker(held.device.id, held.certificates[0].fingerprint, "192.168.1.7"))
    devices.set_role(on_trial(site), "boss", "admin")
    with pytest.raises(NotPermitted, match="manages nothing here any more"):
        trials.keep(asked, connected=trials.uptime())
    trials.undo(site)
    rules.add(on_trial(site), rules.Wanted(area="websockets"))
    assert trials.keep(asked, connected=trials.uptime()).kept


def test_the_way_back_in_takes_a_trial_back(site: Site) -> None:
    """Else its end would take the rule away that the way back in needs."""
    before = state(site)
    applied("")(on_trial(site, insist=True))
    said = emergency.plan(site, "again", days=1)
    assert "the change on trial is taken back: something was changed" in said
    opened = emergency.open_(site, "again", days=1)
    assert (opened.rule, opened.taken_back) == (None, "something was changed")
    assert trials.show(site) is None
    assert state(site)[0].rules == before[0].rules


# --- trouble


def test_nothing_is_half_taken_back(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault in the middle leaves the trial standing; the next one takes it back."""
    before = state(site)
    applied("[[rule]]\nany_device = true\narea = 'all'\n")(on_trial(site))
    after = state(site)

    def broken(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(trials, "_restore_roles", broken)
        with pytest.raises(StoreError):
            trials.undo(site)
    assert state(site) == after
    assert trials.show(site) is not None
    trials.undo(site)
    assert state(site) == before


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', '{"format": 1, "begun": "x", "over": 1}', "["])
def test_what_cannot_be_read_is_said(site: Site, text: str) -> None:
    """And stands in nobody's way: other commands go on."""
    rules.remove(on_trial(site), 2)
    with site.store.write("test", site.clock()):
        site.store._connection.execute("UPDATE trial SET before = ?", [text])
    for way in (trials.undo, trials.keep, trials.show, trials.settle):
        with pytest.raises(StoreError, match="cannot be read"):
            way(site)
    bootstrap.open_site(site.settings, actor="somebody").store.close()


def test_waiting_for_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taken back at its end; kept meanwhile or before, the waiting ends."""
    before = state(site)
    rules.remove(on_trial(site), 2)
    pauses = iter([lambda: None, lambda: later(monkeypatch, 200)])
    ended = trial_watch.wait(site, pause=lambda _: next(pauses)())
    assert ended is not None
    assert state(site) == before
    monkeypatch.undo()
    rules.remove(on_trial(site), 2)
    pauses = iter([lambda: trials.keep(site)])
    assert trial_watch.wait(site, pause=lambda _: next(pauses)()) is None
    assert trial_watch.wait(site) is None


class Counted(Store):
    """A store that counts how often somebody wanted to write."""

    tries = 0

    def write(self, actor: str, now: datetime) -> AbstractContextManager[Transaction]:
        self.tries += 1
        return super().write(actor, now)


def test_a_watcher_waits_for_the_change_that_started_it(site: Site) -> None:
    """It is started before the commit, and sees the trial nevertheless, however often it is turned away."""
    saw, kept = threading.Event(), threading.Event()
    ended: list[Any] = []

    def pause(_seconds: float) -> None:
        saw.set()
        kept.wait(10)

    def start(_settings: Settings, _length: timedelta) -> None:
        watcher.start()
        until(lambda: other.tries > 1, what="that the watcher is turned away")

    with closing(Counted.open(site.settings.database, patience=0.01)) as other:
        watching = replace(site, store=other)
        watcher = threading.Thread(target=lambda: ended.append(trial_watch.wait(watching, pause=pause)))
        rules.remove(replace(site, trial=trials.Asked(TWO_MINUTES, "something", "test", start)), 2)
        assert saw.wait(10)
        trials.keep(site)
        kept.set()
        watcher.join(10)
    assert ended == [None]
