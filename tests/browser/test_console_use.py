"""What people do in the console, in a real Chromium with a certificate store of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12
from playwright.sync_api import BrowserContext, Page, Playwright, expect
from tests.browser.consoles import browser, lived_in, picture, quiet_page, url
from tests.support.consoling import Consoling

from redlatch.operations import devices, links
from redlatch.pki.certificates import fingerprint


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consoling]:
    with lived_in(tmp_path_factory.mktemp("console")) as served:
        yield served


@pytest.fixture(scope="module")
def owner(
    at: Consoling, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    with browser(at, playwright, tmp_path_factory.mktemp("owner"), at.keys["owner"]) as context:
        yield context


@pytest.fixture
def page(owner: BrowserContext) -> Iterator[Page]:
    with quiet_page(owner) as found:
        yield found


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
    expect(page.get_by_role("img", name="QR code")).to_have_count(0)  # of no use any more
    expect(page.get_by_role("link", name="Withdraw")).to_have_count(0)
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


def test_everything_works_without_script(at: Consoling, page: Page) -> None:
    """Reading and changing: a browser that runs no script gets the same pages, and waits for the same outcome."""
    page.context.new_cdp_session(page).send("Emulation.setScriptExecutionDisabled", {"value": True})
    one = at.key("Without script")
    page.goto(url(at, "/devices?q=without"))
    page.get_by_role("link", name="Without script").click()
    page.get_by_role("link", name="Rename").click()
    page.get_by_label("New name").fill('Still "without" <script>')
    page.get_by_role("button", name="Rename").click()
    expect(page.locator("#change")).to_contain_text('is now called Still "without" <script>')
    page.goto(url(at, "/links/new?name=No+script"))
    page.get_by_label("I trust everybody").check()
    page.get_by_role("button", name="Make the link").click()
    expect(page.get_by_role("img", name="QR code")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.goto(url(at, "/rules/new"))
    page.get_by_label("any device").check()
    page.get_by_label("an area").check()
    page.get_by_role("combobox", name="Area").select_option("static")
    page.get_by_role("button", name="Show what it would do").click()
    page.get_by_role("button", name="Add the rule").click()
    expect(page.locator("#change")).to_contain_text("added: any device, from anywhere, may reach the static files")
    assert devices.show(at.site, 'Still "without" <script>').device.id == one.id


def test_by_keyboard(at: Consoling, page: Page) -> None:
    """The first Tab offers to skip the menu; what has the focus can be seen; a dialog is left by its own link."""
    page.goto(url(at, "/devices"))
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    expect(skip).to_be_focused()
    assert skip.bounding_box()["x"] >= 0  # type: ignore[index]
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Invite a device")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Invite a device")


def test_a_key_that_is_revoked_meanwhile(at: Consoling, playwright: Playwright, tmp_path: Path) -> None:
    """The page that polls says so by itself; nothing of the console is left on the screen."""
    one = at.key("Owner for an hour", "owner")
    with browser(at, playwright, tmp_path, one) as context:
        shown = context.new_page()
        shown.goto(url(at, "/log"))
        devices.revoke(at.site, "Owner for an hour")
        expect(shown.locator("h1")).to_have_text("This certificate opens nothing here")
        expect(shown.locator("nav")).to_have_count(0)
        picture(shown, "stranger")


@pytest.mark.parametrize("role", ["admin", "user"])
def test_what_others_see(at: Consoling, playwright: Playwright, tmp_path: Path, role: str) -> None:
    """Admins everything but the buttons, the rest one page that says what they may."""
    with browser(at, playwright, tmp_path, at.keys[role]) as context:
        shown = context.new_page()
        shown.goto(url(at, "/devices"))
        if role == "admin":
            expect(shown.get_by_text("you see everything and change nothing")).to_be_visible()
            expect(shown.get_by_role("link", name="Invite a device")).to_have_count(0)
            shown.get_by_role("link", name="Bart's phone").click()
            expect(shown.get_by_role("link", name="Revoke")).to_have_count(0)
            picture(shown, "device-admin")
            shown.goto(url(at, "/links/new"))
            expect(shown.get_by_role("alert")).to_contain_text("your role may look at everything here")
            picture(shown, "admin-refused")
        else:
            expect(shown.locator("h1")).to_have_text("Your key may renew itself here, nothing else")
            picture(shown, "key-only")


def test_a_page_of_another_port_does_nothing(at: Consoling, owner: BrowserContext) -> None:
    """Another port of the same host, in the same browser with the same key: no form, no fetch, no frame."""
    one = at.key("Not to be touched")
    target = url(at, f"/devices/{one.id}/revoke")
    flow = owner.new_page()
    served = (
        f'<!doctype html><form id=f method=post action="{target}"><input name=reason value=x></form>'
        f'<iframe src="{url(at, "/devices")}"></iframe>'
    )
    flow.route("https://attic.local:1880/**", lambda route: route.fulfill(body=served, content_type="text/html"))
    flow.goto("https://attic.local:1880/")
    fetched = flow.evaluate(
        "target => fetch(target, {method: 'POST', body: 'reason=x', credentials: 'include', mode: 'no-cors',"
        " headers: {'content-type': 'application/x-www-form-urlencoded'}}).then((one) => one.type, String)",
        target,
    )
    assert fetched in ("opaque", "TypeError: Failed to fetch")
    read = flow.evaluate("target => fetch(target).then((one) => one.text(), String)", url(at, "/devices"))
    assert "TypeError" in read
    assert not any("redlatch" in frame.content() for frame in flow.frames[1:])
    with flow.expect_navigation():
        flow.evaluate("document.getElementById('f').submit()")
    expect(flow.locator("body")).to_contain_text("a page of another site started this; nothing was done")
    flow.close()
    assert devices.show(at.site, "Not to be touched").device.revoked_at is None
