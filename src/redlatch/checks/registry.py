"""All checks there are, those of the outside last: they take longest."""

from __future__ import annotations

from redlatch.checks import (
    admission,
    certificates,
    clock,
    enforcement,
    files,
    keys,
    names,
    nodered,
    ports,
    service,
    store,
    versions,
)
from redlatch.checks.model import Check

CHECKS: tuple[Check, ...] = (
    *store.CHECKS,
    *files.CHECKS,
    *keys.CHECKS,
    *clock.CHECKS,
    *certificates.CHECKS,
    *enforcement.CHECKS,
    *service.CHECKS,
    *nodered.CHECKS,
    *ports.CHECKS,
    *versions.CHECKS,
    *names.CHECKS,
    *admission.CHECKS,
)
BY_CODE = {check.code: check for check in CHECKS}
#: Codes of those that knock at the door: that takes a while, and is in the audit trail.
OUTSIDE = frozenset({"outside-open", "outside-shut"})
