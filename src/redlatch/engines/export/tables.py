r"""What nginx and Caddy ask alike: `policy.decide` as lists of (regular expression, value); the first one counts.

Both have a `map` from one text to another with a default, so a decision is a chain of such maps, and every default
is the refusal. The expressions keep to what PCRE and RE2 share (no look-around, no back reference, no repetition
above 1000). The text that is matched is put together from parts that hold no blank: class of who asks, a digit for
each network, method, letter of the area, path. Everything that somebody can name stands in them as letters,
digits, `-`, `_`, `/` and `\xHH`: no quote, brace, dollar or line end of theirs reaches a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final
from urllib.parse import quote

from redlatch.engines.export.model import Export
from redlatch.policy import paths
from redlatch.policy.decide import allows_method
from redlatch.policy.model import ALL, AREAS, METHODS, Area, Entry, Rule, Snapshot
from redlatch.policy.networks import Network, subnets_of

Table = list[tuple[str, str]]

STRANGER: Final = "s"  # the class of whoever is no device of the list, or no longer or not yet
PLAIN, WEBSOCKET, ODD = "p", "w", "x"  # what a request asks for; ODD is any other upgrade
NOWHERE: Final = "-"  # the path of a target that is not canonical
LAST: Final = 9_999_999_999  # Unix seconds in ten digits: until the year 2286

# Areas in letters. EDITORS is what the editor owns, UNKNOWN what counts as the editor's because nothing is known
# of it: a path of the operator's may be there, but never among the editor's own.
EDITORS, UNKNOWN = "E", "U"
_LETTERS: Final = {
    Area.EDITOR_READ: "R",
    Area.DASHBOARDS: "D",
    Area.HTTP_IN: "H",
    Area.STATIC: "S",
    Area.WEBSOCKETS: "W",
}
_NOT_EDITORS: Final = "[UDHSW]"

_OCTET: Final = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP: Final = "[0-9A-Fa-f]{1,4}"
# RFC 4291 2.2, forms 1 and 2; the third, with an IPv4 address at its end, is refused
_IPV6: Final = "|".join(
    [
        f"(?:{_GROUP}:){{7}}{_GROUP}",
        f"(?:{_GROUP}:){{1,7}}:",
        *(f"(?:{_GROUP}:){{1,{7 - n}}}(?::{_GROUP}){{1,{n}}}" for n in range(1, 7)),
        f":(?::{_GROUP}){{1,7}}",
        "::",
    ]
)


def literal(text: str) -> str:
    r"""A regular expression for this text and nothing else; bytes that are no letter or digit as \xHH."""
    return "".join(
        chr(byte) if (chr(byte).isalnum() and byte < 128) or chr(byte) in "/-_" else f"\\x{byte:02x}"
        for byte in text.encode("utf-8", "surrogatepass")
    )


def _any_case(text: str) -> str:
    """As `literal`, of any case: (?i) would take the Kelvin sign for a k in RE2."""
    return "".join(f"[{one.lower()}{one.upper()}]" if one.isalpha() else literal(one) for one in text)


def comment(text: str) -> str:
    r"""Text that ends no comment and means nothing in it: printable ASCII without braces, the rest spelled out."""
    return "".join(
        one if 32 <= ord(one) < 127 and one not in "{}\\" else f"\\u{ord(one):04x}" for one in text[:200]
    )


# --- who


def classes(snapshot: Snapshot) -> tuple[dict[str, str], dict[int, list[str]]]:
    """(fingerprint -> class, rule's id -> classes that it names). Whom the same rules name is one class."""
    known: dict[frozenset[int], str] = {}
    of_device: dict[str, str] = {}
    for fingerprint, entry in listed(snapshot):
        naming = frozenset(rule.id for rule in snapshot.rules if _names(rule, entry, snapshot))
        of_device[fingerprint] = known.setdefault(naming, f"c{len(known) + 1}")
    speaks = {rule.id: [name for ids, name in known.items() if rule.id in ids] for rule in snapshot.rules}
    for rule in snapshot.rules:
        if lets_strangers(rule, snapshot):
            speaks[rule.id].append(STRANGER)
    return of_device, speaks


def listed(snapshot: Snapshot) -> Iterator[tuple[str, Entry]]:
    """The devices that may come: who had ended when the snapshot was made stays out, whatever the clock says."""
    return ((key, entry) for key, entry in sorted(snapshot.devices.items()) if entry.not_after >= snapshot.time)


def lets_strangers(rule: Rule, snapshot: Snapshot) -> bool:
    """Whether it admits who shows no certificate here; with an open port, only that port does."""
    return rule.anyone and snapshot.open_port is None


def wants_certificate(snapshot: Snapshot) -> bool:
    """Whether nobody gets in without a certificate."""
    return not any(lets_strangers(rule, snapshot) for rule in snapshot.rules)


def row(name: str, entry: Entry) -> str:
    """`class not_before not_after id user role`: dates in ten digits, names percent-encoded."""
    dates = " ".join(f"{min(max(one, 0), LAST):010}" for one in (entry.not_before, entry.not_after))
    return f"{name} {dates} {_word(entry.id)} {_word(entry.user)} {_word(entry.role)}"


NOBODY: Final = f"{STRANGER} {LAST:010} {0:010} - anyone -"


def label(entry: Entry, export: Export) -> str:
    """What the line of a device says to people."""
    return comment(export.labels.get(entry.id, entry.id))


def _word(text: str) -> str:
    return quote(text, safe="") or "%"


def _names(rule: Rule, entry: Entry, snapshot: Snapshot) -> bool:
    roles = (entry.role, snapshot.roles.get(entry.role))
    everybody = rule.any_device or rule.anyone
    return everybody or entry.id in rule.devices or any(role in rule.roles for role in roles)


# --- from where


def networks(snapshot: Snapshot) -> list[str]:
    """The names of the networks that some rule asks for, each at its place."""
    return sorted({name for rule in snapshot.rules for name in rule.networks if name in snapshot.networks})


def subnets(network: Network) -> Iterator[str]:
    """The fewest subnets that make it up."""
    for version, intervals in ((4, network.v4), (6, network.v6)):
        for first, last in intervals:
            yield from subnets_of(version, first, last)


# --- what


# Target -> what stands before its query. Default: NOWHERE.
BEFORE_QUERY: Final[Table] = [("^(?P<redlatch_q>/[^?]*)", "redlatch_q")]
# That -> the same where it is canonical. Default: NOWHERE.
CANONICAL: Final[Table] = [(paths.UNCANONICAL, NOWHERE), ("^(?P<redlatch_p>/.*)$", "redlatch_p")]


def area_table(snapshot: Snapshot) -> Table:
    """`kind path` -> letter of the area; kind is PLAIN or WEBSOCKET. Default: UNKNOWN."""
    root, areas = snapshot.admin_root, snapshot.areas
    found: Table = [(f"^[^ ]+ {NOWHERE}$", EDITORS)]
    if root is not None:
        found += [(one, _LETTERS[Area.EDITOR_READ]) for one in _reads(root)]
        found.append((_owned(root), EDITORS))
    found += [(f"^{WEBSOCKET} {literal(path)}$", _LETTERS[Area.WEBSOCKETS]) for path in areas.websockets]
    found += [
        (f"^{PLAIN} {_endpoint(pattern)}/?$", _LETTERS[Area.HTTP_IN])
        for pattern in areas.http_in
        if re.fullmatch(r"(/[^/]+)+", pattern)
    ]
    found += [(f"^[^ ]+ {_below(one)}", _LETTERS[Area.DASHBOARDS]) for one in areas.dashboards if one != "/"]
    found += [(f"^{PLAIN} {_below(one)}", _LETTERS[Area.STATIC]) for one in areas.static if one != "/"]
    first: dict[str, str] = {}  # Caddy takes an expression once
    for expression, letter in found:
        first.setdefault(expression, letter)
    return list(first.items())


def _reads(root: str) -> Iterator[str]:
    """What in the editor only reads: known in its own case alone."""
    top = literal(root.removesuffix("/") if root == "/" else root)
    files = "|".join(literal(one) for one in sorted(paths.EDITOR_FILES))
    folders = "|".join(literal(one) for one in paths.EDITOR_FOLDERS)
    if root != "/":
        yield f"^{PLAIN} {top}$"
    if root == "/" or not root.endswith("/"):
        yield f"^{PLAIN} {top}(?:{files})$"
        yield f"^{PLAIN} {top}(?:{folders})"
        yield f"^{WEBSOCKET} {top}/comms$"


def _owned(root: str) -> str:
    """What the editor owns, in whatever case."""
    if root != "/":
        return f"(?i)^[pw] {_below(root)}"
    segments = "|".join(literal(one) for one in sorted(paths.EDITOR_SEGMENTS))
    prefixes = "|".join(literal(one) for one in paths.EDITOR_PREFIXES)
    return f"(?i)^[pw] (?:/$|/(?:{segments})(?:/|$)|(?:{prefixes})(?:/|$))"


def _endpoint(pattern: str) -> str:
    return "".join("/[^/]+" if one.startswith(":") else f"/{literal(one)}" for one in pattern.split("/")[1:])


def _below(prefix: str) -> str:
    """What is this path or lies below it: a prefix ends where a segment does."""
    return literal(prefix) + ("" if prefix.endswith("/") else "(?:/|$)")


# --- who from where may what


def rule_table(snapshot: Snapshot) -> Iterator[tuple[Rule, str]]:
    """(rule, expression that `class networks method area path` of a request that it admits matches)."""
    naming = classes(snapshot)[1]
    places = networks(snapshot)
    for rule in snapshot.rules:
        here = [name for name in rule.networks if name in places]
        methods = _methods(rule)
        means_something = rule.path is not None or rule.area in AREAS
        if not naming[rule.id] or (rule.networks and not here) or not methods or not means_something:
            continue
        who = "|".join(naming[rule.id])
        yield rule, f"^(?:{who}) {_where(here, places)} {methods} {_what(rule)}"


def _where(here: Sequence[str], places: Sequence[str]) -> str:
    """One digit for each network (a dash where there is none): any of these must be 1."""
    if not here:
        return "[01-]+"
    found = ("".join("1" if one == name else "[01]" for one in places) for name in here)
    return f"(?:{'|'.join(found)})"


def _methods(rule: Rule) -> str:
    if allows_method(rule, ""):
        return "[^ ]+"
    allowed = [method for method in METHODS if allows_method(rule, method)]
    return f"(?:{'|'.join(allowed)})" if allowed else ""


def _what(rule: Rule) -> str:
    if rule.path is not None:
        return f"{_NOT_EDITORS} {_below(rule.path)}"
    if rule.area == ALL:
        return "[A-Z] "
    if rule.area == Area.EDITOR:
        return f"[{EDITORS}{UNKNOWN}{_LETTERS[Area.EDITOR_READ]}] "
    return f"{_LETTERS[Area(rule.area or '')]} "


# --- by which name


def host_expression(names: Iterable[str]) -> str:
    """The Host header of this site: one of its names, or any literal address (DNS rebinding needs a name)."""
    own = "|".join(f"{_any_case(name)}[.]?" for name in names)
    any_address = rf"{_OCTET}(?:[.]{_OCTET}){{3}}|\[(?:{_IPV6})\]"
    return f"^(?:{own + '|' if own else ''}{any_address})(?::[0-9]{{1,5}})?$"
