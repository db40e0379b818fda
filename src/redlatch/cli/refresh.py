"""`redlatch refresh`: what the daily timer and certbot's hook call."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from redlatch.cli.framework import command
from redlatch.cli.name import print_refreshed
from redlatch.cli.session import Session
from redlatch.errors import EngineError

if TYPE_CHECKING:
    from redlatch.operations.site import Site


@command("refresh", "sudo redlatch refresh", "sudo redlatch refresh --clock-is-right")
@click.option("--clock-is-right", is_flag=True, help="The clock is right, although nothing happened for 400 days.")
def refresh(session: Session, clock_is_right: bool) -> int:
    """Renew the server certificates when it is time, follow new addresses, repair what is published.

    DNS names in networks are looked up again, and flows and settings are read for what they serve. Changes
    nothing when all is well. A daily timer and certbot's deploy hook call it.
    """
    from redlatch import bootstrap
    from redlatch.operations import lookups, server, service_key
    from redlatch.operations.publishing import enforce
    from redlatch.operations.site import changing

    site = session.site()
    if clock_is_right:
        with changing(site, clock_is_right=True) as tx:
            tx.record("site.changed", changes=["somebody said that the clock is right"])
    try:
        resolved = lookups.resolve(site, bootstrap.look_up)
        done = server.refresh(site, environ=os.environ)
        renewed = service_key.renew(site) if service_key.wanted(site) else []
        print_refreshed(
            session,
            replace(
                done,
                changes=(*resolved.changes, *done.changes, *renewed),
                force=enforce(site) if renewed else done.force,
            ),
        )
    finally:  # it goes out, whatever could not be renewed today
        sent = _send_head(session, site)
    return 0 if sent else 1


def _send_head(session: Session, site: Site) -> bool:
    """Whether who waits for the head of the audit chain has it; else it is said why not."""
    from redlatch.operations import notices

    try:
        notices.send_head(site)
    except EngineError as error:
        session.out.warning(f"the head of the audit chain was not sent: {error.message}")
        return False
    return True
