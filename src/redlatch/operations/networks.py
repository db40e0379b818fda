"""Networks: addresses under a name, for rules to speak of. Built-in ones, and the operator's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redlatch.errors import Conflict, InvalidInput, NotFound, UsageError
from redlatch.files import read_plain
from redlatch.operations import lookups, traffic
from redlatch.operations.lookups import Name, Resolver
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.roles import short_name
from redlatch.operations.site import Site, changing
from redlatch.policy import lists
from redlatch.policy import rules as policy
from redlatch.policy.builtin import ABOUT, BUILTIN, addresses
from redlatch.policy.networks import Network, decode
from redlatch.policy.networks import shown as as_written

if TYPE_CHECKING:
    from redlatch.store import NetworkRow, Reader

MOST_BYTES: Final = 128 << 20
TWO_FILES: Final = "make two files of it, and two networks"
FEW: Final = 5  # entries that a list of all networks shows of each
_RECORDED: Final = 20  # entries that an audit event names

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Shown:
    """A network. `entries` are (entry, comment), perhaps the first few of `count`; `about` says what a built-in
    one is; `rules` use it; `cautions` are what its addresses do not say.
    """

    name: str
    own: bool
    about: str
    entries: tuple[tuple[str, str], ...]
    count: int
    names: tuple[Name, ...]
    rules: tuple[int, ...]
    cautions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A network after (or, removed, before) a change: entries that came and went, remarks, how far it got."""

    network: Shown
    added: int
    removed: int
    notes: tuple[str, ...]
    force: Force


def add(
    site: Site,
    name: str,
    entries: Sequence[str] = (),
    *,
    file: Path | None = None,
    resolver: Resolver,
    force: bool = False,
    progress: Progress = lambda _done, _all: None,
) -> Changed:
    """Makes a network, or adds to it: `entries` (each perhaps `ENTRY # comment`) and the lines of `file`.

    All of it or nothing. A DNS name that does not resolve is refused, with `force` it is stored and holds nobody
    until it does. Errors: InvalidInput (name, entries, lines, with what would be right), Conflict (a built-in
    network), FileProblem, NotFound (a name does not resolve).
    """
    name = _own_name(name)
    if not entries and file is None:
        raise UsageError("name at least one address, or a file of them with --file", hint="as in 192.168.1.0/24")
    given = lists.given(entries)
    if file is not None:
        given.take(lists.read(_text(file), source=str(file), progress=progress))
        if not given.entries:
            raise InvalidInput(f"there is no address in {file}", hint="one entry a line, # begins a comment")
    answers = lookups.usable(resolver(given.names)) if given.names else {}
    failing = {one: answer for one, answer in answers.items() if isinstance(answer, str)}
    if failing and not force:
        which, why = next(iter(failing.items()))
        raise NotFound(
            f"{which} does not resolve: {why}",
            hint="check its spelling; with --force it is added all the same and holds nobody until it resolves",
        )
    now = int(site.clock().timestamp())
    if given.names:
        lookups.mark_wanted(site)
    with changing(site) as tx:
        present = tx.network(name)
        listed = lists.kept(present.entries) if present is not None else lists.Listed()
        known = dict(present.resolved) if present is not None else {}
        before = tuple(listed.intervals)
        new = listed.take(given)
        lists.check_size(listed, f"the network {name}")
        resolved = lookups.first(listed.names, answers, now=now, known=known)
        held = lookups.addresses(listed, resolved)
        row, table = lookups.with_answers(_row(name), listed, resolved, held=held)
        tx.put_network(row, table)
        _judge_rules(tx, name, force=force)
        tx.record("network.changed", name=name, added=len(new), entries=len(listed.entries), what=new[:_RECORDED])
        notes = _notes(name, given, new, before, listed, held)
        notes += [f"{one} does not resolve and holds nobody until it does: {why}" for one, why in failing.items()]
        shown = _shown(tx, row, held, traffic.seen(site))
    return Changed(shown, len(new), 0, tuple(notes), enforce(site))


def remove(site: Site, name: str, entries: Sequence[str] = ()) -> Changed:
    """Removes entries of a network or, when none is named, the whole network.

    Errors: NotFound (network or entry), Conflict (built-in, or rules use it, named), InvalidInput (entries).
    """
    if name in BUILTIN:
        raise Conflict(f"{name} is a built-in network", hint="redlatch network list shows your own ones")
    wanted = lists.given(entries)
    with changing(site) as tx:
        row = tx.network(name)
        if row is None:
            raise unknown(tx, name)
        listed = lists.kept(row.entries)
        if not entries:
            rules = used_by(tx, name)
            if rules:
                raise Conflict(
                    f"the network {name} is used by {_rules(rules)}",
                    hint="remove the rule first: redlatch rule remove ID",
                )
            shown = _shown(tx, row, network(tx, name), traffic.Seen())
            tx.remove_network(name)
            tx.record("network.removed", name=name)
            removed = len(listed.entries)
        else:
            for entry in wanted.entries:
                _take_out(listed, name, entry)
            removed = len(wanted.entries)
            resolved = {one: known for one, known in row.resolved.items() if one in listed.names}
            held = lookups.addresses(listed, resolved)
            row, table = lookups.with_answers(row, listed, resolved, held=held)
            tx.put_network(row, table)
            what = list(wanted.entries)[:_RECORDED]
            tx.record("network.changed", name=name, removed=removed, entries=len(listed.entries), what=what)
            shown = _shown(tx, row, held, traffic.Seen())
    lookups.mark(site)
    notes = () if listed.entries or not entries else (f"{name} is empty and holds nobody",)
    return Changed(shown, 0, removed, notes, enforce(site))


