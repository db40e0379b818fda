"""`redlatch rules ...`: all rules as one file."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, LazyGroup, command
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, on_trial, options, prepared, rehearse

rules = LazyGroup(
    "rules",
    help="All rules, with roles, networks and origins, as one TOML file.",
    examples=("redlatch rules export > rules.toml", "redlatch rules apply rules.toml"),
    lazy={
        "export": ("redlatch.cli.rules:export", "print the present state as a file"),
        "apply": ("redlatch.cli.rules:apply", "make the state the one of a file"),
    },
)


@command("export", "redlatch rules export > rules.toml", "redlatch rules export --json")
def export(session: Session) -> None:
    """Print the present rules, roles, networks and origins as TOML."""
    from redlatch.operations import exchange

    text = exchange.export(session.site())
    session.out.document({"toml": text})
    if not session.out.as_json:
        # TOML is UTF-8, whatever the terminal's encoding is; the writer leaves nothing in it that steers one
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()


@command(
    "apply",
    "redlatch rules apply rules.toml",
    "redlatch rules apply rules.toml --dry-run",
    "redlatch rules apply rules.toml --try 2m",
    "redlatch rules apply rules.toml --yes",
)
@click.argument("file", type=PATH)
@options("dry_run")
@click.option(
    "--force",
    is_flag=True,
    help="Although it locks out everybody, a network stands for everybody, or a name does not resolve.",
)
@options("trial")
@click.option("--yes", is_flag=True, help="Do not ask.")
def apply(session: Session, file: Path, *, dry_run: bool, force: bool, trial: timedelta | None, yes: bool) -> None:
    """Make rules, roles, networks and origins those of FILE: the complete state, what it does not name goes.

    Shows what comes (+) and goes (-), and asks. All of it happens, or nothing.
    """
    from redlatch import bootstrap
    from redlatch.operations import exchange

    site = prepared(session, f"applied {file.name}", force=force, trial=trial)
    out = session.out
    wanted = exchange.read(site, file, resolver=bootstrap.look_up)
    plan = exchange.plan(site, wanted, force=force)
    for change in plan.changes:
        out.line(change, style="good" if change.startswith("+") else "bad")
    for remark in plan.remarks:
        out.warning(remark)
    if plan.question:
        out.warning(plan.question)
    force_ = None
    would: dict[str, Any] = {}
    if plan.changes and dry_run:
        would = {"would": rehearse(session, site, lambda one: exchange.apply(one, wanted, plan, force=force))}
    if plan.changes and not dry_run:
        session.confirm("Apply this?", yes=yes)
        force_ = exchange.apply(site, wanted, plan, force=force)
    out.document(
        {
            "changed": force_ is not None,
            "changes": plan.changes,
            "question": plan.question or None,
            "remarks": plan.remarks,
            "force": force_.as_dict() if force_ is not None else None,
        }
        | would
        | on_trial(site)
    )
    if force_ is not None:
        out.line("applied", style="good")
        print_force(out, force_)
        hold(session, site)
    else:
        out.line("nothing was changed (--dry-run)" if plan.changes else "nothing to change")
