"""All rules, with their networks, roles and origins, as one file: written, compared, applied as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.files import read_plain
from redlatch.operations import lookups, networks, origins, roles
from redlatch.operations import rules as operations
from redlatch.operations.lookups import Resolver
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, changing, set_config
from redlatch.policy import lists, toml
from redlatch.policy import rules as policy
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import ROLES, Rule
from redlatch.policy.networks import Network

if TYPE_CHECKING:
    from redlatch.store import NetworkRow, Reader, Transaction

INLINE: Final = 1000  # entries that an exported file lists; of longer networks it names the stored list
_MOST_BYTES: Final = 16 << 20
_MOST_ORIGINS: Final = 32
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file, read: what it asks for, with the entries of its networks and the answers for their new DNS names."""

    source: str
    asked: toml.Wanted
    listed: Mapping[str, lists.Listed]
    answers: Mapping[str, lookups.Answer]


@dataclass(frozen=True, slots=True)
class Plan:
    """What applying a file changes: `changes` in words, "+" or "-" before each; what to ask and to know."""

    changes: tuple[str, ...]
    question: str
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Difference:
    plan: Plan
    config: Mapping[str, object]
    new_roles: Mapping[str, str]
    old_roles: Sequence[str]
    new_networks: Sequence[str]
    old_networks: Sequence[str]
    new_rules: Sequence[Rule]
    old_rules: Sequence[Rule]


# --- export


def export(site: Site) -> str:
    """The present state as a file; applied here it changes nothing, elsewhere it makes the same.

    Revoked devices are left out, and rules that name nobody else: their names may be other devices' by now.
    """
    with site.store.read() as view:
        config = Config.of(view.site().config)
        present = _living(view, view.rules())
        names = operations.device_names(view, present)
        wanted = toml.Wanted(
            open_port=config.open_port,
            origins=config.origins,
            roles=view.roles(),
            networks={row.name: _source(row) for row in view.networks()},
            rules=tuple(
                replace(rule, devices=tuple(sorted(names[one] for one in rule.devices))) for rule in present
            ),
        )
    return toml.write(
        wanted, heading=f"The rules of {config.machine}. To make them so again: redlatch rules apply FILE"
    )


def _living(view: Reader, present: Sequence[Rule]) -> list[Rule]:
    """The rules without revoked devices; those of revoked devices alone are left out."""
    alive = {one.id for one in operations.devices(view, present) if one.revoked_at is None}
    found = [replace(rule, devices=tuple(one for one in rule.devices if one in alive)) for rule in present]
    return [rule for rule in found if rule.anyone or rule.any_device or rule.roles or rule.devices]


def _source(row: NetworkRow) -> toml.Source:
    entries = row.entries.split("\n") if row.entries else []
    if len(entries) > INLINE:
        return toml.Source(stored=_digest(row.entries))
    return toml.Source(entries=tuple(entries))


def _digest(entries: str) -> str:
    """What names a stored list: its text, not its addresses, which change with what DNS names stand for."""
    return hashlib.sha256(entries.encode()).hexdigest()


# --- apply


def read(site: Site, file: Path, *, resolver: Resolver) -> Wanted:
    """Reads a file and the lists it names, and looks up what is new of their DNS names.

    Errors: FileProblem, InvalidInput (TOML, keys, names, entries), Conflict, NotFound (a stored list).
    """
    source = str(file)
    asked = toml.read(read_plain(file, max_bytes=_MOST_BYTES), source=source)
    for name, base in asked.roles.items():
        roles.short_name(name, "role")
        if name in ROLES:
            raise Conflict(f"{source} makes a role {name}, which is built in", hint="choose another name")
        if base not in ROLES:
            raise policy.unknown("built-in role", base, ROLES, hint="a role is like one of: " + ", ".join(ROLES))
    for name in asked.networks:
        if name in BUILTIN:
            raise Conflict(f"{source} makes a network {name}, which is built in", hint="choose another name")
        roles.short_name(name, "network")
    if len(asked.origins) > _MOST_ORIGINS:
        raise Conflict(f"{source} names more than {_MOST_ORIGINS} origins", hint="name those that are needed")
    asked = replace(asked, origins=tuple(dict.fromkeys(origins.canonical(one) for one in asked.origins)))
    with site.store.read() as view:
        rows = {row.name: row for row in view.networks()} if asked.networks else {}
    listed = {name: _listed(name, one, file, rows) for name, one in asked.networks.items()}
    new = [one for name, found in listed.items() for one in found.names if one not in _resolved(rows.get(name))]
    answers = lookups.usable(resolver(sorted(set(new)))) if new else {}
    return Wanted(source, asked, listed, answers)


def _resolved(row: NetworkRow | None) -> Mapping[str, object]:
    return row.resolved if row is not None else {}


