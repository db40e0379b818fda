from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.store.example import NOW, SITE, add_authority

from redlatch.store import Store


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The place of a store, in a folder as redlatch makes it."""
    folder = tmp_path / "home" / "authority"
    folder.mkdir(parents=True, mode=0o700)
    return folder / "redlatch.db"


@pytest.fixture
def store(database: Path) -> Iterator[Store]:
    """A store with a device CA."""
    with Store.create(database, site_uuid=SITE, now=NOW) as made:
        with made.write("bart", NOW) as tx:
            add_authority(tx)
        yield made
