"""Where connections came from, by the engines' access logs: what an address list cannot know by itself.

Behind a proxy, a container's port, a tunnel or a router's hairpin everybody seems to be one private address. The
log is the word of Node-RED's user: it makes warnings, and is never an input to a permission.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from redlatch.engines.nodered import claims
from redlatch.errors import RedlatchError
from redlatch.operations import engines, machine
from redlatch.operations.site import Site
from redlatch.policy import impact as policy
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.networks import Network, peer_number, shown

LAST: Final = 500
ENOUGH: Final = 20
_LOOPBACK: Final = BUILTIN["localhost"]
_PRIVATE: Final = BUILTIN["private"]
_BEHIND: Final = "behind a proxy, a tunnel (cloudflared), Docker or a router's hairpin"


@dataclass(frozen=True, slots=True)
class Seen:
    """The last connections (at most 500) by the addresses they came from, refused ones too; `by`: whose word."""

    connections: int = 0
    addresses: Mapping[str, int] = field(default_factory=dict)
    by: str = "Node-RED"

    @property
    def everybody(self) -> str | None:
        """The one loopback or private address that all of at least 20 connections came from."""
        if self.connections < ENOUGH or len(self.addresses) != 1:
            return None
        (address,) = self.addresses
        return address if _PRIVATE.contains(address) else None


def accesses(site: Site, limit: int) -> list[claims.Access]:
    """The last `limit` entries of all engines' logs, oldest first. FileProblem for a planted file."""
    found = [
        entry
        for one in engines.configured(site.settings, site.config())
        for entry in claims.read_access(one.settings, one.uid, limit=limit)
    ]
    return sorted(found, key=lambda one: one.at)[-limit:] if limit else []


def follow(site: Site, *, wait: Callable[[], bool]) -> Iterator[claims.Access]:
    """New entries of all engines as they come; `wait` as in claims.follow_access. FileProblem for a planted
    file.
    """
    tails = [
        claims.AccessTail(one.settings, one.uid, new_only=True)
        for one in engines.configured(site.settings, site.config())
    ]
    while wait():
        yield from sorted((entry for tail in tails for entry in tail.read()), key=lambda one: one.at)


def seen(site: Site) -> Seen:
    """What the access logs say, but for our own checks; nothing where there is none, or none that can be
    trusted.
    """
    try:
        entries = accesses(site, LAST)
    except RedlatchError:  # a planted file; `status` and `log` tell of it
        entries = []
    ours = machine.CHECKS_FROM
    numbers = [
        number for one in entries if one.address != ours and (number := peer_number(one.address)) is not None
    ]
    counted = Counter(shown(version, value, value) for version, value in numbers)
    speakers = [one.by for one in engines.configured(site.settings, site.config())]
    return Seen(len(numbers), dict(counted.most_common()), " and ".join(speakers) or "Node-RED")


def sentence(found: Seen) -> str | None:
    """The words about traffic in which everybody seems to be one private address; None where that is not so."""
    address = found.everybody
    if address is None:
        return None
    return (
        f"all of the last {found.connections} connections came from {address} ({found.by}'s word): {_BEHIND} "
        "everybody seems to come from one address, and then networks tell nobody apart"
    )


def cautions(name: str, network: Network, found: Seen) -> tuple[str, ...]:
    """What whoever uses `network`, called `name`, should know that its addresses do not say."""
    said = []
    address = found.everybody
    if network.is_everywhere:
        said.append(f"{name} holds every address there is of IPv4 or IPv6: that is everybody")
    if address is not None and network.contains(address):
        said.append(
            f"all of the last {found.connections} connections came from {address} ({found.by}'s word), which is "
            f"in {name}: it may stand for everybody"
        )
    if network.overlaps(_LOOPBACK):
        said.append(f"{name} holds this machine's own address: {_BEHIND} everybody seems to come from there")
    single = next(_single_private(network), None)
    if single is not None and single != address:
        said.append(
            f"{name} holds {single}, one private address: if that is a router, a proxy or a container's gateway, "
            "everybody behind it seems to come from there"
        )
    return tuple(said)


def _single_private(network: Network) -> Iterator[str]:
    for version, intervals in ((4, network.v4), (6, network.v6)):
        for first, last in intervals:
            text = shown(version, first, first)
            if first == last and _PRIVATE.contains(text) and not _LOOPBACK.contains(text):
                yield text


#: How far back a change is weighed against what was seen.
DAYS: Final = 7
_MOST: Final = 200_000
#: Refusals that say nothing about rules: what was wrong with these requests the log does not tell.
_NOT_BY_RULES: Final = frozenset(
    {"foreign-host", "bad-target", "bad-upgrade", "cross-origin", "plain-http", "too-many", "bad-handshake"}
)


@dataclass(frozen=True, slots=True)
class Lately:
    """The accesses `since` then that rules decide about, by whose word."""

    seen: tuple[policy.Seen, ...]
    since: datetime
    by: str


def lately(site: Site) -> Lately:
    """What the engines' logs say of the last seven days, as far back as they reach: 8 MB each are kept."""
    since = site.clock() - timedelta(days=DAYS)
    try:
        entries = accesses(site, _MOST)
    except RedlatchError:  # a planted file; `status` and `log` tell of it
        entries = []
    found = tuple(
        policy.Seen(
            at=int(one.at.timestamp()),
            address=one.address,
            method=one.method,
            path=one.path,
            device=one.device_id,
            certificate=one.fingerprint,
            websocket=one.upgrade,
            allowed=one.allow,
            count=one.count,
        )
        for one in entries
        # who was refused in the handshake never got to ask for anything, and our own checks are nobody
        if one.address != machine.CHECKS_FROM
        and one.at >= since
        and one.method
        and one.path
        and (one.allow or one.reason not in _NOT_BY_RULES)
    )
    speakers = [one.by for one in engines.configured(site.settings, site.config())]
    return Lately(found, since, " and ".join(speakers) or "Node-RED")