def _listed(name: str, source: toml.Source, file: Path, rows: Mapping[str, NetworkRow]) -> lists.Listed:
    if source.entries is not None:
        try:
            return lists.given(source.entries)
        except InvalidInput as error:
            raise InvalidInput(f"the network {name!r} in {file}: {error.message}", hint=error.hint) from None
    if source.file is not None:
        path = file.parent / source.file
        data = read_plain(path, max_bytes=networks.MOST_BYTES, hint=networks.TWO_FILES)
        if b"\0" in data:
            raise InvalidInput(f"{path} is no text", hint="save it as plain text (UTF-8), one entry a line")
        return lists.read(data.decode("utf-8-sig", "replace"), source=str(path))
    nearest_first = sorted(rows.values(), key=lambda row: row.name != name)
    found = next((row for row in nearest_first if _digest(row.entries) == source.stored), None)
    if found is None:
        raise NotFound(
            f"the list of the network {name!r} is not stored here any more, or never was",
            hint='put its addresses into a file beside this one, and write {file = "list.txt"}',
        )
    return lists.kept(found.entries)


def plan(site: Site, wanted: Wanted, *, force: bool = False) -> Plan:
    """What applying it would change. Errors: NotFound, InvalidInput, Conflict, as for single rules."""
    with site.store.read() as view:
        return _difference(site, view, wanted, force=force).plan


def apply(site: Site, wanted: Wanted, expected: Plan, *, force: bool = False) -> Force:
    """Makes the state the one that the file asks for: all of it in one transaction, or nothing.

    `expected` is the plan that was agreed to; Conflict when it is another by now.
    """
    if any(listed.names for listed in wanted.listed.values()):
        lookups.mark_wanted(site)
    with changing(site) as tx:
        found = _difference(site, tx, wanted, force=force)
        if found.plan.changes != expected.changes:
            raise Conflict("the rules were changed meanwhile; nothing was applied", hint="run the command again")
        _carry_out(site, tx, wanted, found)
        tx.record("rules.applied", changes=list(found.plan.changes))
    lookups.mark(site)
    return enforce(site)


def _carry_out(site: Site, tx: Transaction, wanted: Wanted, found: _Difference) -> None:
    from redlatch.store import NetworkRow

    for rule in found.old_rules:
        tx.remove_rule(rule.id)
    for name in found.old_roles:
        tx.remove_role(name)
    for name, base in found.new_roles.items():
        tx.add_role(name, base)
    now = int(site.clock().timestamp())
    for name in found.new_networks:
        listed = wanted.listed[name]
        resolved = lookups.first(listed.names, wanted.answers, now=now, known=_resolved(tx.network(name)))
        tx.put_network(*lookups.with_answers(NetworkRow(name, "", {}, 0, ""), listed, resolved))
    for name in found.old_networks:
        tx.remove_network(name)
    for rule in found.new_rules:
        tx.add_rule(rule)
    if found.config:
        set_config(tx, **found.config)


def _difference(site: Site, view: Reader, wanted: Wanted, *, force: bool) -> _Difference:
    asked = wanted.asked
    config = Config.of(view.site().config)
    own = view.roles()
    rows = {row.name: row for row in view.networks()}
    if asked.open_port is not None:
        operations.check_port(config, asked.open_port)
    old_roles = [name for name, base in own.items() if asked.roles.get(name) != base]
    new_roles = {name: base for name, base in sorted(asked.roles.items()) if own.get(name) != base}
    _check_roles_in_use(view, [name for name in old_roles if name not in asked.roles])
    new_networks = [name for name in sorted(asked.networks) if _text(rows.get(name)) != wanted.listed[name].text()]
    old_networks = [name for name in rows if name not in asked.networks]
    rules, twice = _rules(view, wanted, config)
    all_present = view.rules()
    present = _living(view, all_present)
    new_rules = [rule for rule in rules if not any(policy.same(rule, one) for one in present)]
    old_rules = [rule for rule in present if not any(policy.same(rule, one) for one in rules)]
    remarks = [*twice, *_unresolved(wanted, new_networks, rows, force=force)]
    # A rule that stays opens more when a network of its grows
    for rule in [one for one in rules if one in new_rules or set(one.networks) & set(new_networks)]:
        held = {name: _network(view, wanted, rows, name, new_networks) for name in rule.networks}
        remarks += operations.judge(site, rule, held, force=force)
    changed = {
        key: value
        for key, value, before in (
            ("origins", asked.origins, config.origins),
            ("open_port", asked.open_port, config.open_port),
        )
        if value != before
    }
    if "open_port" in changed:
        remarks += operations.port_remarks(asked.open_port)
    names = operations.device_names(view, [*all_present, *rules])
    changes = [
        *(f"- role {name}, like {own[name]}" for name in old_roles),
        *(f"+ role {name}, like {base}" for name, base in new_roles.items()),
        *(f"- network {name}" for name in old_networks),
        *(line for name in new_networks for line in _network_lines(name, rows.get(name), wanted.listed[name])),
        *(f"- origin {one}" for one in config.origins if one not in asked.origins),
        *(f"+ origin {one}" for one in asked.origins if one not in config.origins),
        *_port_lines(config.open_port, asked.open_port),
        *(f"- {policy.sentence(rule, names)}" for rule in old_rules),
        *(f"+ {policy.sentence(rule, names)}" for rule in new_rules),
    ]
    if "origins" in changed and not any(" origin " in line for line in changes):
        changed.pop("origins")  # another order of the same
    optional = _optional(rules, asked.open_port) and not _optional(present, config.open_port)
    question = policy.OPTIONAL_CERTIFICATE if optional else ""
    made = Plan(tuple(changes), question, tuple(dict.fromkeys(remarks)))
    return _Difference(made, changed, new_roles, old_roles, new_networks, old_networks, new_rules, old_rules)


