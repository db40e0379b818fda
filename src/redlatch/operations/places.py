"""Every file and folder of redlatch's: what it is, whose it is, who may read it."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from redlatch.engines.nodered import dropin, publish
from redlatch.files import Owner, own_user
from redlatch.operations import credentials, engines
from redlatch.operations.site import Config
from redlatch.settings import Settings

ANY_GROUP = -1


@dataclass(frozen=True, slots=True)
class Place:
    """One path. `owner` is "user:group" and `mode` octal, both empty where nothing is there."""

    path: str
    purpose: str
    exists: bool
    owner: str = ""
    mode: str = ""


def where(settings: Settings, config: Config | None) -> list[Place]:
    """All places, Node-RED's settings.js among them once it is known. Looks, and changes nothing."""
    places = [
        (settings.home, "everything of this site"),
        (settings.authority, "store and CA keys: nobody but redlatch"),
        (settings.database, "devices, certificates, audit trail"),
        *((path, "the store as it was before the last upgrade") for path in _like(settings.database, ".*.bak")),
        (settings.keys, "the keys of both CAs"),
        *((path, "a CA's key") for path in _children(settings.keys)),
        *((path, "key and certificate of console and enrolment") for path in _present(settings.service_pem)),
        *((path, "when DNS names of networks were last looked up") for path in _present(settings.look_up)),
        *((path, "what redlatch check found last") for path in _present(settings.last_check)),
        *((path, "held by the one command that changes this site") for path in _present(settings.lock)),
        *((path, what) for path, what in _CREDENTIAL if settings.system for path in _present(path)),
        *((path, "a site that was replaced, with its CA keys") for path in set_aside(settings)),
        (settings.published, "what Node-RED reads and may not write"),
        *((path, _PUBLISHED.get(path.name, "the guard's code")) for path in _children(settings.published)),
        (settings.spool, "what the guard reports: the one folder that Node-RED writes"),
        *((path, "Node-RED's claims") for path in _children(settings.spool)),
    ]
    if config is not None and config.gateway is not None:
        gateway = settings.gateway
        places += [
            (gateway.published, "what the gateway reads and may not write"),
            *(
                (path, _PUBLISHED.get(path.name, "what the gateway reads"))
                for path in _children(gateway.published)
            ),
            (gateway.spool, "what the gateway reports, and HAProxy's configuration"),
            *((path, "the gateway's claims") for path in _children(gateway.spool)),
            *((path, "what gateway up added to this machine") for path in _present(gateway.home / "added")),
        ]
    if config is not None and config.target is not None:
        places.append((Path(config.target.settings_file), f"Node-RED's settings, of user {config.target.user}"))
        own = (*(config.server_files or ()), *(config.service.server_files or ()))
        places += [(Path(name), "your own server certificate and key") for name in own]
    return [_place(path, purpose) for path, purpose in places]


_CREDENTIAL = (
    (credentials.path(), "the passphrase of the CA keys, encrypted for this machine's systemd"),
    *((dropin.ETC / f"{unit}.d" / credentials.DROPIN, "has systemd decrypt it") for unit in credentials.UNITS),
)

_PUBLISHED = {
    "gateway.json": "where the gateway listens, and in front of what",
    "secret": "what the gateway and Node-RED know each other by",
    "server.pem": "the server's key and certificate",
    "device-ca.pem": "the certificates of the device CAs that are trusted",
    "snapshot.json": "the rules in force, and which parts belong to them",
    "sidebar.json": "the devices by name, for the sidebar in Node-RED's editor",
    "snapshot": "the devices and networks in force, in parts",
}


def _present(path: Path) -> list[Path]:
    try:
        return [path] if path.exists() else []
    except PermissionError:
        return []


def _like(path: Path, suffix: str) -> list[Path]:
    try:
        return sorted(path.parent.glob(f"{path.name}{suffix}"))
    except OSError:
        return []


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _place(path: Path, purpose: str) -> Place:
    try:
        state = path.lstat()
    except OSError:
        return Place(str(path), purpose, exists=False)
    return Place(str(path), purpose, exists=True, owner=owner(state), mode=f"{stat.S_IMODE(state.st_mode):04o}")


def set_aside(settings: Settings) -> list[Path]:
    """The authority folders of sites that a restore put in the place of."""
    return _like(settings.authority, ".before-*")


# --- what they should be


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a file or folder should be: whose (a gid of ANY_GROUP: no matter), its mode, and which of the two."""

    owner: Owner
    mode: int
    folder: bool


def expected(settings: Settings, config: Config | None) -> Iterator[tuple[Path, Wanted]]:
    """Every file and folder of this home that is there, with what it should be. Backups (`*.age`) and the claims
    in the spools are left out: a person made the ones, and an engine's user the others. Whose the published
    folders should be stands in `config`; without it they are left out.
    """
    own = own_user(settings)
    mine = own or Owner(os.geteuid(), ANY_GROUP)
    root = Owner(0, 0) if own is not None else mine
    home_mode = 0o755 if settings.system else 0o700
    yield settings.home, Wanted(root, home_mode, folder=True)
    for folder in (settings.authority, *set_aside(settings)):
        yield from _below(folder, mine, 0o700, 0o600)
    if config is None:
        return
    folders, files = publish.modes(settings)
    target = config.target
    known = [(settings, target.uid, target.gid)] if target is not None else []
    gateway = engines.gateway(settings, config)
    if gateway is not None:
        yield gateway.settings.home, Wanted(root, home_mode, folder=True)
        known.append((gateway.settings, gateway.uid, gateway.gid))
    for home, uid, gid in known:
        if home.published.is_dir() or home.published.is_symlink():
            yield from _below(home.published, Owner(mine.uid, gid) if own else mine, folders, files)
            spool = Owner(uid, own.gid) if own is not None else mine
            yield home.spool, Wanted(spool, folders, folder=True)


def _below(folder: Path, owner: Owner, folders: int, files: int) -> Iterator[tuple[Path, Wanted]]:
    """A folder and all that is in it; no link is followed."""
    yield folder, Wanted(owner, folders, folder=True)
    for here, inside, names in os.walk(folder):
        for name in sorted(inside):
            yield Path(here) / name, Wanted(owner, folders, folder=True)
        for name in sorted(names):
            if not name.endswith(".age"):
                yield Path(here) / name, Wanted(owner, files, folder=False)


def owner(state: os.stat_result) -> str:
    """Whose a file is, as user:group."""
    return f"{_user(state.st_uid)}:{_group(state.st_gid)}"


def name_of(owner: Owner) -> str:
    """An owner as user:group, or as the user alone where the group does not matter."""
    return _user(owner.uid) + ("" if owner.gid == ANY_GROUP else f":{_group(owner.gid)}")


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
