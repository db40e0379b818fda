"""The sidebar in the editor of both Node-REDs, in a real Chromium with a certificate.

With REDLATCH_ARTEFACTS set to a folder, pictures of it are kept there.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Playwright
from tests.browser.house import House
from tests.support import sidebar
from tests.support.clients import Refused, request
from tests.support.nodered import free_port
from tests.support.site import Device

from redlatch.service.origin import Origin, server_context
from redlatch.service.security import Guarded

HOSTILE = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"


def open_sidebar(
    browser: BrowserContext, house: House, *, language: str = "en-US", host: str = "pi.local"
) -> Page:
    """The editor with the tab in front, as its action brings it there; the first answer is shown."""
    page = browser.pages[0]
    page.set_viewport_size({"width": 1200, "height": 1100})
    page.add_init_script(f"localStorage.setItem('editor-language', '{language}')")
    page.goto(f"https://{host}:{house.node_red.port}")
    page.locator("#red-ui-header-button-deploy").wait_for()
    page.wait_for_function("RED.nodes.workspace('home') && RED.workspaces.active()")
    page.locator(".red-ui-editor-dialog, #red-ui-loading-progress").first.wait_for(state="hidden")
    page.evaluate("RED.actions.invoke('redlatch:show-sidebar')")
    page.locator(".redlatch section:visible, .redlatch-trouble:visible").first.wait_for()
    return page


def part(page: Page, title: str) -> Locator:
    """The section under this heading."""
    return page.locator(".redlatch section:visible", has=page.get_by_role("heading", name=title))


def keep(page: Page, house: House, name: str) -> None:
    """Keeps two pictures, where somebody wants to look at them: the editor, and all of the tab's content."""
    folder = os.environ.get("REDLATCH_ARTEFACTS")
    if not folder:
        return
    place = Path(folder) / f"sidebar-{house.node_red.version}-{name}.png"
    place.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=place)
    content = page.locator(".redlatch")
    style = content.get_attribute("style") or ""
    content.evaluate("(it) => { it.style = 'position: fixed; inset: 0 0 0 auto; width: 300px; z-index: 9999'; }")
    content.screenshot(path=place.with_suffix(".content.png"))
    content.evaluate("(it, style) => { it.style = style; }", style)


def listed(house: House, me: Device, **fields: Any) -> None:
    """A household: `me`, the laptop, and some that nobody holds."""
    day, now = sidebar.DAY, int(time.time())
    devices = [
        sidebar.row(me, "owner", owner="Ann"),
        sidebar.row(house.laptop, "owner", owner="Ann"),
        sidebar.made_up(
            1, name="Bert's phone", role="family", base="user", owner="Bert", not_after=now + 12 * day
        ),
        sidebar.made_up(2, name="greenhouse sensor", not_after=now - 3 * day),
        sidebar.made_up(3, name=HOSTILE, role="viewer", base="viewer", owner=HOSTILE),
    ]
    sidebar.put(house.site, devices, **fields)


@pytest.fixture
def owner(locked: House) -> Iterator[Device]:
    device = locked.site.device("Ann's phone", "owner")
    yield device
    locked.site.revoke(device)
    (locked.site.published / "sidebar.json").unlink(missing_ok=True)


def test_it_shows_who_holds_a_key(playwright: Playwright, locked: House, tmp_path: Path, owner: Device) -> None:
    """Own certificate, connections, devices, ends and refusals; a name that is a program is only a name."""
    listed(locked, owner)
    stranger = locked.site.device("stranger", listed=False)
    with pytest.raises(Refused):
        request(locked.node_red.port, "GET", "/", stranger)
    with locked.browser(playwright, tmp_path, owner) as browser:
        page = open_sidebar(browser, locked)
        own = part(page, "Your certificate").inner_text()
        assert "Ann's phone" in own
        assert owner.fingerprint[:16] in own
        assert "Ann's phone" in part(page, "Connected now").inner_text()
        devices = part(page, "Devices (5)")
        assert devices.locator("li").count() == 5
        mine = devices.locator("li", has_text="Ann's phone")
        assert "connected" in mine.inner_text()
        assert "owner · Ann" in mine.inner_text()
        assert "family (user) · Bert" in devices.locator("li", has_text="Bert's phone").inner_text()
        assert HOSTILE in devices.inner_text()
        assert page.evaluate("window.pwned") is None
        ending = part(page, "Ends soon (2)").inner_text()
        assert "ended on" in ending
        assert "in 12 days" in ending
        refused = part(page, "Refused lately")
        assert "a certificate that is not, or no longer, in the list" in refused.inner_text()
        assert "127.0.0.1" in refused.inner_text()
        keep(page, locked, "en")
        page.evaluate("document.documentElement.classList.add('nr-theme-dark')")  # what 5.0 sets; 4.1 has none
        keep(page, locked, "dark")


