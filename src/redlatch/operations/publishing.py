"""From the store to the engine: build the snapshot, publish it, see it come into force.

Three states, and nothing reports a later one than it saw: recorded (the transaction is durable), published (the
engine's file is replaced), in force (the guard says that it enforces that version; its claim, not a permission).
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redlatch.engines.haproxy.model import gateway_json
from redlatch.engines.nodered import claims, publish
from redlatch.errors import InvalidInput, RedlatchError
from redlatch.operations import authorities, engines, sidebar
from redlatch.operations.engines import Engine
from redlatch.operations.site import LOCK_SECONDS, Config, Site, exclusive
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import Entry, Rule, Snapshot
from redlatch.policy.networks import decode as decode_network
from redlatch.policy.networks import encode as encode_network
from redlatch.policy.snapshot import Files, digest, grow, head, reachable, replaced

if TYPE_CHECKING:
    from redlatch.settings import Settings
    from redlatch.store import Reader

IN_FORCE_SECONDS = 3.0
_ALL = 2**62


@dataclass(frozen=True, slots=True)
class Force:
    """How far a change got. `version` is the snapshot's, `closed` connections were cut, `ms` after it was seen;
    `by` is whose word it is that it is in force.
    """

    version: int
    state: str  # recorded | published | in-force
    closed: int | None = None
    ms: float | None = None
    note: str = ""
    by: str = "Node-RED"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def build(view: Reader, config: Config, *, spool: Path) -> Snapshot:
    """The whole snapshot of what the store says, with all devices and the networks that some rule names."""
    made = outline(view, config, spool=spool)
    own = {name: view.network_table(name) for name in _networks(made.rules) if name not in BUILTIN}
    networks = {name: BUILTIN[name] for name in _networks(made.rules) if name in BUILTIN}
    networks |= {name: decode_network(table) for name, table in own.items() if table is not None}
    return replace(made, devices=view.entries_below("", _ALL), networks=networks)


def outline(view: Reader, config: Config, *, spool: Path) -> Snapshot:
    """The snapshot without devices and networks: what costs the same however many there are.

    Its time is that of the newest audit event, so that a clock that falls back revives nothing.
    """
    row = view.site()
    return Snapshot(
        site=row.uuid,
        version=row.revision,
        time=_newest(view),
        mode=config.mode,
        port=config.port,
        open_port=config.open_port,
        keep_auth=config.keep_auth,
        names=config.hosts,
        origins=config.origins,
        admin_root=config.admin_root,
        areas=config.areas,
        spool=str(spool),
        devices={},
        rules=view.rules(),
        roles=view.roles(),
    )


def _newest(view: Reader) -> int:
    """When the newest audit event happened, in Unix seconds."""
    last = view.audit_head().seq
    return max((int(one.event.at.timestamp()) for one in view.audit_events(after=last - 1)), default=0)


def repair(site: Site) -> None:
    """Publishes what a killed command left recorded only. Costs a look at the heads of two files when all is well;
    while another command is at work, that one publishes.
    """
    with site.store.read() as view:
        row = view.site()
    found = engines.engines(site.settings, Config.of(row.config))
    if any(publish.snapshot_version(one.settings) != row.revision for one in found):
        enforce(site, patience=0)
    elif any(_lists(one) and publish.sidebar_version(one.settings) != row.revision for one in found):
        with contextlib.suppress(RedlatchError), exclusive(site.settings, patience=0):
            for one in found:
                _list(site, one)


def enforce(site: Site, *, anew: bool = False, patience: float = LOCK_SECONDS) -> Force:
    """Publishes the store's present state to every engine and waits, bounded, until each that runs says that it is
    in force.

    Never raises for what happens after the record: a full disk here does not undo a revocation, it is said. With
    `anew` nothing that is published is believed: every part is made and compared, at a cost that grows with the
    devices. `patience`: seconds to wait for another command that changes this site.
    """
    with site.store.read() as view:
        row = view.site()
    found = engines.engines(site.settings, Config.of(row.config))
    if not found:
        return Force(row.revision, "recorded", note="nothing enforces this site yet: run redlatch up")
    try:
        # Of two commands at once, the later one would remove parts that the other's snapshot still names.
        with exclusive(site.settings, patience=patience):
            site.tell(Force(row.revision, "recorded"))
            # what one of them cannot be told, the others still are
            reached = [_published(site, one, row.revision, anew=anew) for one in found]
            if all(force.state == "published" for force, _ in reached):
                site.tell(_together([force for force, _ in reached]))
            behind = [_list(site, one) for one in found]
    except RedlatchError as error:
        return Force(row.revision, "recorded", note=f"not published: {error.message}")
    deadline = time.monotonic() + IN_FORCE_SECONDS
    waited = [
        _await(one, force.version, expected, deadline) if force.state == "published" else force
        for one, (force, expected) in zip(found, reached, strict=True)
    ]
    force = _together(waited)
    return replace(force, note=force.note or "; ".join(one for one in behind if one))


_STATES: Final = ("recorded", "published", "in-force")


def _together(reached: list[Force]) -> Force:
    """How far a change got where several have to hear of it: as far as with the one that lags, and which that
    is.
    """
    if len(reached) == 1:
        return reached[0]
    times = [one.ms for one in reached if one.ms is not None]
    return Force(
        min(one.version for one in reached),
        min((one.state for one in reached), key=_STATES.index),
        closed=sum(one.closed or 0 for one in reached) if any(one.closed is not None for one in reached) else None,
        ms=max(times) if times else None,
        note="; ".join(one.note for one in reached if one.note),
        by=" and ".join(dict.fromkeys(one.by for one in reached)),
    )


def _published(site: Site, engine: Engine, version: int, *, anew: bool) -> tuple[Force, str]:
    """Publishes to one engine: how far it got, and the digest of what must come into force."""
    try:
        version, data = _publish(site, engine, anew=anew)
    except RedlatchError as error:
        whom = f" to {engine.word}" if engine.is_gateway else ""
        return Force(version, "recorded", note=f"not published{whom}: {error.message}"), ""
    return Force(version, "published"), digest(data)


def _lists(engine: Engine) -> bool:
    """Whether it shows the sidebar's list: only Node-RED's editor does."""
    return not engine.is_gateway


def _list(site: Site, engine: Engine) -> str:
    """Brings the sidebar's list up to date, once what counts is published; what went wrong, in words, or ""."""
    if not _lists(engine):
        return ""
    try:
        sidebar.write(site, engine.gid)
    except RedlatchError as error:
        return f"the sidebar in the editor still shows the devices as they were: {error.message}"
    return ""


