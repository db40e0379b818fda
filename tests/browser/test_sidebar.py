"""The sidebar in the editor of both Node-REDs, in a real Chromium with a certificate.

With REDLATCH_ARTEFACTS set to a folder, pictures of it are kept there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Playwright
from tests.browser.house import House
from tests.support import sidebar
from tests.support.clients import Refused, request
from tests.support.site import Device

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
    """Keeps a picture, where somebody wants to look at it."""
    folder = os.environ.get("REDLATCH_ARTEFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"sidebar-{house.node_red.version}-{name}.png")


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
        assert "in 11 days" in ending or "in 12 days" in ending
        refused = part(page, "Refused lately")
        assert "a certificate that is not, or no longer, in the list" in refused.inner_text()
        assert "127.0.0.1" in refused.inner_text()
        keep(page, locked, "en")
        if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches || !!document.querySelector('html')"):
            page.evaluate("document.documentElement.classList.add('nr-theme-dark')")
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
        assert "in 11 Tagen" in part(page, "Läuft bald ab").inner_text()
        page.get_by_role("button", name="Gerät einladen").click()
        page.get_by_text("Die Konsole ist nur auf dem Rechner selbst zu erreichen").wait_for()
        keep(page, locked, "de")
