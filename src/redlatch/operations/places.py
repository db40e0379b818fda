"""Every file and folder of redlatch's: what it is, whose it is, who may read it."""

from __future__ import annotations

import grp
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from redlatch.engines.nodered import dropin
from redlatch.operations import credentials
from redlatch.operations.site import Config
from redlatch.settings import Settings


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
        (settings.keys, "the keys of both CAs"),
        *((path, "a CA's key") for path in _children(settings.keys)),
        *((path, "key and certificate of console and enrolment") for path in _present(settings.service_pem)),
        *((path, "when DNS names of networks were last looked up") for path in _present(settings.look_up)),
        *((path, "held by the one command that changes this site") for path in _present(settings.lock)),
        *((path, what) for path, what in _CREDENTIAL if settings.system for path in _present(path)),
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
    owner = f"{_user(state.st_uid)}:{_group(state.st_gid)}"
    return Place(str(path), purpose, exists=True, owner=owner, mode=f"{stat.S_IMODE(state.st_mode):04o}")


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
