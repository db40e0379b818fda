"""The published list of addresses (binary): Python and the guard take the same ones, and find the same in them.

Input: the table; or `words ` and the decimal words that follow a table's beginning.
"""

from __future__ import annotations

import struct

from fuzz.harness import Refused, attempt, javascript
from redlatch.policy.networks import decode, encode, shown

_PROBES = (
    "0.0.0.0",
    "10.0.0.5",
    "255.255.255.255",
    "::",
    "2001:db8::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)


def TestOneInput(data: bytes) -> None:
    if data.startswith(b"words "):
        numbers = [int(one) & 0xFFFFFFFF for one in data[6:].split() if one.isdigit() and len(one) < 12]
        data = b"RLNET1\n\0" + struct.pack(f"<{len(numbers)}I", *numbers)
    network = attempt(decode, data)
    edges: list[str] = []
    if not isinstance(network, Refused):
        assert encode(network) == data, "one table for one network"
        assert all(first <= last for first, last in (*network.v4, *network.v6))
        for version, intervals in ((4, network.v4), (6, network.v6)):
            for first, last in intervals[:8]:
                edges += [shown(version, one, one) for one in (first, last, max(first - 1, 0))]
    probes = [*_PROBES, *edges]
    said = javascript("table", table=data, addresses=probes)
    if isinstance(network, Refused):
        assert "refused" in said, "the guard takes a table that Python refuses"
    else:
        assert said == {"ok": [network.contains(one) for one in probes]}, said
