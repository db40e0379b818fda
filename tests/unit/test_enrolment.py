"""A link's token and its verdicts; no clock and no randomness but what the test hands in."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.enrolment import TOKEN_BYTES, TOKEN_LENGTH, Refusal, digest, new_token, refusal
from redlatch.errors import InvalidInput

TOKEN = new_token(bytes(range(TOKEN_BYTES)))


def test_a_token_has_128_bits_in_26_characters() -> None:
    """26 characters of lower-case base32, different for different randomness."""
    tokens = {new_token(bytes([n]) * TOKEN_BYTES) for n in range(256)}
    assert len(tokens) == 256
    assert all(len(token) == TOKEN_LENGTH and token.isalnum() and token == token.lower() for token in tokens)


@pytest.mark.parametrize("length", [0, 15, 17])
def test_too_little_or_too_much_randomness_is_refused(length: int) -> None:
    """A token is never made from fewer bits than it promises."""
    with pytest.raises(InvalidInput):
        new_token(b"x" * length)


def test_upper_case_and_blanks_around_a_token_do_not_matter() -> None:
    """A token that was read aloud or copied by hand works."""
    assert digest(f" {TOKEN.upper()}\n") == digest(TOKEN)


def test_a_token_has_one_spelling() -> None:
    """The two spare bits of the last base32 character do not make further valid tokens."""
    others = {TOKEN[:-1] + c for c in "abcdefghijklmnopqrstuvwxyz234567"} - {TOKEN}
    assert digest(TOKEN) not in {digest(other) for other in others}


@given(st.text(max_size=60))
def test_whatever_is_sent_has_a_digest_that_is_not_the_tokens(text: str) -> None:
    """Any text at all, lone surrogates included."""
    assert digest(text) != digest(TOKEN)


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("used", Refusal.USED),
        ("confirmed", Refusal.USED),
        ("withdrawn", Refusal.WITHDRAWN),
        ("expired", Refusal.EXPIRED),
        ("garbled", Refusal.WRONG),
    ],
)
def test_a_link_that_is_not_open_is_refused_to_everybody(state: str, refused: Refusal) -> None:
    """And a state that nobody knows is as good as none."""
    for remote, pinned, inside, by_page in itertools.product((False, True), repeat=4):
        assert refusal((state, remote, pinned), inside=inside, by_page=by_page) is refused


def test_an_open_link_is_refused_from_elsewhere_and_a_pinned_one_to_pages() -> None:
    """All sixteen cases; and a token that nobody was given is wrong."""
    for remote, pinned, inside, by_page in itertools.product((False, True), repeat=4):
        expected = Refusal.AWAY if not (remote or inside) else Refusal.PINNED if pinned and by_page else None
        assert refusal(("open", remote, pinned), inside=inside, by_page=by_page) is expected
        assert refusal(None, inside=inside, by_page=by_page) is Refusal.WRONG