def _optional(rules: Iterable[Rule], open_port: int | None) -> bool:
    return open_port is None and any(rule.anyone for rule in rules)


def _check_roles_in_use(view: Reader, names: Sequence[str]) -> None:
    counted = view.device_count_by_role() if names else {}
    for name in names:
        if counted.get(name):
            raise Conflict(
                f"the file has no role {name}, which {counted[name]} device(s) have",
                hint="give them another role first: redlatch device role NAME ROLE",
            )


def _rules(view: Reader, wanted: Wanted, config: Config) -> tuple[list[Rule], list[str]]:
    """The rules that are asked for, each once, in their one form; and what is there twice."""
    found: list[Rule] = []
    twice = []
    for number, rule in enumerate(wanted.asked.rules, 1):
        try:
            made = policy.checked(
                replace(rule, devices=tuple(operations.device_id(view, name) for name in rule.devices)),
                roles=(*ROLES, *wanted.asked.roles),
                networks=(*BUILTIN, *wanted.asked.networks),
                admin_root=config.admin_root,
            )
        except (InvalidInput, NotFound) as error:
            raise type(error)(f"rule {number} in {wanted.source}: {error.message}", hint=error.hint) from None
        if any(policy.same(made, one) for one in found):
            twice.append(f"rule {number} in {wanted.source} says what another one says already")
        else:
            found.append(made)
    return found, twice


def _network(
    view: Reader, wanted: Wanted, rows: Mapping[str, NetworkRow], name: str, changed: Sequence[str]
) -> Network:
    if name not in changed:
        return networks.network(view, name)
    listed = wanted.listed[name]
    known = lookups.first(listed.names, wanted.answers, now=0, known=_resolved(rows.get(name)))
    return listed.network({one: answer["addresses"] for one, answer in known.items()})


def _unresolved(
    wanted: Wanted, changed: Sequence[str], rows: Mapping[str, NetworkRow], *, force: bool
) -> list[str]:
    """What is said of new DNS names that do not resolve; NotFound without `force`."""
    said = []
    for name in changed:
        for one in wanted.listed[name].names:
            answer = wanted.answers.get(one)
            if one in _resolved(rows.get(name)) or not isinstance(answer, str):
                continue
            if not force:
                raise NotFound(
                    f"{one}, in the network {name}, does not resolve: {answer}",
                    hint="check its spelling; with --force it is added and holds nobody until it resolves",
                )
            said.append(f"{one}, in the network {name}, does not resolve and holds nobody until it does: {answer}")
    return said


def _text(row: NetworkRow | None) -> str | None:
    return row.entries if row is not None else None


def _network_lines(name: str, row: NetworkRow | None, listed: lists.Listed) -> list[str]:
    """What changes in a network, the first few entries by themselves."""
    if row is None:
        return [f"+ network {name}: {_few(list(listed.entries))}"]
    before = {lists.kept_line(line)[0] for line in row.entries.split("\n") if line}
    gone = [one for one in before if one not in listed.entries]
    new = [one for one in listed.entries if one not in before]
    lines = [f"- in the network {name}: {_few(sorted(gone))}"] if gone else []
    lines += [f"+ in the network {name}: {_few(new)}"] if new else []
    return lines or [f"+ comments or order in the network {name}"]


def _few(entries: Sequence[str]) -> str:
    more = f" and {len(entries) - _SHOWN:,} more" if len(entries) > _SHOWN else ""
    return (", ".join(entries[:_SHOWN]) or "nobody") + more


def _port_lines(before: int | None, after: int | None) -> list[str]:
    if before == after:
        return []
    return [f"{sign} open port {port}" for sign, port in (("-", before), ("+", after)) if port is not None]
