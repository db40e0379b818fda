"""Putting the gateway up and taking it down: prepare everything, start last; undo exactly that."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.engines.haproxy.model import gateway_json
from redlatch.engines.nodered import dropin, edit, locate, publish, users
from redlatch.errors import Conflict, EngineError, NotPermitted, NotSetUp, RedlatchError
from redlatch.files import Owner, explained, make_dir, own_user, read_own, write_atomic
from redlatch.operations import authorities, engines, gateway_unit, server, setup
from redlatch.operations.gateway_plan import Plan
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Site, authority, changing, exclusive, set_config
from redlatch.settings import Settings

if TYPE_CHECKING:
    from redlatch.store import Store


@dataclass(frozen=True, slots=True)
class Up:
    """`changed`: whether anything was; `started`: whether systemd runs it, else `command` does; `restart` is how
    Node-RED gets to listen on loopback only, "" where that needs nothing.
    """

    changed: bool
    started: bool
    command: str
    restart: str
    force: Force


def put_up(
    plan: Plan,
    *,
    actor: str,
    clock: Callable[[], datetime],
    passphrase: Callable[[], bytes],
    protect: bool,
    create: Callable[[], Store],
    open_: Callable[[], Store],
) -> tuple[Site, Up]:
    """Carries the plan out; what was there before is in force until the end. Each step can be repeated, and
    where the first one cannot be finished it is taken back.
    """
    settings = plan.settings
    first = not settings.gateway.published.is_dir()
    _refuse_uncovered(plan, settings, open_)
    if settings.system and not gateway_unit.has_user():
        _note(settings, f"user {engines.GATEWAY_USER}")
        gateway_unit.make_user()
    site = setup.make_site(
        settings, plan.config, actor=actor, clock=clock, passphrase=passphrase, protect=protect, create=create,
        open_=open_,
    )  # fmt: skip
    try:
        _publish(site)
        bound = _bind(site, plan)
        started = _start(site, plan)
    except BaseException:
        if first:
            with contextlib.suppress(RedlatchError):
                take_down(site, os.environ)
        raise
    if plan.changes:
        with changing(site, enforced=False) as tx:
            tx.record(
                "gateway.put-up", listen=list(plan.gateway.listen), to=[one.url for one in plan.gateway.upstreams]
            )
    return site, Up(
        changed=bool(plan.changes),
        started=started,
        command=gateway_unit.start_command(settings),
        restart=dropin.restart_command(plan.node_red) if bound and plan.node_red is not None else "",
        force=enforce(site),
    )


def _refuse_uncovered(plan: Plan, settings: Settings, open_: Callable[[], Store]) -> None:
    """A server CA that is there already may not name everything."""
    if plan.config.server_files is not None or not settings.database.exists():
        return
    with closing(open_()) as store, contextlib.suppress(NotSetUp):
        site = Site(settings, store, "", lambda: datetime.now(UTC), lambda: b"")
        ca = authority(site, "server", signing=False)
        missing = [one for one in plan.config.names if not ca.covers(one)]
        if missing:
            raise Conflict(
                f"the server CA of this site may not name {', '.join(missing)}: it was made for others",
                hint=f"redlatch name add {missing[0]} --new-root makes a new one; devices must then install it",
            )


def _publish(site: Site) -> None:
    """Everything that HAProxy reads, into its own folder, for its own user."""
    settings, config = site.settings.gateway, site.config()
    own = own_user(site.settings)
    user = users.user_by_uid(engines.gateway_user(site.settings).pw_uid)
    if user is None or config.gateway is None:
        raise EngineError("the gateway has no user to run as", hint="sudo redlatch gateway up makes one")
    with exclusive(site.settings):
        make_dir(settings.home, mode=0o755 if settings.system else 0o700, owner=Owner(0, 0) if own else None)
        publish.prepare(settings, user)
        publish.publish_file(settings, "secret", secret(settings).encode("ascii"), user.gid)
        with site.store.read() as view:
            publish.publish_device_ca(settings, authorities.device_cas(view), user.gid)
        publish.publish_file(settings, "gateway.json", gateway_json(config.gateway), user.gid)
    if not users.may_reach(user, settings.published / "gateway.json"):
        raise NotPermitted(
            f"the gateway's user {user.name} cannot reach {settings.published}",
            hint="every folder above it must let that user through (chmod o+x), or choose another --home",
        )
    server.refresh(site)


def secret(settings: Settings) -> str:
    """What gateway and Node-RED know each other by: 64 hex digits, made once. `settings`: the gateway's own."""
    with contextlib.suppress(OSError, ValueError):
        present = read_own(settings.published / "secret").decode("ascii").strip()
        if len(present) == 64 and not present.strip("0123456789abcdef"):
            return present
    return secrets.token_hex(32)


