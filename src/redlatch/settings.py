"""Where things are: one home, and what lies in it. Reads the environment once; touches no file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SYSTEM_HOME = Path("/var/lib/redlatch")
SYSTEM_USER = "redlatch"


@dataclass(frozen=True, slots=True)
class Settings:
    """The places of one installation.

    `system` is true when redlatch runs as root: then the CA keys belong to a user of their own and Node-RED's
    user may read `published` only. Without root everything belongs to one person and the keys are under a
    passphrase.
    """

    home: Path
    system: bool

    @property
    def authority(self) -> Path:
        """Store and CA keys: nobody but redlatch's own user."""
        return self.home / "authority"

    @property
    def database(self) -> Path:
        return self.authority / "redlatch.db"

    @property
    def keys(self) -> Path:
        return self.authority / "keys"

    @property
    def published(self) -> Path:
        """What the engine reads: guard, server key and chain, device CA, snapshot."""
        return self.home / "published"

    @property
    def spool(self) -> Path:
        """The one folder that Node-RED's user may write: the guard's claims."""
        return self.home / "spool"

    @property
    def look_up(self) -> Path:
        """There while some network has DNS names, for a timer to see; holds when they were last looked up."""
        return self.home / "look-up"

    @property
    def lock(self) -> Path:
        """Held by the one command that changes this site."""
        return self.home / "lock"


def from_environment(home: Path | None, environ: Mapping[str, str], *, euid: int | None = None) -> Settings:
    """Settings for `home`, else REDLATCH_HOME, else the place that fits the present user."""
    system = (os.geteuid() if euid is None else euid) == 0
    if home is None and environ.get("REDLATCH_HOME"):
        home = Path(environ["REDLATCH_HOME"])
    if home is None:
        if system:
            home = SYSTEM_HOME
        else:
            data = environ.get("XDG_DATA_HOME") or str(
                Path(environ.get("HOME", "~")).expanduser() / ".local/share"
            )
            home = Path(data) / "redlatch"
    return Settings(home=home.absolute(), system=system)
