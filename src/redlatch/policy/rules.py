"""Rules as people say them, and what is wrong with one before it counts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import ALL, AREAS, METHODS, READS, Area, Rule
from redlatch.policy.networks import Network, compiled
from redlatch.policy.paths import MAX_TARGET, is_canonical, is_editors

_WHAT: Final[Mapping[str, str]] = {
    ALL: "everything",
    Area.EDITOR: "the editor",
    Area.EDITOR_READ: "the editor, reading only",
    Area.DASHBOARDS: "the dashboards",
    Area.HTTP_IN: "the http-in endpoints",
    Area.STATIC: "the static files",
    Area.WEBSOCKETS: "the websockets",
}
_EDITORS: Final = (ALL, Area.EDITOR, Area.EDITOR_READ)


# --- in words


def sentence(rule: Rule, names: Mapping[str, str]) -> str:
    """The rule in one sentence; `names` are devices' names by id."""
    return f"{who(rule, names)}, {where(rule)}, may {_verb(rule)} {what(rule)}"


def who(rule: Rule, names: Mapping[str, str]) -> str:
    """Whom it admits."""
    if rule.anyone:
        return "anyone, with or without a certificate"
    if rule.any_device:
        return "any device"
    named = [names.get(one, f"an unknown device ({one})") for one in rule.devices]
    roles = [f"devices with the role {_listed(rule.roles)}"] if rule.roles else []
    return _listed([*named, *roles], "and") or "nobody"


def where(rule: Rule) -> str:
    """From where."""
    return f"from {_listed(rule.networks)}" if rule.networks else "from anywhere"


def what(rule: Rule) -> str:
    """The area or path it is about."""
    return rule.path if rule.path is not None else _WHAT.get(rule.area or "", f"the unknown area {rule.area}")


def _verb(rule: Rule) -> str:
    if not rule.methods:
        return "reach"
    if len(rule.methods) > 1:
        return f"use {_listed(rule.methods, 'and')} on"
    return f"{rule.methods[0]} to" if rule.methods[0] in ("POST", "PUT", "PATCH") else rule.methods[0]


