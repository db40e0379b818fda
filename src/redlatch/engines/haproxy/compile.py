"""A snapshot as the tables that HAProxy looks things up in. Pure; `render` writes the questions to these answers.

Who asks and from where lead to a *grant*: an id made from the content of the rules that apply. What a grant
reaches stands in `reach`. Since an id names the same rules for ever, tables of two versions may be mixed for a
moment, as they are replaced one after the other: a pair that belongs to no version is in no table, and what is in
no table is refused.

    certificate -> devices -> role (or `special`: a device that a rule names)  -+
    address -> networks -> the set of networks that it is in                   -+-> grants -> reach -> methods
    path -> area, and the set of rules that name it (`prefixes`, `folders`)    ------------------^
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

from redlatch.policy.decide import allows_method
from redlatch.policy.model import ALL, METHODS, ROLES, Area, Entry, Rule, Snapshot
from redlatch.policy.networks import Interval, Network, subnets_of
from redlatch.policy.paths import is_canonical

Tables = dict[str, dict[str, str]]

BITS: Final[Mapping[str, int]] = {method: 1 << number for number, method in enumerate(METHODS)}
OTHER: Final = 128  # any other method: only a rule for all methods lets it through
REACHES: Final = 256  # some rule of the grant speaks of this, whatever the method
READS_HERE: Final = 512  # the grant reads in the editor, so what writes there is refused as read-only
GONE: Final = "-"
NOWHERE: Final = "-"  # in no network of the rules
ANYWHERE: Final = "*"  # all rules that speak of somebody, whatever their networks
NOTHING: Final = f"0|{GONE}"  # the grant of whom no rule admits
# Of IPv6 addresses that IPv6's subnets say nothing of, HAProxy takes the IPv4 address inside: in ::/96, and in
# 2002::/16 (RFC 3056), where anybody may have any. And it asks IPv6's subnets of an IPv4 address as a mapped one.
_LIKE_IPV4: Final = "\n"  # the name of no network
_LIKE_IPV4_NETWORK: Final = Network(v6=((0, (1 << 32) - 1), (0x2002 << 112, (0x2003 << 112) - 1)))
_MAPPED: Final = 0xFFFF << 32, (0x10000 << 32) - 1
STRANGER, BY_OPEN_PORT, ANY_DEVICE = "-", "open", "*"
# A change of rules: first these get what is new beside what is old, then those are replaced, then these once more.
# So nobody who is let in before and after is refused in between.
VALUE_TABLES: Final = ("reach", "grants")
KEY_TABLES: Final = ("special", "networks", "prefixes", "folders")


def compile_tables(snapshot: Snapshot) -> Tables:
    """All tables, name -> key -> value, without any blank. Cost: linear in devices and addresses."""
    return {"devices": device_rows(snapshot.devices), "changed": {}, **rule_tables(snapshot)}


def device_rows(devices: Mapping[str, Entry]) -> dict[str, str]:
    return {fingerprint: device_row(entry) for fingerprint, entry in devices.items()}


def device_row(entry: Entry) -> str:
    """`not_before|not_after|id|r:role|user`, what could break out of it percent-encoded."""
    return f"{entry.not_before}|{entry.not_after}|{_safe(entry.id)}|{_role(entry.role)}|{_safe(entry.user)}"


def rule_tables(snapshot: Snapshot) -> Tables:
    """Every table but the devices'. Cost: who (roles and devices that rules name) x sets of networks."""
    special = _special(snapshot)
    kinds: dict[str, tuple[str, tuple[Rule, ...]]] = {
        who: (who, tuple(rule for rule in snapshot.rules if _names_role(rule, role, snapshot)))
        for who, role in _roles(snapshot)
    }
    kinds |= {who: (who, rules) for who, rules in special.values()}
    kinds[STRANGER] = STRANGER, _for_strangers(snapshot, by_open_port=False)
    kinds[BY_OPEN_PORT] = BY_OPEN_PORT, _for_strangers(snapshot, by_open_port=True)
    used = {name for rule in snapshot.rules for name in rule.networks}
    addresses = dict(cidrs({name: one for name, one in snapshot.networks.items() if name in used}))
    places = {GONE: frozenset[str](), **{_place(names): names for names in addresses.values()}}
    grants: dict[str, str] = {}
    reached: dict[str, tuple[Rule, ...]] = {}
    for who, rules in kinds.values():
        for place, names in places.items():
            applying = tuple(rule for rule in rules if not rule.networks or not names.isdisjoint(rule.networks))
            grants[f"{who}|{place}"] = _grant(applying, reached)
        grants[f"{who}|{ANYWHERE}"] = _grant(rules, reached)
    prefixes, folders = _by_path(snapshot.rules)
    return {
        "state": {"version": str(snapshot.version), "time": str(snapshot.time), "stale": "0"},
        "special": {_safe(one): who for one, (who, _) in special.items()},
        "networks": {cidr: _place(names) for cidr, names in addresses.items()},
        "grants": grants,
        "prefixes": {key: _path_set(rules) for key, rules in prefixes.items()},
        "folders": {key: _path_set(rules) for key, rules in folders.items()},
        "reach": dict(_reach(reached, (*prefixes.values(), *folders.values()))),
    }


