"""How this site stands: locked or not, what is in force, what ends soon, what weakens it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.engines.nodered import claims, dropin, locate, publish, users
from redlatch.engines.nodered.inspection import inspect_settings
from redlatch.errors import RedlatchError
from redlatch.operations import emergency, engines, gateway_standing, lookups, server, traffic
from redlatch.operations.engines import Engine
from redlatch.operations.publishing import running
from redlatch.operations.site import Config, Site, Target

if TYPE_CHECKING:
    from redlatch.store import Ending

SOON = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Status:
    """`locked` is true only when settings.js was loaded, as its user, with the guard in it, and nothing that the
    guard does not speak for answers on Node-RED's port; with a gateway in front, when it is locked
    (gateway_standing). `recorded`,
    `published` and `in_force` are the versions of store, file and (by its claim) engine, None for none; of several
    engines those of the one that lags. `settings_file` is None where this site has no Node-RED of its own.
    `keyless` is how many rules let somebody in without a certificate, by `open_port` alone where there is one.
    """

    locked: bool
    mode: str
    settings_file: str | None
    url: str
    hosts: tuple[str, ...]
    devices: int
    keyless: int
    open_port: int | None
    recorded: int
    published: int | None
    in_force: int | None
    server_not_after: int | None
    engines: tuple[str, ...]
    warnings: tuple[str, ...]


def status(site: Site, environ: Mapping[str, str]) -> Status:
    """Looks, and changes nothing. Everything that is not as it should be is a warning with its remedy."""
    config = site.config()
    found = _judged(site, config)
    warnings: list[str] = []
    locked = True
    for one in found:
        if one.is_gateway:
            stands = gateway_standing.standing(site, environ)
            warnings += [*(f"not locked: {one}" for one in stands.open_at), *stands.warnings]
            locked = locked and stands.locked
        elif config.target is not None:
            locked = _is_locked(site, config, config.target, environ, warnings) and locked
    published = _published_version(found, warnings)
    with site.store.read() as view:
        recorded = view.site().revision
        count = sum(view.device_count_by_role().values())
        keyless = sum(rule.anyone for rule in view.rules())
    if published is not None and published != recorded:
        warnings.append(f"version {recorded} is recorded but {published} is published; run: redlatch refresh")
    said = _claims(found, recorded, warnings)
    lagging = _lagging(said)
    locked = locked and not _is_open(config, found, said, warnings)
    leaf = server.published_leaf(site)
    warnings += _networks(site)
    _certificates(site, (leaf is not None and leaf.not_valid_after_utc) or None, warnings)
    return Status(
        locked=locked,
        mode=config.mode,
        settings_file=config.target.settings_file if config.target is not None else None,
        url=_url(config),
        hosts=config.hosts,
        devices=count,
        keyless=keyless,
        open_port=config.open_port,
        recorded=recorded,
        published=published,
        in_force=lagging.version if lagging else None,
        server_not_after=int(leaf.not_valid_after_utc.timestamp()) if leaf else None,
        engines=tuple(one.name for one in found),
        warnings=tuple(warnings),
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What can be known of this site without looking at Node-RED's settings, which takes its user's rights.

    `ended` and `ending` are the first devices whose last certificate ended in the last 30 days or ends within the
    next; `claim` is the engine's word about what is in force, None while it does not run (of several: the word of
    the one that lags).
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
    engines: tuple[str, ...]
    warnings: tuple[str, ...]


_FEW = 50


def known(site: Site) -> Known:
    """As `status`, for the service, whose user may not look at Node-RED's settings; its cost does not grow with
    the devices.
    """
    config = site.config()
    found = _judged(site, config)
    warnings: list[str] = []
    if any(not one.is_on for one in found):
        warnings.append("Node-RED is not locked; run: redlatch up")
    elif _lacks_guard(site, found):
        warnings.append(_OTHER_GUARD)
    published = _published_version(found, warnings)
    now = site.clock()
    with site.store.read() as view:
        recorded = view.site().revision
        keyless = sum(rule.anyone for rule in view.rules())
        ended = view.ending_between(now - SOON, now, _FEW)
        ending = view.ending_between(now, now + SOON, _FEW)
        warnings += emergency.warnings(view, config, now)
    if published is not None and published != recorded:
        warnings.append(f"version {recorded} is recorded but {published} is published; run: redlatch refresh")
    said = _claims(found, recorded, warnings)
    _is_open(config, found, said, warnings)
    leaf = server.published_leaf(site)
    warnings += _networks(site)
    _server_certificate(site, leaf.not_valid_after_utc if leaf else None, warnings)
    return Known(
        mode=config.mode,
        url=_url(config),
        hosts=config.hosts,
        adopted=all(one.is_on for one in found),
        keyless=keyless,
        open_port=config.open_port,
        recorded=recorded,
        published=published,
        claim=_lagging(said),
        server_not_after=leaf.not_valid_after_utc if leaf else None,
        ended=ended,
        ending=ending,
        engines=tuple(one.name for one in found),
        warnings=tuple(warnings),
    )


def _judged(site: Site, config: Config) -> tuple[Engine, ...]:
    """The engines that have to stand for this site to be locked: a guard that is not on does not matter where
    there is a gateway. NotSetUp.
    """
    found = engines.required(site)
    return tuple(one for one in found if one.is_on or config.gateway is None)


def _url(config: Config) -> str:
    host = config.hosts[1] if len(config.hosts) > 1 else config.machine
    port = config.address_port
    return f"https://{host}" + ("" if port in (None, 443) else f":{port}")


_OTHER_GUARD = "the published guard is not this redlatch's; run: redlatch up, then restart Node-RED"


def _lacks_guard(site: Site, found: Sequence[Engine]) -> bool:
    inside = any(not one.is_gateway for one in found)
    return inside and publish.published_guard(site.settings) != publish.guard_hash()


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
    if config.adopted and not (inspection.ok and inspection.locked_inside):
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
        warnings.append(_OTHER_GUARD)
    return inspection.ok and inspection.locked_inside


def _is_open(
    config: Config, found: Sequence[Engine], said: Sequence[claims.InForce | None], warnings: list[str]
) -> bool:
    """Whether a Node-RED answers whose guard says nothing."""
    for engine, claim in zip(found, said, strict=True):
        if not engine.is_gateway and claim is None and config.target and _answers(config.target.listen_port):
            warnings.append(
                f"something answers on port {config.target.listen_port} and no guard speaks for it: a Node-RED "
                "that was started before `redlatch up` stays open until it is restarted"
            )
            return True
    return False


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _published_version(found: Sequence[Engine], warnings: list[str]) -> int | None:
    """The version that is published to all of them."""
    versions = []
    for one in found:
        head = publish.published_head(one.settings)
        if head is None:
            path = one.settings.published / "snapshot.json"
            warnings.append(f"{path} is missing or garbled; run: redlatch refresh")
            return None
        versions.append(int(head["version"]))
    return min(versions, default=None)


def _claims(found: Sequence[Engine], recorded: int, warnings: list[str]) -> list[claims.InForce | None]:
    """What each of them says about what it enforces."""
    said = [running(one) for one in found]
    for engine, claim in zip(found, said, strict=True):
        if claim is None:
            continue
        if claim.version != recorded:
            who = "the gateway" if engine.is_gateway else "Node-RED"
            warnings.append(f"{who} says that it enforces version {claim.version}, recorded is {recorded}")
        if claim.problem:
            warnings.append(f"{engine.word} reports a problem: {claim.problem}")
    return said


def _lagging(said: Sequence[claims.InForce | None]) -> claims.InForce | None:
    """The word of the one that lags; None where one of them says nothing."""
    present = [one for one in said if one is not None]
    return min(present, key=lambda one: one.version) if present and len(present) == len(said) else None


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
        warnings += emergency.warnings(view, Config.of(view.site().config), now)
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
