"""Roles: the built-in ones, and the operator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redlatch.errors import NotFound
from redlatch.operations import roles
from redlatch.policy.model import ROLES
from redlatch.service.console import weighing
from redlatch.service.console.asking import Ask, Begin, Outcome, Page, Way
from redlatch.service.console.devices import role_choices

if TYPE_CHECKING:
    from redlatch.operations.site import Site

_BACK = ("/roles", "all roles")


def show_all(ask: Ask) -> Page:
    return Page("roles.html", {"roles": roles.list_roles(ask.site), "words": ROLES})


def add_form(ask: Ask) -> Page:
    return Page("role_add.html", {"roles": role_choices(ask), "weighed": None, **weighing.choices()})


def add(ask: Ask) -> Begin:
    name, like = ask.form.get("name"), ask.form.get("like")

    def operation(site: Site) -> Outcome:
        changed = roles.add(site, name, like=like)
        return Outcome(f"the role {name} is like {changed.role.base}", changed.force)

    return weighing.begin(ask, f"Add the role {name[:40]}", operation, _BACK)


def remove_form(ask: Ask) -> Page:
    name = ask.values["role"]
    found = next((one for one in roles.list_roles(ask.site) if one.name == name and one.own), None)
    if found is None:
        raise NotFound(f"there is no role {name[:40]!r} of your own", hint="the list of roles shows all of them")
    return Page("role_remove.html", {"role": found, "weighed": None, **weighing.choices()})


def remove(ask: Ask) -> Begin:
    name = ask.values["role"]

    def operation(site: Site) -> Outcome:
        return Outcome(f"the role {name} is gone", roles.remove(site, name).force)

    return weighing.begin(ask, f"Remove the role {name[:40]}", operation, _BACK)


WAYS = (
    Way("/roles", show_all),
    Way("/roles/add", add_form, add, form=True),
    Way("/roles/{role}/remove", remove_form, remove, form=True),
)