def test_it_speaks_german(playwright: Playwright, locked: House, tmp_path: Path, owner: Device) -> None:
    """In an editor that is set to German, by Node-RED's own setting, the tab and its reasons are German."""
    listed(locked, owner)
    with pytest.raises(Refused):
        request(locked.node_red.port, "GET", "/", locked.site.device("stranger", listed=False))
    with locked.browser(playwright, tmp_path, owner) as browser:
        page = open_sidebar(browser, locked, language="de")
        assert "Rolle" in part(page, "Ihr Zertifikat").inner_text()
        assert "verbunden" in part(page, "Geräte (5)").locator("li", has_text="Ann's phone").inner_text()
        assert "steht" in part(page, "Zuletzt abgewiesen").inner_text()
        assert "in 12 Tagen" in part(page, "Läuft bald ab").inner_text()
        page.get_by_role("button", name="Gerät einladen").click()
        page.get_by_text("Die Konsole ist nur auf dem Rechner selbst zu erreichen").wait_for()
        keep(page, locked, "de")


def test_a_viewer_sees_its_own_certificate(
    playwright: Playwright, locked: House, tmp_path: Path, owner: Device
) -> None:
    """Nothing of others, and the way to renew."""
    listed(locked, owner)
    viewer = locked.site.device("Vera's tablet", "viewer")
    with locked.browser(playwright, tmp_path, viewer) as browser:
        page = open_sidebar(browser, locked)
        assert viewer.fingerprint[:16] in part(page, "Your certificate").inner_text()
        assert page.locator(".redlatch section:visible").count() == 1
        assert page.locator(".redlatch button:visible").all_inner_texts() == ["Renew it"]
        assert "Ann" not in page.locator(".redlatch").inner_text()
        keep(page, locked, "viewer")


def test_who_is_no_viewer_is_told_why(
    playwright: Playwright, locked: House, tmp_path: Path, owner: Device
) -> None:
    """A user whom a rule lets into the editor finds words instead of an empty tab."""
    from redlatch.policy.model import Area, Rule

    listed(locked, owner)
    user = locked.site.device("uwe", "user")
    rules = (*locked.site.snapshot.rules, Rule(90, devices=(user.id,), area=Area.EDITOR))
    with locked.changed(rules=rules), locked.browser(playwright, tmp_path, user) as browser:
        page = open_sidebar(browser, locked)
        assert "role owner or admin" in page.locator(".redlatch-trouble").inner_text()
        assert page.locator(".redlatch section:visible").count() == 0


def test_it_follows_what_happens(playwright: Playwright, locked: House, tmp_path: Path, owner: Device) -> None:
    """A new list is shown by itself, the focus stays where it is, and a hidden tab asks for nothing."""
    listed(locked, owner)
    with locked.browser(playwright, tmp_path, owner) as browser:
        browser.clock.install()
        page = open_sidebar(browser, locked)
        part(page, "Devices (5)").get_by_role("button", name="Manage: greenhouse sensor").focus()
        sidebar.put(locked.site, [sidebar.row(owner, "owner"), sidebar.made_up(2, name="greenhouse sensor")])
        devices = part(page, "Devices (2)")
        devices.wait_for()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Manage: greenhouse sensor"
        asked: list[str] = []
        browser.on("request", lambda one: asked.append(one.url) if "redlatch/state" in one.url else None)
        page.evaluate("RED.sidebar.show('info')")
        page.locator(".redlatch").wait_for(state="hidden")
        page.wait_for_function("jQuery.active === 0")
        asked.clear()
        page.clock.fast_forward(60_000)
        assert asked == []


def test_many_devices_are_filtered(playwright: Playwright, locked: House, tmp_path: Path, owner: Device) -> None:
    """Of a hundred thousand, those that are listed can be searched; what is not shown is said."""
    devices = [sidebar.row(owner, "owner"), *(sidebar.made_up(number) for number in range(499))]
    sidebar.put(locked.site, devices, total=100_000)
    with locked.browser(playwright, tmp_path, owner) as browser:
        page = open_sidebar(browser, locked)
        section = part(page, "Devices (100,000)")
        assert section.locator("li").count() == 100
        assert "400 more fit" in section.inner_text()
        assert "The first 500 by name" in section.inner_text()
        page.get_by_label("Filter by name, owner or role").fill("SENSOR 0123")
        assert section.locator("li").all_inner_texts()[0].startswith("sensor 0123")
        assert section.locator("li").count() == 1
        keep(page, locked, "filter")


