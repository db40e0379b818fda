"""`redlatch status`: the first thing to look at."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from redlatch.cli.framework import command
from redlatch.cli.output import day
from redlatch.cli.session import Session

if TYPE_CHECKING:
    from redlatch.operations.status import Status

_STRANGERS = {
    "strict": "get nothing",
    "explain": "get a page that says why",
    "auto": "get a page that says why in private networks, elsewhere nothing",
}
_SPEAKERS = {
    ("node-red",): "Node-RED",
    ("gateway",): "the gateway",
    ("node-red", "gateway"): "Node-RED or the gateway, whichever lags",
}


@command("status", "redlatch status", "redlatch status --json")
def status(session: Session) -> None:
    """Show whether it is locked, and what needs attention.

    "Locked" is said only after Node-RED's settings were loaded, as its user, with the guard in them, or when "
    "nobody
    gets past the gateway. What is in force is Node-RED's own word, or the gateway's.
    """
    from redlatch.operations.status import status as operation

    found = operation(session.site(), os.environ)
    end = None if found.server_not_after is None else datetime.fromtimestamp(found.server_not_after, UTC)
    out = session.out
    out.document(asdict(found) | {"server_not_after": end})
    out.line(
        "locked" if found.locked else "NOT locked: whoever reaches it gets in",
        style="good" if found.locked else "bad",
    )
    out.fields(
        [
            ("address", found.url),
            ("also called", ", ".join(found.hosts)),
            *([("settings", found.settings_file)] if found.settings_file is not None else []),
            ("strangers", _STRANGERS[found.mode]),
            ("devices", str(found.devices)),
            *([("without a key", _keyless(found))] if found.keyless else []),
            ("recorded", f"version {found.recorded}"),
            ("published", "nothing" if found.published is None else f"version {found.published}"),
            (
                "in force",
                f"{_SPEAKERS[found.engines]} does not run, or says nothing"
                if found.in_force is None
                else f"version {found.in_force}, says {_SPEAKERS[found.engines]}",
            ),
            ("server key", "none" if end is None else f"good until {day(end)}"),
        ]
    )
    for warning in found.warnings:
        out.line(f"attention: {warning}", style="warn")


def _keyless(found: Status) -> str:
    many = "1 rule lets" if found.keyless == 1 else f"{found.keyless} rules let"
    where = "" if found.open_port is None else f", by port {found.open_port} alone"
    return f"{many} somebody in{where}: redlatch map shows what"
