"""`redlatch refresh`: what the daily timer and certbot's hook call."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from redlatch.cli.framework import command
from redlatch.cli.name import print_refreshed
from redlatch.cli.session import Session
from redlatch.errors import EngineError


@command("refresh", "sudo redlatch refresh", "sudo redlatch refresh --clock-is-right")
@click.option("--clock-is-right", is_flag=True, help="The clock is right, although nothing happened for 400 days.")
def refresh(session: Session, clock_is_right: bool) -> int:
    """Renew the server certificates when it is time, follow new addresses, repair what is published.

    DNS names in networks are looked up again, and flows and settings are read for what they serve. Changes
    nothing when all is well. A daily timer and certbot's deploy hook call it.
    """
    from redlatch import bootstrap
    from redlatch.operations import lookups, notices, server, service_key
    from redlatch.operations.publishing import enforce
    from redlatch.operations.site import changing

    site = session.site()
    if clock_is_right:
        with changing(site, clock_is_right=True) as tx:
            tx.record("site.changed", changes=["somebody said that the clock is right"])
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
    try:
        notices.send_head(site)
    except EngineError as error:
        # the certificates are right all the same; who waits for the head has to hear why it does not come
        session.out.warning(f"the head of the audit chain was not sent: {error.message}")
        return 1
    return 0
