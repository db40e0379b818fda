"""An installation that an earlier redlatch laid out, brought to what this one expects."""

from __future__ import annotations

import os

from redlatch.engines.nodered import publish
from redlatch.files import Owner, Rights, explained, give, make_dir, own_user
from redlatch.operations import engines, places
from redlatch.operations.site import Config, Target
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


def restore(settings: Settings, config: Config | None) -> None:
    """Gives every file and folder of this home the owner and mode that it should have (places.expected), where it
    belongs to root, redlatch or the engine that it is for. Links, and what is somebody else's, stay as they are.
    FileProblem.
    """
    own = own_user(settings)
    root = Owner(0, 0) if own is not None else None
    home_mode = 0o755 if settings.system else 0o700
    known = []
    if config is not None and config.target is not None:
        known.append((settings, config.target.uid, config.target.gid))
    gateway = engines.gateway(settings, config) if config is not None else None
    if gateway is not None:
        known.append((gateway.settings, gateway.uid, gateway.gid))
    for folder in (settings.home, *(one.home for one, _, _ in known)):
        if folder.is_dir():
            make_dir(folder, mode=home_mode, owner=root)
    mine = own or Owner(os.geteuid(), os.getegid())
    whose = (0, mine.uid, *(uid for _, uid, _ in known))
    for folder in (settings.authority, *places.set_aside(settings)):
        give(folder, Rights(mine, folders=0o700, files=0o600), whose=whose)
    folders, files = publish.modes(settings)
    for one, uid, gid in known:
        if one.published.is_dir():
            published = Owner(mine.uid, gid) if own is not None else mine
            give(one.published, Rights(published, folders, files), whose=whose)
            make_dir(one.spool, mode=folders, owner=Owner(uid, own.gid) if own is not None else None)


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
