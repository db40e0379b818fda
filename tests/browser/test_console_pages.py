"""The console in a real Chromium with a certificate store of its own: what is seen and works, what is not run."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Playwright, expect
from tests.browser.chromium import Chromium
from tests.support.consoling import Consoling, Key, consoling

from redlatch.operations import devices, links, networks, roles, rules
from redlatch.operations.site import authority, changing, set_config
from redlatch.pki.bundles import generate_password, pkcs12
from redlatch.pki.certificates import certificate_pem, fingerprint
from redlatch.policy.model import Areas

HOSTILE: Final = (
    '<script>document.title="taken"</script>',
    "\"><img src=x onerror=document.title='taken'>",
    "{{ 7 * 7 }} ${7*7} <%= 7 %>",
    "' onfocus='document.title=1' autofocus x='",
)


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    """A site as it looks after a while."""
    with consoling(tmp_path_factory.mktemp("console")) as served:
        _live_in(served)
        yield served


def _live_in(at: Consoling) -> None:
    site, dice = at.site, random.Random(4)
    roles.add(site, "kiosk", like="user")
    networks.add(site, "home", ["192.168.1.0/24 # the house", "2001:db8:1::/48"], resolver=lambda _: {})
    networks.add(site, "tablets", ["192.168.1.20 # wall tablet"], resolver=lambda _: {})
    with changing(site) as tx:
        served = Areas(
            dashboards=("/dashboard",),
            http_in=("/light/:who", "/webhook/github"),
            static=("/pictures",),
            websockets=("/ws",),
        )
        set_config(tx, areas=served)
        tx.record("site.changed", changes=["areas: dashboard /dashboard"])
    rules.add(site, rules.Wanted(area="dashboards", networks=("home",)))
    rules.add(
        site, rules.Wanted(path="/webhook/github", methods=("POST",), anyone=True, open_port=1880), force=True
    )
    named = [
        at.key(name, role, owner=owner).id
        for name, role, owner in (
            ("Ada's laptop", "owner", "Ada"), ("Ada's phone", "admin", "Ada"), ("Bart's phone", "user", "Bart"),
            ("Wall tablet in the kitchen", "kiosk", None), ("backup-script", "viewer", None),
            ("Gewächshaus-Sensor", "thing", "Ümit"), ("מחשב נייד", "user", "רות"),
        )
    ]  # fmt: skip
    named += [at.key(name, owner=HOSTILE[0][:60]).id for name in HOSTILE]
    at.key("sensor-short", "thing", days=12)
    lost = at.key("Bart's old phone")
    devices.revoke(site, lost.issued.device.name, reason="lost on the train <b>again</b>")
    links.invite(site, [links.Wanted("Guest tablet"), links.Wanted(HOSTILE[1])], trust_lan=True)
    for hour in range(48):
        at_ = (datetime.now(UTC) - timedelta(hours=47 - hour)).timestamp()
        for _ in range(dice.randrange(3)):
            at.say(at=at_, device=dice.choice(named), path="/dashboard/page1", count=dice.randrange(1, 40))
        if hour % 5 == 0:
            at.say(at=at_, allow=False, reason="no-certificate", from_="203.0.113.9", count=dice.randrange(1, 9))
    at.say(device=named[2], path="/flows", allow=False, reason="no-rule", method="GET")
    at.say(
        device=None, path=None, method=None, allow=False, reason="bad-handshake", from_="198.51.100.7", count=12
    )
    at.say(device=named[0], path="/comms", upgrade=True)
    at.say(device=named[7], path="/<script>alert(1)</script>", from_="192.168.1.23")
    at.publish()
    at.connected(named[0], named[0], named[3])
    at.watch.look()
    at.watch.note()


def browser(at: Consoling, playwright: Playwright, folder: Path, who: Key) -> Chromium:
    password = generate_password()
    issued = who.issued
    p12 = pkcs12(issued.key, issued.certificate, [], issued.device.name, password)
    root = certificate_pem(authority(at.site, "server", signing=False).certificate)
    return Chromium(playwright, folder, p12=(p12, password), root=root)


@pytest.fixture(scope="module")
def owner(
    at: Consoling, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    with browser(at, playwright, tmp_path_factory.mktemp("owner"), at.keys["owner"]) as context:
        yield context


@pytest.fixture
def page(owner: BrowserContext) -> Iterator[Page]:
    """A page on which nothing may go wrong: no error in its console, which includes the CSP's."""
    found = owner.new_page()
    said: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not re.search(r"status of (409|410)", message.text):
            said.append(f"{message.text} at {message.location}")

    found.on("console", heard)
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert said == []


