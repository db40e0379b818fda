"""The page that says why, in a real Chromium, and the way out of what that browser remembers."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import pytest
from playwright.sync_api import BrowserContext, Error, Frame, Page, Playwright, Response, expect
from tests.browser.chromium import PATIENCE_MS, PROGRAM
from tests.browser.house import House, house
from tests.browser.other_origin import web_site
from tests.browser.test_editor import DEPLOY, shows_debug_message
from tests.support.clients import Refused, request
from tests.support.elsewhere import elsewhere, needs_root, starter
from tests.support.nodered import VERSIONS, Version
from tests.support.wait import until

AGAIN: Final = "/.redlatch/again"
PROBE: Final = "/.redlatch/probe"
PHONE: Final = {"width": 390, "height": 844}
# What a stranger must never see of Node-RED, whatever the answer is
TRACES: Final = ("red-ui", "node-red", "/red/", "vendor")
# Contrast of the element's text to the page, as WCAG 2 reckons it
CONTRAST: Final = """(element) => {
    const light = (text) => text.match(/[0-9.]+/g).slice(0, 3).map((value) => {
        const part = value / 255;
        return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    }).reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
    const ground = element.tagName === 'BUTTON' ? element : document.body;
    const both = [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor].map(light);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
}"""
# Every way of another page to ask for `url`; what it could read of it
FROM_OUTSIDE: Final = """async (url) => {
    const read = [];
    for (const mode of ['cors', 'no-cors']) for (const method of ['GET', 'POST']) {
        try { read.push(await (await fetch(url, {mode, method, credentials: 'include'})).text()); } catch {}
    }
    navigator.sendBeacon(url);
    const frame = Object.assign(document.createElement('iframe'), {src: url, name: 'inside'});
    const loaded = new Promise((done) => { frame.onload = done; });
    const form = document.createElement('form');
    document.body.append(frame, Object.assign(form, {method: 'POST', action: url, target: 'inside'}));
    await loaded;
    const again = new Promise((done) => { frame.onload = done; });
    form.submit();
    await again;
    try { read.push(frame.contentDocument.body.textContent); } catch {}
    return read.join('');
}"""


def went(response: Response | None) -> Response:
    assert response is not None
    return response


def reason(page: Page) -> str:
    """The code of the page that says why."""
    expect(page.get_by_role("heading", name="Not let in")).to_be_visible()
    return page.locator("code").text_content() or ""


def shows_error(frame: Frame) -> bool:
    """Whether a frame ends at the browser's own error page: what it was to show may not be shown there."""
    return until(lambda: frame.page.evaluate("true") and frame.url.startswith("chrome-error:"))


def waits_for_editor(page: Page) -> None:
    page.locator(DEPLOY).wait_for()
    page.wait_for_function("RED.nodes.workspace('home') && RED.workspaces.active()")


@pytest.fixture(scope="module", params=VERSIONS)
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A Node-RED that tells strangers why."""
    yield from house(tmp_path_factory.mktemp("told"), cast(Version, request.param), mode="explain")


@pytest.fixture(scope="module")
def told_by_old_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One that speaks TLS 1.2 at most, as behind an old appliance."""
    env = {"NODE_OPTIONS": "--tls-max-v1.2"}
    yield from house(tmp_path_factory.mktemp("old-tls"), "5.0", env=env, mode="explain")


