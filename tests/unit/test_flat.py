"""The judge of bench/soak.py finds what grows, and nothing in what only goes up and down."""

from __future__ import annotations

import random

import pytest
from bench.flat import judge, judge_all, slope, table, warm_up

MINUTES = 65


def noisy(base: float, spread: float) -> list[float]:
    dice = random.Random(base)
    return [base + dice.uniform(-spread, spread) for _ in range(MINUTES)]


@pytest.mark.parametrize(
    ("name", "base", "spread", "an_hour"),
    [("node-red.rss", 150, 6, 25), ("serve.rss", 55, 1, 10), ("haproxy.fds", 42, 1, 6), ("run.threads", 2, 0, 2)],
)
def test_a_leak_is_found(name: str, base: float, spread: float, an_hour: float) -> None:
    """What gains that much in an hour, beneath its noise, grows; without it the same figures are flat."""
    flat = noisy(base, spread)
    leaking = [value + an_hour * minute / 60 for minute, value in enumerate(flat)]
    assert not judge(name, flat).grows
    assert judge(name, leaking).grows


def test_a_saw_tooth_is_flat() -> None:
    """A heap that is emptied now and then has no slope, wherever the run is cut."""
    for period in (7, 11, 30):
        tooth = [150.0 + 30 * (minute % period) / period for minute in range(MINUTES)]
        assert not judge("node-red.rss", tooth).grows, period


def test_the_warm_up_does_not_count() -> None:
    """What fills up in the first minutes and then stays is flat; of short runs less is left out."""
    assert not judge("serve.rss", [40 + 4.0 * min(minute, 5) for minute in range(MINUTES)]).grows
    assert [warm_up(minutes) for minutes in (2, 20, 65)] == [0, 2, 5]


def test_a_busier_machine_is_not_blamed_on_redlatch() -> None:
    """A latency that grows with the yardstick is flat; one that grows alone is not."""
    slower = [5.0 + minute / 5 for minute in range(MINUTES)]
    steady = [2.0] * MINUTES
    assert judge("gateway.p50", slower, steady).grows
    assert not judge("gateway.p50", slower, [one / 3 for one in slower]).grows


def test_the_table_says_which_grows() -> None:
    """Every figure has its line; a minute without one is left out."""
    series = {
        "serve.rss": [50.0] * MINUTES,
        "run.fds": [13 + minute / 5 for minute in range(MINUTES)],
        "yardstick.p50": [1.0] * MINUTES,
        "serve.p50": [float("nan"), *[3.0] * (MINUTES - 1)],
    }
    verdicts = judge_all(series)
    assert [(one.name, one.grows) for one in verdicts] == [
        ("run.fds", True), ("serve.p50", False), ("serve.rss", False)
    ]  # fmt: skip
    assert "| run.fds | 15.4 | 24.4 | +11.8 | **grows** |" in table(verdicts)
    assert slope([float("nan"), 1.0, 2.0]) == 1.0