def url(at: Consoling, path: str) -> str:
    return f"https://attic.local:{at.port}{path}"


def places(at: Consoling) -> dict[str, str]:
    """Every page that can be opened, by what its picture is called."""
    named = {one.device.name: one.device.id for one in devices.list_devices(at.site)}
    one, hostile, gone = (f"/devices/{named[name]}" for name in ("Ada's laptop", HOSTILE[0], "Bart's old phone"))
    link = links.list_links(at.site)[0].id
    filled = "look=1&who=named&role=kiosk&what=area&area=dashboards&network=tablets&method=GET"
    anyone = "look=1&who=anyone&what=area&area=dashboards&network=tablets"
    return {
        "overview": "/", "health": "/health",
        "devices": "/devices", "devices-revoked": "/devices?revoked=1", "devices-none": "/devices?q=nothing",
        "device": one, "device-hostile": hostile, "device-revoked": gone,
        "device-revoke": f"{one}/revoke", "device-rename": f"{hostile}/rename", "device-role": f"{one}/role",
        "device-renew": f"{one}/renew", "device-add": "/devices/new",
        "links": "/links", "link": f"/links/{link}", "link-new": "/links/new",
        "link-withdraw": f"/links/{link}/withdraw",
        "rules": "/rules", "rule-new": "/rules/new", "rule-new-shown": f"/rules/new?{filled}",
        "rule-new-anyone": f"/rules/new?{anyone}", "rule-remove": "/rules/2/remove",
        "rule-port": "/rules/open-port",
        "rule-test": "/rules/test", "rule-test-refused": "/rules/test?look=1&path=/flows&device=Bart%27s+phone",
        "networks": "/networks", "network": "/networks/of/home", "network-add": "/networks/new",
        "network-remove": "/networks/of/home/remove", "roles": "/roles", "role-add": "/roles/add",
        "role-remove": "/roles/kiosk/remove", "map": "/map", "log": "/log", "audit": "/audit",
        "audit-verified": "/audit/verify",
    }  # fmt: skip


def picture(page: Page, name: str) -> None:
    """Keeps a picture of the page, light and dark, where pictures are wanted."""
    folder = os.environ.get("REDLATCH_ARTEFACTS")
    if not folder:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=Path(folder) / f"console-{name}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme=None)


def test_every_page_is_whole_wide_and_narrow(at: Consoling, page: Page) -> None:
    """No error, no name that was run, nothing wider than the screen down to 320 px, headings in order."""
    for name, path in places(at).items():
        page.set_viewport_size({"width": 1280, "height": 800})
        answer = page.goto(url(at, path))
        assert answer is not None
        assert answer.status == 200, name
        assert page.title().endswith(" · redlatch"), name
        expect(page.locator("h1")).to_have_count(1)
        assert _levels_in_order(page), name
        assert _unlabelled(page) == [], name
        picture(page, name)
        for width in (390, 320):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (name, width, wide, _widest(page, width))
            if width == 390:
                picture(page, f"{name}-phone")


def _levels_in_order(page: Page) -> bool:
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map((one) => Number(one.tagName[1]))")
    return levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def _unlabelled(page: Page) -> list[str]:
    found: list[str] = page.eval_on_selector_all(
        "main input:not([type=hidden]), main select, main textarea, main button",
        "all => all.filter((one) => !one.labels?.length && !one.textContent.trim()).map((one) => one.outerHTML)",
    )
    return found


def _widest(page: Page, width: int) -> list[str]:
    found: list[str] = page.evaluate(
        "width => [...document.querySelectorAll('*')]"
        ".filter((one) => one.getBoundingClientRect().right > width + 1)"
        ".map((one) => `${one.tagName}.${one.className} ${one.textContent.trim().slice(0, 40)}`).slice(-5)",
        width,
    )
    return found


