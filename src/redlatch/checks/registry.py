"""All checks there are, causes before their effects."""

from __future__ import annotations

from redlatch.checks import certificates, clock, enforcement, files, keys, service, store
from redlatch.checks.model import Check

CHECKS: tuple[Check, ...] = (
    *store.CHECKS,
    *files.CHECKS,
    *keys.CHECKS,
    *clock.CHECKS,
    *certificates.CHECKS,
    *enforcement.CHECKS,
    *service.CHECKS,
)
#: Codes of those that knock at the door, which takes a while.
OUTSIDE: frozenset[str] = frozenset()
BY_CODE = {check.code: check for check in CHECKS}
