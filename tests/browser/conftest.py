"""What every browser test starts from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from playwright.sync_api import Playwright, sync_playwright
from tests.browser.house import House, house
from tests.support.nodered import VERSIONS, Version


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    """Ends with the module: while it lives, nothing else in this process can run an event loop of its own."""
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="module", params=VERSIONS)
def locked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A locked Node-RED of each version."""
    yield from house(tmp_path_factory.mktemp("locked"), cast(Version, request.param))
