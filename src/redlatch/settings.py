"""Where things are: one home, and what lies in it. Reads the environment once; of files only whose the home is."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

SYSTEM_HOME = Path("/var/lib/redlatch")
SYSTEM_USER = "redlatch"


@dataclass(frozen=True, slots=True)
class Settings:
    """The places of one installation.

    `system` is true in an installation of root's, for root and for redlatch's own `user`, as whom the service
    runs: the CA keys belong to that user, and Node-RED's user may read `published` only. Who may chown is another
    question. Otherwise everything belongs to one person and the keys are under a passphrase.
    """

    home: Path
    system: bool
    user: str = SYSTEM_USER

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
    def service_pem(self) -> Path:
        """Key, certificate and chain of console and enrolment: where Node-RED's user reads nothing."""
        return self.authority / "service.pem"

    @property
    def published(self) -> Path:
        """What the engine reads: guard, server key and chain, device CA, snapshot."""
        return self.home / "published"

    @property
    def spool(self) -> Path:
        """The one folder that Node-RED's user may write: the guard's claims."""
        return self.home / "spool"

    @property
    def gateway(self) -> Settings:
        """The places of the gateway: a home of its own in this one, with `published` and `spool`."""
        return replace(self, home=self.home / "gateway")

    @property
    def look_up(self) -> Path:
        """There while some network has DNS names, for a timer to see; holds when they were last looked up."""
        return self.authority / "look-up"

    @property
    def last_check(self) -> Path:
        """What `redlatch check` found last, and what it told of."""
        return self.authority / "last-check.json"

    @property
    def lock(self) -> Path:
        """Held by the one command that changes this site."""
        return self.authority / "lock"


def from_environment(home: Path | None, environ: Mapping[str, str], *, euid: int | None = None) -> Settings:
    """Settings for `home`, else REDLATCH_HOME, else the place that fits the present user."""
    euid = os.geteuid() if euid is None else euid
    of_service = euid != 0 and _name(euid) == SYSTEM_USER
    if home is None and environ.get("REDLATCH_HOME"):
        home = Path(environ["REDLATCH_HOME"])
    if home is None:
        if euid == 0 or (of_service and _is_roots(SYSTEM_HOME)):
            home = SYSTEM_HOME
        else:
            data = environ.get("XDG_DATA_HOME") or str(
                Path(environ.get("HOME", "~")).expanduser() / ".local/share"
            )
            home = Path(data) / "redlatch"
    return Settings(home=home.absolute(), system=euid == 0 or (of_service and _is_roots(home)))


def _name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _is_roots(home: Path) -> bool:
    """Whether root laid that home out: a person may be called redlatch too, and have a home of their own."""
    try:
        return home.lstat().st_uid == 0
    except OSError:
        return False