def structure(snapshot: Snapshot) -> Mapping[str, Any]:
    """What stands in the configuration itself, so that another one needs a reload."""
    return {
        "names": snapshot.names,
        "origins": snapshot.origins,
        "admin_root": snapshot.admin_root,
        "areas": snapshot.areas,
        "mode": snapshot.mode,
        "open_port": snapshot.open_port,
    }


def text(table: Mapping[str, str]) -> bytes:
    """A table as HAProxy loads it."""
    return "".join(f"{key} {value}\n" for key, value in table.items()).encode("ascii")


# --- who


def _safe(name: str) -> str:
    return quote(name, safe="") or "%"


def _role(role: str) -> str:
    return f"r:{_safe(role)}"


def _roles(snapshot: Snapshot) -> Iterator[tuple[str, str | None]]:
    """(who, role) of every role that a rule could mean; ANY_DEVICE stands for all the others."""
    known = {*ROLES, *snapshot.roles, *(role for rule in snapshot.rules for role in rule.roles)}
    yield from ((_role(role), role) for role in sorted(known))
    yield ANY_DEVICE, None


def _names_role(rule: Rule, role: str | None, snapshot: Snapshot) -> bool:
    if rule.any_device or rule.anyone:
        return True
    return role is not None and (role in rule.roles or snapshot.roles.get(role) in rule.roles)


def _special(snapshot: Snapshot) -> dict[str, tuple[str, tuple[Rule, ...]]]:
    """The devices that some rule names: id -> (who, rules that speak of it)."""
    named = {one for rule in snapshot.rules for one in rule.devices}
    roles = {entry.id: entry.role for entry in snapshot.devices.values() if entry.id in named} if named else {}
    found = {}
    for one, role in roles.items():
        rules = tuple(rule for rule in snapshot.rules if one in rule.devices or _names_role(rule, role, snapshot))
        # The same name stands for the same rules and roles, for ever
        found[one] = f"d:{_hash([role, *(_content(rule, whole=True) for rule in rules)])}", rules
    return found


def _for_strangers(snapshot: Snapshot, *, by_open_port: bool) -> tuple[Rule, ...]:
    if snapshot.open_port is not None and not by_open_port:
        return ()
    return tuple(rule for rule in snapshot.rules if rule.anyone)


# --- from where


def _place(names: Iterable[str]) -> str:
    joined = ",".join(sorted(_safe(name) for name in names))
    if not joined:
        return NOWHERE
    return joined if len(joined) <= 64 and joined != NOWHERE else f"#{_hash([joined])}"


def cidrs(networks: Mapping[str, Network]) -> Iterator[tuple[str, frozenset[str]]]:
    """(subnet, names of the networks that it is in); the subnets do not overlap.

    Those of no network have HAProxy not look further, where it would find the wrong one.
    """
    if not networks:
        return
    for first, last, names in _overlay(networks, 4):
        yield from ((cidr, names) for cidr in subnets_of(4, first, last))
    for first, last, names in _overlay({**networks, _LIKE_IPV4: _LIKE_IPV4_NETWORK}, 6):
        for begin, end in ((first, min(last, _MAPPED[0] - 1)), (max(first, _MAPPED[1] + 1), last)):
            yield from ((cidr, names - {_LIKE_IPV4}) for cidr in subnets_of(6, begin, end))


