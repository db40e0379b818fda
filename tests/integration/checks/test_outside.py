"""The probe from outside, against a real Node-RED: all green on a healthy one, red where the lock is broken."""

from __future__ import annotations

import contextlib
import os
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.checks.conftest import FLOWS, Home, by_code, house
from tests.integration.operations import gateways
from tests.integration.operations.conftest import House
from tests.integration.operations.gateways import Gate
from tests.support.clients import request
from tests.support.nodered import free_port
from tests.support.serving import Served, is_open
from tests.support.wait import until

from redlatch.checks import admission, doors, knocking, outside, table
from redlatch.checks.model import Check, Scene, Unknown
from redlatch.cli import prove
from redlatch.errors import Conflict, PassphraseNeeded
from redlatch.operations import machine, rules, throwaways, traffic

OPEN, SHUT = (by_code(admission.CHECKS, code) for code in ("outside-open", "outside-shut"))
REVOKED_RESUMED = {"revoked, resumed 1.2", "revoked, resumed 1.3"}
LEFT, DOOR = (by_code(admission.CHECKS, code) for code in ("test-device-left", "door-shut"))


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many knocks a second as the guard lets a known address have; nobody is disturbed here."""
    monkeypatch.setattr(outside, "_A_SECOND", 95.0)
    monkeypatch.setattr(outside, "_FEW_A_SECOND", 50.0)
    monkeypatch.setattr(doors, "MOST_OF_A_KIND", 1)


def test_a_healthy_site_is_all_green(home: Home) -> None:
    """Every surface by every kind of key is as the rules say, each check finds nothing, and no flow has run: the
    endpoint that counts was asked for by those who are refused only.
    """
    scene = home.scene()
    probed = admission.probed(scene)
    assert [row for row in probed.rows if not row.ok] == []
    assert {row.key for row in probed.rows} == set(outside.KINDS) - set(outside.NO_KEY_RESUMED)
    kinds = {"editor", "flows", "live data", "dashboard", "http-in", "static", "websocket"}
    assert {row.surface for row in probed.rows} == kinds
    assert len({row.trick for row in probed.rows}) > 15
    assert [list(check.look(scene)) for check in admission.CHECKS] == [[], [], [], []]
    headers, lines = table.compact(probed.rows)
    assert headers[-1] == "GOOD"
    assert {cells[-1] for cells, _ in lines} >= {"in", "-"}
    assert {style for _, style in lines} == {table.GOOD}
    assert "lit" not in request(home.house.port, "GET", "/context/global", home.admin).json().get("memory", {})
    assert request(home.house.port, "GET", "/light/on", home.admin).body == b"lit"
    assert "lit" in request(home.house.port, "GET", "/context/global", home.admin).json()["memory"]


def test_its_knocks_are_no_traffic(home: Home) -> None:
    """They are in the log, by an address that nobody else has, and in no answer about who comes from where."""
    site, ours = home.house.open(), machine.CHECKS_FROM
    with throwaways.throwaways(site) as made:
        who = knocking.client(knocking.Identity(made.good.key, made.good.certificate))
        place = knocking.Place("127.0.0.1", home.house.port)
        assert knocking.ask(place, who, knocking.Request("/flows")) == knocking.ADMITTED
    until(lambda: ours in {one.address for one in traffic.accesses(site, 500)}, what="the access log")
    assert ours not in traffic.seen(site).addresses
    assert ours not in {one.address for one in traffic.lately(site).seen}


def test_its_devices_are_revoked_and_audited(home: Home) -> None:
    """Afterwards none of them is in use, and the audit trail has each added and revoked."""
    site = home.house.open()
    with site.store.read() as view:
        before = view.audit_head().seq
    with throwaways.throwaways(site) as made:
        names = {made.good.name, made.few.name, made.gone.name, made.ended.name}
        now = site.clock()
        assert made.ended.certificate.not_valid_after_utc < now
        assert made.good.certificate.not_valid_after_utc < now + timedelta(days=1, minutes=1)
        made.revoke_gone()
    with site.store.read() as view:
        events = list(view.audit_events(after=before))
        assert not {one.name for one in view.devices() if one.revoked_at is None} & names
    for kind in ("device.added", "device.revoked"):
        assert {one.event.data["name"] for one in events if one.event.kind == kind} == names


def test_a_killed_check_leaves_something_to_find(home: Home) -> None:
    """Its devices are found, and revoked by --fix or the next run; those of a check that runs are left alone."""
    with throwaways.throwaways(home.house.open()) as made:
        assert home.found(LEFT) == []
        mine = {one.name for one in (made.good, made.few)}
    process = subprocess.Popen(["true"])
    process.wait()
    site = home.house.open()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: process.pid)
        cut = throwaways.throwaways(site)
        cut.__enter__()
    found = home.found(LEFT)
    assert len(found) == 4
    assert not {one.subject for one in found} & mine
    assert found[0].fix is not None
    found[0].fix()
    assert home.found(LEFT) == []


def test_without_the_key_only_strangers_knock(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase that is not at hand: what needs no device is tried, and it is said what is not."""

    def locked(*_: object) -> None:
        raise PassphraseNeeded("the CA keys are under a passphrase")

    monkeypatch.setattr("redlatch.operations.devices.authority", locked)
    monkeypatch.setattr(outside, "_tricks", lambda _: ())
    probed = outside.probe(home.house.open(), home.house.environ)
    keys = {row.key for row in probed.rows}
    assert outside.NO_KEY in keys
    assert not keys & {outside.GOOD, outside.REVOKED, outside.ENDED}
    assert all(row.ok for row in probed.rows)
    assert any("under a passphrase" in words for words in probed.left_out)


