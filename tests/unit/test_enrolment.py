"""A link's life, step by step; no clock and no randomness but what the test hands in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch import enrolment
from redlatch.enrolment import ATTEMPTS, LIFETIME, TOKEN_BYTES, TOKEN_LENGTH, Link, Refusal, new_link, redeem
from redlatch.errors import InvalidInput

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def fresh(randomness: bytes = bytes(range(TOKEN_BYTES))) -> tuple[Link, str]:
    return new_link("Bart's phone", "owner", now=NOW, randomness=randomness)


def test_the_right_token_is_redeemed_once() -> None:
    """The first redemption wins, the second one is told that the link was used."""
    link, token = fresh()
    link, refused = redeem(link, token, now=NOW)
    assert refused is None
    assert link.redeemed == NOW
    link, refused = redeem(link, token, now=NOW)
    assert refused is Refusal.USED


def test_a_token_has_128_bits_in_26_characters() -> None:
    """26 characters of lower-case base32, different for different randomness."""
    tokens = {fresh(bytes([n]) * TOKEN_BYTES)[1] for n in range(256)}
    assert len(tokens) == 256
    assert all(len(token) == TOKEN_LENGTH and token.isalnum() and token == token.lower() for token in tokens)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_too_little_or_too_much_randomness_is_refused(length: int) -> None:
    """A token is never made from fewer bits than it promises."""
    with pytest.raises(InvalidInput):
        fresh(b"x" * length)


def test_the_link_does_not_contain_its_token() -> None:
    """What is kept cannot be turned back into the link."""
    link, token = fresh()
    assert token not in repr(link)
    assert token.encode() not in link.digest


def test_an_expired_link_is_refused() -> None:
    """At the very moment it ends it is over; a microsecond before it is not."""
    link, token = fresh()
    assert redeem(link, token, now=NOW + LIFETIME)[1] is Refusal.EXPIRED
    assert redeem(link, token, now=NOW + LIFETIME - timedelta(microseconds=1))[1] is None


def test_a_wrong_token_is_refused_and_counted() -> None:
    """A wrong token leaves the link redeemable, until the attempts are spent."""
    link, token = fresh()
    for _ in range(ATTEMPTS - 1):
        link, refused = redeem(link, "a" * TOKEN_LENGTH, now=NOW)
        assert refused is Refusal.WRONG
    assert redeem(link, token, now=NOW)[1] is None


def test_after_ten_wrong_tokens_the_right_one_is_refused() -> None:
    """Somebody who tries tokens kills the link, and nothing brings it back."""
    link, token = fresh()
    for _ in range(ATTEMPTS):
        link, _ = redeem(link, "wrong", now=NOW)
    assert redeem(link, token, now=NOW)[1] is Refusal.LOCKED


def test_upper_case_and_blanks_around_a_token_do_not_matter() -> None:
    """A token that was read aloud or copied by hand works."""
    link, token = fresh()
    assert redeem(link, f" {token.upper()}\n", now=NOW)[1] is None


def test_a_token_has_one_spelling() -> None:
    """The two spare bits of the last base32 character do not make further valid tokens."""
    link, token = fresh()
    others = [token[:-1] + c for c in "abcdefghijklmnopqrstuvwxyz234567" if c != token[-1]]
    assert all(redeem(link, other, now=NOW)[1] is Refusal.WRONG for other in others)


@given(st.text(max_size=60))
def test_whatever_is_sent_is_an_answer_not_an_exception(text: str) -> None:
    """Any text at all, lone surrogates included, is refused in an orderly way."""
    link, _ = fresh()
    assert redeem(link, text, now=NOW)[1] is Refusal.WRONG


@pytest.mark.parametrize(
    ("state", "refusal"),
    [
        ("open", None),
        ("used", Refusal.USED),
        ("confirmed", Refusal.USED),
        ("withdrawn", Refusal.WITHDRAWN),
        ("expired", Refusal.EXPIRED),
        ("of a later redlatch", Refusal.WRONG),
    ],
)
def test_a_link_that_is_over_says_why(state: str, refusal: Refusal | None) -> None:
    """Before anything else: where it may be used from matters no more."""
    assert enrolment.refusal((state, False, False), inside=True, by_page=True) is refusal
    if refusal is not None:
        assert enrolment.refusal((state, False, True), inside=False, by_page=True) is refusal


def test_a_token_that_nobody_was_given_is_wrong() -> None:
    """From wherever it comes."""
    assert enrolment.refusal(None, inside=True, by_page=False) is Refusal.WRONG


def test_a_token_counts_as_it_is_spoken() -> None:
    """Upper case and blanks around it are the same token; a look-alike in base32's spare bits is not."""
    token = enrolment.new_token(bytes(TOKEN_BYTES))
    assert enrolment.digest(f"  {token.upper()}\n") == enrolment.digest(token)
    assert enrolment.digest(token[:-1] + "b") != enrolment.digest(token)
    assert len(enrolment.digest("\ud800")) == 32
