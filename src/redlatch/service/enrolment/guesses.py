"""How often one address may be wrong. Guessing 128 bits is hopeless; this bounds what it costs."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

BURST = 10.0
PER_SECOND = 1.0
#: Addresses remembered; the one that was wrong longest ago is forgotten first.
REMEMBERED = 4096


class Guesses:
    """A token bucket for each address, of wrong tokens only: a right one passes whatever was tried before it, so
    that nobody behind the same proxy or NAT can lock another one out.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that only grow."""
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wrong(self, address: str) -> bool:
        """Counts a wrong token; whether there were too many of late."""
        source, now = _source(address), self._clock()
        left, since = self._buckets.pop(source, (BURST, now))
        left = min(BURST, left + (now - since) * PER_SECOND)
        over = left < 1
        self._buckets[source] = (left if over else left - 1, now)
        if len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        return over

    def __len__(self) -> int:
        return len(self._buckets)


def _source(address: str) -> str:
    """IPv4 as it is, IPv6 by its /64: that is what one household has (RFC 6177)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return "?"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
