"""Every page of the console in a real Chromium: whole, readable wide and narrow, and no name is run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from playwright.sync_api import BrowserContext, Page, Playwright, expect
from tests.browser.consoles import HOSTILE, browser, lived_in, picture, quiet_page, url
from tests.support.consoling import Consoling

from redlatch.operations import devices, links


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
