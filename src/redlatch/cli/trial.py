"""`redlatch trial ...`: the change that is taken back by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.output import minute
from redlatch.cli.session import Session
from redlatch.cli.weighing import document

if TYPE_CHECKING:
    from redlatch.operations.trials import Ended

trial = LazyGroup(
    "trial",
    help="A change made with --try: it is taken back by itself unless it is kept.",
    examples=("redlatch rule remove 2 --try 2m", "redlatch trial keep", "redlatch trial undo"),
    lazy={
        "show": ("redlatch.cli.trial:show", "show the change on trial, and how long it lasts"),
        "keep": ("redlatch.cli.trial:keep", "keep it"),
        "undo": ("redlatch.cli.trial:undo", "take it back now"),
    },
)


@command("show", "redlatch trial show", "redlatch trial show --json")
def show(session: Session) -> None:
    """Show the change on trial, who made it, and how long it lasts."""
    from redlatch.operations import trials

    found = trials.show(session.site())
    session.out.document({"trial": None if found is None else document(found)})
    if found is None:
        session.out.line("no change is on trial")
        return
    session.out.fields(
        [
            ("change", found.what),
            ("made by", found.actor),
            ("taken back", f"{minute(found.until)}, in {found.seconds:.0f} s, unless it is kept"),
        ]
    )
    session.out.line("redlatch trial keep keeps it, redlatch trial undo takes it back now")


@command("keep", "redlatch trial keep")
def keep(session: Session) -> None:
    """Keep the change on trial: it stays as it is.

    Say it from where you need to get in: over a new connection, when you came to this machine through the lock.
    """
    from redlatch.operations import trials

    _print(session, trials.keep(session.site()), "kept")


@command("undo", "redlatch trial undo")
@click.option("--when-over", is_flag=True, help="Wait for its end, and do nothing when it was kept.")
def undo(session: Session, when_over: bool) -> None:
    """Take the change on trial back: everything is as it was before it."""
    from redlatch.operations import trial_watch, trials

    site = session.site()
    ended = trial_watch.wait(site) if when_over else trials.undo(site)
    if ended is None:
        session.out.document({"changed": False, "what": None, "stayed": [], "force": None})
        session.out.line("there is nothing to take back")
        return
    _print(session, ended, "taken back")


def _print(session: Session, ended: Ended, word: str) -> None:
    out = session.out
    out.document({"changed": True, "what": ended.what, "stayed": ended.stayed, "force": ended.force.as_dict()})
    out.line(f"{word}: {ended.what}", style="strong")
    for one in ended.stayed:
        out.warning(f"this stays: {one}")
    if not ended.kept:
        print_force(out, ended.force)
