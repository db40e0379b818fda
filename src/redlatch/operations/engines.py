"""What enforces this site: the guard inside Node-RED, the gateway in front, or both of them."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from redlatch.errors import NotSetUp
from redlatch.operations.site import Config, Site
from redlatch.settings import Settings

GATEWAY_USER = "redlatch-gateway"


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: it reads `settings.published` as a member of `gid`, and its claims in `settings.spool` are those
    of `uid`, the user called `user`. `is_on` is false while it is prepared and nothing insists on it yet.

    `word` names it for a person, `by` who speaks for it; `off` and `idle` are what there is to say while it is not
    on, and does not run.
    """

    name: str
    settings: Settings
    user: str
    uid: int
    gid: int
    is_on: bool
    word: str
    off: str
    idle: str

    @property
    def by(self) -> str:
        return "the gateway" if self.is_gateway else "Node-RED"

    @property
    def is_gateway(self) -> bool:
        return self.name == "gateway"


def configured(settings: Settings, config: Config) -> tuple[Engine, ...]:
    """Those that this site knows, the one inside Node-RED first, whether anything is published for them or not."""
    both = (node_red(settings, config), gateway(settings, config))
    return tuple(one for one in both if one is not None)


def engines(settings: Settings, config: Config) -> tuple[Engine, ...]:
    """Those for which this site publishes; none before `up` and after `down`."""
    return tuple(one for one in configured(settings, config) if one.settings.published.is_dir())


def node_red(settings: Settings, config: Config) -> Engine | None:
    """The guard inside the Node-RED that `redlatch up` locks, None where it stands behind the gateway instead."""
    target = config.target
    if target is None or config.behind:
        return None
    return Engine(
        name="node-red",
        settings=settings,
        user=target.user,
        uid=target.uid,
        gid=target.gid,
        is_on=config.adopted,
        word="the guard",
        off="Node-RED is not locked: run redlatch up",
        idle="no guard runs yet: it counts from the next start of Node-RED on",
    )


def gateway(settings: Settings, config: Config) -> Engine | None:
    """The gateway that `redlatch gateway up` set up."""
    if config.gateway is None:
        return None
    user = gateway_user(settings)
    return Engine(
        name="gateway",
        settings=settings.gateway,
        user=user.pw_name,
        uid=user.pw_uid,
        gid=user.pw_gid,
        is_on=True,
        word="the gateway",
        off="",
        idle="the gateway does not run: it counts from its next start on",
    )


def gateway_user(settings: Settings) -> pwd.struct_passwd:
    """As whom the gateway runs: a user of its own in an installation of root's, else the present one. Root where
    there is no such user (nobody else's claims are believed then).
    """
    if settings.system:
        try:
            return pwd.getpwnam(GATEWAY_USER)
        except KeyError:
            return pwd.getpwuid(0)
    try:
        return pwd.getpwuid(os.geteuid())
    except KeyError:
        uid, gid = os.geteuid(), os.getegid()
        return pwd.struct_passwd((str(uid), "x", uid, gid, "", "/", "/bin/sh"))


def required(site: Site) -> tuple[Engine, ...]:
    """As `configured`; NotSetUp where nothing was ever meant to enforce this site."""
    found = configured(site.settings, site.config())
    if not found:
        raise NotSetUp(
            "this site has no Node-RED yet", hint="run: redlatch up (or redlatch gateway up: HAProxy in front)"
        )
    return found
