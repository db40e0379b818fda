"""What an export is made from, and what may stand in a configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from redlatch.engines.haproxy.model import Gateway, Upstream, listener
from redlatch.engines.haproxy.model import checked as checked_gateway
from redlatch.errors import InvalidInput
from redlatch.policy.model import Snapshot

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?", re.ASCII)
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)
# No quote, backslash, brace, dollar or semicolon: nginx expands variables in file names, Caddy its environment
_FILE: Final = re.compile(r"/[A-Za-z0-9 ._+,:@=~/-]*", re.ASCII)
_SHA1: Final = re.compile(r"[0-9a-f]{40}", re.ASCII)
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Export:
    """What is written down.

    `listen` is `ADDRESS:PORT` (an empty address: all of them), `upstream` the URL of the Node-RED behind it.
    `server_cert`, `server_key` and `device_ca` are absolute paths of PEM files. `authorities` are the device CAs'
    certificates (DER), `sha1` the SHA-1 of each listed certificate by its SHA-256 (nginx knows no other), `labels`
    the devices' names by id, for comments.
    """

    snapshot: Snapshot
    listen: str
    upstream: str
    server_cert: str
    server_key: str
    device_ca: str = "/"
    authorities: tuple[bytes, ...] = ()
    sha1: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def place(self) -> tuple[str, int]:
        """(address or "", port) where it listens."""
        return listener(self.listen)

    @property
    def behind(self) -> str:
        """`HOST:PORT` of the Node-RED behind it, an IPv6 address in brackets."""
        host, port = Upstream(self.upstream).address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def checked(export: Export) -> Export:
    """The same export, once everything in it may stand in a configuration; InvalidInput with what is wrong.

    Paths of rules and of flows, and what devices are called, may be anything: they are written in an alphabet that
    means nothing to anybody.
    """
    checked_gateway(Gateway(listen=(export.listen,), upstreams=(Upstream(export.upstream),)))
    if not export.upstream.startswith("http://"):
        raise InvalidInput(
            "the Node-RED behind a proxy of yours is reached by http, on this machine or in a network of its own",
            hint="as in --to http://127.0.0.1:1880; a Node-RED that redlatch up locked needs no proxy",
        )
    for path in (export.server_cert, export.server_key, export.device_ca):
        if _FILE.fullmatch(path) is None:
            raise InvalidInput(
                f"the file name {path!r} has characters that a proxy's configuration gives a meaning",
                hint="an absolute path of letters, digits, dots, dashes and blanks",
            )
    for name in export.snapshot.names:
        if _NAME.fullmatch(name) is None:
            raise InvalidInput(f"{name[:100]!r} is no host name that can stand in a proxy's configuration")
    for origin in export.snapshot.origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise InvalidInput(f"{origin[:100]!r} is no origin that can stand in a proxy's configuration")
    for fingerprint in export.snapshot.devices:
        if _SHA256.fullmatch(fingerprint) is None:
            raise InvalidInput(f"{fingerprint[:100]!r} is no fingerprint")
    for digest in export.sha1.values():
        if _SHA1.fullmatch(digest) is None:
            raise InvalidInput(f"{digest[:100]!r} is no SHA-1")
    return export