class _Devices:
    """The store as what the snapshot's tree is grown from."""

    def __init__(self, view: Reader) -> None:
        self._view = view

    def entries(self, prefix: str, limit: int) -> Mapping[str, Entry]:
        return self._view.entries_below(prefix, limit)


def _publish(site: Site, engine: Engine, *, anew: bool) -> tuple[int, bytes]:
    """Publishes what differs from what is published; the version and the head. Within `exclusive`."""
    settings, group = engine.settings, engine.gid
    read = partial(publish.read_part, settings)
    files: Files = {}
    with site.store.read() as view:
        config = Config.of(view.site().config)
        made = outline(view, config, spool=settings.spool)
        present = None if anew else _present(settings, made, since=config.restored)
        if present is None:
            root = grow(_Devices(view), files)
        else:
            changed = view.changed_since(present["version"])
            root = grow(_Devices(view), files, old=present["devices"], changed=changed, read=read)
        networks = _network_files(view, made.rules, files, None if anew else settings)
        trusted = authorities.device_cas(view)
    data = head(made, devices=root, networks=networks)
    if engine.is_gateway and config.gateway is not None:
        publish.publish_file(settings, "gateway.json", gateway_json(config.gateway), group)
    # Before the list: a device that is on it shall get through the handshake. Who is not on it gets nowhere
    # anyway.
    if trusted:
        publish.publish_device_ca(settings, trusted, group)
    publish.publish_snapshot(settings, data, files, group)
    if present is None:
        left = publish.parts(settings) - files.keys()
    else:
        left = replaced(present["devices"], root, read) | set(present["networks"].values())
    publish.remove_parts(settings, left - set(networks.values()))
    return made.version, data


def _present(settings: Settings, made: Snapshot, *, since: int) -> dict[str, Any] | None:
    """The published head when `made` can be a change of it: of this site, not newer, and not of before revision
    `since` (a store put back from a backup knows nothing of what changed after that).
    """
    found = publish.published_head(settings)
    return found if found and found["site"] == made.site and since <= found["version"] <= made.version else None


def _networks(rules: Iterable[Rule]) -> list[str]:
    return sorted({name for rule in rules for name in rule.networks})


def _network_files(
    view: Reader, rules: Iterable[Rule], files: Files, published: Settings | None
) -> dict[str, str]:
    """Name -> digest of the networks that `rules` name; their tables go into `files`, but for what is `published`
    already: a list of a million addresses is not read for every change.
    """
    digests = view.network_digests()
    found: dict[str, str] = {}
    for name in _networks(rules):
        table = encode_network(BUILTIN[name]) if name in BUILTIN else None
        key = hashlib.sha256(table).hexdigest() if table is not None else digests.get(name)
        if key is None:
            continue  # a network that is gone holds nobody
        if published is None or not publish.has_part(published, key):
            table = table if table is not None else view.network_table(name)
            if table is not None:
                files[key] = table
        found[name] = key
    return found


def is_whole(settings: Settings) -> bool:
    """Whether the published snapshot has all of its parts. Reads all of them."""
    found = publish.published_head(settings)
    if found is None or parts_in_use(settings) is None:
        return False
    return all(publish.read_part(settings, key) is not None for key in found["networks"].values())


def parts_in_use(settings: Settings) -> set[str] | None:
    """The names of all parts of the published snapshot; None where it, or some part of the list of devices, is
    missing or garbled.
    """
    found = publish.published_head(settings)
    if found is None:
        return None
    try:
        return {*reachable(found["devices"], partial(publish.read_part, settings)), *found["networks"].values()}
    except InvalidInput:
        return None


def _await(engine: Engine, version: int, expected: str, deadline: float) -> Force:
    by = engine.by
    if not engine.is_on:
        return Force(version, "published", note=engine.off, by=by)
    claim = running(engine)
    if claim is None:
        return Force(version, "published", note=engine.idle, by=by)
    while claim is not None and time.monotonic() < deadline:
        if claim.version > version:  # a later change overtook this one, which it contains
            return Force(version, "in-force", by=by)
        if claim.version == version and claim.digest == expected:
            return Force(version, "in-force", closed=claim.closed, ms=claim.ms, by=by)
        time.sleep(0.005)
        claim = running(engine)
    note = f"{engine.word} has not confirmed it within {IN_FORCE_SECONDS:.0f} s"
    problem = f": {claim.problem}" if claim and claim.problem else ""
    return Force(version, "published", note=note + problem, by=by)


def running(engine: Engine) -> claims.InForce | None:
    """The engine's last claim, when the process that made it is alive and belongs to the engine's user."""
    try:
        claim = claims.read_in_force(engine.settings, engine.uid)
        if claim is None or Path(f"/proc/{claim.pid}").stat().st_uid != engine.uid:
            return None
    except (OSError, RedlatchError):
        return None
    return claim
