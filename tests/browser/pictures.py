"""Pictures of pages, kept where somebody wants to look at them: in the folder REDLATCH_ARTEFACTS names."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page


def keep(page: Page, name: str) -> None:
    """Keeps a picture of the whole page as NAME.png, or does nothing."""
    folder = os.environ.get("REDLATCH_ARTEFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