def list_networks(site: Site, name: str | None = None) -> list[Shown]:
    """All networks, built-in ones first, with their first few entries; or the one of that name with all."""
    seen = traffic.seen(site)
    with site.store.read() as view:
        if name is not None and name not in BUILTIN:
            row = view.network(name)
            if row is None:
                raise unknown(view, name)
            return [_shown(view, row, network(view, name), seen, few=False)]
        found = [_builtin(view, one, seen) for one in ([name] if name is not None else BUILTIN)]
        rows = view.networks() if name is None else ()
        return found + [_shown(view, row, network(view, row.name), seen) for row in rows]


def network(view: Reader, name: str) -> Network:
    """The addresses of a network, built-in or own, its DNS names as they resolve now; NotFound."""
    if name in BUILTIN:
        return BUILTIN[name]
    table = view.network_table(name)
    if table is None:
        raise unknown(view, name)
    return decode(table)


def unknown(view: Reader, name: str) -> NotFound:
    """The error for a network that there is not."""
    known = (*BUILTIN, *view.network_digests())
    return NotFound(f"there is no network {name!r}", hint="networks are: " + ", ".join(known[:20]))


def _judge_rules(view: Reader, name: str, *, force: bool) -> None:
    """Conflict when a rule that uses the network would be refused now: what it holds is part of what it opens."""
    for rule in view.rules():
        if name not in rule.networks or not rule.anyone:
            continue
        held = {one: network(view, one) for one in rule.networks}
        policy.refuse_openness(rule, held)
        problem = policy.stands_for_everybody(rule, held, None)
        if problem and not force:
            raise Conflict(
                f"rule {rule.id} asks nobody from {name} for a certificate: {problem}",
                hint="leave these addresses out, or add --force if it is as you want it",
            )


def used_by(view: Reader, name: str) -> tuple[int, ...]:
    """The rules that speak of a network."""
    return tuple(rule.id for rule in view.rules() if name in rule.networks)


def _shown(view: Reader, row: NetworkRow, held: Network, seen: traffic.Seen, *, few: bool = True) -> Shown:
    lines = row.entries.split("\n", FEW)[:FEW] if few else row.entries.split("\n")
    return Shown(
        name=row.name,
        own=True,
        about="",
        entries=tuple(lists.kept_line(line) for line in lines if line),
        count=row.entries.count("\n") + 1 if row.entries else 0,
        names=lookups.names_of(row),
        rules=used_by(view, row.name),
        cautions=traffic.cautions(row.name, held, seen),
    )


def _builtin(view: Reader, name: str, seen: traffic.Seen) -> Shown:
    entries = tuple((entry, "") for entry in addresses(name))
    cautions = traffic.cautions(name, BUILTIN[name], seen)
    return Shown(name, False, ABOUT[name], entries, len(entries), (), used_by(view, name), cautions)


def _own_name(name: str) -> str:
    if name in BUILTIN:
        raise Conflict(f"{name} is a built-in network: {ABOUT[name]}", hint="choose another name for your own one")
    return short_name(name, "network")


def _text(file: Path) -> str:
    data = read_plain(file, max_bytes=MOST_BYTES, hint=TWO_FILES)
    if b"\0" in data:
        raise InvalidInput(f"{file} is no text", hint="save it as plain text (UTF-8), one entry a line")
    return data.decode("utf-8-sig", "replace")


def _notes(
    name: str,
    given: lists.Listed,
    new: Sequence[str],
    before: Sequence[lists.Triple],
    listed: lists.Listed,
    held: Network,
) -> list[str]:
    """What somebody who added should know: what was there already, and what overlaps."""
    notes = []
    known = len(given.entries) - len(new)
    if known == 1 and len(given.entries) == 1:
        notes.append(f"{next(iter(given.entries))} is in {name} already")
    elif known:
        notes.append(f"{known:,} of them {'is' if known == 1 else 'are'} in {name} already")
    if sum(last - first + 1 for _, first, last in listed.intervals) <= held.size:
        return notes
    if len(given.intervals) <= FEW:
        for triple in given.intervals:
            whole = lists.within(triple, before) if as_written(*triple) in new else None
            if whole is not None:
                notes.append(f"{as_written(*triple)} is a part of {whole}, which is in {name} already")
    if new and not notes:
        notes.append("some entries overlap; what several of them hold is held once")
    return notes


def _take_out(listed: lists.Listed, name: str, entry: str) -> None:
    """Takes one entry, in canonical form, out of `listed`; NotFound when it is none of them."""
    _, triple = lists.canonical(entry)
    if entry not in listed.entries:
        whole = lists.within(triple, listed.intervals) if triple is not None else None
        raise NotFound(
            f"{entry} is no entry of {name}",
            hint=f"it is a part of {whole}: remove that, and add what shall stay"
            if whole
            else f"redlatch network list {name} shows all of them",
        )
    del listed.entries[entry]
    if triple is None:
        listed.names.remove(entry)
    else:
        listed.intervals.remove(triple)


def _row(name: str) -> NetworkRow:
    from redlatch.store import NetworkRow

    return NetworkRow(name, "", {}, 0, "")


def _rules(ids: Sequence[int]) -> str:
    return f"rule {ids[0]}" if len(ids) == 1 else "rules " + ", ".join(map(str, ids))
