"""A browser sends its certificate for any page that asks: what pages of other origins get for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest
from playwright.sync_api import Page, Playwright
from tests.browser.house import House
from tests.browser.other_origin import web_site
from tests.support.site import Device
from tests.support.wait import until

# Each switches the light at `url` from whatever page it is run in.
ATTACKS: Final = {
    "form": """(url) => {
        const form = Object.assign(document.createElement('form'), {method: 'POST', action: url});
        document.body.append(form);
        form.submit();
    }""",
    "fetch": "(url) => { fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body: 'on'}); }",
    "read": "(url) => { fetch(url, {mode: 'no-cors', credentials: 'include'}); }",
    "beacon": "(url) => { navigator.sendBeacon(url, 'on'); }",
    "image": "(url) => { new Image().src = url; }",
    "script": "(url) => { document.body.append(Object.assign(document.createElement('script'), {src: url})); }",
    "style": """(url) => {
        document.head.append(Object.assign(document.createElement('link'), {rel: 'stylesheet', href: url}));
    }""",
    "frame": "(url) => { document.body.append(Object.assign(document.createElement('iframe'), {src: url})); }",
}
WEBSOCKET: Final = """(url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onopen = () => { socket.close(); done('open'); };
    socket.onerror = () => done('refused');
})"""
LINK: Final = """(url) => {
    const link = Object.assign(document.createElement('a'), {href: url, textContent: 'a link'});
    document.body.append(link);
    link.click();
}"""


@dataclass(frozen=True)
class Browser:
    """One person's browser, signed on, and the pages that it can be led to."""

    page: Page
    device: Device
    house: House
    pages: dict[str, str]

    def visit(self, origin: str) -> Page:
        self.page.goto(self.pages[origin])
        return self.page

    def run(self, origin: str, attack: str, url: str) -> None:
        """Runs the attack on a page of `origin`; a form leaves that page, and has left it when this returns."""
        page = self.visit(origin)
        if attack != "form":
            page.evaluate(ATTACKS[attack], url)
            return
        with page.expect_navigation(url=url):
            page.evaluate(ATTACKS[attack], url)

    @contextmanager
    def refused(self) -> Iterator[None]:
        """What is done inside reaches the guard with this browser's certificate and is refused as cross-origin."""
        before = self._refusals()
        yield
        until(lambda: self._refusals() > before, what="the refusal in the guard's log")

    def _refusals(self) -> int:
        return self.house.refusals(self.device, "cross-origin")


@pytest.fixture(scope="module")
def browser(playwright: Playwright, locked: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    device = locked.site.device("victim", "admin")
    authority = locked.site.server_ca
    with (
        web_site(folder, authority, ["pi.local", "other.lan"]) as port,
        locked.browser(playwright, folder, device) as context,
    ):
        pages = {
            "own": f"{locked.url}/page",
            "another port": f"https://pi.local:{port}/",
            "another host": f"https://other.lan:{port}/",
        }
        yield Browser(context.pages[0], device, locked, pages)


@pytest.mark.parametrize("attack", ATTACKS)
def test_own_pages_may(browser: Browser, attack: str) -> None:
    """What Node-RED's own pages do with fetches, forms and pictures works as ever."""
    light = f"own-{attack}"
    url = f"{browser.house.url}/light/{light}"
    browser.run("own", attack, url)
    until(lambda: browser.house.counted().get(light) == 1, what="the light")


@pytest.mark.parametrize("origin", ["another port", "another host"])
@pytest.mark.parametrize("attack", ATTACKS)
def test_pages_of_others_may_not(browser: Browser, attack: str, origin: str) -> None:
    """Another origin's page, another port of the same host included, switches nothing with this person's key."""
    light = f"{origin.replace(' ', '-')}-{attack}"
    url = f"{browser.house.url}/light/{light}"
    with browser.refused():
        browser.run(origin, attack, url)
    assert light not in browser.house.counted()


def test_own_page_may_open_comms(browser: Browser) -> None:
    """The editor's websocket from its own origin opens."""
    page = browser.visit("own")
    assert page.evaluate(WEBSOCKET, f"wss://pi.local:{browser.house.node_red.port}/comms") == "open"


@pytest.mark.parametrize("origin", ["another port", "another host"])
def test_pages_of_others_may_not_open_comms(browser: Browser, origin: str) -> None:
    """A websocket is not held back by the browser's same-origin policy; the guard refuses it."""
    page = browser.visit(origin)
    with browser.refused():
        assert page.evaluate(WEBSOCKET, f"wss://pi.local:{browser.house.node_red.port}/comms") == "refused"


@pytest.mark.parametrize("origin", ["another port", "another host"])
def test_links_lead_in(browser: Browser, origin: str) -> None:
    """A link to the editor on somebody's page, a bookmark's twin, opens the editor."""
    page = browser.visit(origin)
    with page.expect_navigation(url=f"{browser.house.url}/") as arrived:
        page.evaluate(LINK, f"{browser.house.url}/")
    response = arrived.value
    assert response is not None
    assert response.status == 200
    page.locator("#red-ui-header-button-deploy").wait_for()
