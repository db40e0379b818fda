"""`redlatch where`: nothing of redlatch's is hidden."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import NotPermitted, NotSetUp, RedlatchError

if TYPE_CHECKING:
    from redlatch.operations.site import Config


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
    node_red, missing = _node_red(config)
    session.out.document(
        {
            "home": session.settings.home,
            "note": note,
            "node_red": node_red,
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
    for line in (note, missing):
        if line:
            session.out.line(line)


def _node_red(config: Config | None) -> tuple[dict[str, Any] | None, str]:
    """The Node-RED that is locked, or the one that `up` would find; else why there is none."""
    from redlatch.engines.nodered.locate import locate

    target = config.target if config is not None else None
    try:
        found = locate(
            user_dir=Path(target.user_dir) if target else None,
            settings_file=Path(target.settings_file) if target else None,
            environ=os.environ,
        )
    except RedlatchError as error:
        return None, f"Node-RED: {error.message}"
    return {
        "user": found.user.name,
        "user_dir": found.user_dir,
        "settings_file": found.settings_file,
        "version": found.version,
        "unit": found.unit,
        "pid": found.pid,
        "node": " ".join(found.node),
        "program": found.program,
    }, ""
