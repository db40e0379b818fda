"""Rules, networks, roles and origins as TOML: a small writer, and a reader that names what it does not know.

The standard library reads TOML and does not write it. What is written here is a few kinds of value; every string
is a basic one (TOML 1.0, "String"), with whatever is no plain text escaped.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from redlatch.errors import InvalidInput
from redlatch.policy.model import Rule
from redlatch.policy.rules import nearest

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}

_TOP: Final = ("open_port", "origins", "roles", "networks", "rule")
_RULE: Final = ("anyone", "any_device", "roles", "devices", "from", "area", "path", "methods")
_NETWORK: Final = ("file", "stored")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a network's entries come from: `entries` themselves, a `file`, or the list `stored` here (SHA-256 of
    its text). One of the three.
    """

    entries: tuple[str, ...] | None = None
    file: str | None = None
    stored: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """The complete state that a file asks for. Devices of rules are names, not ids; ids of rules are 0."""

    open_port: int | None = None
    origins: tuple[str, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, Source] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()


# --- writing


def text(value: str) -> str:
    """A string as TOML; surrogates, which TOML cannot say, become U+FFFD."""
    return '"' + "".join(_character(one) for one in value) + '"'


def _character(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    if 0xD800 <= ord(one) <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    if one.isprintable():
        return one
    return f"\\u{ord(one):04X}" if ord(one) < 0x10000 else f"\\U{ord(one):08X}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else text(name)


def _array(values: Sequence[str], *, lines: bool = False) -> str:
    if not values:
        return "[]"
    shown = [text(value) for value in values]
    return "[\n" + "".join(f"  {one},\n" for one in shown) + "]" if lines else "[" + ", ".join(shown) + "]"


def write(wanted: Wanted, *, heading: str = "") -> str:
    """The file that `read` gives `wanted` back for."""
    lines = [f"# {line}" for line in heading.splitlines()]
    if wanted.open_port is not None:
        lines += ["", f"open_port = {wanted.open_port}"]
    if wanted.origins:
        lines += ["", f"origins = {_array(wanted.origins)}"]
    if wanted.roles:
        lines += ["", "[roles]", *(f"{_key(name)} = {text(base)}" for name, base in sorted(wanted.roles.items()))]
    if wanted.networks:
        lines += ["", "[networks]"]
        lines += [f"{_key(name)} = {_source(one)}" for name, one in sorted(wanted.networks.items())]
    for rule in wanted.rules:
        lines += ["", "[[rule]]", *_rule_lines(rule)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _source(source: Source) -> str:
    if source.entries is not None:
        return _array(source.entries, lines=True)
    if source.file is not None:
        return f"{{file = {text(source.file)}}}"
    return f"{{stored = {text(source.stored or '')}}}"


def _rule_lines(rule: Rule) -> Iterable[str]:
    if rule.anyone:
        yield "anyone = true"
    if rule.any_device:
        yield "any_device = true"
    for name, values in (("roles", rule.roles), ("devices", rule.devices), ("from", rule.networks)):
        if values:
            yield f"{name} = {_array(values)}"
    if rule.area is not None:
        yield f"area = {text(rule.area)}"
    if rule.path is not None:
        yield f"path = {text(rule.path)}"
    if rule.methods:
        yield f"methods = {_array(rule.methods)}"


# --- reading


def read(data: bytes, *, source: str) -> Wanted:
    """What a file asks for. InvalidInput, with the place, for what is no TOML, has unknown keys or other types."""
    try:
        found = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{source} is no UTF-8 text: byte {error.start + 1} is none", hint="save it as plain text, in UTF-8"
        ) from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        said = str(error) or "it is nested too deep"
        raise InvalidInput(
            f"{source} is no TOML: {said[:1].lower()}{said[1:]}", hint="put that right; nothing was changed"
        ) from error
    _known(found, _TOP, source)
    port = found.get("open_port")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int)):
        raise _wrong(f"open_port in {source}", port, "a number, as in open_port = 1890")
    rules = found.get("rule", [])
    if not isinstance(rules, list) or not all(isinstance(one, dict) for one in rules):
        raise _wrong(f"rule in {source}", rules, "a table for each rule, as in [[rule]]")
    return Wanted(
        open_port=port,
        origins=_texts(found, "origins", source),
        roles={name: _text(base, f"role {name!r} in {source}") for name, base in _table(found, "roles", source)},
        networks={name: _read_source(one, f"the network {name!r} in {source}")
                  for name, one in _table(found, "networks", source)},
        rules=tuple(_read_rule(one, f"rule {number} in {source}") for number, one in enumerate(rules, 1)),
    )  # fmt: skip


def _read_rule(body: Mapping[str, Any], place: str) -> Rule:
    _known(body, _RULE, place)
    flags = {name: body.get(name, False) for name in ("anyone", "any_device")}
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise _wrong(f"{name} of {place}", value, "true or false")
    return Rule(
        0,
        roles=_texts(body, "roles", place),
        devices=_texts(body, "devices", place),
        any_device=flags["any_device"],
        anyone=flags["anyone"],
        networks=_texts(body, "from", place),
        area=_text(body["area"], f"area of {place}") if "area" in body else None,
        path=_text(body["path"], f"path of {place}") if "path" in body else None,
        methods=_texts(body, "methods", place),
    )


def _read_source(value: object, place: str) -> Source:
    if isinstance(value, list):
        return Source(entries=tuple(_text(one, f"an entry of {place}") for one in value))
    if not isinstance(value, dict) or len(value) != 1:
        raise _wrong(place, value, 'a list of addresses, {file = "list.txt"} or {stored = "..."}')
    _known(value, _NETWORK, place)
    ((key, named),) = value.items()
    said = _text(named, f"{key} of {place}")
    return Source(file=said) if key == "file" else Source(stored=said)


def _known(body: Mapping[str, Any], known: Sequence[str], place: str) -> None:
    for key in body:
        if key not in known:
            near = nearest(key, known)
            raise InvalidInput(
                f"{place} has the unknown key {key!r}",
                hint=f"did you mean {near!r}?" if near else "known are: " + ", ".join(known),
            )


def _table(body: Mapping[str, Any], key: str, place: str) -> Iterable[tuple[str, Any]]:
    found = body.get(key, {})
    if not isinstance(found, dict):
        raise _wrong(f"{key} in {place}", found, f"a table, as in [{key}]")
    return found.items()


def _texts(body: Mapping[str, Any], key: str, place: str) -> tuple[str, ...]:
    found = body.get(key, [])
    if not isinstance(found, list):
        raise _wrong(f"{key} of {place}", found, f'a list, as in {key} = ["..."]')
    return tuple(_text(one, f"{key} of {place}") for one in found)


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise _wrong(place, value, "text, in quotes")
    return value


def _wrong(place: str, value: object, right: str) -> InvalidInput:
    kinds = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return InvalidInput(f"{place} is {kinds.get(type(value), 'a date')}", hint=f"it is {right}")
