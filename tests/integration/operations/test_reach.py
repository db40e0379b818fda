"""map and explain: they say what policy.decide decides, of flows and settings as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.operations.conftest import House
from tests.support.nodered import write_settings
from tests.support.site import published

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations import devices, networks, reach, rules, server
from redlatch.operations.reach import Asked, Thing
from redlatch.operations.rules import Wanted
from redlatch.operations.site import Site

FLOWS: list[dict[str, Any]] = [
    {"id": "t", "type": "tab"},
    {"id": "1", "z": "t", "type": "http in", "url": "/webhook/:from", "method": "post"},
    {"id": "2", "z": "t", "type": "http in", "url": "/webhook/:from", "method": "get"},
    {"id": "3", "z": "t", "type": "http in", "url": "/files/*", "method": "get"},
    {"id": "4", "z": "t", "type": "http in", "url": "/off", "method": "get", "d": True},
    {"id": "5", "type": "websocket-listener", "path": "/ws/live"},
    {"id": "6", "type": "ui-base", "path": "/panel"},
    {"id": "7", "z": "t", "type": "tcp in", "server": "server", "port": "9000"},
]
EVERYTHING = ("devices with the role owner, from anywhere", "devices with the role admin, from anywhere")


def deploy(house: House, flows: list[dict[str, Any]]) -> None:
    (house.user_dir / "flows.json").write_text(json.dumps(flows))


@pytest.fixture
def locked(house: House) -> House:
    """With flows, static files in two places, a network and two rules of its own."""
    static = 'httpStatic: [{path: "/srv/img", root: "/img"}, {path: "/srv/all", root: "/"}],'
    house.settings_file = write_settings(house.user_dir, body=static, flows=FLOWS)
    house.up()
    site = house.open()
    networks.add(site, "home", ["192.168.1.0/24"], resolver=lambda _: {})
    rules.add(site, Wanted(area="dashboards", anyone=True, networks=("home",)))
    rules.add(site, Wanted(path="/webhook/github", anyone=True, methods=("POST",)))
    return house


def test_the_map_names_everything_and_who_reaches_it(locked: House) -> None:
    """Each with its method and what it counts as; what has no path of its own is the editor's."""
    found = reach.survey(locked.open(), locked.environ)
    home = "anyone, with or without a certificate, from home"
    dashboards = (*EVERYTHING, "devices with the role user, from anywhere", home)
    hook = "anyone, with or without a certificate, from anywhere (POST)"
    assert found.things == (
        Thing("editor", "", "/", "editor",
              (*EVERYTHING, "devices with the role viewer, from anywhere (reading only)")),
        Thing("dashboard", "", "/dashboard", "dashboards", dashboards),
        Thing("dashboard", "", "/panel", "dashboards", dashboards),
        Thing("dashboard", "", "/ui", "dashboards", dashboards),
        Thing("http-in", "GET", "/files/*", "editor", EVERYTHING, "counts as editor: no literal path"),
        Thing("http-in", "GET", "/webhook/:from", "http-in", EVERYTHING),
        Thing("http-in", "POST", "/webhook/:from", "http-in", EVERYTHING),
        Thing("websocket", "", "/ws/live", "websockets", EVERYTHING),
        Thing("static", "", "/img", "static", EVERYTHING, "/srv/img"),
        Thing("static", "", "/", "editor", EVERYTHING, "counts as editor: /srv/all, at no path of its own"),
        Thing("path", "", "/webhook/github", "http-in", (*EVERYTHING, hook),
              "a path of yours, with what lies below it"),
        Thing("port", "", "9000", "", ("whoever reaches it",), "not behind redlatch: opened by a node (tcp in)"),
    )  # fmt: skip
    assert found.stale == ()


def test_new_flows_are_said_and_refresh_takes_them_over(locked: House) -> None:
    """A new endpoint counts as editor until then; what changed is said, and the second time there is nothing."""
    site = locked.open()
    new = {"id": "9", "z": "t", "type": "http in", "url": "/new", "method": "get"}
    deploy(locked, [*(one for one in FLOWS if one["id"] != "6"), new])
    found = reach.survey(site, locked.environ)
    expected = ("areas: no dashboard /panel any more", "areas: http-in /new")
    assert found.stale == expected
    assert next(one for one in found.things if one.path == "/new").area == "editor"
    assert reach.explain(site, Asked("GET", "/new")).area == "editor"
    done = server.refresh(site, environ=locked.environ)
    assert done.changes == expected
    assert published(site.settings.published).areas.http_in == ("/new", "/webhook/:from")
    assert reach.explain(site, Asked("GET", "/new")).area == "http-in"
    assert reach.survey(site, locked.environ).stale == ()
    assert server.refresh(site, environ=locked.environ).changes == ()


