"""A panel of another origin, a Home Assistant's, that shows the dashboard: named, and not named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, cast

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright
from tests.browser.house import House, house
from tests.browser.other_origin import web_site
from tests.browser.test_why_page import shows_error
from tests.support.nodered import VERSIONS, Version
from tests.support.site import Device
from tests.support.wait import until

EMBED: Final = """(url) => new Promise((done) => {
    const frame = Object.assign(document.createElement('iframe'), {src: url, width: 600, height: 400});
    frame.onload = () => done();
    document.body.append(frame);
})"""
POST: Final = (
    "(url) => fetch(url, {method: 'POST', mode: 'no-cors', credentials: 'include', body: 'on'}).then(() => 0)"
)
READ: Final = "(url) => fetch(url, {credentials: 'include'}).then((answer) => answer.text(), () => 'not readable')"


@dataclass(frozen=True)
class Panels:
    """Other origins and the browser of a device that visits them.

    The site names `named` and `beside`; `beside` has our own host name and another port. Chromium keeps storage
    from frames of other sites, and the dashboard's scripts end without it: it shows itself in `beside` alone.
    """

    house: House
    device: Device
    context: BrowserContext
    named: str
    beside: str
    unnamed: str

    def visit(self, origin: str) -> Page:
        page = self.context.new_page()
        page.goto(f"{origin}/")
        return page

    def refusals(self) -> int:
        return self.house.refusals(self.device, "cross-origin")


@pytest.fixture(scope="module", params=VERSIONS)
def panels(
    playwright: Playwright, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Panels]:
    folder = tmp_path_factory.mktemp("panels")
    for at in house(folder / "house", cast(Version, request.param)):
        device = at.site.device("panel's tablet", "admin")
        with web_site(folder, at.site.server_ca, ["panel.lan", "pi.local", "other.lan"]) as port:
            named, beside, unnamed = (f"https://{name}:{port}" for name in ("panel.lan", "pi.local", "other.lan"))
            with (
                at.changed(origins=(named, beside)),
                at.browser(playwright, folder / "browser", device) as context,
            ):
                yield Panels(at, device, context, named, beside, unnamed)


def test_a_named_origin_embeds(panels: Panels) -> None:
    """The dashboard runs in the panel's frame, with its websocket."""
    page = panels.visit(panels.beside)
    with page.expect_websocket(lambda websocket: "/dashboard/socket.io/" in websocket.url) as live:
        page.evaluate(EMBED, f"{panels.house.url}/dashboard/page")
    page.frame_locator("iframe").get_by_text("Switched").wait_for()
    assert not live.value.is_closed()
    page.close()


def test_a_named_origin_of_another_site_embeds(panels: Panels) -> None:
    """Nothing of what the frame loads is refused; whether it does without storage is its own affair."""
    page = panels.visit(panels.named)
    answers: list[tuple[int, str]] = []
    page.on("response", lambda answer: answers.append((answer.status, answer.url)))
    page.evaluate(EMBED, f"{panels.house.url}/dashboard/page")
    assert [status for status, _ in answers if status != 200] == []
    assert any(url.endswith(".js") for _, url in answers)
    page.close()


def test_another_origin_does_not_embed(panels: Panels) -> None:
    """The browser itself refuses to show it in a page that is not named."""
    page = panels.visit(panels.unnamed)
    sockets: list[str] = []
    page.on("websocket", lambda websocket: sockets.append(websocket.url))
    with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
        page.evaluate(EMBED, f"{panels.house.url}/dashboard/page")
    assert shows_error(page.frames[1])
    assert sockets == []
    page.close()


def test_nobody_embeds_where_none_is_named(panels: Panels) -> None:
    """Without origins a frame of another page is refused by the guard, before Node-RED answers."""
    with panels.house.changed(origins=()):
        before = panels.refusals()
        page = panels.visit(panels.named)
        page.evaluate(EMBED, f"{panels.house.url}/dashboard/page")
        until(lambda: panels.refusals() > before, what="the refusal in the guard's log")
        assert shows_error(page.frames[1])
        page.close()


def test_a_named_origin_calls(panels: Panels) -> None:
    """The panel switches a light; what it gets to read is still the flow's own choice (CORS)."""
    page = panels.visit(panels.named)
    page.evaluate(POST, f"{panels.house.url}/light/panel")
    assert panels.house.counted()["panel"] == 1
    assert page.evaluate(READ, f"{panels.house.url}/lights") == "not readable"
    page.close()


def test_another_origin_does_not_call(panels: Panels) -> None:
    """From a page that is not named neither a POST nor a GET reaches a flow."""
    page = panels.visit(panels.unnamed)
    before = panels.refusals()
    page.evaluate(POST, f"{panels.house.url}/light/stranger")
    assert page.evaluate(READ, f"{panels.house.url}/light/stranger") == "not readable"
    until(lambda: panels.refusals() >= before + 2, what="the refusals in the guard's log")
    assert "stranger" not in panels.house.counted()
    page.close()
