"""Addresses, ranges, subnets, names and whole lists of them, as people write them; and whether a peer is in one.

Input: a list; behind the first empty line peers' addresses, one a line, as a socket names them.
"""

from __future__ import annotations

from fuzz.harness import Refused, attempt, javascript
from redlatch.policy import lists, networks
from redlatch.policy.networks import Network, peer_number


def TestOneInput(data: bytes) -> None:
    text, _, rest = data.decode("utf-8", "surrogateescape").partition("\n\n")
    for line in text.split("\n")[:20]:
        _one(line)
    found = attempt(lists.read, text, source="the list")
    if isinstance(found, Refused):
        return
    again = lists.kept("\n".join(f"{entry} # {note}" if note else entry for entry, note in found.entries.items()))
    assert again.entries == found.entries, "what is stored is read as the same list"
    assert sorted(again.intervals) == sorted(found.intervals)
    network = found.network({})
    table = networks.encode(network)
    assert networks.decode(table) == network
    _peers(network, table, [*rest.split("\n")[:20], *(entry for entry in found.entries if "/" not in entry)][:40])


def _one(text: str) -> None:
    found = attempt(lists.canonical, text)
    if isinstance(found, Refused):
        return
    entry, triple = found
    assert entry.isascii(), entry
    assert entry.isprintable(), entry
    assert " " not in entry, entry
    assert "#" not in entry, entry
    assert lists.canonical(entry) == (entry, triple), "the canonical form is its own"
    if triple is not None:
        version, first, last = triple
        assert 0 <= first <= last < 1 << (32 if version == 4 else 128), triple
        assert not (version == 6 and first >> 32 == last >> 32 == 0xFFFF), "an IPv4 address in IPv6 dress"
        assert network_of(triple).contains(networks.shown(version, first, first))


def network_of(triple: tuple[int, int, int]) -> Network:
    return networks.compiled([triple])


def _peers(network: Network, table: bytes, peers: list[str]) -> None:
    expected = [None if peer_number(one) is None else network.contains(one) for one in peers]
    said = javascript("table", table=table, addresses=peers)["ok"]
    assert said == expected, [row for row in zip(peers, said, expected, strict=True) if row[1] != row[2]]
