"""DNS names in networks: what they stand for, looked up again and again, and for how long an answer counts.

What is stored of a name: {"addresses": [...], "at": since when these, "failing": since when it has no answer
(absent while it has one)}, in Unix seconds. Only what changes is stored, so that a name that stays costs no
version; when the names were last looked up stands in a file of its own, which also tells the timer that there are
some.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from redlatch.errors import FileProblem
from redlatch.files import own_user, read_own, write_atomic
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Site, changing
from redlatch.policy import networks as policy
from redlatch.policy.lists import Listed, kept, usable_answers

if TYPE_CHECKING:
    from redlatch.store import NetworkRow, Reader

Answer = tuple[str, ...] | str  # addresses, or in words why there are none
Resolver = Callable[[Sequence[str]], Mapping[str, Answer]]

KEPT: Final = 24 * 3600  # s for which the last answer of a name that does not resolve any more still counts
LATE: Final = 3600  # s without a look-up after which `status` says so; the timer looks every five minutes


@dataclass(frozen=True, slots=True)
class Name:
    """A DNS name of a network: its addresses, since when they are these, since when it does not resolve (None: it
    does).
    """

    name: str
    addresses: tuple[str, ...]
    since: datetime
    failing_since: datetime | None


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a look at all names brought: `names` how many there are, `changes` in words, and how far they got."""

    names: int
    changes: tuple[str, ...]
    force: Force


def resolve(site: Site, resolver: Resolver) -> Resolved:
    """Looks all DNS names of all networks up again; what came out differently is recorded and enforced.

    A name that does not resolve keeps its last answer for 24 hours and then holds nobody.
    """
    with site.store.read() as view:
        before = {row.name: row for row in view.networks() if row.resolved}
    names = sorted({name for row in before.values() for name in row.resolved})
    answers = usable(resolver(names)) if names else {}
    last = last_look(site)
    now = int(site.clock().timestamp())
    changes: list[str] = []
    if any(again(row.resolved, answers, now=now, last=last) != row.resolved for row in before.values()):
        with changing(site) as tx:
            for row in tx.networks():
                resolved = again(row.resolved, answers, now=now, last=last)
                if resolved == row.resolved:
                    continue
                tx.put_network(*with_answers(row, kept(row.entries), resolved))
                tx.record("network.resolved", name=row.name, names=resolved)
                changes += _changes(row, resolved)
    mark(site, looked=now)
    return Resolved(len(names), tuple(changes), enforce(site))


def usable(answers: Mapping[str, Answer]) -> dict[str, Answer]:
    """Answers without the addresses that no name may stand for; words where none is left."""
    found: dict[str, Answer] = {}
    for name, answer in answers.items():
        if isinstance(answer, str):
            found[name] = answer
            continue
        left = usable_answers(answer)
        named = ", ".join(sorted(set(answer))[:3]) or "nothing"
        found[name] = left or f"its answer is {named}, which is nobody's address outside this machine"
    return found


def again(
    known: Mapping[str, Any], answers: Mapping[str, Answer], *, now: int, last: int | None
) -> dict[str, dict[str, Any]]:
    """What is known after a look-up at `now`; `last` is when the look-up before was (Unix seconds)."""
    return {
        name: _one(one, answers[name], now=now, last=last) if name in answers else dict(one)
        for name, one in known.items()
    }


def _one(known: Mapping[str, Any], answer: Answer, *, now: int, last: int | None) -> dict[str, Any]:
    addresses, since = list(known["addresses"]), known["at"]
    if not isinstance(answer, str):
        same = list(answer) == addresses
        return {"addresses": list(answer), "at": since if same else now}
    # Not since now: when nobody looked for a day, the last answer is a day old.
    failing = known.get("failing", min(now, max(since, last or since)))
    if addresses and now - failing > KEPT:
        addresses, since = [], now
    return {"addresses": addresses, "at": since, "failing": failing}


