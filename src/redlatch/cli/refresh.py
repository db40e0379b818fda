"""`redlatch refresh`: what the daily timer and certbot's hook call."""

from __future__ import annotations

from redlatch.cli.framework import command
from redlatch.cli.name import print_refreshed
from redlatch.cli.session import Session


@command("refresh", "sudo redlatch refresh")
def refresh(session: Session) -> None:
    """Renew the server certificate when it is time, follow new addresses, repair what is published.

    Changes nothing when all is well. A daily timer and certbot's deploy hook call it.
    """
    from redlatch.operations import server

    print_refreshed(session, server.refresh(session.site()))
