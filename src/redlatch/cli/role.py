"""`redlatch role ...`: roles of the operator's own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, on_trial, only_rehearse, options, prepared

if TYPE_CHECKING:
    from redlatch.operations.roles import Changed, Role
    from redlatch.operations.site import Site

role = LazyGroup(
    "role",
    help="Roles of your own, each like a built-in one; rules add what it reaches besides.",
    examples=(
        "redlatch role add kiosk --like user",
        'redlatch device role "Ada\'s tablet" kiosk',
        "redlatch role list",
    ),
    lazy={
        "add": ("redlatch.cli.role:add", "add a role"),
        "remove": ("redlatch.cli.role:remove", "take a role away"),
        "list": ("redlatch.cli.role:list_", "show all roles and what they reach"),
    },
)


@command("add", "redlatch role add kiosk --like user", "redlatch role add sensor --like thing")
@click.argument("name")
@click.option("--like", metavar="ROLE", required=True, help="The role whose rules hold for it too.")
@options("dry_run", "trial")
def add(session: Session, name: str, *, like: str, dry_run: bool, trial: timedelta | None) -> None:
    """Add a role that is like another one.

    It reaches what that one reaches; rules for the new role add to it. Like thing it begins with nothing.
    """
    from redlatch.operations import roles

    site = prepared(session, f"added the role {name}", trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: roles.add(one, name, like=like))
        return
    changed = roles.add(site, name, like=like)
    _print(session, site, changed, f"the role {name} is like {changed.role.base}")


@command("remove", "redlatch role remove kiosk")
@click.argument("name")
@options("dry_run", "trial")
def remove(session: Session, name: str, *, dry_run: bool, trial: timedelta | None) -> None:
    """Take a role of yours away. No device may have it and no rule may name it."""
    from redlatch.operations import roles

    site = prepared(session, f"removed the role {name}", trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: roles.remove(one, name))
        return
    _print(session, site, roles.remove(site, name), f"the role {name} is gone")


@command("list", "redlatch role list", "redlatch role list --json")
def list_(session: Session) -> None:
    """Show all roles: the built-in one each is like, what its rules reach, how many devices have it."""
    from redlatch.operations import roles

    found = roles.list_roles(session.site())
    session.out.document({"roles": [_document(one) for one in found]})
    session.out.table(
        ("ROLE", "LIKE", "DEVICES", "REACHES"),
        [
            (one.name, one.base if one.own else "", str(one.devices), ", ".join(one.reaches) or "nothing")
            for one in found
        ],
    )


def _print(session: Session, site: Site, changed: Changed, sentence: str) -> None:
    session.out.document(_document(changed.role) | {"force": changed.force.as_dict()} | on_trial(site))
    session.out.line(sentence, style="strong")
    print_force(session.out, changed.force)
    hold(session, site)


def _document(one: Role) -> dict[str, Any]:
    return {"name": one.name, "like": one.base, "own": one.own, "reaches": one.reaches, "devices": one.devices}
