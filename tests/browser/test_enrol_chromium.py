"""The whole way of a computer with Chromium, and back: invited, enrolled, in the editor, revoked in the console.

The browser holds no key, and its person does what the page says. What one does in Chromium's certificate manager
is done with NSS's own tools, in the store of this one browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import BrowserContext, Error, Locator, Page, Playwright, WebSocket
from playwright.sync_api import TimeoutError as TooLate
from tests.browser.chromium import PATIENCE_MS, Chromium
from tests.browser.house import FLOWS
from tests.browser.pictures import keep
from tests.support.clients import request
from tests.support.nodered import VERSIONS
from tests.support.serving import Key, Served
from tests.support.wait import until

# By version of Node-RED: the way, and whether the browser knew the server before. Where not, Chromium forgets that
# its person went on behind the warning once this host shows a good certificate, and is not told of roots that came
# past its own certificate manager: the page asks for its tick in vain when it has to connect anew. (Firefox, whose
# own store the root comes to, shows it.)
WAYS: Final = {"5.0": ("page", False), "4.1": ("p12", True)}
WARNING: Final = "net::ERR_CERT_AUTHORITY_INVALID"
DEBUG_MESSAGE: Final = ".red-ui-debug-msg"


@pytest.fixture(scope="module", params=VERSIONS)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("served"), request.param, flows=FLOWS) as found:
        yield found


@pytest.fixture(scope="module")
def owner(served: Served) -> Key:
    return served.key("Ann's laptop")


@pytest.fixture(scope="module")
def console(
    playwright: Playwright, served: Served, owner: Key, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Page]:
    """The owner's browser."""
    folder = tmp_path_factory.mktemp("owner")
    with Chromium(playwright, folder, p12=owner.p12, root=served.root_pem) as context:
        yield context.pages[0]


def proceed(page: Page, url: str) -> None:
    """Opens an address whose server the browser does not know, as a person who goes on does."""
    with pytest.raises(Error, match=WARNING):
        page.goto(url)
    page.locator("#details-button").click()
    page.locator("#proceed-link").click()


def saved(page: Page, ending: str) -> bytes:
    """The file that the page's link saves."""
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile(rf"^Save .*\.{ending}$")).click()
    return Path(download.value.path()).read_bytes()


def enrol(page: Page, browser: Chromium, served: Served, name: str, way: str, *, knows: bool) -> None:
    """From `device invite` to a browser that holds the key and knows the server."""
    link = served.invite(name)
    served.enrolment_is("open")
    if knows:
        page.goto(link.url)
    else:
        proceed(page, link.url)
    button = page.get_by_role("button", name="Get the key for this computer")
    button.wait_for()
    page.locator(f"input[name=way][value={way}]").check()
    with page.expect_request(lambda sent: sent.url.endswith("/redeem")) as redeemed:
        button.click()
    sent = redeemed.value.post_data_json
    # Only with a key made in the page there is a request for a certificate; and then no file is asked for
    assert set(sent) == ({"token", "csr"} if way == "page" else {"token", "format"})
    page.get_by_role("heading", name="Your key is here").wait_for()
    password = page.locator("#password").inner_text()
    browser.install(saved(page, "p12"), password)
    browser.trust(saved(page, "crt"))


def shows_debug_message(page: Page, served: Served, owner: Key) -> bool:
    """Somebody asks a flow until this page's debug sidebar hears of it, which takes a working /comms."""
    message = page.locator(DEBUG_MESSAGE, has_text="by-ann").first
    for _ in range(10):
        assert request(served.port, "POST", "/light/by-ann", owner, body=b"").status == 200
        with suppress(TooLate):
            message.wait_for(state="attached", timeout=1000)
            return True
    return False


