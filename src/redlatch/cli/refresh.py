"""`redlatch refresh`: what the daily timer and certbot's hook call."""

from __future__ import annotations

import os
from dataclasses import replace

from redlatch.cli.framework import command
from redlatch.cli.name import print_refreshed
from redlatch.cli.session import Session


@command("refresh", "sudo redlatch refresh")
def refresh(session: Session) -> None:
    """Renew the server certificates when it is time, follow new addresses, repair what is published.

    DNS names in networks are looked up again, and flows and settings are read for what they serve. Changes
    nothing when all is well. A daily timer and certbot's deploy hook call it.
    """
    from redlatch import bootstrap
    from redlatch.operations import lookups, server, service_key
    from redlatch.operations.publishing import enforce

    site = session.site()
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