def first(
    names: Sequence[str], answers: Mapping[str, Answer], *, now: int, known: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """What is known of a network's names when some of them were looked up now, perhaps for the first time."""
    fresh = {name: {"addresses": [], "at": now} for name in names if name not in known}
    found = again(fresh | dict(known), answers, now=now, last=now)
    return {name: found[name] for name in names}


def addresses(listed: Listed, resolved: Mapping[str, Any]) -> policy.Network:
    """All addresses of a network with these entries and answers."""
    return listed.network({name: one["addresses"] for name, one in resolved.items()})


def with_answers(
    row: NetworkRow, listed: Listed, resolved: Mapping[str, Any], *, held: policy.Network | None = None
) -> tuple[NetworkRow, bytes]:
    """The network with these entries and answers, and its table of addresses (`held`, where they are known)."""
    network = addresses(listed, resolved) if held is None else held
    table = policy.encode(network)
    changed = replace(
        row,
        entries=listed.text(),
        resolved=resolved,
        intervals=len(network.v4) + len(network.v6),
        digest=hashlib.sha256(table).hexdigest(),
    )
    return changed, table


def names_of(row: NetworkRow) -> tuple[Name, ...]:
    """The DNS names of a network, by name."""
    return tuple(
        Name(
            name,
            tuple(one["addresses"]),
            datetime.fromtimestamp(one["at"], UTC),
            datetime.fromtimestamp(one["failing"], UTC) if "failing" in one else None,
        )
        for name, one in sorted(row.resolved.items())
    )


def mark_wanted(site: Site) -> None:
    """Tells the timer of names before they are stored: it must not miss them when this is killed in between."""
    if not site.settings.look_up.exists():
        _mark(site, int(site.clock().timestamp()))


def mark(site: Site, *, looked: int | None = None) -> None:
    """Brings the file that tells the timer of DNS names in line with the store; `looked`: when they were asked."""
    with site.store.read() as view:
        wanted = any(row.resolved for row in view.networks())
    # What it tells of is recorded by now, and done: a file too many, or an old one, costs the timer one look.
    with contextlib.suppress(OSError, FileProblem):
        if not wanted:
            site.settings.look_up.unlink(missing_ok=True)
        elif looked is not None:
            _mark(site, looked)


def _mark(site: Site, looked: int) -> None:
    owner = own_user(site.settings)
    write_atomic(site.settings.look_up, f"{looked}\n".encode("ascii"), mode=0o600, owner=owner)


def last_look(site: Site) -> int | None:
    """When the names were last looked up (Unix seconds); None when that is not known."""
    with contextlib.suppress(OSError, ValueError):
        return int(read_own(site.settings.look_up))
    return None


def warnings(site: Site, view: Reader) -> list[str]:
    """What `status` says of DNS names: those without an answer, and that nobody looks."""
    rows = [row for row in view.networks() if row.resolved]
    said = [_failing(row.name, name) for row in rows for name in names_of(row) if name.failing_since is not None]
    now, last = int(site.clock().timestamp()), last_look(site)
    if rows and (last is None or now - last > LATE):
        when = "" if last is None else f" since {datetime.fromtimestamp(last, UTC):%Y-%m-%d %H:%M} UTC"
        said.append(
            f"the DNS names in {', '.join(row.name for row in rows)} have not been looked up{when}: let cron run "
            "redlatch network resolve every five minutes"
        )
    return said


def _failing(network: str, name: Name) -> str:
    since = f"{name.failing_since:%Y-%m-%d %H:%M} UTC" if name.failing_since else ""
    what = ": its last answer counts for 24 hours" if name.addresses else " and holds nobody"
    return f"{name.name} in the network {network} does not resolve since {since}{what}"


def _changes(row: NetworkRow, resolved: Mapping[str, Any]) -> list[str]:
    said = []
    for name, one in sorted(resolved.items()):
        before = row.resolved[name]
        if one["addresses"] != before["addresses"]:
            said.append(f"{name} in {row.name}: {', '.join(one['addresses']) or 'nobody any more'}")
        elif ("failing" in one) != ("failing" in before):
            said.append(f"{name} in {row.name} {'does not resolve' if 'failing' in one else 'resolves again'}")
    return said