def test_settings_that_cannot_be_read_change_no_area(locked: House) -> None:
    """A broken settings.js keeps what was known; the editor's own place is followed."""
    site = locked.open()
    before, text = site.config(), locked.settings_file.read_text()
    locked.settings_file.write_text("module.exports = {")
    assert server.refresh(site, environ=locked.environ).changes == ()
    assert site.config() == before
    locked.settings_file.write_text(text.replace("flowFile:", 'httpAdminRoot: "/admin", flowFile:'))
    assert server.refresh(site, environ=locked.environ).changes == ("editor: at /admin",)
    assert site.config().admin_root == "/admin"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site that nothing may change."""
    house = House(tmp_path_factory.mktemp("shared"), "5.0")
    house.settings_file = write_settings(house.user_dir, flows=FLOWS)
    house.up()
    site = house.open()
    devices.add(site, "laptop")
    devices.add(site, "tablet", role="user")
    devices.add(site, "look", role="viewer")
    networks.add(site, "home", ["192.168.1.0/24"], resolver=lambda _: {})
    rules.add(site, Wanted(area="dashboards", anyone=True, networks=("home",)))
    rules.add(site, Wanted(path="/webhook/github", anyone=True, methods=("POST",), open_port=1890))
    rules.add(site, Wanted(path="/photos", devices=("tablet",), networks=("home",)))
    return site


@pytest.mark.parametrize(
    ("asked", "reason", "ids"),
    [
        (Asked("GET", "/flows", device="laptop"), "ok", (2,)),
        (Asked("get", "/flows", device="LAPTOP"), "ok", (2,)),
        (Asked("GET", "/flows"), "no-certificate", ()),
        (Asked("POST", "/flows", device="look"), "read-only", ()),
        (Asked("GET", "/comms", device="look", websocket=True), "ok", (3,)),
        (Asked("GET", "/ws/live", device="look", websocket=True), "no-rule", ()),
        (Asked("GET", "/dashboard", address="192.168.1.7", open_port=True), "ok", (5,)),
        (Asked("GET", "/dashboard", address="::ffff:192.168.1.7", open_port=True), "ok", (5,)),
        (Asked("GET", "/dashboard", address="192.168.1.7"), "no-certificate", ()),
        (Asked("GET", "/dashboard", address="10.0.0.1", open_port=True), "no-certificate", ()),
        (Asked("GET", "/dashboard", device="tablet"), "ok", (4,)),
        (Asked("POST", "/webhook/github", open_port=True), "ok", (6,)),
        (Asked("GET", "/webhook/github", open_port=True), "no-certificate", ()),
        (Asked("GET", "/webhook/github", device="tablet"), "wrong-method", (6,)),
        (Asked("GET", "/photos/1", device="tablet", address="10.0.0.1"), "wrong-network", (7,)),
        (Asked("GET", "/photos/1", device="tablet", address="192.168.1.9"), "ok", (7,)),
        (Asked("GET", "/photosx", device="tablet", address="192.168.1.9"), "no-rule", ()),
        (Asked("GET", "/%66lows", device="tablet"), "no-rule", ()),
        (Asked("GET", "/dashboard", device="tablet", host="evil.example"), "foreign-host", ()),
        (Asked("GET", "/dashboard", device="tablet", origin="https://evil.example"), "cross-origin", ()),
        (Asked("GET", "dashboard", device="tablet"), "bad-target", ()),
    ],
)
def test_a_request_is_explained(shared: Site, asked: Asked, reason: str, ids: tuple[int, ...]) -> None:
    """With the reason, its words, and the rules that admit it or would."""
    found = reach.explain(shared, asked)
    assert (found.decision.reason, found.decision.rules) == (reason, ids)
    assert found.decision.allow == (reason == "ok")
    assert [number for number, _ in found.rules] == list(ids)
    assert found.text
    assert all(" may " in sentence for _, sentence in found.rules)


def test_time_and_certificates_count(shared: Site) -> None:
    """A device whose certificate has ended is told so."""
    later = replace(shared, clock=lambda: shared.clock() + timedelta(days=400))
    assert reach.explain(later, Asked("GET", "/flows", device="laptop")).decision.reason == "expired"


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (Asked("GET", "/", device="labtop"), NotFound, "no device named 'labtop'"),
        (Asked("GET", "/", address="192.168.1"), InvalidInput, "is no address"),
        (Asked("GET", "/", address="192.168.1.0/24"), InvalidInput, "is no address"),
    ],
)
def test_questions_that_cannot_be_answered(
    shared: Site, asked: Asked, error: type[Exception], message: str
) -> None:
    """Each says what is wrong with it."""
    with pytest.raises(error, match=message):
        reach.explain(shared, asked)


def test_no_open_port_is_said(newest: House) -> None:
    """There is nothing to explain about it."""
    newest.up()
    with pytest.raises(Conflict, match="no open port"):
        reach.explain(newest.open(), Asked("GET", "/", open_port=True))