def _listed(words: Sequence[str], last: str = "or") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that `word` was probably meant to be, "" where none is near."""
    folded = {one.casefold(): one for one in known}
    found = difflib.get_close_matches(word.casefold(), folded, 1, 0.6)
    return folded[found[0]] if found else ""


def unknown(kind: str, word: str, known: Collection[str], *, hint: str) -> NotFound:
    """The error for a name that nothing has, with the nearest one that something has."""
    near = nearest(word, known)
    return NotFound(f"there is no {kind} {word!r}", hint=f"did you mean {near!r}? {hint}" if near else hint)


# --- what a rule may be


def checked(rule: Rule, *, roles: Collection[str], networks: Collection[str], admin_root: str | None) -> Rule:
    """The rule in its one form: lists sorted, methods in capitals. Devices are ids, and looked up elsewhere.

    Errors: NotFound (role, network), InvalidInput (area, path, method, combinations that mean nothing).
    """
    for role in rule.roles:
        if role not in roles:
            raise unknown("role", role, roles, hint="redlatch role list shows all of them")
    for network in rule.networks:
        if network not in networks:
            raise unknown("network", network, networks, hint="redlatch network list shows all of them")
    named = bool(rule.roles or rule.devices)
    if (rule.anyone or rule.any_device) and (named or (rule.anyone and rule.any_device)):
        everybody = "anyone" if rule.anyone else "any device"
        raise InvalidInput(
            f"{everybody} includes the others that the rule names",
            hint="name one or the other; two rules add up",
        )
    if not (rule.anyone or rule.any_device or named):
        raise InvalidInput("the rule names nobody", hint="name roles or devices, any device, or anyone")
    methods = {method.upper() for method in rule.methods}
    _check_target(rule, admin_root)
    _check_methods(rule, methods)
    return replace(
        rule,
        roles=tuple(sorted(set(rule.roles))),
        devices=tuple(sorted(set(rule.devices))),
        networks=tuple(sorted(set(rule.networks))),
        methods=tuple(method for method in METHODS if method in methods),
    )


def same(one: Rule, other: Rule) -> bool:
    """Whether two checked rules mean the same, whatever their numbers."""
    return replace(one, id=0) == replace(other, id=0)


def _check_target(rule: Rule, admin_root: str | None) -> None:
    if (rule.area is None) == (rule.path is None):
        raise InvalidInput(
            "a rule is about one area or one path",
            hint="areas are: " + ", ".join(AREAS) + "; a path begins with a slash",
        )
    if rule.path is not None:
        check_path(rule.path, admin_root)
    elif rule.area not in AREAS:
        near = nearest(str(rule.area), map(str, AREAS))
        raise InvalidInput(
            f"there is no area {rule.area!r}",
            hint=(f"did you mean {near!r}? " if near else "") + "areas are: " + ", ".join(AREAS),
        )


def _check_methods(rule: Rule, methods: set[str]) -> None:
    for method in sorted(methods - set(METHODS)):
        raise InvalidInput(f"there is no method {method!r}", hint="methods are: " + ", ".join(METHODS))
    if rule.area == Area.EDITOR_READ and not methods <= set(READS):
        raise InvalidInput(
            "reading in the editor is GET and HEAD; other methods change something",
            hint="leave the methods out, or take the area editor",
        )
    if rule.area == Area.WEBSOCKETS and methods and "GET" not in methods:
        raise InvalidInput("every websocket begins with GET", hint="leave the methods out")


# What is wrong with a path, where it has a name; the first that is found is said.
_PROBLEMS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), text)
    for pattern, text in (
        (r"\?", "has a query, and rules are about what stands before it"),
        (r"#", "has a fragment, which browsers keep to themselves"),
        (r"/\.\.?(?:/|$)", "has a segment of dots, which servers resolve"),
        (r"%2f|%5c|\\", "has another kind of slash, which some servers take for one and others do not"),
        (r"%2e", "has an encoded dot, which servers resolve"),
        (r"%(?:2[1-9a-f]|[3-6][0-9a-f]|7[0-9a-e])", "has encoded letters: write them as they are"),
        (r"//", "has two slashes in a row, which Node-RED takes for one"),
        (r" ", "has a space: write it as %20"),
        (r"[^\x00-\x7f]", "has letters that travel encoded: write them in %XX, as a browser copies its address"),
        (r"", "has a character that no rule compares"),
    )
)


def check_path(path: str, admin_root: str | None) -> None:
    """Returns for a path that a rule may be about; InvalidInput with what is wrong, and what would be right."""
    hint = "a path is compared letter by letter, as in /webhook/github; what lies below it is meant too"
    if path.lower().startswith(("http://", "https://")):
        rest = "/" + path.partition("://")[2].partition("/")[2]
        raise InvalidInput(f"{path[:100]!r} is a whole address", hint=f"write its path: {rest[:100]}")
    if not path.startswith("/"):
        raise InvalidInput(f"the path {path[:100]!r} does not begin with a slash", hint=f"write /{path[:100]}")
    if len(path) > MAX_TARGET:
        raise InvalidInput(
            f"the path has {len(path)} characters; no request has more than {MAX_TARGET}", hint=hint
        )
    if not is_canonical(path):
        problem = next(text for pattern, text in _PROBLEMS if pattern.search(path))
        raise InvalidInput(f"the path {path[:100]!r} {problem}", hint=hint)
    if "*" in path:
        raise InvalidInput(f"the path {path[:100]!r} has a wildcard, and rules know none", hint=hint)
    if path == "/":
        raise InvalidInput('"/" is every path', hint="use --area all or --area editor")
    if is_editors(path.rstrip("/"), admin_root):
        raise InvalidInput(
            f"the path {path!r} belongs to the editor, whatever a rule says", hint="use --area editor"
        )


# --- what a rule would do


@dataclass(frozen=True, slots=True)
class Seen:
    """What the access log says of where connections come from: all of the last `count` from this one address.

    `shared` is whether the address is one that stands for others: loopback, this machine's own, its gateway's.
    """

    address: str
    count: int
    shared: bool


def _union(names: Iterable[str], networks: Mapping[str, Network]) -> Network:
    found = [networks[name] for name in names if name in networks]
    parts = [(4, *one) for network in found for one in network.v4]
    return compiled([*parts, *((6, *one) for network in found for one in network.v6)])


def opens_everything(rule: Rule, networks: Mapping[str, Network]) -> bool:
    """Whether it admits everybody everywhere: no lock, but a way of taking it off."""
    if not rule.anyone or rule.area not in _EDITORS:
        return False
    return not rule.networks or _union(rule.networks, networks).is_everywhere


def refuse_openness(rule: Rule, networks: Mapping[str, Network]) -> None:
    """Conflict for a rule that admits everybody everywhere."""
    if opens_everything(rule, networks):
        raise Conflict(
            f"that rule would let everybody from everywhere into {what(rule)}",
            hint="that is what redlatch down is for; name a network (--from), an area or a path",
        )


def stands_for_everybody(rule: Rule, networks: Mapping[str, Network], seen: Seen | None) -> str:
    """Why an address proves nothing where it is all that the rule asks for; "" where it may.

    Behind a proxy, a tunnel or a container's port everybody has one address: who is let in from there without a
    certificate is everybody.
    """
    if not rule.anyone or not rule.networks:
        return ""
    for name in rule.networks:
        network = networks.get(name, Network())
        if not network.is_everywhere and network.overlaps(BUILTIN["cloudflare"]):
            return f"whoever comes through Cloudflare has an address of {name}: that is everybody"
        if seen is not None and network.contains(seen.address) and (seen.shared or network.size == 1):
            return (
                f"all of the last {seen.count} connections came from {seen.address}, which is in {name}: behind a "
                "proxy, a tunnel or a container's port that is everybody"
            )
    return ""


OPTIONAL_CERTIFICATE: Final = (
    "Node-RED's port then no longer insists on a certificate in the networks of such rules: what no rule admits "
    "is refused after the handshake; a Chromium that once came without a certificate remembers that until it is "
    "restarted, and shows no editor until then; a second port for what needs none avoids both (redlatch rule "
    "open-port)"
)


def makes_optional(rule: Rule, rules: Iterable[Rule], open_port: int | None) -> bool:
    """Whether it is the first rule that makes the certificate optional at the main port's handshake."""
    return rule.anyone and open_port is None and not any(one.anyone for one in rules)


def reaches_editor(rules: Iterable[Rule]) -> bool:
    """Whether some rule still lets somebody change flows."""
    return any(rule.area in (ALL, Area.EDITOR) and _writes(rule) for rule in rules)


def _writes(rule: Rule) -> bool:
    return not rule.methods or {"GET", "POST"} <= set(rule.methods)
