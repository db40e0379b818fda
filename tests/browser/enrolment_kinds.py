"""Kinds of devices as the enrolment page sees them, and what a test does with the page."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from playwright.sync_api import Download, Page, Request, expect

PHONE: Final = {"width": 390, "height": 844}
DESK: Final = {"width": 1000, "height": 900}
WEBKIT: Final = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME: Final = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
IPHONE: Final = (
    f"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) {WEBKIT} Version/18.5 Mobile/15E148 Safari/604.1"
)
MAC: Final = f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {WEBKIT} Version/18.5 Safari/605.1.15"
# An iPad says that it is a Mac, but has a screen for fingers
TOUCH: Final = "Object.defineProperty(Navigator.prototype, 'maxTouchPoints', {get: () => 5});"
NO_CRYPTO: Final = "Object.defineProperty(Crypto.prototype, 'subtle', {get: () => undefined});"


@dataclass(frozen=True)
class Kind:
    """A device: its user agent, what the button says, and what is on the page afterwards."""

    agent: str
    button: str
    platform: str
    ends_with: str
    steps: tuple[str, ...]
    view: dict[str, int] = field(default_factory=lambda: DESK)
    script: str = ""


KINDS: Final = {
    "iphone": Kind(
        IPHONE, "Get the key for this iPhone", "iPhone, iPad", ".mobileconfig",
        ("Allow the download", "Install it", "Trust the server", "Open Node‑RED"), PHONE,
    ),
    "ipad": Kind(
        MAC, "Get the key for this iPad", "iPhone, iPad", ".mobileconfig",
        ("Allow the download", "Install it", "Trust the server", "Open Node‑RED"),
        {"width": 820, "height": 1100}, TOUCH,
    ),
    "mac": Kind(
        MAC, "Get the key for this Mac", "Mac", ".mobileconfig",
        ("Allow the download", "Install it", "Still a warning about the server?", "Open Node‑RED"),
    ),
    "android": Kind(
        f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36",
        "Get the key for this phone", "Android", ".p12",
        ("Save the file", "Copy its password", "Install it", "Trust the server", "Open Node‑RED"), PHONE,
    ),
    "windows": Kind(
        f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36 Edg/140.0.0.0",
        "Get the key for this PC", "Windows: Edge, Chrome", ".p12",
        ("Save the file", "Copy its password", "Install it", "Trust the server", "Open Node‑RED"),
    ),
    "linux-chrome": Kind(
        f"Mozilla/5.0 (X11; Linux x86_64) {CHROME} Safari/537.36",
        "Get the key for this computer", "Linux: Chrome", ".p12",
        ("Save the file", "Copy its password", "Install it", "Trust the server", "Open Node‑RED"),
    ),
    "firefox": Kind(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "Get the key for this Firefox", "Firefox", ".p12",
        ("Save the file", "Copy its password", "Install it", "Trust the server", "Open Node‑RED"),
    ),
}  # fmt: skip


@dataclass
class Opened:
    """A page of a browser of its own, and everything that it sent."""

    page: Page
    posted: list[Request]

    def get(self, label: str | re.Pattern[str] = re.compile("Get the key")) -> None:
        self.page.get_by_role("button", name=label).click()
        expect(self.page.get_by_role("heading", name="Your key is here")).to_be_focused()

    def save(self, name: str) -> bytes:
        with self.page.expect_download() as download:
            self.page.get_by_role("link", name=f"Save {name}").click()
        return content(download.value)

    def steps(self) -> tuple[str, ...]:
        return tuple(self.page.locator("#steps h2").all_text_contents())


def content(download: Download) -> bytes:
    return Path(download.path()).read_bytes()


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("REDLATCH_ARTEFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"enrol-{name}.png", full_page=True)
