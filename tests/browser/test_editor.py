"""The editor in a real Chromium, with a .p12 imported into its certificate store."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Page, Playwright, Response, WebSocket
from playwright.sync_api import TimeoutError as TooLate
from tests.browser.chromium import PATIENCE_MS
from tests.browser.house import House
from tests.support.wait import until

LOGIN = "#node-dialog-login"
DEPLOY = "#red-ui-header-button-deploy"
DEPLOY_GROUP = ".red-ui-deploy-button-group"
DEBUG_MESSAGE = ".red-ui-debug-msg"


def open_editor(browser: BrowserContext, house: House) -> tuple[Page, WebSocket]:
    """The editor's page and its open /comms, as soon as the flows are drawn."""
    page = browser.pages[0]
    with page.expect_websocket(lambda websocket: websocket.url.endswith("/comms")) as comms:
        page.goto(house.url)
    page.locator(DEPLOY).wait_for()
    page.wait_for_function("RED.nodes.workspace('home') && RED.workspaces.active()")
    return page, comms.value


def shows_debug_message(page: Page, house: House, light: str) -> bool:
    """Somebody switches `light` until this page's debug sidebar hears of it, which takes a working /comms."""
    message = page.locator(DEBUG_MESSAGE, has_text=light).first
    for _ in range(10):
        house.switch(light)
        with suppress(TooLate):
            message.wait_for(state="attached", timeout=1000)
            return True
    return False


@pytest.mark.parametrize("modern", [False, True], ids=["compatible", "modern"])
def test_admin_works_in_the_editor(playwright: Playwright, locked: House, tmp_path: Path, *, modern: bool) -> None:
    """Either kind of .p12 opens the editor: signed on without a prompt, /comms connected, Deploy deploys."""
    device = locked.site.device("Bärt's phöne 📱", "admin", listed=False)
    locked.site.list(device, role="admin", user="bart")
    with locked.browser(playwright, tmp_path, device, modern=modern) as browser:
        page, _ = open_editor(browser, locked)
        assert page.evaluate("RED.settings.user") == {"username": "bart", "permissions": "*"}
        assert page.locator(LOGIN).count() == 0
        assert shows_debug_message(page, locked, "admin")
        page.evaluate("RED.actions.invoke('core:add-flow')")

        def is_deploy(response: Response) -> bool:
            return response.request.method == "POST" and response.url == f"{locked.url}/flows"

        with page.expect_response(is_deploy) as deployed:
            page.locator(DEPLOY).click()
        assert deployed.value.status == 200


def test_viewer_finds_deploy_locked(playwright: Playwright, locked: House, tmp_path: Path) -> None:
    """A viewer sees flows and debug messages; Deploy is locked, and going around the button is refused."""
    device = locked.site.device("vera", "viewer")
    refused: list[str] = []
    with locked.browser(playwright, tmp_path, device) as browser:
        browser.on("response", lambda response: refused.append(response.url) if response.status >= 400 else None)
        page, _ = open_editor(browser, locked)
        assert page.evaluate("RED.settings.user") == {"username": "vera", "permissions": "read"}
        assert page.locator(LOGIN).count() == 0
        assert shows_debug_message(page, locked, "viewer")
        assert "readOnly" in (page.locator(DEPLOY_GROUP).get_attribute("class") or "")
        page.evaluate("RED.actions.invoke('core:add-flow')")
        assert page.evaluate("RED.actions.invoke('core:deploy-flows'); RED.nodes.dirty()")
        # What the editor itself asks for is what a viewer may have: nothing of it was refused
        assert refused == []
        answer = "fetch('flows', {method: 'POST', body: '[]'}).then((response) => response.status)"
        assert page.evaluate(answer) == 403
        until(lambda: locked.refusals(device, "read-only") == 1, what="the refusal in the log")


def test_user_finds_the_dashboard_and_no_editor(playwright: Playwright, locked: House, tmp_path: Path) -> None:
    """A user's browser shows the dashboard, live over socket.io; the editor says that it is not for this role."""
    device = locked.site.device("uwe", "user")
    with locked.browser(playwright, tmp_path, device) as browser:
        page = browser.pages[0]
        with page.expect_websocket(lambda websocket: "/dashboard/socket.io/" in websocket.url) as live:
            page.goto(f"{locked.url}/dashboard/page")
        page.get_by_text("Switched").wait_for()
        assert not live.value.is_closed()
        response = page.goto(locked.url)
        assert response is not None
        assert response.status == 403
        assert page.locator(DEPLOY).count() == 0


def test_browser_without_a_certificate_gets_nothing(playwright: Playwright, locked: House, tmp_path: Path) -> None:
    """No certificate in the store, no page: not even one that says so."""
    with locked.browser(playwright, tmp_path, None) as browser, pytest.raises(Error, match="net::ERR_"):
        browser.pages[0].goto(locked.url)


def test_browser_with_a_foreign_certificate_gets_nothing(
    playwright: Playwright, locked: House, tmp_path: Path
) -> None:
    """A certificate of this site's device CA that is on no list is worth as much as none."""
    unlisted = locked.site.device("unlisted", listed=False)
    with locked.browser(playwright, tmp_path, unlisted) as browser, pytest.raises(Error, match="net::ERR_"):
        browser.pages[0].goto(locked.url)


def test_revoked_device_is_out_at_once(playwright: Playwright, locked: House, tmp_path: Path) -> None:
    """Revoked while the editor is open: /comms breaks, and a reload gets nothing."""
    device = locked.site.device("lost phone", "admin")
    with locked.browser(playwright, tmp_path, device) as browser:
        page, comms = open_editor(browser, locked)
        with comms.expect_event("close", timeout=PATIENCE_MS):
            locked.site.revoke(device)
        with pytest.raises(Error, match="net::ERR_"):
            page.reload()
        assert page.locator(DEPLOY).count() == 0


def test_token_of_a_password_login_does_not_stop_comms(
    playwright: Playwright, locked: House, tmp_path: Path
) -> None:
    """A browser that keeps a token, of earlier times or from a link, gets its debug messages and no prompt."""
    device = locked.site.device("old hand", "admin")
    with locked.browser(playwright, tmp_path, device) as browser:
        page = browser.pages[0]
        page.goto(f"{locked.url}/?access_token=planted")
        # The editor stores the token and loads itself again without it in the address
        page.wait_for_url(lambda url: "access_token" not in url)
        page.locator(DEPLOY).wait_for()
        assert shows_debug_message(page, locked, "planted")
        assert page.locator(LOGIN).count() == 0
