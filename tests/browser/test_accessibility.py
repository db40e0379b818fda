"""No page keeps anybody out: axe-core finds nothing serious, in light and dark, on a desk and on a phone.

All pages are those of a running service, with its headers; another page than it should be is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright
from starlette.routing import Match, Route
from tests.browser.axe import look, serious
from tests.browser.chromium import PATIENCE_MS, PROGRAM
from tests.browser.house import FLOWS
from tests.browser.test_enrolment_page import KINDS, Kind
from tests.support.clients import Connection, Refused, request
from tests.support.serving import Key, Served
from tests.support.wait import until

from redlatch.operations import devices, links, networks, roles
from redlatch.service.console.app import WAYS

#: Parts of pages, which htmx asks for; each is on a page that is looked at
FRAGMENTS: Final = {"/log/rows"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), flows=FLOWS) as found:
        yield found


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", "--disable-gpu"])
    yield browser
    browser.close()


@pytest.fixture
def opening(chromium: Browser) -> Iterator[Any]:
    """Opens a browser that comes with a key, or as a kind of device."""
    contexts: list[BrowserContext] = []

    def opened(served: Served, key: Key | None = None, kind: Kind | None = None) -> Page:
        more: dict[str, Any] = {}
        if key is not None:
            pem = str(key.cert_file)
            more["client_certificates"] = [
                {"origin": f"https://127.0.0.1:{port}", "certPath": pem, "keyPath": pem}
                for port in (served.console_port, served.port)
            ]
        if kind is not None:
            more["user_agent"] = kind.agent
        context = chromium.new_context(ignore_https_errors=True, **more)
        context.set_default_timeout(PATIENCE_MS)
        if kind is not None and kind.script:
            context.add_init_script(kind.script)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: dialog.accept())
        return page

    yield opened
    for context in contexts:
        context.close()


class Tour:
    """A walk through the console; `found` is what was serious, `seen` the addresses that were looked at."""

    def __init__(self, page: Page, served: Served) -> None:
        self.page = page
        self._base = f"https://127.0.0.1:{served.console_port}"
        self.found: list[str] = []
        self.seen: set[str] = set()

    def go(self, path: str, status: int = 200) -> None:
        answer = self.page.goto(self._base + path)
        assert answer is not None
        assert answer.status == status, (path, answer.status)

    def look(self, name: str, title: str) -> None:
        """Looks at the page that is open, which has this heading (a part of it)."""
        assert title in self.page.locator("h1").first.inner_text(), (
            name,
            self.page.locator("h1").all_inner_texts(),
        )
        self.seen.add(self.page.url.removeprefix(self._base).partition("?")[0])
        self.found += look(self.page, f"console-{name}")

    def visit(self, name: str, path: str, title: str, status: int = 200) -> None:
        self.go(path, status)
        self.look(name, title)

    def not_seen(self) -> set[str]:
        """Addresses of the console that no page so far had."""
        routes = {way.path: Route(way.path, lambda: None) for way in WAYS if way.get is not None}

        def matches(route: Route, path: str) -> bool:
            scope = {"type": "http", "path": path, "method": "GET", "root_path": ""}
            return route.matches(scope)[0] is not Match.NONE

        def first(path: str) -> str | None:
            return next((name for name, route in routes.items() if matches(route, path)), None)

        return set(routes) - {first(path) for path in self.seen} - FRAGMENTS


@pytest.fixture(scope="module")
def owner(served: Served) -> Key:
    return served.key("Ann's laptop", owner="Ann")


@pytest.fixture(scope="module")
def inhabited(served: Served, owner: Key) -> Iterator[dict[str, Any]]:
    """A household with everything that a page can show; the ids of what pages are about."""
    site = served.site
    phone = devices.add(site, "Bärt's phone <b>", role="viewer", owner="Bart").device
    devices.add(site, "greenhouse sensor", role="thing", days=12)
    devices.add(site, "w" * 64, role="user")
    lost = devices.add(site, "lost tablet", role="user", owner="Carla").device
    devices.revoke(site, lost.name, reason="left in the train")
    roles.add(site, "family", like="user")
    entries = ["192.168.7.0/24", "192.168.8.20 # wall tablet", "fd00:1::/64"]
    networks.add(site, "attic", entries, resolver=lambda _: {})
    (link,) = links.invite(site, [links.Wanted("kitchen tablet", "user", "Ann")], trust_lan=True)
    for path in ("/", "/flows", "/lights", "/nowhere"):
        request(served.port, "GET", path, owner)
    for _ in range(3):
        with pytest.raises(Refused):
            request(served.port, "GET", "/flows")
    with Connection(served.port, owner) as connection:
        assert connection.request("GET", "/settings").status == 200
        until(lambda: told(served, owner), seconds=20, what="the console's word of all this")
        yield {"phone": phone.id, "lost": lost.id, "link": link.link.id}


def told(served: Served, owner: Key) -> bool:
    """Whether the overview shows accesses, refusals and a connection: what the test did a moment ago."""
    page = request(served.console_port, "GET", "/", owner).body.decode()
    return "accepted, 0" not in page and "refused, 0" not in page and "No device is connected" not in page


def test_every_page_of_the_console(
    served: Served, owner: Key, inhabited: dict[str, Any], opening: Any, tmp_path: Path
) -> None:
    """As an owner sees it: what is asked, shown, changed, and what can be wrong."""
    tour = Tour(opening(served, owner), served)
    page, phone = tour.page, f"/devices/{inhabited['phone']}"
    tour.visit("overview", "/", "Overview")
    tour.visit("devices", "/devices", "Devices")
    tour.visit("devices-revoked", "/devices?revoked=1", "Revoked devices")
    tour.visit("devices-none", "/devices?q=nobody", "Devices")
    tour.visit("device", phone, "Bärt's phone <b>")
    tour.visit("device-own", f"/devices/{owner.id}", "Ann's laptop")
    tour.visit("device-revoked", f"/devices/{inhabited['lost']}", "lost tablet")
    tour.visit("device-revoke", f"{phone}/revoke", "Revoke")
    tour.visit("device-revoke-own", f"/devices/{owner.id}/revoke", "Revoke")
    tour.visit("device-rename", f"{phone}/rename", "Rename")
    tour.visit("device-role", f"{phone}/role", "The role of")
    tour.visit("device-renew", f"{phone}/renew", "A new key for")
    tour.visit("links", "/links", "Links")
    tour.visit("link", f"/links/{inhabited['link']}", "A key for kitchen tablet")
    tour.visit("link-withdraw", f"/links/{inhabited['link']}/withdraw", "Withdraw the link")
    tour.visit("rules", "/rules", "Rules")
    tour.visit("rule-port", "/rules/open-port", "The open port")
    tour.visit("rule-remove", "/rules/1/remove", "Remove rule 1?")
    tour.visit("rule-test", "/rules/test", "Test a request")
    tour.visit("rule-tested", "/rules/test?method=GET&path=/flows&device=Ann%27s+laptop&look=1", "Test a request")
    tour.visit("rule-new", "/rules/new", "Add a rule")
    tour.visit("rule-new-shown", "/rules/new?who=anyone&what=area&area=dashboards&look=1", "Add a rule")
    tour.visit("networks", "/networks", "Networks")
    tour.visit("network", "/networks/of/attic", "attic")
    tour.visit("network-new", "/networks/new", "Add a network")
    tour.visit("network-remove", "/networks/of/attic/remove", "Remove the network attic")
    tour.visit("roles", "/roles", "Roles")
    tour.visit("role-add", "/roles/add", "Add a role")
    tour.visit("role-remove", "/roles/family/remove", "Remove the role family")
    tour.visit("trial-none", "/trial", "No change is on trial")
    for number, button in enumerate(("Take it back now", "Keep it")):
        tour.go("/rules/4/remove")
        page.get_by_label("How long").select_option("on trial for 2 minutes")
        page.get_by_role("button", name="Remove").click()
        page.get_by_role("link", name="Keep it or take it back").first.click()
        page.get_by_text("It is taken back in").wait_for()
        if number == 0:
            tour.look("trial", "On trial")
            tour.visit("device-while-on-trial", f"/devices/{owner.id}", "Ann's laptop")
            tour.go("/trial")
        page.get_by_role("button", name=button).click()
        page.get_by_text(("taken back: ", "kept: ")[number]).wait_for()
    looked = f"/devices/{owner.id}/role?look=1&role=viewer"
    tour.visit("device-role-own", looked, "The role of")
    tour.visit("map", "/map", "Map")
    tour.visit("log", "/log", "Log")
    tour.visit("audit", "/audit", "Audit")
    tour.visit("audit-verified", "/audit/verify", "The audit trail")
    tour.visit("health", "/health", "Health")
    tour.visit("nothing", "/nothing", "Not found", 404)
    tour.visit("no-device", "/devices/nobody", "Not found", 404)

    tour.visit("device-new", "/devices/new", "Add a device by file")
    page.get_by_label("Name").fill("garage sensor")
    page.get_by_role("button", name="Add it and show its key").click()
    page.get_by_text("password").first.wait_for()
    tour.look("device-handed-out", "The key of garage sensor")

    tour.visit("link-new", "/links/new", "Invite a device")
    page.get_by_label("Name of the device").fill("balcony tablet")
    page.get_by_role("button", name="Make the link").click()
    page.locator("main .problem, main .note.bad, main [role=alert]").first.wait_for()
    tour.look("link-not-trusted", "Invite a device")
    page.get_by_label("I trust everybody in this network").check()
    page.get_by_role("button", name="Make the link").click()
    page.locator("svg.code").wait_for()
    tour.look("link-made", "A key for balcony tablet")

    tour.go(f"{phone}/revoke")
    page.get_by_role("button", name="Revoke").click()
    page.locator("#outcome").wait_for()
    tour.look("change", "Revoke")
    assert tour.not_seen() == set()
    assert tour.found == []


@pytest.mark.parametrize("role", ["admin", "user", "revoked"])
def test_what_others_see_of_the_console(served: Served, opening: Any, role: str) -> None:
    """An admin everything without buttons; everybody else the page that says what their key is good for."""
    key = served.key(f"visitor, {role}", "user" if role == "revoked" else role)
    tour = Tour(opening(served, key), served)
    if role == "admin":
        tour.visit("admin-overview", "/", "Overview")
        tour.visit("admin-forbidden", "/devices/new", "Not for you", 403)
        assert "change nothing" in tour.page.locator("header").inner_text()
    elif role == "user":
        tour.visit("user", "/", "Your key may renew itself here", 403)
        tour.page.get_by_role("link", name="Renew this device's key").click()
        tour.page.get_by_role("button", name=re.compile("Get the key")).wait_for()
        tour.look("renew", "A new key for this device")
        tour.page.get_by_role("button", name=re.compile("Get the key")).click()
        tour.page.get_by_role("heading", name="Your key is here").wait_for()
        tour.look("renewed", "Your key is here")
    else:
        devices.revoke(served.site, key.issued.device.name)
        tour.visit("stranger", "/", "This certificate opens nothing here", 403)
    assert tour.found == []


@pytest.mark.parametrize("kind", [*KINDS, "script"])
def test_the_enrolment_page_on_each_device(served: Served, opening: Any, kind: str) -> None:
    """Before the key is asked for, and with all of its steps."""
    link = served.invite(f"device, {kind}", "--role", "user", "--trust-lan")
    served.enrolment_is("open")
    page = opening(served, kind=KINDS.get(kind))
    page.goto(link.url)
    page.locator("#offer").wait_for()
    if kind == "script":
        page.get_by_label("Script, ESP32").check(force=True)
        page.locator("#curl").wait_for()
        found = look(page, "enrol-script")
        page.locator("input[name=way][value=page-pem]").check()
    else:
        found = look(page, f"enrol-{kind}")
    page.locator("#get").click()
    page.get_by_role("heading", name="Your key is here").wait_for()
    found += look(page, f"enrolled-{kind}")
    assert found == []


@pytest.mark.parametrize(
    ("name", "fragment", "says"),
    [
        ("missing", "", "Open the link that you were given."),
        ("cut", "#abc", "The link is not complete."),
        ("unknown", f"#{'a' * 26}", "This link is not valid."),
    ],
)
def test_a_link_that_is_none(served: Served, opening: Any, name: str, fragment: str, says: str) -> None:
    """What is said instead of an offer."""
    served.invite(f"keeps the port open, {name}", "--role", "user", "--trust-lan")
    served.enrolment_is("open")
    page = opening(served)
    page.goto(f"https://127.0.0.1:{served.enrolment_port}/{fragment}")
    page.get_by_text(says).wait_for()
    assert look(page, f"enrol-{name}") == []


def test_the_printed_sheet(served: Served, opening: Any, tmp_path: Path) -> None:
    """QR codes with names, for those who do not see them."""
    table, sheet = tmp_path / "devices.csv", tmp_path / "sheet.html"
    table.write_text("name,role,owner\n" + "".join(f"tablet {n},user,Room {n}\n" for n in range(1, 8)))
    done = served.run(
        "device", "invite", "--csv", str(table), "--sheet", str(sheet), "--trust-lan", "--valid", "24h"
    )
    assert done.returncode == 0, done.stderr
    page = opening(served)
    page.goto(sheet.as_uri())
    assert page.locator("li svg").count() == 7
    assert look(page, "sheet") == []


def test_axe_would_say_it(opening: Any, served: Served) -> None:
    """That it finds nothing is the pages' doing: a picture without words, a field without a name are found."""
    page = opening(served)
    page.set_content('<html lang="en"><title>x</title><main><h1>x</h1><img src="data:,"><input></main>')
    found = " ".join(serious(page))
    assert "image-alt" in found
    assert "label" in found
