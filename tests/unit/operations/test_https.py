"""Links as people paste them."""

from __future__ import annotations

import pytest

from redlatch.errors import InvalidInput
from redlatch.operations.https import checked_url


@pytest.mark.parametrize(
    "link",
    [
        "", "http://pi.local/#x", "https:///x", "https://user@pi.local/", "https://pi.local:99999/",
        "https://pi.local:0/", "https://pi .local/", "https://pi.\tlocal/", "https://pi.local\n.example/",
        "https://pi\u0084.local/", "https://pi\u00a0/#x", "https://pi/\u202e#x",
    ],
)  # fmt: skip
def test_what_is_no_https_link_is_refused(link: str) -> None:
    """Blanks among it: urlsplit drops some of them and keeps others in the host (found by fuzzing)."""
    with pytest.raises(InvalidInput, match="no https link"):
        checked_url(link)


def test_blanks_around_a_link_are_nothing() -> None:
    """People paste them with it."""
    assert checked_url(" https://pi.local:1882/#token\n").hostname == "pi.local"
