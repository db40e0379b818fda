"""Who stands behind a connection to the console: the device whose certificate the TLS layer saw, as it is now."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from redlatch.operations import roles
from redlatch.operations.site import Site, latest

if TYPE_CHECKING:
    from redlatch.store import Certificate, Device


@dataclass(frozen=True, slots=True)
class Visitor:
    """A device in use, the certificate that it came with, and the built-in role that its role is like; the address
    that it came from, and since when (uptime, in seconds) the connection is there over which it asks.
    """

    device: Device
    certificate: Certificate
    base: str
    address: str = ""
    connected: float = 0.0

    @property
    def may_see(self) -> bool:
        """Owners and admins see everything."""
        return self.base in ("owner", "admin")

    @property
    def may_change(self) -> bool:
        """Owners manage devices, keys and rules."""
        return self.base == "owner"


def visitor(site: Site, der: bytes | None) -> Visitor | None:
    """The visitor behind a certificate (DER, from the TLS layer), None when it opens nothing: there is none, it is
    unknown, revoked, not yet or no longer valid, or its device is shut out.

    Asked for every request: OpenSSL looked at the dates once, when the connection was made, and knows nothing of
    revocations.
    """
    if der is None:
        return None
    with site.store.read() as view:
        now = latest(site, view)
        found = view.certificate(hashlib.sha256(der).hexdigest())
        if found is None or found.revoked_at is not None or not found.not_before <= now <= found.not_after:
            return None
        device = view.device_by_id(found.device_id)
        if device is None or device.revoked_at is not None:
            return None
        return Visitor(device, found, roles.base_of(view, device.role))
