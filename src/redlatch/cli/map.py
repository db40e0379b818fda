"""`redlatch map`: everything that can be reached, and by whom."""

from __future__ import annotations

import os
from dataclasses import asdict

from redlatch.cli.framework import command
from redlatch.cli.session import Session


@command("map", "sudo redlatch map", "redlatch map --json")
def map_(session: Session) -> None:
    """Show everything that this Node-RED serves, and who may reach it from where.

    Reads Node-RED's settings and flows as they are now, as its user. What is no literal path of its own counts as
    editor, and so does everything that is not shown.
    """
    from redlatch.operations import reach

    found = reach.survey(session.site(), os.environ)
    out = session.out
    out.document(
        {
            "things": [asdict(one) for one in found.things],
            "changed_since_refresh": found.stale,
            "open_port": found.open_port,
        }
    )
    for one in found.things:
        note = f"  ({one.note})" if one.note else ""
        out.line(" ".join(word for word in (one.kind, one.method, one.path) if word) + note, style="strong")
        for who in one.who:
            out.line(who, indent=4, style="faint" if who == "nobody" else "")
    if found.open_port is not None:
        out.line(f"who shows no certificate gets in by port {found.open_port} alone")
    for line in found.stale:
        out.warning(f"not yet in force: {line}; run: redlatch refresh")
