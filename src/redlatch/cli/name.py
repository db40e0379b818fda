"""`redlatch name ...`: host names under which this Node-RED is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.output import day
from redlatch.cli.session import Session
from redlatch.cli.weighing import only_rehearse, options

if TYPE_CHECKING:
    from redlatch.operations.server import Refreshed

_UNSEEN = "by which name somebody calls"

name = LazyGroup(
    "name",
    help="Host names under which this Node-RED is reached. Addresses need no name.",
    examples=("redlatch name add pi.example.org", "redlatch name list"),
    lazy={
        "add": ("redlatch.cli.name:add", "add a host name"),
        "remove": ("redlatch.cli.name:remove", "take a host name away"),
        "list": ("redlatch.cli.name:list_", "show all host names"),
    },
)


@command("add", "redlatch name add pi.example.org", "redlatch name add nodered.lan --json")
@click.argument("host")
@click.option("--new-root", is_flag=True, help="Make a new server CA when the present one may not name HOST.")
@options("dry_run")
def add(session: Session, host: str, *, new_root: bool, dry_run: bool) -> None:
    """Add a host name; the server certificate gets it too."""
    from redlatch.operations import server

    site = session.site()
    if dry_run:
        only_rehearse(session, site, lambda one: server.add_name(one, host, new_root=new_root), unseen=_UNSEEN)
        return
    print_refreshed(session, server.add_name(site, host, new_root=new_root))


@command("remove", "redlatch name remove pi.example.org")
@click.argument("host")
@options("dry_run")
def remove(session: Session, host: str, dry_run: bool) -> None:
    """Take a host name away: requests for it are refused from then on.

    Who calls by that name no log says, so --dry-run cannot name them; addresses work as before.
    """
    from redlatch.operations import server

    site = session.site()
    if dry_run:
        only_rehearse(session, site, lambda one: server.remove_name(one, host), unseen=_UNSEEN)
        return
    print_refreshed(session, server.remove_name(site, host))


@command("list", "redlatch name list")
def list_(session: Session) -> None:
    """Show all host names, and which of them you gave."""
    config = session.site().config()
    session.out.document({"names": [{"name": host, "own": host in config.names} for host in config.hosts]})
    rows = [(host, "given by you" if host in config.names else "found by redlatch") for host in config.hosts]
    session.out.table(("NAME", "SOURCE"), rows)


def print_refreshed(session: Session, done: Refreshed) -> None:
    """What a change of the server's names or certificate did."""
    session.out.document({"changes": done.changes, "not_after": done.not_after, "force": done.force.as_dict()})
    for change in done.changes or ("nothing to change",):
        session.out.line(change)
    session.out.line(f"the server certificate is good until {day(done.not_after)}")
    print_force(session.out, done.force)
