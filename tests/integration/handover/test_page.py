"""The page of a link, in a real Chromium of a phone's size, over a certificate it does not know."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from tests.integration.handover.harness import PARCEL, Serve

from redlatch.service import handover


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that fails the test when a script fails, or the policy stops something."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 390, "height": 844})
    problems: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    yield opened
    context.close()
    assert problems == []


def test_one_tap_hands_the_key_over(serve: Serve, page: Page) -> None:
    """File, password and name are shown (a name with markup as text); the server hears that it arrived."""
    served = serve(receipt_wait=20)
    page.goto(f"https://127.0.0.1:{served.port}/#{served.token}")
    page.get_by_role("button", name="Get the key").click()
    expect(page.get_by_role("heading", name="Your key is here")).to_be_visible()
    expect(page.locator("#password")).to_have_text(PARCEL.password or "")
    expect(page.locator("#device")).to_have_text("<b>Bart's phone</b>")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save barts-phone.p12").click()
    assert download.value.suggested_filename == "barts-phone.p12"
    assert download.value.path().read_bytes() == PARCEL.files[0].content
    assert served.end().state is handover.State.DELIVERED
    assert served.token not in page.url


def test_a_wrong_link_is_refused_in_words(serve: Serve, page: Page) -> None:
    """The page says so and shows no key; without a token there is not even a button."""
    served = serve()
    page.goto(f"https://127.0.0.1:{served.port}/#{'a' * 26}")
    page.get_by_role("button", name="Get the key").click()
    expect(page.get_by_role("alert")).to_contain_text("This link is not valid")
    expect(page.locator("#handed")).to_be_hidden()
    page.goto(f"https://127.0.0.1:{served.port}/?")
    expect(page.get_by_role("alert")).to_contain_text("not complete")
    expect(page.get_by_role("button", name="Get the key")).to_be_hidden()


def test_the_page_fits_a_small_phone(serve: Serve, page: Page) -> None:
    """320 pixels wide: nothing is cut off, and the button is as large as a thumb needs (44 px)."""
    served = serve()
    page.set_viewport_size({"width": 320, "height": 568})
    page.goto(f"https://127.0.0.1:{served.port}/#{served.token}")
    box = page.get_by_role("button", name="Get the key").bounding_box()
    assert box is not None
    assert box["height"] >= 44
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
