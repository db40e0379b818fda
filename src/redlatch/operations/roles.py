"""Roles: the built-in ones, and the operator's own, each like a built-in one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Site, changing
from redlatch.policy.model import ALL, ROLES, Rule

if TYPE_CHECKING:
    from redlatch.store import Reader

_NAME: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Role:
    """`base` is the built-in role that it is like (itself for a built-in one), `reaches` what its rules give it,
    in words, `devices` how many in use have it.
    """

    name: str
    base: str
    own: bool
    reaches: tuple[str, ...]
    devices: int


@dataclass(frozen=True, slots=True)
class Changed:
    """A role after (or, removed, before) a change, and how far the change got."""

    role: Role
    force: Force


def add(site: Site, name: str, *, like: str) -> Changed:
    """Adds a role that is like another, built-in or own: all rules of the built-in one hold for it too.

    Errors: InvalidInput (name, or no role `like`), Conflict (there is one of that name).
    """
    name = short_name(name, "role")
    with changing(site) as tx:
        base = base_of(tx, like)
        if name in ROLES or name in tx.roles():
            raise Conflict(f"there is a role {name} already", hint="redlatch role list shows all of them")
        tx.add_role(name, base)
        tx.record("role.added", name=name, base=base)
        role = _role(tx, name, base, own=True)
    return Changed(role, enforce(site))


def remove(site: Site, name: str) -> Changed:
    """Removes a role of the operator's own. Errors: NotFound, Conflict (devices or rules use it, named)."""
    with changing(site) as tx:
        own = tx.roles()
        if name in ROLES:
            raise Conflict(f"{name} is a built-in role", hint="its rules can be removed: redlatch rule list")
        if name not in own:
            raise NotFound(f"there is no role {name!r} of your own", hint="redlatch role list shows all of them")
        devices = [one.name for one in tx.devices() if one.role == name and one.revoked_at is None]
        if devices:
            raise Conflict(
                f"{_several('device', devices)} with the role {name}: {_first(devices)}",
                hint="give it another role first: redlatch device role NAME ROLE",
            )
        rules = [str(rule.id) for rule in tx.rules() if name in rule.roles]
        if rules:
            raise Conflict(
                f"{_several('rule', rules)} for the role {name}: {_first(rules)}",
                hint="remove it first: redlatch rule remove ID",
            )
        role = _role(tx, name, own[name], own=True)
        tx.remove_role(name)
        tx.record("role.removed", name=name)
    return Changed(role, enforce(site))


def list_roles(site: Site) -> list[Role]:
    """The built-in roles and then the operator's own, by name."""
    with site.store.read() as view:
        found = [_role(view, name, name, own=False) for name in ROLES]
        return found + [_role(view, name, base, own=True) for name, base in sorted(view.roles().items())]


def base_of(view: Reader, name: str) -> str:
    """The built-in role behind `name`; InvalidInput when there is no such role."""
    if name in ROLES:
        return name
    own = view.roles()
    if name not in own:
        raise InvalidInput(f"there is no role {name!r}", hint="roles are: " + ", ".join((*ROLES, *sorted(own))))
    return own[name]


def described(site: Site, name: str) -> str:
    """What a role may do, in half a line."""
    with site.store.read() as view:
        own = view.roles()
    base = own.get(name)
    return (
        ROLES.get(name, "") if base is None else f"like {base}, {ROLES.get(base, '')}, and what its own rules add"
    )


def short_name(name: str, what: str) -> str:
    """A name of the operator's for a role or network, as it is typed in rules; InvalidInput otherwise."""
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f"{name[:100]!r} cannot be the name of a {what}",
            hint="1 to 32 of the letters a-z, digits and hyphens; it begins with a letter and ends with no hyphen",
        )
    return name


def _role(view: Reader, name: str, base: str, *, own: bool) -> Role:
    rules = [rule for rule in view.rules() if rule.any_device or rule.anyone or {name, base} & set(rule.roles)]
    return Role(name, base, own, tuple(_reach(rule) for rule in rules), view.device_count_by_role().get(name, 0))


def _reach(rule: Rule) -> str:
    what = "everything" if rule.area == ALL else rule.path or rule.area or ""
    methods = f" ({', '.join(rule.methods)})" if rule.methods else ""
    where = f" from {' or '.join(rule.networks)}" if rule.networks else ""
    return f"{what}{methods}{where}"


def _several(what: str, found: list[str]) -> str:
    return f"there is 1 {what}" if len(found) == 1 else f"there are {len(found):,} {what}s"


def _first(found: Iterable[str], most: int = 10) -> str:
    names = list(found)
    rest = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
