"""`redlatch network ...`: addresses under a name."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, LazyGroup, command
from redlatch.cli.output import minute
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, on_trial, only_rehearse, options, prepared

if TYPE_CHECKING:
    from redlatch.operations.lookups import Name
    from redlatch.operations.networks import Changed, Shown
    from redlatch.operations.site import Site

network = LazyGroup(
    "network",
    help="Addresses under a name, for rules to speak of.",
    examples=(
        "redlatch network add home 192.168.1.0/24 2001:db8:1::/48",
        'redlatch network add tablets "192.168.1.20 # wall tablet" 192.168.1.21',
        "redlatch network add away ada.dyndns.example.org",
        "redlatch network list",
    ),
    lazy={
        "add": ("redlatch.cli.network:add", "make a network, or add addresses to it"),
        "remove": ("redlatch.cli.network:remove", "take a network or some of its addresses away"),
        "list": ("redlatch.cli.network:list_", "show all networks, or one with all its addresses"),
        "resolve": ("redlatch.cli.network:resolve", "look DNS names up again, as a timer does"),
    },
)


@command(
    "add",
    "redlatch network add home 192.168.1.0/24 2001:db8:1::/48",
    'redlatch network add tablets "192.168.1.20 # wall tablet" 192.168.1.21-192.168.1.25',
    "redlatch network add away ada.dyndns.example.org",
    "redlatch network add office --file office.txt",
)
@click.argument("name")
@click.argument("entries", nargs=-1, metavar="[ADDRESS]...")
@click.option("--file", type=PATH, metavar="FILE", help="A list: one entry a line, # or ; begins a comment.")
@options("dry_run")
@click.option("--force", is_flag=True, help="Add a DNS name that does not resolve; it holds nobody until it does.")
@options("trial")
def add(
    session: Session,
    name: str,
    entries: tuple[str, ...],
    *,
    file: Path | None,
    dry_run: bool,
    force: bool,
    trial: timedelta | None,
) -> None:
    """Make a network, or add addresses to it.

    An entry is an address, a range (192.168.1.20-192.168.1.40), a subnet (192.168.1.0/24) or a DNS name, of IPv4
    or IPv6. All of them are taken, or none.
    """
    from redlatch import bootstrap
    from redlatch.operations import networks

    out = session.out
    shown_at = 0.0

    def progress(done: int, all_: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at > 0.1:
            shown_at = time.monotonic()
            out.progress(f"reading {file}: {done * 100 // max(all_, 1)} %")

    def operation(site: Site) -> Changed:
        return networks.add(
            site, name, entries, file=file, resolver=bootstrap.look_up, force=force, progress=progress
        )

    site = prepared(session, f"added addresses to the network {name}", force=force, trial=trial)
    try:
        if dry_run:
            only_rehearse(session, site, operation)
            return
        changed = operation(site)
    finally:
        out.progress()
    many = "1 entry" if changed.added == 1 else f"{changed.added:,} entries"
    _print(session, site, changed, f"{many} added: {name} has {changed.network.count:,}")


@command(
    "remove",
    "redlatch network remove tablets 192.168.1.20",
    "redlatch network remove tablets",
)
@click.argument("name")
@click.argument("entries", nargs=-1, metavar="[ADDRESS]...")
@options("dry_run", "force", "trial")
def remove(
    session: Session,
    name: str,
    entries: tuple[str, ...],
    *,
    dry_run: bool,
    force: bool,
    trial: timedelta | None,
) -> None:
    """Take some addresses of a network away, or the whole network when none is named."""
    from redlatch.operations import networks

    what = f"removed addresses from the network {name}" if entries else f"removed the network {name}"
    site = prepared(session, what, force=force, trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: networks.remove(one, name, entries))
        return
    changed = networks.remove(site, name, entries)
    many = "1 entry" if changed.removed == 1 else f"{changed.removed:,} entries"
    left = f": {name} has {changed.network.count:,}"
    _print(session, site, changed, f"{many} removed{left}" if entries else f"the network {name} is gone")


@command("list", "redlatch network list", "redlatch network list tablets", "redlatch network list --json")
@click.argument("name", required=False)
def list_(session: Session, name: str | None) -> None:
    """Show all networks, built-in ones too, with their first few entries; or the one named, with all of them."""
    from redlatch.operations import networks, traffic

    site = session.site()
    found = networks.list_networks(site, name)
    words = traffic.sentence(traffic.seen(site))
    out = session.out
    out.document({"networks": [_document(one) for one in found], "traffic": words})
    for one in found:
        out.line(f"{one.name}{'' if one.own else ' (built in)'}", style="strong")
        if one.about:
            out.line(one.about, indent=2)
        for entry, comment in one.entries if one.own or name else ():
            out.line(f"{entry}  # {comment}" if comment else entry, indent=2)
        if one.own and one.count > len(one.entries):
            out.line(f"and {one.count - len(one.entries):,} more: redlatch network list {one.name}", indent=2)
        for known in one.names:
            out.line(_resolved(known), indent=2, style="warn" if known.failing_since else "")
        rules = ", ".join(map(str, one.rules))
        out.line(f"used by rule {rules}" if rules else "no rule uses it", indent=2)
        for text in one.cautions if one.own or one.rules else ():
            out.line(f"attention: {text}", style="warn")
    if words:
        out.line(f"attention: {words}", style="warn")


@command("resolve", "redlatch network resolve", "redlatch network resolve --json")
def resolve(session: Session) -> None:
    """Look the DNS names of all networks up again; a timer does it every five minutes.

    A name that does not resolve keeps its last answer for 24 hours and then holds nobody.
    """
    from redlatch import bootstrap
    from redlatch.operations import lookups

    done = lookups.resolve(session.site(), bootstrap.look_up)
    out = session.out
    out.document({"names": done.names, "changes": done.changes, "force": done.force.as_dict()})
    for change in done.changes:
        out.line(change)
    if not done.changes:
        many = "1 DNS name" if done.names == 1 else f"{done.names} DNS names"
        out.line(f"{many} looked up, nothing changed" if done.names else "no network has a DNS name")
        return
    print_force(out, done.force)


def _print(session: Session, site: Site, changed: Changed, sentence: str) -> None:
    out = session.out
    out.document(
        {
            **_document(changed.network),
            "added": changed.added,
            "removed": changed.removed,
            "notes": changed.notes,
            "force": changed.force.as_dict(),
        }
        | on_trial(site)
    )
    out.line(sentence, style="strong")
    for known in changed.network.names:
        out.line(_resolved(known), indent=2)
    for text in changed.notes:
        out.line(text)
    for text in changed.network.cautions:
        out.line(f"attention: {text}", style="warn")
    print_force(out, changed.force)
    hold(session, site)


def _resolved(known: Name) -> str:
    answer = f"is {', '.join(known.addresses)} since {minute(known.since)}" if known.addresses else "is nobody"
    failing = f", does not resolve since {minute(known.failing_since)}" if known.failing_since else ""
    return f"{known.name} {answer}{failing}"


def _document(one: Shown) -> dict[str, Any]:
    return {
        "name": one.name,
        "own": one.own,
        "about": one.about,
        "entries": [{"entry": entry, "comment": comment} for entry, comment in one.entries],
        "count": one.count,
        "names": [
            {
                "name": known.name,
                "addresses": known.addresses,
                "since": known.since,
                "failing_since": known.failing_since,
            }
            for known in one.names
        ],
        "rules": one.rules,
        "cautions": one.cautions,
    }