def test_a_link_is_shown_once_and_watched(at: Consoling, page: Page) -> None:
    """The question before there is a link; then the code, the state as it changes; reloaded, it is gone."""
    page.goto(url(at, "/links/new?name=Guest+phone"))
    page.get_by_role("button", name="Make the link").click()
    expect(page.get_by_role("alert")).to_contain_text("could take the link")
    picture(page, "link-new-asked")
    page.get_by_label("I trust everybody").check()
    page.get_by_role("button", name="Make the link").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    token = page.locator("#url").inner_text().partition("#")[2]
    assert len(token) == 26
    assert token not in page.url
    page.get_by_text("Without a browser").click()
    picture(page, "link-shown")
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "link-shown-phone")
    used = links.redeem(at.site, token, peer="192.168.1.77", by_page=True)
    expect(page.locator("#link")).to_contain_text("used from 192.168.1.77")
    links.confirmed(at.site, used.link.id)
    expect(page.locator("#link")).to_contain_text("● the page holds the key")
    at.say(device=used.issued.device.id, fp=used.issued.fingerprint[:12], from_="192.168.1.77")
    at.watch.look()
    expect(page.locator("#link")).to_contain_text("got into Node-RED")
    picture(page, "link-in")
    page.reload()
    expect(page.locator("h1")).to_have_text("A key for Guest phone")
    assert token not in page.content()


def test_a_revocation_is_told_live(at: Consoling, page: Page) -> None:
    """The answer comes into the page at once and goes on by itself; its address can be kept."""
    one = at.key("Revoked in the browser")
    page.goto(url(at, f"/devices/{one.id}"))
    page.get_by_role("link", name="Revoke").click()
    page.get_by_label("Why").fill("lost")
    page.get_by_role("button", name="Revoke").click()
    expect(page.locator("#change")).to_contain_text("is revoked, with 1 certificate")
    assert "/changes/" in page.url
    expect(page.locator("h1")).to_be_focused()
    expect(page).to_have_title("\u2068Revoke Revoked in the browser\u2069 · redlatch")
    picture(page, "change")
    page.reload()
    expect(page.locator("#change")).to_contain_text("is revoked, with 1 certificate")
    page.get_by_role("link", name="Revoked in the browser").click()
    expect(page.locator("main")).to_contain_text("revoked on")
    expect(page.get_by_role("link", name="Renew")).to_have_count(0)


def test_an_error_of_a_form_comes_into_the_page(at: Consoling, page: Page) -> None:
    """With script as without: the message and its hint, in place of the form."""
    page.goto(url(at, f"/devices/{at.keys['thing'].id}/rename"))
    page.get_by_label("New name").fill("the admin")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator("#change")).to_contain_text("a device named 'the admin' exists already")
    picture(page, "change-failed")


def test_a_key_by_file(at: Consoling, page: Page, tmp_path: Path) -> None:
    """The file can be saved, opens with the password shown, and shows up nowhere a second time."""
    page.goto(url(at, "/devices/new"))
    page.get_by_label("Name").fill("Carried by hand")
    page.get_by_role("button", name="Add it").click()
    password = page.locator("#password").inner_text()
    picture(page, "key-by-file")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save").click()
    saved = tmp_path / "device.p12"
    download.value.save_as(saved)
    assert download.value.suggested_filename == "carried-by-hand.p12"
    opened = load_pkcs12(saved.read_bytes(), password.encode())
    assert opened.cert is not None
    shown = devices.show(at.site, "Carried by hand")
    assert fingerprint(opened.cert.certificate) == shown.certificates[0].fingerprint
    page.reload()
    expect(page.locator("h1")).to_have_text("Shown once")
    assert len(devices.show(at.site, "Carried by hand").certificates) == 1


def test_the_log_goes_on_by_itself_and_rests(at: Consoling, page: Page) -> None:
    """New rows come on top; paused, none do; what a path says is not run."""
    page.goto(url(at, "/log"))
    rows = page.locator("#rows tr:not([hidden])")
    before = rows.count()
    at.say(path="/first", device=at.keys["user"].id)
    at.watch.look()
    expect(rows).to_have_count(before + 1)
    expect(rows.first).to_contain_text("GET /first")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Pause")).to_have_attribute("aria-pressed", "true")
    at.say(path="/second<img src=x onerror=document.title=1>")
    at.watch.look()
    page.get_by_role("button", name="Pause").click()
    expect(rows.first).to_contain_text("GET /second")
    expect(rows).to_have_count(before + 2)
    assert page.title() == "Log · redlatch"
