"""The server's private root, imported as trusted for web sites: what Chromium lets it vouch for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Page, Playwright
from tests.browser.chromium import Chromium
from tests.browser.other_origin import web_site

from redlatch.pki.authority import Authority
from redlatch.pki.certificates import certificate_pem


@pytest.fixture(scope="module")
def root() -> Authority:
    """A server CA of a house with a domain of its own."""
    return Authority.create_server(str(uuid.uuid4()), ["raspberrypi", "house.example"], now=datetime.now(UTC))


@pytest.fixture(scope="module")
def browser(
    playwright: Playwright, root: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrowserContext]:
    folder = tmp_path_factory.mktemp("browser")
    with Chromium(playwright, folder, p12=None, root=certificate_pem(root.certificate)) as context:
        yield context


@pytest.fixture
def page(browser: BrowserContext) -> Iterator[Page]:
    """A tab of its own: the error page of a refused address still arrives when the next one is asked for."""
    page = browser.new_page()
    yield page
    page.close()


@pytest.mark.parametrize("name", ["pi.local", "nodered.lan", "house.example", "www.house.example"])
def test_own_names_are_accepted(page: Page, root: Authority, tmp_path: Path, name: str) -> None:
    """Names of the LAN and of the domain named at the beginning load without a warning."""
    with web_site(tmp_path, root, [name]) as port:
        response = page.goto(f"https://{name}:{port}/")
    assert response is not None
    assert response.ok


@pytest.mark.parametrize("name", ["bank.example", "nothouse.example"])
def test_other_names_are_refused(page: Page, root: Authority, tmp_path: Path, name: str) -> None:
    """A thief of this root's key impersonates nobody else: Chromium holds it to its name constraints."""
    with web_site(tmp_path, root, [name]) as port, pytest.raises(Error, match="net::ERR_CERT_"):
        page.goto(f"https://{name}:{port}/")


def test_address_is_accepted(page: Page, root: Authority, tmp_path: Path) -> None:
    """The server is reached by its private address too, named in its certificate."""
    with web_site(tmp_path, root, ["pi.local"], addresses=["127.0.0.1"]) as port:
        response = page.goto(f"https://127.0.0.1:{port}/")
    assert response is not None
    assert response.ok


def test_untrusted_root_is_refused(playwright: Playwright, root: Authority, tmp_path: Path) -> None:
    """Without the import there is no trust: that the other tests pass is the import's doing."""
    with (
        web_site(tmp_path, root, ["pi.local"]) as port,
        Chromium(playwright, tmp_path / "browser", p12=None, root=None) as context,
        pytest.raises(Error, match="net::ERR_CERT_AUTHORITY_INVALID"),
    ):
        context.pages[0].goto(f"https://pi.local:{port}/")
