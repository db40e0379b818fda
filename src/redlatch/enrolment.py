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
#: Wrong tokens after which a link is dead. Guessing is hopeless anyway: ten mean that somebody is trying.
ATTEMPTS = 10


class Refusal(StrEnum):
    """Why a token was not redeemed."""

    WRONG = "wrong-token"
    EXPIRED = "expired"
    USED = "already-used"
    LOCKED = "too-many-attempts"


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
    if len(randomness) != TOKEN_BYTES:
        raise InvalidInput(f"a token takes {TOKEN_BYTES} random bytes, got {len(randomness)}")
    token = base64.b32encode(randomness).decode("ascii").rstrip("=").lower()
    return Link(digest=_digest(token), device=device, role=role, expires=now + lifetime), token


def redeem(link: Link, token: str, *, now: datetime) -> tuple[Link, Refusal | None]:
    """One attempt: the link's next state, and why it was refused (None: redeemed, and from now on used).

    Fails closed: only the right token, in time, for the first time and before the last attempt is spent, passes.
    Somebody without the right token learns nothing but that it is wrong.
    """
    if link.failures >= ATTEMPTS:
        return link, Refusal.LOCKED
    if not hmac.compare_digest(_digest(token.strip().lower()), link.digest):
        return replace(link, failures=link.failures + 1), Refusal.WRONG
    if link.redeemed is not None:
        return link, Refusal.USED
    if now >= link.expires:
        return link, Refusal.EXPIRED
    return replace(link, redeemed=now), None


def _digest(token: str) -> bytes:
    # The text is hashed, not the decoded bytes: base32's spare bits would give one token several spellings.
    return hashlib.sha256(b"redlatch enrolment link\0" + token.encode("utf-8", "surrogatepass")).digest()
