"""A link's life: made for one device, redeemed once, dead after that.

Pure: clock and randomness are handed in, and every step returns the next state instead of changing one. Whoever
serves a link keeps the state and does the step and the issuing in one turn (one transaction, or one turn of one
event loop), so that of two simultaneous redemptions exactly one wins.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
#: Wrong tokens after which a link is dead. Guessing is hopeless anyway: ten mean that somebody is trying.
ATTEMPTS = 10


class Refusal(StrEnum):
    """Why a token was not redeemed."""

    WRONG = "wrong-token"
    EXPIRED = "expired"
    USED = "already-used"
    LOCKED = "too-many-attempts"
    WITHDRAWN = "withdrawn"
    AWAY = "outside-the-network"
    PINNED = "command-line-only"


@dataclass(frozen=True, slots=True)
class Link:
    """An invitation for one device with one role. `digest` is all that is kept of the token."""

    digest: bytes
    device: str
    role: str
    expires: datetime
    failures: int = 0
    redeemed: datetime | None = None


def new_link(
    device: str, role: str, *, now: datetime, randomness: bytes, lifetime: timedelta = LIFETIME
) -> tuple[Link, str]:
    """A fresh link and its token (26 lower-case base32 characters), which is shown once and kept nowhere.

    `randomness`: TOKEN_BYTES bytes from the operating system. InvalidInput when there are fewer or more.
    """
    token = new_token(randomness)
    return Link(digest=digest(token), device=device, role=role, expires=now + lifetime), token


def new_token(randomness: bytes) -> str:
    """26 lower-case base32 characters of TOKEN_BYTES random bytes. InvalidInput when there are fewer or more."""
    if len(randomness) != TOKEN_BYTES:
        raise InvalidInput(f"a token takes {TOKEN_BYTES} random bytes, got {len(randomness)}")
    return base64.b32encode(randomness).decode("ascii").rstrip("=").lower()


def redeem(link: Link, token: str, *, now: datetime) -> tuple[Link, Refusal | None]:
    """One attempt: the link's next state, and why it was refused (None: redeemed, and from now on used).

    Fails closed: only the right token, in time, for the first time and before the last attempt is spent, passes.
    Somebody without the right token learns nothing but that it is wrong.
    """
    if link.failures >= ATTEMPTS:
        return link, Refusal.LOCKED
    if not hmac.compare_digest(digest(token), link.digest):
        return replace(link, failures=link.failures + 1), Refusal.WRONG
    if link.redeemed is not None:
        return link, Refusal.USED
    if now >= link.expires:
        return link, Refusal.EXPIRED
    return replace(link, redeemed=now), None


def refusal(link: tuple[str, bool, bool] | None, *, inside: bool, by_page: bool) -> Refusal | None:
    """Why a link that is kept in the store is not redeemed; None when it may be.

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