def _overlay(networks: Mapping[str, Network], version: int) -> Iterator[tuple[int, int, frozenset[str]]]:
    """Intervals of the addresses that are in one and the same set of networks."""
    edges: list[tuple[int, int, str]] = []
    for name, network in networks.items():
        intervals: Sequence[Interval] = network.v4 if version == 4 else network.v6
        for first, last in intervals:
            edges += [(first, 1, name), (last + 1, 0, name)]
    edges.sort()
    inside: set[str] = set()
    names, begin = frozenset[str](), 0
    for at, enters, name in edges:
        if inside and at > begin:
            yield begin, at - 1, names
        if enters:
            inside.add(name)
        else:
            inside.discard(name)
        names, begin = frozenset(inside), at


# --- what


def _grant(rules: Sequence[Rule], reached: dict[str, tuple[Rule, ...]]) -> str:
    """`id|permission`: what Node-RED's editor is told is `*`, `read` or nothing (`-`)."""
    if not rules:
        return NOTHING
    name = _hash(sorted({_content(rule) for rule in rules}))
    reached[name] = tuple(rules)
    return f"{name}|{_permission(rules)}"


def _permission(rules: Iterable[Rule]) -> str:
    reading = [rule for rule in rules if rule.area in (Area.EDITOR, Area.EDITOR_READ, ALL)]
    if any(not rule.methods and rule.area != Area.EDITOR_READ for rule in reading):
        return "*"
    return "read" if any(allows_method(rule, "GET") for rule in reading) else GONE


def _by_path(rules: Iterable[Rule]) -> tuple[dict[str, list[Rule]], dict[str, list[Rule]]]:
    """What the longest match finds: the prefix -> the rules that name it or what it lies below.

    Of paths without a last slash (`prefixes`) the subject is the path and a slash, so that a prefix ends where a
    segment does; of those with one (`folders`) it is the path itself.
    """
    named = [rule for rule in rules if rule.path is not None and is_canonical(rule.path)]
    prefixes = {f"{rule.path}/" for rule in named if rule.path and not rule.path.endswith("/")}
    folders = {rule.path for rule in named if rule.path and rule.path.endswith("/")}
    above = {
        key: [
            rule for rule in named if rule.path and not rule.path.endswith("/") and key.startswith(rule.path + "/")
        ]
        for key in sorted(prefixes)
    }
    inside = {
        key: [rule for rule in named if rule.path and rule.path.endswith("/") and key.startswith(rule.path)]
        for key in sorted(folders)
    }
    return above, inside


def _path_set(rules: Iterable[Rule]) -> str:
    return _hash(sorted({_content(rule) for rule in rules}))


def _reach(reached: Mapping[str, tuple[Rule, ...]], sets: Iterable[Sequence[Rule]]) -> Iterator[tuple[str, str]]:
    """(`grant|area` or `grant|set of rules by path`, bits)."""
    naming: dict[str, set[str]] = {}
    for rules in sets:
        for rule in rules:
            naming.setdefault(_content(rule), set()).add(_path_set(rules))
    for grant, rules in reached.items():
        bits: dict[str, int] = {}
        for rule in rules:
            for what in naming.get(_content(rule), ()) if rule.path is not None else _areas(rule):
                bits[what] = bits.get(what, 0) | _bits(rule)
        if any(rule.area == Area.EDITOR_READ for rule in rules):
            for area in (Area.EDITOR, Area.EDITOR_READ):
                bits[area] = bits.get(area, 0) | READS_HERE
        yield from ((f"{grant}|{what}", str(bit)) for what, bit in bits.items())


def _areas(rule: Rule) -> tuple[Area, ...]:
    if rule.area == ALL:
        return tuple(Area)
    if rule.area == Area.EDITOR:
        return Area.EDITOR, Area.EDITOR_READ
    return tuple(area for area in Area if area == rule.area)


def _bits(rule: Rule) -> int:
    bits = REACHES | sum(bit for method, bit in BITS.items() if allows_method(rule, method))
    return bits | OTHER if allows_method(rule, "") else bits


def _content(rule: Rule, *, whole: bool = False) -> str:
    """What a rule lets through; with `whole` also from where. Not whom: that is where it is looked up."""
    what = f"{rule.area or ''}|{rule.path or ''}|{','.join(rule.methods)}"
    return f"{what}|{','.join(sorted(rule.networks))}" if whole else what


def _hash(parts: Iterable[str]) -> str:
    """64 bits: a collision by chance among a million grants is one in 37 million; and nobody but who writes rules
    could search for one.
    """
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
