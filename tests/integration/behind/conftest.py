"""A Node-RED of each version behind a gateway, once for all tests that change nothing for good."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.behind.houses import Behind, house
from tests.support.nodered import VERSIONS


@pytest.fixture(scope="module", params=VERSIONS)
def behind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    yield from house(tmp_path_factory.mktemp("behind"), request.param)
