from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, settings

from redlatch.pki.authority import Authority
from redlatch.pki.keys import Key, generate_key

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def server_ca() -> Authority:
    return Authority.create_server("pi", ["pi", "nodered.example.org", "203.0.113.7"], now=NOW)


@pytest.fixture(scope="session")
def device_ca() -> Authority:
    return Authority.create_device("pi", now=NOW)


@pytest.fixture(scope="session")
def p256() -> Key:
    return generate_key("p256")


@pytest.fixture(scope="session")
def rsa2048() -> Key:
    return generate_key("rsa2048")


@pytest.fixture(params=["p256", "rsa2048"])
def key(request: pytest.FixtureRequest) -> Key:
    key: Key = request.getfixturevalue(request.param)
    return key