async def _page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"<title>console</title>"})


@contextmanager
def console(house: House) -> Iterator[int]:
    """The console's own origin and rules, with the site's certificates, and one page for everything."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    port: int = listening.getsockname()[1]
    ca = (house.site.published / "device-ca.pem").read_text()
    tls = server_context(str(house.site.published / "server.pem"), device_ca=ca)
    loop = asyncio.new_event_loop()

    async def begin() -> Origin:
        made = Origin(Guarded(_page, names=lambda: {"pi.local"}, ports=lambda: {port}), lambda: tls)
        made.open([listening])
        return made

    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    origin = asyncio.run_coroutine_threadsafe(begin(), loop).result(10)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(origin.close(patience=0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_buttons_open_the_console(playwright: Playwright, locked: House, tmp_path: Path, owner: Device) -> None:
    """In a window of its own that knows nothing of the editor, by the name that the editor was called by."""
    with console(locked) as port, locked.browser(playwright, tmp_path, owner) as browser:
        listed(locked, owner, console={"port": port, "listen": ["lan"]})
        page = open_sidebar(browser, locked)
        places = {
            "Invite a device": "/links/new",
            "Manage: Ann's phone": f"/devices/{owner.id}",
            "Renew it": "/renew",
            "Open the console": "/",
        }
        for button, place in places.items():
            with browser.expect_page() as opened:
                page.get_by_role("button", name=button).click()
            opened.value.wait_for_url(f"https://pi.local:{port}{place}")
            assert opened.value.title() == "console"
            assert opened.value.evaluate("window.opener") is None
            opened.value.close()
        assert page.locator(".redlatch-note").is_hidden()


def test_a_console_that_does_not_answer_is_said(
    playwright: Playwright, locked: House, tmp_path: Path, owner: Device
) -> None:
    """With the command that changes it and a link for who knows better; closing gives the focus back."""
    port = free_port()
    listed(locked, owner, console={"port": port, "listen": ["lan"]})
    with locked.browser(playwright, tmp_path, owner) as browser:
        page = open_sidebar(browser, locked)
        button = page.get_by_role("button", name="Manage: laptop")
        button.click()
        note = page.locator(".redlatch-note")
        note.wait_for()
        assert "cannot be reached from here" in note.inner_text()
        assert "redlatch console --listen lan" in note.inner_text()
        link = note.get_by_role("link")
        assert link.get_attribute("href") == f"https://pi.local:{port}/devices/{locked.laptop.id}"
        assert len(browser.pages) == 1
        keep(page, locked, "unreachable")
        note.get_by_role("button", name="Close").click()
        assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Manage: laptop"


def test_a_console_on_loopback_is_for_the_machine_itself(
    playwright: Playwright, locked: House, tmp_path: Path, owner: Device
) -> None:
    """Nothing is tried from elsewhere; from the machine itself it opens."""
    with console(locked) as port, locked.browser(playwright, tmp_path, owner) as browser:
        listed(locked, owner, console={"port": port, "listen": ["loopback"]})
        page = open_sidebar(browser, locked)
        page.get_by_role("button", name="Open the console").click()
        assert "only be reached on the machine" in page.locator(".redlatch-note").inner_text()
        assert "redlatch console --listen lan" in page.locator(".redlatch-note").inner_text()
        assert len(browser.pages) == 1
        page = open_sidebar(browser, locked, host="127.0.0.1")
        with browser.expect_page() as opened:
            page.get_by_role("button", name="Open the console").click()
        opened.value.wait_for_url(f"https://127.0.0.1:{port}/")


def test_a_list_that_cannot_be_read_is_said(
    playwright: Playwright, locked: House, tmp_path: Path, owner: Device
) -> None:
    """With the command that makes it anew; the rest is there, without names."""
    locked.site.put("sidebar.json", b"garbage")
    with locked.browser(playwright, tmp_path, owner) as browser:
        page = open_sidebar(browser, locked)
        assert "redlatch refresh" in part(page, "Devices").inner_text()
        assert owner.id in part(page, "Connected now").inner_text()
        assert page.get_by_role("button", name="Open the console").count() == 0
