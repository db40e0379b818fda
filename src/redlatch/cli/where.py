"""`redlatch where`: nothing of redlatch's is hidden."""

from __future__ import annotations

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import NotPermitted, NotSetUp


@command("where", "redlatch where", "redlatch where --json")
def where(session: Session) -> None:
    """Show every file and folder: what it is, whose it is, who may read it."""
    from redlatch.operations import places

    note = ""
    try:
        config = session.site().config()
    except NotSetUp:
        config = None
        note = "there is no site yet: redlatch up makes one"
    except NotPermitted as error:
        config = None
        note = f"{error.message}: some places are not shown"
    found = places.where(session.settings, config)
    session.out.document(
        {
            "home": session.settings.home,
            "note": note,
            "places": [
                {
                    "path": place.path,
                    "purpose": place.purpose,
                    "exists": place.exists,
                    "owner": place.owner or None,
                    "mode": place.mode or None,
                }
                for place in found
            ],
        }
    )
    session.out.table(
        ("PATH", "OWNER", "MODE", "WHAT IT IS"),
        [(place.path, place.owner if place.exists else "not there", place.mode, place.purpose) for place in found],
    )
    if note:
        session.out.line(note)
