"""A backup of a site, made and put back as the command line does it; encrypted to a key of this test run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyrage

from redlatch import bootstrap
from redlatch.operations import backup, restore, sealing
from redlatch.operations.archive import Archive
from redlatch.operations.backup import Proved
from redlatch.operations.site import Site
from redlatch.settings import Settings, from_environment

#: A backup that the redlatch before store version 0004 could have made: its store was written by that version.
MADE_WITH_0003 = Path(__file__).parents[1] / "integration/keeping/made-with-0003"

KEY = pyrage.x25519.Identity.generate()
TO = (str(KEY.to_public()),)


def sealed(data: bytes) -> bytes:
    return sealing.for_recipients(data, TO)


def opened(data: bytes) -> bytes:
    return sealing.opened(data, passphrase=bytes, identity=str(KEY).encode())


def back_up(site: Site) -> bytes:
    """A backup as it is written to a file."""
    written: list[bytes] = []
    backup.make(site, seal=sealed, how={"encryption": "recipients"}, deliver=written.append)
    return written[0]


def proved(data: bytes) -> Proved:
    return backup.read(opened(data), Path("the-backup"))


def put_back(
    data: bytes, home: Path | Settings, *, replace: bool = False, now: Callable[[], Any] = bootstrap.now
) -> Site:
    """The site of a backup restored in `home`, opened."""
    settings = home if isinstance(home, Settings) else from_environment(home, {})
    found = proved(data)
    plan = restore.plan(settings, found, now=now(), replace_present=replace)
    restore.restore(plan, actor="test", clock=now)
    found.close()
    return bootstrap.open_site(settings, actor="test")


@dataclass(frozen=True)
class Original:
    """A site, and what it was when it was copied."""

    site: Site
    archive: Archive
    file: bytes
