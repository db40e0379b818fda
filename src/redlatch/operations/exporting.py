"""The site as a configuration for a proxy that somebody already runs."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redlatch.engines.export import caddy, nginx
from redlatch.engines.export.model import Export
from redlatch.errors import FileProblem
from redlatch.files import Owner, write_atomic
from redlatch.operations import authorities
from redlatch.operations.publishing import build
from redlatch.operations.site import Config, Site

if TYPE_CHECKING:
    from redlatch.store import Reader

_RENDER: Final = {"nginx": nginx.render, "caddy": caddy.render}
MODE: Final = 0o640  # device names, networks and rules are nobody else's business


@dataclass(frozen=True, slots=True)
class Places:
    """Where the proxy listens (`ADDRESS:PORT`), what is behind it (a URL), and the PEM files that it reads (None:
    the published ones; the key is in the certificate's file where none is named).
    """

    listen: str
    upstream: str
    server_cert: Path | None = None
    server_key: Path | None = None
    device_ca: Path | None = None


def render(site: Site, program: str, places: Places) -> str:
    """The configuration for `program` ("nginx" or "caddy"), of the present state of the store.

    Cost: linear in devices and addresses. Errors: InvalidInput for what may not stand in a configuration.
    """
    published = site.settings.published
    server = (places.server_cert or published / "server.pem").absolute()
    with site.store.read() as view:
        snapshot = build(view, Config.of(view.site().config), spool=site.settings.spool)
        made = Export(
            snapshot=snapshot,
            listen=places.listen,
            upstream=places.upstream,
            server_cert=str(server),
            server_key=str((places.server_key or server).absolute()),
            device_ca=str((places.device_ca or published / "device-ca.pem").absolute()),
            authorities=authorities.anchors(view, "device"),
            sha1=_sha1(view, snapshot.devices) if program == "nginx" else {},
            labels={one.id: one.name for one in view.devices()},
        )
    return _RENDER[program](made)


def device_ca(site: Site) -> bytes:
    """The certificates of the device CAs in use, PEM; no key."""
    with site.store.read() as view:
        return authorities.device_cas(view)


def write(path: Path, data: bytes) -> None:
    """Replaces `path`: a new file is 0640, one that is there keeps its owner and mode. FileProblem."""
    owner, mode = None, MODE
    try:
        state = path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileProblem(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from error
    else:
        if not stat.S_ISREG(state.st_mode):
            raise FileProblem(f"{path} is not a plain file", hint="name a file, or print it and redirect that")
        mode = stat.S_IMODE(state.st_mode) & 0o777
        owner = Owner(state.st_uid, state.st_gid) if os.geteuid() == 0 else None
    write_atomic(path, data, mode=mode, owner=owner)


def _sha1(view: Reader, fingerprints: Iterable[str]) -> dict[str, str]:
    """SHA-256 -> SHA-1 of the certificates; one that the store does not hold stays out."""
    found = {}
    for fingerprint in fingerprints:
        row = view.certificate(fingerprint)
        if row is not None:
            # nginx knows no other; what that is worth stands in engines/export/nginx.py
            found[fingerprint] = hashlib.sha1(row.der, usedforsecurity=False).hexdigest()
    return found