@pytest.fixture(scope="module")
def stranger(
    playwright: Playwright, told: House, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    """A browser that has no certificate and never gets one."""
    with told.browser(playwright, tmp_path_factory.mktemp("stranger"), None) as context:
        yield context


@pytest.fixture
def page(stranger: BrowserContext) -> Iterator[Page]:
    page = stranger.new_page()
    yield page
    page.close()


# --- what it says


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_stranger_reads_why(told: House, page: Page, tmp_path: Path, scheme: str) -> None:
    """Reason, next step and button, readable on a desk and on a phone, and nothing is loaded from anywhere."""
    asked: list[str] = []
    page.on("request", lambda sent: asked.append(sent.url))
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    response = went(page.goto(told.url))
    assert response.status == 403
    assert not any(trace in response.text().lower().replace("this node-red", "") for trace in TRACES)
    assert reason(page) == "no-certificate"
    assert page.locator("html").get_attribute("lang") == "en"
    expect(page.get_by_text("Your browser or program sent no certificate.")).to_be_visible()
    expect(page.get_by_text("Install the certificate that you were given for this device")).to_be_visible()
    button = page.get_by_role("button", name="I have installed it: try again")
    for name, size in (("desk", {"width": 1280, "height": 720}), ("phone", PHONE)):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        expect(button).to_be_in_viewport(ratio=1)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.screenshot(path=tmp_path / f"{scheme}-{name}.png")
    for element in page.locator("h1, p, code, button").all():
        assert element.evaluate(CONTRAST) >= 7
    page.keyboard.press("Tab")
    expect(button).to_be_focused()
    assert button.evaluate("(element) => getComputedStyle(element).outlineStyle") == "solid"
    assert asked == [f"{told.url}/"]


def test_who_has_none_stays_on_the_page(told: House, page: Page) -> None:
    """The button of who really has none ends with a message on the same page, never on an error page."""
    page.goto(told.url)
    ended: list[str] = []
    page.on("framenavigated", lambda frame: ended.append(frame.url))
    button = page.get_by_role("button")
    button.click()
    expect(button).to_be_disabled()
    expect(page.get_by_role("status")).to_contain_text("close all windows", timeout=PATIENCE_MS)
    expect(button).to_be_focused()
    assert ended == []
    assert went(page.reload()).status == 403
    assert reason(page) == "no-certificate"


# --- the way out


def test_a_browser_forgets_that_it_had_none(playwright: Playwright, told: House, tmp_path: Path) -> None:
    """Installed while the browser runs: it remembers that it has none, until the button makes it forget."""
    forgets(playwright, told, tmp_path)


def test_a_browser_forgets_with_old_tls(playwright: Playwright, told_by_old_tls: House, tmp_path: Path) -> None:
    """The same over TLS 1.2."""
    forgets(playwright, told_by_old_tls, tmp_path)


def forgets(playwright: Playwright, at: House, tmp_path: Path) -> None:
    device = at.site.device("late", "admin")
    browser = at.browser(playwright, tmp_path, None)
    with browser as context:
        page = context.pages[0]
        page.goto(at.url)
        browser.install(*at.p12(device))
        assert went(page.reload()).status == 403
        assert reason(page) == "no-certificate"
        with page.expect_websocket(lambda websocket: websocket.url.endswith("/comms")) as comms:
            page.get_by_role("button").click()
        waits_for_editor(page)
        assert shows_debug_message(page, at, "late")
        assert not comms.value.is_closed()


def test_a_browser_forgets_an_expired_one(playwright: Playwright, told: House, tmp_path: Path) -> None:
    """It goes on to show the certificate that has expired, though a new one is installed; the button helps."""
    # In the list alone, so that nobody has to wait for it. The browser prefers the one that ends later
    old = told.site.device("old", "admin", end=timedelta(days=1))
    browser = told.browser(playwright, tmp_path, old)
    with browser as context:
        page = context.pages[0]
        page.goto(told.url)
        waits_for_editor(page)
        told.site.list(old, not_after=told.site.snapshot.time - 1)
        told.settled()
        browser.install(*told.p12(told.site.device("renewed", "admin")))
        assert went(page.reload()).status == 403
        assert reason(page) == "expired"
        page.get_by_role("button").click()
        waits_for_editor(page)
        assert page.evaluate("RED.settings.user.username") == "renewed"


def test_a_revoked_certificate_is_named_so(playwright: Playwright, told: House, tmp_path: Path) -> None:
    """Who was shut out reads that, and finds no button: nothing that the browser could forget would help."""
    device = told.site.device("lost", "admin")
    with told.browser(playwright, tmp_path, device) as context:
        page = context.pages[0]
        page.goto(told.url)
        waits_for_editor(page)
        told.site.revoke(device)
        told.settled()
        assert went(page.reload()).status == 403
        assert reason(page) == "unknown-certificate"
        expect(page.get_by_role("button")).to_have_count(0)


def test_the_wrong_certificate_is_named(playwright: Playwright, told: House, tmp_path: Path) -> None:
    """Installed late, but one that is not in the list: the button leads to the reason, not round in circles."""
    browser = told.browser(playwright, tmp_path, None)
    with browser as context:
        page = context.pages[0]
        page.goto(told.url)
        browser.install(*told.p12(told.site.device("unlisted", listed=False)))
        page.get_by_role("button").click()
        expect(page.get_by_text("unknown-certificate")).to_be_visible()
        expect(page.get_by_role("button")).to_have_count(0)


# --- whom it is shown to


def test_strict_shows_nothing(told: House, stranger: BrowserContext) -> None:
    """Mode strict: the browser's own error page, on a connection that was open for reading too."""
    answered: list[str] = []

    def visit(path: str = "/") -> Response | None:
        # In a tab of its own: the error page of a refused address still arrives when the next one is asked for
        with contextlib.closing(stranger.new_page()) as page:
            page.on("response", lambda answer: answered.append(answer.url))
            return page.goto(f"{told.url}{path}")

    assert went(visit()).status == 403
    answered.clear()
    with told.changed(mode="strict"):
        for path in ("/", PROBE):
            with pytest.raises(Error, match="net::ERR_"):
                visit(path)
        assert answered == []
    assert went(visit()).status == 403


RAW: Final = """
import sys
from tests.support.clients import Refused, request
try:
    print(request(int(sys.argv[1]), "GET", "/", tls=sys.argv[3], source=sys.argv[2]).status)
except Refused:
    print("refused")
"""


@needs_root
def test_auto_tells_the_neighbours_alone(playwright: Playwright, tmp_path: Path) -> None:
    """Mode auto: a stranger from a private address reads why, one from a public address gets nothing."""
    public = "203.0.113.7"
    with elsewhere(f"{public}/32") as inside:
        program = starter(inside, PROGRAM, tmp_path / "chromium")
        for at in house(tmp_path / "house", "5.0", mode="auto", body='uiHost: "0.0.0.0"', inside=inside):
            with at.browser(playwright, tmp_path, None, address=public, program=program) as context:
                page = context.pages[0]
                with pytest.raises(Error, match="net::ERR_"):
                    page.goto(at.url)
                page = context.new_page()
                assert went(page.goto(f"https://127.0.0.1:{at.node_red.port}/")).status == 403
                assert reason(page) == "no-certificate"
            for source, answer in ((public, "refused"), ("127.0.0.1", "403")):
                for tls in ("1.2", "1.3"):
                    command = [*inside, sys.executable, "-c", RAW, str(at.node_red.port), source, tls]
                    assert subprocess.check_output(command, text=True).strip() == answer


# --- what another page makes of it


def insists(told: House) -> bool:
    """Whether the guard insists on a certificate at present, where it is optional otherwise."""
    try:
        assert request(told.node_red.port, "GET", "/").status == 403
    except Refused:
        return True
    return False


@pytest.mark.parametrize("path", [AGAIN, PROBE])
def test_other_pages_neither_ask_nor_read(told: House, page: Page, tmp_path: Path, path: str) -> None:
    """Another origin's page cannot make the guard insist, nor learn whether somebody here has a certificate."""
    told.settled()
    until(lambda: not insists(told), what="the end of an earlier second")
    with web_site(tmp_path, told.site.server_ca, ["other.lan"]) as port:
        page.goto(f"https://other.lan:{port}/")
        assert page.evaluate(FROM_OUTSIDE, f"{told.url}{path}") == ""
        assert shows_error(page.frames[1])
    assert not insists(told)


def test_its_own_page_asks(told: House, page: Page) -> None:
    """The very same request from the guard's own page has it insist, for a second."""
    page.goto(told.url)
    assert page.evaluate(f"fetch('{PROBE}').then((answer) => answer.text())") == "no-certificate"
    assert page.evaluate(f"fetch('{AGAIN}', {{method: 'POST'}}).then((answer) => answer.status)") == 204
    assert insists(told)
    until(lambda: not insists(told), what="the end of the second")
