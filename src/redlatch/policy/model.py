"""The words of a decision: roles, networks, areas, rules; what a request shows, what is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from redlatch.policy.networks import Network

ROLES: Final[Mapping[str, str]] = {
    "owner": "manages keys and deploys",
    "admin": "deploys",
    "viewer": "reads the editor",
    "user": "uses the dashboards",
    "thing": "nothing without a rule",
}
MODES: Final = ("strict", "explain", "auto")
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
READS: Final = ("GET", "HEAD")


class Area(StrEnum):
    """What a path belongs to. EDITOR is the strictest and stands for everything unknown."""

    EDITOR = "editor"
    EDITOR_READ = "editor-read"
    DASHBOARDS = "dashboards"
    HTTP_IN = "http-in"
    STATIC = "static"
    WEBSOCKETS = "websockets"


ALL: Final = "all"  # an area of rules only: every path, whatever it belongs to
AREAS: Final[Mapping[str, str]] = {
    ALL: "everything that this Node-RED serves",
    Area.EDITOR: "the editor, its plugins' routes, and every path that is not known to be anything else",
    Area.EDITOR_READ: "reading in the editor: its pages and flows, no change",
    Area.DASHBOARDS: "the dashboards, with their websockets",
    Area.HTTP_IN: "the http-in endpoints of the flows",
    Area.STATIC: "the static files that have a path of their own",
    Area.WEBSOCKETS: "the websocket nodes of the flows",
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
class Areas:
    """The explicit path sets, from Node-RED's settings and flows. Everything else is the editor's.

    `dashboards` and `static` are canonical path prefixes; `http_in` paths whose segments may be `:name`, which
    stands for one segment; `websockets` paths.
    """

    dashboards: tuple[str, ...] = ()
    http_in: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    websockets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """Who, from where, reaches what. Rules only add up; there is no order, and none that takes away.

    Who: any of `roles`, `devices` (ids), with `any_device` every device, with `anyone` also who shows no
    certificate. From where: any of `networks`, everywhere when there are none. What: `area` or `path`, one of the
    two. `methods`: none stands for all; GET includes HEAD.
    """

    id: int
    roles: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    any_device: bool = False
    anyone: bool = False
    networks: tuple[str, ...] = ()
    area: str | None = None
    path: str | None = None
    methods: tuple[str, ...] = ()


# What the built-in roles are until an operator says otherwise; every new site starts with these in its store.
DEFAULT_RULES: Final = (
    Rule(1, roles=("owner",), area=ALL),
    Rule(2, roles=("admin",), area=ALL),
    Rule(3, roles=("viewer",), area=Area.EDITOR_READ),
    Rule(4, roles=("user",), area=Area.DASHBOARDS),
)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The immutable, versioned form of devices, rules and networks that an engine enforces.

    `devices` maps the SHA-256 fingerprint of a certificate's DER (64 lower-case hex digits) to its entry; `roles`
    the operator's own roles to the built-in one that each is like. `names` are host names in lower-case A-label
    form; `admin_root` the editor's canonical path, or None where the editor is switched off. `port` is the one
    Node-RED shall open (None: as settings.js says), `open_port` a second one that asks nobody for a certificate:
    with it, who shows none gets in there alone. `origins` are other web origins that may call and embed.
    """

    site: str
    version: int
    time: int
    mode: str
    port: int | None
    keep_auth: bool
    names: tuple[str, ...]
    admin_root: str | None
    spool: str
    devices: Mapping[str, Entry]
    areas: Areas = Areas()
    rules: tuple[Rule, ...] = ()
    networks: Mapping[str, Network] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    origins: tuple[str, ...] = ()
    open_port: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a request shows. Header values as sent, None where absent; `now` in Unix seconds.

    `certificate` is the fingerprint of the peer's certificate, `verified` whether TLS verified it against the
    device CA; `peer` the address it comes from; `by_open_port` whether it came by the snapshot's open port;
    `upgrade` the Upgrade header of a request that asks for one, empty where its Connection header does not: such
    a request is served as a plain one, so it must not be judged as a websocket.
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
    peer: str = ""
    by_open_port: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """Allow or deny, and the reason code that CLI, logs and the refusal page share (see reasons.json).

    `rules` are the ids of the rules that admit it, or that would from another network.
    """

    allow: bool
    reason: str
    rules: tuple[int, ...] = ()
