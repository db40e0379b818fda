"""The gateways that several modules share; each test of `house` puts its own rules in force."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.gateway.house import House, Live
from tests.integration.gateway.judge import Judge
from tests.support.haproxy import PROGRAMS, Counting, Door


@pytest.fixture(scope="module", params=PROGRAMS)
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    upstream = Counting()
    with Door(request.param, tmp_path_factory.mktemp(f"judge-{request.param}"), upstream.port) as door:
        door.upstream = upstream
        yield Judge(door)
    upstream.close()


@pytest.fixture(scope="session", params=PROGRAMS)
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(request.param, tmp_path_factory.mktemp(f"house-{request.param}"))
    yield made
    made.close()


@pytest.fixture(scope="session", params=PROGRAMS)
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Explaining, without any rule but the owner's and the admin's."""
    behind = Counting()
    with Live(request.param, tmp_path_factory.mktemp(f"live-{request.param}"), behind) as made:
        yield made
    behind.close()


@pytest.fixture(scope="session", params=PROGRAMS)
def strict(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    behind = Counting()
    with Live(request.param, tmp_path_factory.mktemp(f"strict-{request.param}"), behind, mode="strict") as made:
        yield made
    behind.close()
