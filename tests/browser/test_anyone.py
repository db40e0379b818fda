"""A wall tablet without a certificate, at home: it has the dashboard and nothing beside it, in a real Chromium."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, cast

import pytest
from playwright.sync_api import BrowserContext, Error, Page, Playwright, WebSocket, expect
from tests.browser.chromium import PATIENCE_MS
from tests.browser.house import House, house
from tests.browser.test_editor import DEPLOY, open_editor
from tests.browser.test_why_page import TRACES, reason, went
from tests.support.nodered import VERSIONS, Version, free_port
from tests.support.wait import until

from redlatch.policy.model import DEFAULT_RULES, Area, Rule
from redlatch.policy.networks import compiled, parse

HOME: Final = compiled([parse("127.0.0.0/8")])
AWAY: Final = compiled([parse("192.168.77.0/24")])
RULES: Final = (*DEFAULT_RULES, Rule(5, anyone=True, networks=("home",), area=Area.DASHBOARDS))
EDITORS: Final = ("/", "/flows", "/settings", "/red/red.min.js", "/page", "/dashboard/_setup/../../flows")


@pytest.fixture(scope="module", params=VERSIONS)
def homely(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Strict, but that the dashboards are open to anyone at home."""
    folder = tmp_path_factory.mktemp("homely")
    yield from house(folder, cast(Version, request.param), rules=RULES, networks={"home": HOME})


@pytest.fixture(scope="module")
def tablet(
    playwright: Playwright, homely: House, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    with homely.browser(playwright, tmp_path_factory.mktemp("tablet"), None) as context:
        yield context


@pytest.fixture
def page(tablet: BrowserContext) -> Iterator[Page]:
    page = tablet.new_page()
    yield page
    page.close()


def open_dashboard(page: Page, url: str) -> WebSocket:
    """The dashboard's page with its scripts run, and its websocket open; nothing that it asks for is refused."""
    broken: list[str] = []
    page.on("response", lambda answer: broken.append(answer.url) if answer.status >= 400 else None)
    with page.expect_websocket(lambda websocket: "/dashboard/socket.io/" in websocket.url) as live:
        page.goto(f"{url}/dashboard/page")
    page.get_by_text("Switched").wait_for()
    assert is_live(live.value)
    assert broken == []
    return live.value


def is_live(websocket: WebSocket) -> bool:
    return not websocket.is_closed()


def meets_no_node_red(page: Page, url: str) -> None:
    """Whatever of the editor is typed into the address bar: 403, the reason, and no byte of Node-RED."""
    for path in EDITORS:
        response = went(page.goto(f"{url}{path}"))
        assert response.status == 403
        assert not any(trace in response.text().lower().replace("this node-red", "") for trace in TRACES[:-1])
        assert page.locator(DEPLOY).count() == 0


def test_a_tablet_has_the_dashboard(homely: House, tablet: BrowserContext, page: Page) -> None:
    """The dashboard runs, the editor is refused with the reason, and the dashboard runs on through all of it."""
    live = open_dashboard(page, homely.url)
    other = tablet.new_page()
    meets_no_node_red(other, homely.url)
    assert reason(other) == "no-certificate"
    # Not even a person who presses the button disturbs it
    other.get_by_role("button").click()
    expect(other.get_by_role("status")).to_contain_text("close all windows", timeout=PATIENCE_MS)
    other.close()
    assert is_live(live)
    open_dashboard(page, homely.url)


def test_a_tablet_opens_no_comms(homely: House, page: Page) -> None:
    """From the dashboard's own page the editor's websocket is refused, its own opens."""
    open_dashboard(page, homely.url)
    opens = """(url) => new Promise((done) => {
        const socket = new WebSocket(url);
        socket.onopen = () => done('open');
        socket.onerror = () => done('refused');
    })"""
    address = homely.url.replace("https", "wss")
    assert page.evaluate(opens, f"{address}/comms") == "refused"
    assert page.evaluate(opens, f"{address}/dashboard/socket.io/?EIO=4&transport=websocket") == "open"


def test_a_tablet_elsewhere_has_nothing(homely: House, tablet: BrowserContext, page: Page) -> None:
    """Where it is not at home, the handshake insists, as for everybody; what is open is cut."""
    live = open_dashboard(page, homely.url)
    with contextlib.ExitStack() as stack:
        with live.expect_event("close", timeout=PATIENCE_MS):
            stack.enter_context(homely.changed(networks={"home": AWAY}))
        other = tablet.new_page()
        with pytest.raises(Error, match="net::ERR_"):
            other.goto(homely.url)  # not the dashboard: its service worker shows an empty one without asking us
        other.close()
    other = tablet.new_page()
    assert went(other.goto(homely.url)).status == 403
    open_dashboard(other, homely.url)
    other.close()


def test_an_owner_is_still_asked(playwright: Playwright, homely: House, tmp_path: Path) -> None:
    """Where a certificate is optional, a browser that has one is asked for it and sends it: the editor opens."""
    device = homely.site.device("owner's laptop", "owner")
    with homely.browser(playwright, tmp_path, device) as context:
        page, comms = open_editor(context, homely)
        assert page.evaluate("RED.settings.user") == {"username": "owner's laptop", "permissions": "*"}
        assert not comms.is_closed()
        open_dashboard(page, homely.url)


def test_the_open_port(playwright: Playwright, homely: House, tmp_path: Path) -> None:
    """With an open port the tablet has its dashboard there, and the main port insists on a certificate again."""
    port = free_port()
    open_url = f"https://pi.local:{port}"
    device = homely.site.device("late laptop", "owner")
    with homely.changed(open_port=port):
        browser = homely.browser(playwright, tmp_path, None)
        with browser as context:
            page = context.pages[0]
            with pytest.raises(Error, match="net::ERR_"):
                page.goto(homely.url)
            page = context.new_page()
            live = open_dashboard(page, open_url)
            other = context.new_page()
            meets_no_node_red(other, open_url)
            expect(other.get_by_text("Nobody is asked for a certificate at this port")).to_be_visible()
            expect(other.get_by_role("button")).to_have_count(0)
            assert is_live(live)
            # A handshake that fails makes the browser forget: what is installed now counts at the main port
            # without a restart. It may take two, for the alert does not always come before the connection's end
            browser.install(*homely.p12(device))
            until(lambda: arrives(context, homely.url), seconds=20, what="the editor at the main port")
            assert is_live(live)


def arrives(context: BrowserContext, url: str) -> bool:
    page = context.new_page()
    try:
        return went(page.goto(url)).status == 200
    except Error:
        page.close()
        return False
