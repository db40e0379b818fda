"""What the enrolment origin keeps in memory: bounded, and forgotten in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from redlatch.service.enrolment import guesses, receipts
from redlatch.service.enrolment.guesses import Guesses
from redlatch.service.enrolment.receipts import Receipts

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_ten_at_once_and_then_one_a_second(clock: Clock) -> None:
    """The eleventh wrong token of a moment is too many; a second later one more is not."""
    tried = Guesses(clock)
    assert [tried.wrong("192.168.1.2") for _ in range(12)] == [False] * 10 + [True] * 2
    clock.now += 1
    assert [tried.wrong("192.168.1.2") for _ in range(2)] == [False, True]
    clock.now += 3600
    assert [tried.wrong("192.168.1.2") for _ in range(11)] == [False] * 10 + [True]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("192.168.1.2", "192.168.1.3", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.168.1.2", "192.168.1.2", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("nonsense", "", True),
    ],
)
def test_whose_guesses_they_are(clock: Clock, first: str, second: str, same: bool) -> None:
    """An IPv4 address, or the /64 of an IPv6 one, is one source; what is no address is one too."""
    tried = Guesses(clock)
    for _ in range(10):
        tried.wrong(first)
    assert tried.wrong(second) is same


def test_guesses_from_everywhere_fill_no_memory(clock: Clock) -> None:
    """A million addresses leave a few thousand buckets, the latest ones."""
    tried = Guesses(clock)
    for number in range(20_000):
        tried.wrong(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(tried) == guesses.REMEMBERED


def test_receipts_end(clock: Clock) -> None:
    """A receipt is known for a quarter of an hour; one that was never given is not."""
    kept = Receipts(clock)
    receipt = kept.give(7, "ab" * 32, NOW)
    found = kept.find(receipt)
    assert found is not None
    assert (found.link, found.fingerprint) == (7, "ab" * 32)
    assert kept.find(receipt[:-1]) is None
    clock.now += receipts.PATIENCE - 1
    assert kept.find(receipt) is not None
    clock.now += 1
    assert kept.find(receipt) is None


def test_a_profile_is_fetched_once_and_in_time(clock: Clock) -> None:
    """A key lies about for a minute at most, and not after it was fetched."""
    kept = Receipts(clock)
    first, second = kept.lay_out("x", b"key"), kept.lay_out("y", b"key")
    assert kept.fetch(first) is not None
    assert kept.fetch(first) is None
    clock.now += receipts.PROFILE_PATIENCE
    assert kept.fetch(second) is None


def test_receipts_and_profiles_are_bounded(clock: Clock) -> None:
    """The oldest go first."""
    kept = Receipts(clock)
    given = [kept.give(None, "x", NOW) for _ in range(receipts.MOST + 1)]
    laid = [kept.lay_out("x", b"") for _ in range(receipts.MOST_PROFILES + 1)]
    assert (kept.find(given[0]), kept.fetch(laid[0])) == (None, None)
    assert kept.find(given[1]) is not None
    assert kept.fetch(laid[1]) is not None
