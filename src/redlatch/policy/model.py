"""The words of a decision: roles, what a request shows, what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

ROLES: Final[Mapping[str, str]] = {
    "owner": "manages keys and deploys",
    "admin": "deploys",
    "viewer": "reads the editor",
    "user": "uses the dashboards",
    "thing": "nothing without a rule",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One active certificate of one device, as an engine knows it; dates in Unix seconds, both inclusive."""

    id: str
    role: str
    user: str
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The immutable, versioned form of devices and rules that an engine enforces.

    `devices` maps the SHA-256 fingerprint of a certificate's DER (64 lower-case hex digits) to its entry.
    `names` are host names in lower-case A-label form; `dashboards` canonical path prefixes;
    `admin_root` the editor's canonical path, or None where the editor is switched off.
    """

    site: str
    version: int
    time: int
    mode: str
    port: int | None
    keep_auth: bool
    names: tuple[str, ...]
    admin_root: str | None
    dashboards: tuple[str, ...]
    spool: str
    devices: Mapping[str, Entry]
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a request shows. Header values as sent, None where absent; `now` in Unix seconds.

    `certificate` is the fingerprint of the peer's certificate, `verified` whether TLS verified it against the
    device CA; `upgrade` the Upgrade header of a request that asks for one.
    """

    method: str = "GET"
    target: str = "/"
    host: str | None = None
    certificate: str | None = None
    verified: bool = False
    now: int = 0
    origin: str | None = None
    fetch_site: str | None = None
    fetch_mode: str | None = None
    fetch_dest: str | None = None
    upgrade: str | None = None
    peer: str = field(default="", compare=False)  # for rules by network; no rule asks for it yet


@dataclass(frozen=True, slots=True)
class Decision:
    """Allow or deny, and the reason code that CLI, logs and the refusal page share (see reasons.json)."""

    allow: bool
    reason: str
