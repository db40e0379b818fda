"""The editor in a real Chromium through the gateway: HTTP/2, websockets over it, single sign-on, and the page that
says why.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Error, Playwright
from tests.browser import test_editor
from tests.browser.chromium import PATIENCE_MS
from tests.browser.house import FLOWS, House
from tests.browser.pictures import keep
from tests.browser.test_editor import DEPLOY, open_editor, shows_debug_message
from tests.support.haproxy import PROGRAMS
from tests.support.nodered import NodeRed, Version, write_settings
from tests.support.running_gateway import SECRET, RunningGateway
from tests.support.site import Site

from redlatch.engines.nodered import publish
from redlatch.settings import Settings


def through(root: Path, version: Version, **fields: Any) -> Iterator[House]:
    """A Node-RED behind a gateway; the house's port is the gateway's."""
    site = Site(root / "site", **fields)
    laptop = site.device("laptop", "owner")
    settings = Settings(root / "home", system=False)
    digest = hashlib.sha256(SECRET.encode("ascii")).hexdigest()
    publish.publish_behind(settings, digest, False, False, os.getgid())
    user_dir = root / "node-red"
    write_settings(user_dir, published=settings.published, flows=FLOWS, entry="behind.js")
    with (
        NodeRed(version, user_dir) as node_red,
        RunningGateway(site, PROGRAMS["2.6"], node_red.port) as gateway,
    ):
        yield House(site, cast(NodeRed, gateway), laptop)


@pytest.fixture(scope="module", params=["5.0"])  # 4.1 stands behind it in tests/integration/behind
def gated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from through(tmp_path_factory.mktemp("gated"), cast(Version, request.param))


@pytest.fixture(scope="module")
def explaining(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    yield from through(tmp_path_factory.mktemp("explaining"), "5.0", mode="explain")


def test_admin_works_in_the_editor(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    """As with the lock inside: signed on without a prompt, /comms connected, Deploy deploys."""
    test_editor.test_admin_works_in_the_editor(playwright, gated, tmp_path, modern=True)


def test_viewer_finds_deploy_locked(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    test_editor.test_viewer_finds_deploy_locked(playwright, gated, tmp_path)


def test_user_finds_the_dashboard_and_no_editor(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    test_editor.test_user_finds_the_dashboard_and_no_editor(playwright, gated, tmp_path)


def test_revoked_device_is_out_at_once(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    """Revoked while the editor is open: /comms breaks, and a reload gets nothing."""
    device = gated.site.device("lost-phone", "admin")
    with gated.browser(playwright, tmp_path, device) as browser:
        page, comms = open_editor(browser, gated)
        with comms.expect_event("close", timeout=PATIENCE_MS):
            gated.site.revoke(device)
        with pytest.raises(Error, match="net::ERR_"):
            page.reload()
        assert page.locator(DEPLOY).count() == 0


def test_nothing_without_a_certificate(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    """Mode strict: not even a page that says so."""
    with gated.browser(playwright, tmp_path, None) as browser, pytest.raises(Error, match="net::ERR_"):
        browser.pages[0].goto(gated.url)


def test_it_speaks_http2(playwright: Playwright, gated: House, tmp_path: Path) -> None:
    """Requests and websockets of one browser share connections: each is judged all the same."""
    device = gated.site.device("swift", "admin")
    with gated.browser(playwright, tmp_path, device) as browser:
        page, comms = open_editor(browser, gated)
        assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "h2"
        assert not comms.is_closed()
        assert shows_debug_message(page, gated, "swift")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_says_why(playwright: Playwright, explaining: House, tmp_path: Path, scheme: str) -> None:
    """Mode explain: a stranger reads what to do, and nothing of Node-RED."""
    with explaining.browser(playwright, tmp_path, None) as browser:
        page = browser.pages[0]
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        answer = page.goto(explaining.url)
        assert answer is not None
        assert answer.status == 403
        page.get_by_role("heading", name="Not let in").wait_for()
        assert page.get_by_text("no-certificate").count() == 1
        assert page.locator(DEPLOY).count() == 0
        keep(page, f"gateway-why-{scheme}")
