"""The sidebar of both Node-REDs over what a real site publishes, and where its buttons lead: a real console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright
from tests.browser.axe import serious
from tests.browser.chromium import Chromium
from tests.browser.house import FLOWS
from tests.browser.pictures import keep
from tests.support.clients import Refused, request
from tests.support.nodered import VERSIONS
from tests.support.serving import Key, Served

from redlatch.operations import devices


@pytest.fixture(scope="module", params=VERSIONS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), request.param, flows=FLOWS) as found:
        yield found


@pytest.fixture(scope="module")
def owner(served: Served) -> Key:
    return served.key("Ann's laptop", owner="Ann")


@pytest.fixture
def browser(playwright: Playwright, served: Served, owner: Key, tmp_path: Path) -> Iterator[BrowserContext]:
    with Chromium(playwright, tmp_path, p12=owner.p12, root=served.root_pem) as context:
        yield context


def open_sidebar(page: Page, served: Served) -> None:
    page.goto(f"https://127.0.0.1:{served.port}/")
    page.locator("#red-ui-header-button-deploy").wait_for()
    page.wait_for_function("RED.nodes.workspace('home') && RED.workspaces.active()")
    page.locator(".red-ui-editor-dialog, #red-ui-loading-progress").first.wait_for(state="hidden")
    page.evaluate("RED.actions.invoke('redlatch:show-sidebar')")
    page.locator(".redlatch section:visible").first.wait_for()


def test_it_shows_the_site_and_leads_to_the_console(served: Served, browser: BrowserContext) -> None:
    """What operations published, without a barrier; its buttons open the console's dialogs, signed on."""
    devices.add(served.site, "greenhouse sensor", role="thing", days=12)
    with pytest.raises(Refused):
        request(served.port, "GET", "/")
    page = browser.pages[0]
    open_sidebar(page, served)
    shown = page.locator(".redlatch").inner_text()
    assert "Ann's laptop" in shown
    assert "greenhouse sensor" in shown
    found = []
    for scheme in ("light", "dark"):
        if scheme == "dark":
            page.evaluate("document.documentElement.classList.add('nr-theme-dark')")  # what 5.0 sets; 4.1 has none
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 1000})
            keep(page, f"sidebar-{served.version}-{scheme}-{width}")
        page.set_viewport_size({"width": 1280, "height": 1000})
        page.locator(".redlatch section:visible").first.wait_for()
        found += serious(page, ".redlatch")
    assert found == []
    with browser.expect_page() as opened:
        page.get_by_role("button", name="Invite a device").click()
    console = opened.value
    console.get_by_role("heading", name="Invite a device").wait_for()
    assert console.url.startswith(f"https://127.0.0.1:{served.console_port}/links/new")
    assert "Ann's laptop" in console.locator("header").inner_text()


def test_it_says_so_when_the_console_is_not_there(served: Served, browser: BrowserContext) -> None:
    """Stopped: the button says what to do, and opens nothing."""
    page = browser.pages[0]
    open_sidebar(page, served)
    assert served.stop() == 0
    try:
        page.get_by_role("button", name="Invite a device").click()
        page.get_by_text("The console cannot be reached from here").wait_for()
        assert len(browser.pages) == 1
    finally:
        served.start()