def test_a_door_that_is_shut_is_told(tmp_path: Path) -> None:
    """Nothing listens: that is the finding, and what follows from it is not looked at."""
    made = house(tmp_path)
    made.up()
    scene = Scene(made.open(), made.environ)
    assert [one.subject for one in DOOR.look(scene)] == ["Node-RED"]
    assert admission.probed(scene).rows == ()


def unknown(check: Check, scene: Scene) -> str:
    """Why it cannot look, having found nothing."""
    found = []
    with pytest.raises(Unknown) as reason:
        found.extend(check.look(scene))
    assert found == []
    return str(reason.value)


@pytest.mark.parametrize("after", [0, 60])
def test_a_node_red_that_is_restarted_meanwhile_is_no_open_door(
    home: Home, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Knocks that reached nobody are no rows, neither open nor shut nor right: both checks could not look."""
    ask, left = knocking.ask, iter(range(after))

    def stops(*asked: Any) -> str:
        return ask(*asked) if next(left, None) is not None else knocking.NOBODY

    monkeypatch.setattr(knocking, "ask", stops)
    monkeypatch.setattr(knocking, "plain", lambda *_: knocking.NOBODY)
    scene = home.scene()
    assert all("nothing listens" in unknown(check, scene) for check in (OPEN, SHUT))
    assert all(row.ok for row in admission.probed(scene).rows)
    assert (len(admission.probed(scene).rows) > 0) is (after > 0)
    assert not table.document(admission.probed(scene))["ok"]


def test_a_run_that_is_cut_is_no_clean_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some knocks, all as they should be, and then the time is over."""
    monkeypatch.setattr(outside, "SECONDS", 2.0)
    monkeypatch.setattr(outside, "_A_SECOND", 20.0)
    scene = home.scene()
    assert all("longer than 2 seconds" in unknown(check, scene) for check in (OPEN, SHUT))
    assert admission.probed(scene).rows


def test_devices_that_could_not_be_made_are_missed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change on trial refuses them: revoked keys were not tried, nor good ones."""

    def on_trial(*_: object, **__: object) -> None:
        raise Conflict("a change is on trial")

    monkeypatch.setattr("redlatch.operations.devices.order", on_trial)
    monkeypatch.setattr(outside, "_tricks", lambda _: ())
    scene = home.scene()
    assert all("on trial" in unknown(check, scene) for check in (OPEN, SHUT))
    assert prove._missing(admission.probed(scene)) is not None


def test_what_proves_something() -> None:
    """Every row as it should be, a good key among them, and nothing that could not be looked at."""
    stranger = outside.Row("d", "editor", "/", outside.NO_KEY, "", knocking.REFUSED, knocking.REFUSED)
    device = replace(stranger, key=outside.GOOD, expected=knocking.ADMITTED, seen=knocking.ADMITTED)
    assert prove._missing(outside.Probed((stranger, device), ("2 of 5 surfaces",))) is None
    for nothing in (
        outside.Probed(()),
        outside.Probed((stranger,)),
        outside.Probed((stranger, device), ("the rest",), ("the rest",)),
        outside.Probed((replace(stranger, seen=knocking.ADMITTED), device)),
    ):
        missing = prove._missing(nothing)
        assert missing is not None
        assert missing.message
        assert missing.hint


def test_what_has_no_session_is_not_called_resumed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not let in before it was revoked, or given no ticket: such a key would shake hands like any other."""
    monkeypatch.setattr(outside, "_tricks", lambda _: ())
    monkeypatch.setattr(knocking, "_resumable", lambda _: None)
    probed = outside.probe(home.house.open(), home.house.environ)
    assert not {row.key for row in probed.rows} & REVOKED_RESUMED
    assert sum("given nothing to resume" in words for words in probed.left_out) == 4
    assert probed.unjudged == ()

    ask, came = knocking.ask, iter(range(3))
    monkeypatch.setattr(
        knocking, "ask", lambda *asked: knocking.REFUSED if next(came, None) is not None else ask(*asked)
    )
    probed = outside.probe(home.house.open(), home.house.environ)
    assert not {row.key for row in probed.rows} & REVOKED_RESUMED
    assert sum("not let in before it was revoked" in words for words in probed.unjudged) == 2


class _Closes(socketserver.BaseRequestHandler):
    """Ends each connection without a word."""

    def handle(self) -> None:
        self.request.close()


def test_a_device_that_is_refused_is_found(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else stands at the port and refuses everybody: good keys are not let in, and strangers neither."""
    monkeypatch.setattr(outside, "_tricks", lambda _: ())
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Closes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        target = asdict(replace(home.house.open().target(), listen_port=server.server_address[1]))
        with home.configured(target=target):
            scene = home.scene()
            assert "not let in before it was revoked" in unknown(OPEN, scene)
            found = []
            with pytest.raises(Unknown):
                found.extend(SHUT.look(scene))
            assert found
            assert {row.key for row in admission.probed(scene).rows if not row.ok} == {outside.GOOD, outside.FEW}
        server.shutdown()


def test_a_node_red_on_another_port_is_told(home: Home) -> None:
    """It runs, where nobody looks for it: which port that is."""
    target = home.house.open().target()
    with home.configured(target=asdict(replace(target, listen_port=free_port()))):
        (found,) = home.found(DOOR)
    assert str(home.house.port) in found.text
    assert found.remedy == "redlatch up"


# --- broken locks


@contextlib.contextmanager
def broken(tmp_path: Path, file: str, old: str, new: str) -> Iterator[House]:
    """A site whose published guard lacks a check."""
    made = house(tmp_path)
    made.up()
    (path,) = made.settings.published.glob(f"guard-*/{file}")
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    with made.node_red():
        yield made


_FORGETS = "return this.snapshot.devices.get(fingerprint) || null;"
_REMEMBERS = (
    "const all = (globalThis.seen = globalThis.seen || new Map());"
    " const one = this.snapshot.devices.get(fingerprint); if (one) all.set(fingerprint, one);"
    " return one || all.get(fingerprint) || null;"
)


@pytest.mark.parametrize(
    ("file", "old", "new", "keys", "tricks"),
    [
        ("decide.js", _FORGETS, _REMEMBERS, {"revoked", "revoked, resumed 1.2", "revoked, resumed 1.3"}, {""}),
        (
            "paths.js",
            "if (!isCanonical(path)) return EDITOR;",
            "",
            {outside.FEW},
            {"encoded slash", "dots", "semicolon"},
        ),
        ("decide.js", "if (origin !== own && ", "if (false && ", {outside.GOOD}, {"another page"}),
    ],
    ids=["revoked", "paths", "origin"],
)
def test_a_broken_guard_turns_rows_red(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    old: str,
    new: str,
    keys: set[str],
    tricks: set[str],
) -> None:
    """A guard without one check lets somebody in: the very rows are red, and the check finds them."""
    monkeypatch.setattr(knocking, "SECONDS", 2.0)  # a dashboard's websocket that is let in is answered by nobody
    with broken(tmp_path, file, old, new) as made:
        scene = Scene(made.open(), made.environ)
        wrong = [row for row in admission.probed(scene).rows if row.is_open]
        assert keys <= {row.key for row in wrong}
        assert tricks <= {row.trick for row in wrong}
        assert len(list(OPEN.look(scene))) == len({row.surface for row in wrong})
        assert any(
            "OPEN" in cells
            for cells, style in table.compact(admission.probed(scene).rows)[1]
            if style == table.BAD
        )


def test_a_flow_that_answers_nothing_was_let_in_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A revoked device that is let in where an http-in has no response node: silence is no refusal."""
    monkeypatch.setattr(knocking, "SECONDS", 2.0)
    monkeypatch.setattr(outside, "_tricks", lambda _: ())
    mute = [{**one, "wires": []} if one["type"] == "http in" else one for one in FLOWS]
    monkeypatch.setattr("tests.integration.checks.conftest.FLOWS", mute)
    with broken(tmp_path, "decide.js", _FORGETS, _REMEMBERS) as made:
        scene = Scene(made.open(), made.environ)
        seen = {row.key: row.seen for row in admission.probed(scene).rows if row.surface == "http-in"}
        assert seen[outside.REVOKED] == knocking.UNANSWERED
        assert seen[outside.NO_KEY] == knocking.REFUSED
        assert "http-in at Node-RED" in {one.subject for one in OPEN.look(scene)}


# --- the gateway


@contextlib.contextmanager
def gate(root: Path, **told: Any) -> Iterator[Scene]:
    made = Gate(root)
    made.up(**told)
    made.key("phone", role="owner")
    with gateways.web(made.behind), made.run():
        yield Scene(made.open(), made.environ)


def test_a_healthy_gateway_is_all_green(tmp_path: Path) -> None:
    """The same rows at the gateway's listener, which wants to be told by a PROXY header who comes."""
    with gate(tmp_path, accept_proxy=True, trusted_proxies=("127.0.0.0/8",)) as scene:
        rows = admission.probed(scene).rows
        assert [row for row in rows if not row.ok] == []
        assert {row.key for row in rows} == set(outside.KINDS) - set(outside.NO_KEY_RESUMED)
        assert {row.door.split(" ")[0] for row in rows} == {"gateway"}


def test_a_broken_gateway_turns_rows_red(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HAProxy's configuration without the condition on other pages: their requests are let in, and found."""
    copy = tmp_path / "copy"
    shutil.copytree(gateways.ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    door = copy / "src/redlatch/engines/haproxy/door.cfg"
    text = door.read_text()
    assert text.count("own_host own_page target_form") == 2
    door.write_text(text.replace("own_host own_page target_form", "own_host target_form"))
    monkeypatch.setattr(gateways, "ROOT", copy)
    with gate(tmp_path) as scene:
        wrong = [row for row in admission.probed(scene).rows if row.is_open]
        assert {"another page", "a page without origin", "a page of a like name"} <= {row.trick for row in wrong}
        assert {row.key for row in wrong} == {outside.GOOD}
        assert list(OPEN.look(scene))


def test_what_the_answer_says_is_what_is_seen() -> None:
    """Only the door's own refusals are refusals: any other answer is somebody's behind it."""
    for head, seen in (
        (b"", knocking.REFUSED),
        (b"HTTP/1.1 403 Forbidden\r\n", knocking.REFUSED),
        (b"HTTP/1.1 401 Unauthorized\r\n", knocking.ADMITTED),
        (b"HTTP/1.1 404 Not Found\r\n", knocking.ADMITTED),
        (b"HTTP/1.1 503 Service Unavailable\r\n", "answered 503"),
        (b"garbage", knocking.ADMITTED),
    ):
        assert knocking._judged(head) == seen


def test_the_other_doors(tmp_path: Path) -> None:
    """Console, enrolment and the open port, where they run: each by its own rules, and all green."""
    open_port = free_port()
    served = Served(tmp_path)
    rules.add(served.site, rules.Wanted(anyone=True, area="dashboards", open_port=open_port), force=True)
    with served:
        served.invite("phone")
        until(lambda: is_open(served.enrolment_port), what="the enrolment page")
        until(lambda: is_open(open_port), what="the open port")
        probed = outside.probe(served.site, served.house.environ)
    rows = probed.rows
    assert probed.unjudged == ()
    assert any("another version of TLS" in words for words in probed.left_out)  # the console takes 1.3 only
    assert [row for row in rows if not row.ok] == []
    assert {row.door for row in rows} == {"Node-RED", "open port", "console", "enrolment"}
    seen = {(row.door, row.key): row.seen for row in rows if not row.trick and row.surface != "dashboard"}
    assert seen["console", outside.GOOD] == seen["enrolment", outside.NO_KEY] == knocking.ADMITTED
    assert seen["console", outside.FEW] == seen["console", outside.NO_KEY] == knocking.REFUSED
    assert seen["open port", outside.GOOD] == knocking.REFUSED
    dashboards = [row for row in rows if row.surface == "dashboard" and row.door == "open port" and not row.trick]
    assert {row.seen for row in dashboards} == {knocking.ADMITTED}
    resumed = {(row.door, row.key) for row in rows if row.key in outside.NO_KEY_RESUMED}
    assert {("open port", key) for key in outside.NO_KEY_RESUMED} <= resumed
