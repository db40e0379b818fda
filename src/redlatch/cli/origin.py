"""`redlatch origin ...`: pages from elsewhere that may call this Node-RED and embed it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, on_trial, only_rehearse, options, prepared

if TYPE_CHECKING:
    from redlatch.operations.origins import Changed
    from redlatch.operations.site import Site

_UNSEEN = "from which page a request comes"

origin = LazyGroup(
    "origin",
    help="Other web origins whose pages may call this Node-RED and show it in a frame (a Home Assistant panel).",
    examples=("redlatch origin add https://homeassistant.local:8123", "redlatch origin list"),
    lazy={
        "add": ("redlatch.cli.origin:add", "allow the pages of an origin"),
        "remove": ("redlatch.cli.origin:remove", "refuse them again"),
        "list": ("redlatch.cli.origin:list_", "show all origins"),
    },
)


@command(
    "add", "redlatch origin add https://homeassistant.local:8123", "redlatch origin add https://panel.example.org"
)
@click.argument("url")
@options("dry_run", "trial")
def add(session: Session, url: str, *, dry_run: bool, trial: timedelta | None) -> None:
    """Allow the pages of another origin to call this Node-RED and to show it in a frame.

    They act with the key of the device that shows them: name only pages that you trust as much as that device.
    """
    from redlatch.operations import origins

    site = prepared(session, f"added the origin {url}", trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: origins.add(one, url), unseen=_UNSEEN)
        return
    changed = origins.add(site, url)
    _print(session, site, changed, f"pages of {changed.origin} may call and embed this Node-RED")


@command("remove", "redlatch origin remove https://homeassistant.local:8123")
@click.argument("url")
@options("dry_run", "trial")
def remove(session: Session, url: str, *, dry_run: bool, trial: timedelta | None) -> None:
    """Refuse the pages of an origin again."""
    from redlatch.operations import origins

    site = prepared(session, f"removed the origin {url}", trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: origins.remove(one, url), unseen=_UNSEEN)
        return
    changed = origins.remove(site, url)
    _print(session, site, changed, f"pages of {changed.origin} are refused again")


@command("list", "redlatch origin list")
def list_(session: Session) -> None:
    """Show all origins that you allowed."""
    from redlatch.operations import origins

    found = origins.list_origins(session.site())
    session.out.document({"origins": [{"origin": one, "warnings": origins.warnings(one)} for one in found]})
    for one in found:
        session.out.line(one)
        for text in origins.warnings(one):
            session.out.line(f"attention: {text}", style="warn")
    if not found:
        session.out.line("none: pages from elsewhere are refused")


def _print(session: Session, site: Site, changed: Changed, sentence: str) -> None:
    session.out.document(
        {"origin": changed.origin, "warnings": changed.warnings, "force": changed.force.as_dict()} | on_trial(site)
    )
    session.out.line(sentence, style="strong")
    for text in changed.warnings:
        session.out.line(f"attention: {text}", style="warn")
    print_force(session.out, changed.force)
    hold(session, site)
