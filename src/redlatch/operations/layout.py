"""An installation that an earlier redlatch laid out, brought to what this one expects."""

from __future__ import annotations

import os

from redlatch.engines.nodered import publish
from redlatch.files import Rights, explained, give, own_user
from redlatch.operations.site import Target
from redlatch.settings import Settings


def change(settings: Settings) -> str:
    """What `bring` will do, in words."""
    if not settings.system:
        return f"move redlatch's lock file into {settings.authority}"
    return f"give {settings.published} to the user {settings.user}, as whom the service runs"


def is_of_before(settings: Settings) -> bool:
    """Whether an earlier redlatch laid this out: what is published was root's, and the lock lay in the home."""
    own = own_user(settings)
    if (settings.home / "lock").exists() or (settings.home / "look-up").exists():
        return True
    try:
        return own is not None and settings.published.lstat().st_uid != own.uid
    except OSError:
        return False


def bring(settings: Settings, target: Target | None) -> list[str]:
    """Gives folders and files the owners and modes of this redlatch, and moves what lies elsewhere by now; in
    words what was changed. Owners only as root: without it there is one user only. FileProblem.
    """
    moved = _move(settings)
    own = own_user(settings)
    if own is None or os.geteuid() != 0:
        return []
    changed = give(settings.authority, Rights(own, folders=0o700, files=0o600), whose=(0, own.uid))
    if target is not None:
        changed += publish.bring(settings, target.uid, target.gid)
    if not changed and not moved:
        return []
    return [f"gave {changed} files and folders to the users they belong to: {settings.user} publishes by now"]


def _move(settings: Settings) -> bool:
    """Lock and marker lay in the home, where only root may make them."""
    lock, look_up = settings.home / "lock", settings.home / "look-up"
    found = False
    if look_up.exists():
        found = True
        with explained("move", look_up):
            if settings.look_up.exists():
                look_up.unlink()
            else:
                look_up.rename(settings.look_up)
    if lock.exists():
        found = True
        with explained("remove", lock):
            lock.unlink()
    return found