def _bind(site: Site, plan: Plan) -> bool:
    """Puts redlatch's lines into settings.js of the Node-RED on this machine; whether it must be restarted for
    it.
    """
    node_red, target = plan.node_red, plan.config.target
    if node_red is None or target is None:
        return False
    settings, config = site.settings, site.config()
    known_by = hashlib.sha256(secret(settings.gateway).encode("ascii")).hexdigest()
    with exclusive(settings):
        publish.prepare(settings, node_red.user)
        changed = publish.publish_behind(settings, known_by, config.keep_auth, False, target.gid)
    if not users.may_reach(node_red.user, settings.published / "behind.js"):
        raise NotPermitted(
            f"Node-RED's user {target.user} cannot reach {settings.published}",
            hint="every folder above it must let that user through (chmod o+x), or choose another --home",
        )
    with exclusive(settings):
        changed = edit.adopt(node_red, settings.published, entry="behind.js").changed or changed
        planned = dropin.plan_dropin(node_red, settings)
        if planned is not None:
            changed = dropin.install_dropin(planned) or changed
    return changed


def _start(site: Site, plan: Plan) -> bool:
    """Has systemd start it, where there is one; whether it did."""
    settings = site.settings
    if not gateway_unit.is_wanted(settings):
        return False
    changed = not gateway_unit.is_installed(settings)
    if changed:
        _note(settings, f"unit {gateway_unit.UNIT}")
        gateway_unit.install(settings)
    if not dropin.systemd_runs():
        return False
    gateway_unit.start(anew=changed or bool(plan.changes))
    return True


def _note(settings: Settings, line: str) -> None:
    """Remembers what was added, before it is: `take_down` removes that, and nothing else."""
    home = settings.gateway.home
    owner = Owner(0, 0) if settings.system else None
    make_dir(settings.home, mode=0o755 if settings.system else 0o700, owner=owner)
    make_dir(home, mode=0o755 if settings.system else 0o700, owner=owner)
    lines = dict.fromkeys([*_added(settings), line])
    write_atomic(home / "added", "".join(f"{one}\n" for one in lines).encode(), mode=0o644, owner=owner)


def _added(settings: Settings) -> list[str]:
    try:
        return read_own(settings.gateway.home / "added").decode("utf-8").splitlines()
    except (OSError, ValueError):
        return []


# --- taking it away


@dataclass(frozen=True, slots=True)
class Down:
    """What went, what stayed, and how Node-RED becomes what it was (`restart`, "" where it is)."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    restart: str


def down_plan(site: Site) -> tuple[str, ...]:
    """What `take_down` would remove. NotSetUp where there is no gateway."""
    config = site.config()
    if config.gateway is None:
        raise NotSetUp("this site has no gateway", hint="run: redlatch gateway up --help")
    added = _added(site.settings)
    removed = [f"{site.settings.gateway.home}"]
    if config.behind and config.target is not None:
        removed.append(f"redlatch's lines in {config.target.settings_file} (every other line stays)")
        removed += [f"the drop-in of {unit}" for unit in setup.own_dropins(site)]
        removed += [f"{site.settings.published}", f"{site.settings.spool}"]
    if f"unit {gateway_unit.UNIT}" in added:
        removed.append(f"{gateway_unit.path()}")
    if f"user {engines.GATEWAY_USER}" in added:
        removed.append(f"the system user {engines.GATEWAY_USER}")
    return tuple(removed)


def take_down(site: Site, environ: Mapping[str, str]) -> Down:
    """Removes exactly what `put_up` added; devices and CAs stay."""
    settings, config = site.settings, site.config()
    removed = down_plan(site)
    added = _added(settings)
    restart = ""
    if f"unit {gateway_unit.UNIT}" in added and gateway_unit.is_ours():
        gateway_unit.remove()
    gateway_unit.stop(settings, config)
    if config.behind and config.target is not None:
        node_red = locate.locate(
            user_dir=Path(config.target.user_dir),
            settings_file=Path(config.target.settings_file),
            environ=environ,
            for_release=True,
        )
        with exclusive(settings):
            for unit in setup.own_dropins(site):
                dropin.remove_dropin(unit)
            edit.release(node_red)
        restart = dropin.restart_command(node_red)
    with changing(site) as tx:
        set_config(tx, gateway=None, behind=False)
        tx.record("gateway.taken-down", listen=list(config.gateway.listen if config.gateway else ()))
    with exclusive(settings):
        if config.behind:
            publish.unpublish(settings)
        publish.unpublish(settings.gateway)
        home = settings.gateway.home
        if f"user {engines.GATEWAY_USER}" in added:
            gateway_unit.remove_user()
        with explained("remove", home), contextlib.suppress(FileNotFoundError):
            (home / "added").unlink(missing_ok=True)
            home.rmdir()
    enforce(site)  # to the guard of a Node-RED that is locked from inside: the site's version is another one now
    return Down(removed, (f"devices, CAs and audit trail in {settings.authority}",), restart)
