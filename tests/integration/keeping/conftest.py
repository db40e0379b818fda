"""A small site with devices, and a backup of it, made once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from tests.support.home import small_site
from tests.support.keeping import Original, back_up

from redlatch.operations import backup, devices


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Original]:
    """With a phone in use and a tablet that is shut out."""
    site = small_site(tmp_path_factory.mktemp("original"))
    with closing(site.store):
        devices.add(site, "Phone", role="owner")
        devices.add(site, "Tablet")
        devices.revoke(site, "Tablet", reason="lost")
        yield Original(site, backup.collect(site), back_up(site))
