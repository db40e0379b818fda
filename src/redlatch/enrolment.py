"""A link's life: made for one device, redeemed once, dead after that. Pure: randomness and state are handed in.

The link itself is kept in the store: a step and the issuing are one transaction there, so that of two simultaneous
redemptions exactly one wins.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from enum import StrEnum

from redlatch.errors import InvalidInput

#: Bytes of randomness in a token: 128 bits cannot be guessed, whatever the rate.
TOKEN_BYTES = 16
#: 16 bytes in base32 (RFC 4648 section 6) without padding. Short enough for a QR code of version 4.
TOKEN_LENGTH = 26
#: Long enough to find the phone, short enough that a photographed screen is worth nothing tomorrow.
LIFETIME = timedelta(minutes=15)
#: For a device elsewhere: somebody has to read the message first.
REMOTE_LIFETIME = timedelta(hours=24)


class Refusal(StrEnum):
    """Why a token was not redeemed."""

    WRONG = "wrong-token"
    EXPIRED = "expired"
    USED = "already-used"
    WITHDRAWN = "withdrawn"
    AWAY = "outside-the-network"
    PINNED = "command-line-only"


def new_token(randomness: bytes) -> str:
    """26 lower-case base32 characters of TOKEN_BYTES random bytes. InvalidInput when there are fewer or more."""
    if len(randomness) != TOKEN_BYTES:
        raise InvalidInput(f"a token takes {TOKEN_BYTES} random bytes, got {len(randomness)}")
    return base64.b32encode(randomness).decode("ascii").rstrip("=").lower()


def refusal(link: tuple[str, bool, bool] | None, *, inside: bool, by_page: bool) -> Refusal | None:
    """Why a link is not redeemed; None when it may be.

    `link` is None for a token that nobody was given, else (state, remote, pinned), the state being "open", "used",
    "confirmed", "withdrawn" or "expired"; `inside` whether a private address asks, `by_page` whether a browser's
    page does. Fails closed: a state that is none of these is wrong.
    """
    if link is None:
        return Refusal.WRONG
    state, remote, pinned = link
    if state != "open":
        return _OVER.get(state, Refusal.WRONG)
    if not (remote or inside):
        return Refusal.AWAY
    return Refusal.PINNED if pinned and by_page else None


_OVER = {
    "used": Refusal.USED,
    "confirmed": Refusal.USED,
    "withdrawn": Refusal.WITHDRAWN,
    "expired": Refusal.EXPIRED,
}


def digest(token: str) -> bytes:
    """What is kept of a token: SHA-256 (32 bytes) of its text, whose case and outer blanks do not count.

    The text is hashed, not the decoded bytes: base32's spare bits would give one token several spellings.
    """
    text = token.strip().lower().encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"redlatch enrolment link\0" + text).digest()
