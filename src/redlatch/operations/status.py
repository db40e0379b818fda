"""How this site stands: locked or not, what is in force, what ends soon, what weakens it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.engines.nodered import claims, dropin, locate, publish, users
from redlatch.engines.nodered.inspection import inspect_settings
from redlatch.errors import RedlatchError
from redlatch.operations import lookups, server, traffic
from redlatch.operations.publishing import running
from redlatch.operations.site import Config, Site, Target

if TYPE_CHECKING:
    from redlatch.store import Ending

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Status:
    """`locked` is true only when settings.js was loaded, as its user, with the guard in it, and nothing that the
    guard does not speak for answers on Node-RED's port. `recorded`,
    `published` and `in_force` are the versions of store, file and (by the guard's claim) guard, None for none.
    `keyless` is how many rules let somebody in without a certificate, by `open_port` alone where there is one.
    """

    locked: bool
    mode: str
    settings_file: str
    url: str
    hosts: tuple[str, ...]
    devices: int
    keyless: int
    open_port: int | None
    recorded: int
    published: int | None
    in_force: int | None
    server_not_after: int | None
    warnings: tuple[str, ...]


def status(site: Site, environ: Mapping[str, str]) -> Status:
    """Looks, and changes nothing. Everything that is not as it should be is a warning with its remedy."""
    config = site.config()
    target = site.target()
    warnings: list[str] = []
    locked = _is_locked(site, config, target, environ, warnings)
    published = _published_version(site, warnings)
    with site.store.read() as view:
        recorded = view.site().revision
        count = sum(view.device_count_by_role().values())
        keyless = sum(rule.anyone for rule in view.rules())
    if published is not None and published != recorded:
        warnings.append(f"version {recorded} is recorded but {published} is published; run: redlatch refresh")
    claim = _claim(site, target, recorded, warnings)
    if claim is None and _answers(target.listen_port):
        locked = False
        warnings.append(
            f"something answers on port {target.listen_port} and no guard speaks for it: a Node-RED that was "
            "started before `redlatch up` stays open until it is restarted"
        )
    leaf = server.published_leaf(site)
    warnings += _networks(site)
    _certificates(site, (leaf is not None and leaf.not_valid_after_utc) or None, warnings)
    return Status(
        locked=locked,
        mode=config.mode,
        settings_file=target.settings_file,
        url=f"https://{config.hosts[1] if len(config.hosts) > 1 else config.machine}:{target.listen_port}",
        hosts=config.hosts,
        devices=count,
        keyless=keyless,
        open_port=config.open_port,
        recorded=recorded,
        published=published,
        in_force=claim.version if claim else None,
        server_not_after=int(leaf.not_valid_after_utc.timestamp()) if leaf else None,
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What can be known of this site without looking at Node-RED's settings, which takes its user's rights.

    `ended` and `ending` are the first devices whose last certificate ended in the last 30 days or ends within the
    next; `claim` is the guard's word about what is in force, None while no guard runs.
    """

    mode: str
    url: str
    hosts: tuple[str, ...]
    adopted: bool
    keyless: int
    open_port: int | None
    recorded: int
    published: int | None
    claim: claims.InForce | None
    server_not_after: datetime | None
    ended: tuple[Ending, ...]
    ending: tuple[Ending, ...]
    warnings: tuple[str, ...]


_FEW = 50


def known(site: Site) -> Known:
    """As `status`, for the service, whose user may not look at Node-RED's settings; its cost does not grow with
    the devices.
    """
    config = site.config()
    target = site.target()
    warnings: list[str] = []
    if not config.adopted:
        warnings.append("Node-RED is not locked; run: redlatch up")
    elif publish.published_guard(site.settings) != publish.guard_hash():
        warnings.append("the published guard is not this redlatch's; run: redlatch up, then restart Node-RED")
    published = _published_version(site, warnings)
    now = site.clock()
    with site.store.read() as view:
        recorded = view.site().revision
        keyless = sum(rule.anyone for rule in view.rules())
        ended = view.ending_between(now - SOON, now, _FEW)
        ending = view.ending_between(now, now + SOON, _FEW)
    if published is not None and published != recorded:
        warnings.append(f"version {recorded} is recorded but {published} is published; run: redlatch refresh")
    claim = _claim(site, target, recorded, warnings)
    if claim is None and _answers(target.listen_port):
        warnings.append(
            f"something answers on port {target.listen_port} and no guard speaks for it: a Node-RED that was "
            "started before `redlatch up` stays open until it is restarted"
        )
    leaf = server.published_leaf(site)
    warnings += _networks(site)
    _server_certificate(site, leaf.not_valid_after_utc if leaf else None, warnings)
    return Known(
        mode=config.mode,
        url=f"https://{config.hosts[1] if len(config.hosts) > 1 else config.machine}:{target.listen_port}",
        hosts=config.hosts,
        adopted=config.adopted,
        keyless=keyless,
        open_port=config.open_port,
        recorded=recorded,
        published=published,
        claim=claim,
        server_not_after=leaf.not_valid_after_utc if leaf else None,
        ended=ended,
        ending=ending,
        warnings=tuple(warnings),
    )


def _is_locked(
    site: Site, config: Config, target: Target, environ: Mapping[str, str], warnings: list[str]
) -> bool:
    try:
        node_red = locate.locate(
            user_dir=Path(target.user_dir), settings_file=Path(target.settings_file), environ=environ
        )
        inspection = inspect_settings(node_red)
    except RedlatchError as error:
        warnings.append(f"Node-RED's settings cannot be looked at: {error.message}")
        return False
    if config.adopted and not (inspection.ok and inspection.guarded):
        warnings.append(
            f"the lock has fallen off: {target.settings_file} was replaced or changed; run: redlatch up"
            if inspection.ok
            else f"{target.settings_file} cannot be loaded ({inspection.error}); Node-RED will not start with it"
        )
    warnings.extend(users.root_powers(node_red.user))
    planned = dropin.plan_dropin(node_red, site.settings)
    if planned is not None and config.adopted and not dropin.dropin_present(planned):
        warnings.append(f"{planned.path} is gone or was changed; run: redlatch up")
    if config.adopted and publish.published_guard(site.settings) != publish.guard_hash():
        warnings.append("the published guard is not this redlatch's; run: redlatch up, then restart Node-RED")
    return inspection.ok and inspection.guarded


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _published_version(site: Site, warnings: list[str]) -> int | None:
    path = site.settings.published / "snapshot.json"
    head = publish.published_head(site.settings)
    if head is None:
        warnings.append(f"{path} is missing or garbled; run: redlatch refresh")
        return None
    return int(head["version"])


def _claim(site: Site, target: Target, recorded: int, warnings: list[str]) -> claims.InForce | None:
    claim = running(site, target.uid)
    if claim is None:
        return None
    if claim.version != recorded:
        warnings.append(f"Node-RED says that it enforces version {claim.version}, recorded is {recorded}")
    if claim.problem:
        warnings.append(f"the guard reports a problem: {claim.problem}")
    return claim


def _networks(site: Site) -> list[str]:
    """What is weak about networks: names without an answer, and traffic in which addresses tell nobody apart."""
    with site.store.read() as view:
        said = lookups.warnings(site, view)
        matters = any(rule.networks for rule in view.rules())
    words = traffic.sentence(traffic.seen(site)) if matters else None
    return [*said, words] if words else said


def _certificates(site: Site, server_end: datetime | None, warnings: list[str]) -> None:
    now = site.clock()
    _server_certificate(site, server_end, warnings)
    with site.store.read() as view:
        ending = view.ending(now + SOON)
    for name, end in ending:
        if end < now:
            warnings.append(f"the certificate of {name!r} has ended; run: redlatch device renew")
        else:
            warnings.append(f"the certificate of {name!r} ends within 30 days")


def _server_certificate(site: Site, server_end: datetime | None, warnings: list[str]) -> None:
    now = site.clock()
    if server_end is None:
        warnings.append("the published server certificate is missing or garbled; run: redlatch up")
    elif server_end - now < SOON:
        warnings.append(f"the server certificate ends on {server_end:%Y-%m-%d}; run: redlatch refresh")
    if not server.renews_by_itself(site):
        warnings.append(
            "nothing renews the server certificate by itself (no systemd timer of root's): run redlatch refresh "
            "once a month, by hand or by cron"
        )