def open_from(page: Page, context: BrowserContext) -> tuple[Page, list[WebSocket]]:
    """Follows the page's "Open Node-RED" into a new tab; its websockets."""
    sockets: list[WebSocket] = []
    context.on("page", lambda new: new.on("websocket", lambda one: sockets.append(one)))  # noqa: PLW0108 - Playwright marks it
    with context.expect_page() as opened:
        page.locator("a[data-next]").click()
    editor = opened.value
    editor.locator("#red-ui-header-button-deploy").wait_for()
    editor.wait_for_function("RED.nodes.workspace('home') && RED.workspaces.active()")
    return editor, sockets


def cell(console: Page, served: Served, row: Locator, column: str) -> str:
    """What the console's list says now in one row."""
    console.goto(f"https://127.0.0.1:{served.console_port}/devices")
    return row.locator(f"[data-label='{column}']").inner_text()


def test_from_the_invitation_to_the_editor_and_out_again(
    playwright: Playwright, served: Served, owner: Key, console: Page, tmp_path: Path
) -> None:
    """In with the key of a minute ago; out while the editor is open, by the owner's click; the console says so."""
    name = "Bart's computer"
    way, knows = WAYS[served.version]
    browser = Chromium(playwright, tmp_path, p12=None, root=served.root_pem if knows else None)
    with browser as context:
        page = context.pages[0]
        enrol(page, browser, served, name, way, knows=knows)
        assert page.locator("#tick .tick").count() == 0
        editor, sockets = open_from(page, context)
        assert shows_debug_message(editor, served, owner)
        assert editor.evaluate("RED.settings.user.permissions") == "read"
        if knows:
            page.locator("#tick").get_by_text(f"{name} is in.").wait_for()
        keep(page, f"enrolled-{served.version}-light-1280")
        until(lambda: served.websockets(name), what="Node-RED's word of the websocket")

        listed = console.locator("tr", has_text=name)
        until(lambda: "connection" in cell(console, served, listed, "Open now"), what="the list's word of it")
        assert "active" in cell(console, served, listed, "State")
        listed.get_by_role("link", name=name).click()
        console.get_by_role("link", name="Revoke").click()
        comms = next(one for one in sockets if one.url.endswith("/comms"))
        with comms.expect_event("close", timeout=PATIENCE_MS):
            console.get_by_role("button", name="Revoke").click()
        outcome = console.locator("#outcome")
        outcome.get_by_text(re.compile(r"\d+ connections? closed \d+ ms later")).wait_for()
        keep(console, f"change-{served.version}-light-1280")
        until(lambda: not served.websockets(name), what="the websocket's end in Node-RED's word")

        with pytest.raises(Error, match="net::ERR_"):
            editor.reload()
        console.goto(f"https://127.0.0.1:{served.console_port}/devices")
        assert console.locator("tr", has_text="Ann's laptop").count() == 1
        assert listed.count() == 0
        console.goto(f"https://127.0.0.1:{served.console_port}/devices?revoked=1")
        assert "revoked" in listed.locator("[data-label=State]").inner_text()


def test_a_link_serves_one_browser(playwright: Playwright, served: Served, tmp_path: Path) -> None:
    """Who opens it second is told that it was used, and what that may mean; nothing more was made."""
    link = served.invite("contested")
    served.enrolment_is("open")
    with Chromium(playwright, tmp_path, p12=None, root=served.root_pem) as context:
        first, second = context.pages[0], context.new_page()
        for page in (first, second):
            page.goto(link.url)
            page.get_by_role("button", name="Get the key").wait_for()
        first.get_by_role("button", name="Get the key").click()
        first.get_by_role("heading", name="Your key is here").wait_for()
        second.get_by_role("button", name="Get the key").click()
        second.get_by_text("This link was used already.").wait_for()
        second.get_by_text("If that was not you, say so to whoever sent it.").wait_for()
        assert second.get_by_role("button", name="Get the key").count() == 0
    with served.site.store.read() as view:
        (device,) = [one for one in view.devices() if one.name == "contested"]
        assert len(view.certificates(device.id)) == 1
