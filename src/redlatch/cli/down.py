"""`redlatch down`: take the lock off, and say that Node-RED is open."""

from __future__ import annotations

import os

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session


@command("down", "sudo redlatch down", "sudo redlatch down --yes --json")
@click.option("--yes", is_flag=True, help="Do not ask.")
def down(session: Session, yes: bool) -> None:
    """Take the lock off: Node-RED is open again, as it was before.

    Removes exactly what redlatch added and keeps every later edit of yours. Devices, CAs and the audit trail stay,
    so that `redlatch up` locks for the same devices again.
    """
    from redlatch.engines.nodered.dropin import restart_command
    from redlatch.operations import setup

    site = session.site()
    out = session.out
    node_red, removed = setup.down_plan(site, os.environ)
    out.line("This will be removed:", style="strong")
    for one in removed:
        out.line(f"- {one}", indent=2)
    out.line("Node-RED is open again then: whoever reaches its port gets in.", style="bad")
    session.confirm("Do this?", yes=yes)
    done = setup.down(site, os.environ)
    out.document(
        {
            "removed": done.removed,
            "kept": done.kept,
            "restart": restart_command(node_red),
            "warning": "Node-RED is open to everybody who reaches its port, from its next start on",
        }
    )
    out.line(f"The lock is off. Node-RED is OPEN from its next start on: {restart_command(node_red)}", style="bad")
    for one in done.kept:
        out.line(f"kept: {one}")
