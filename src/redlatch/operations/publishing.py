"""From the store to the engine: build the snapshot, publish it, see it come into force.

Three states, and nothing reports a later one than it saw: recorded (the transaction is durable), published (the
engine's file is replaced), in force (the guard says that it enforces that version; its claim, not a permission).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch.engines.nodered import claims, publish
from redlatch.errors import Busy, RedlatchError
from redlatch.operations.site import Config, Site, exclusive
from redlatch.policy.model import Entry, Snapshot
from redlatch.policy.snapshot import digest, encode

if TYPE_CHECKING:
    from redlatch.store import Reader

IN_FORCE_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Force:
    """How far a change got. `version` is the snapshot's, `closed` connections were cut, `ms` after it was seen."""

    version: int
    state: str  # recorded | published | in-force
    closed: int | None = None
    ms: float | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def build(view: Reader, config: Config, *, spool: Path) -> Snapshot:
    """The snapshot of what the store says: the same state gives the same bytes.

    Its time is that of the newest audit event, so that a clock that falls back revives nothing.
    """
    row = view.site()
    return Snapshot(
        site=row.uuid,
        version=row.revision,
        time=_newest(view),
        mode=config.mode,
        port=config.port,
        keep_auth=config.keep_auth,
        names=config.hosts,
        admin_root=config.admin_root,
        dashboards=config.dashboards,
        spool=str(spool),
        devices={
            one.fingerprint: Entry(
                id=one.device_id,
                role=one.role,
                user=one.user_slug,
                not_before=int(one.not_before.timestamp()),
                not_after=int(one.not_after.timestamp()),
            )
            for one in view.active_certificates()
        },
    )


def _newest(view: Reader) -> int:
    """When the newest audit event happened, in Unix seconds."""
    last = view.audit_head().seq
    return max((int(one.event.at.timestamp()) for one in view.audit_events(after=last - 1)), default=0)


def repair(site: Site) -> None:
    """Publishes what a killed command left recorded only. Costs a look at the head of one file when all is well;
    while another command is at work, that one publishes.
    """
    with site.store.read() as view:
        row = view.site()
    if Config.of(row.config).target is None or not site.settings.published.is_dir():
        return
    if publish.snapshot_version(site.settings) != row.revision:
        with contextlib.suppress(Busy), exclusive(site.settings, patience=0):
            enforce(site)


def enforce(site: Site) -> Force:
    """Publishes the store's present state and waits, bounded, until the running guard says that it is in force.

    Never raises for what happens after the record: a full disk here does not undo a revocation, it is said.
    """
    with site.store.read() as view:
        config = Config.of(view.site().config)
        snapshot = build(view, config, spool=site.settings.spool)
    if config.target is None or not site.settings.published.is_dir():
        return Force(snapshot.version, "recorded", note="nothing enforces this site yet: run redlatch up")
    data = encode(snapshot)
    try:
        publish.publish_snapshot(site.settings, data, config.target.gid)
    except RedlatchError as error:
        return Force(snapshot.version, "recorded", note=f"not published: {error.message}")
    return _await(site, config, snapshot.version, digest(data))


def _await(site: Site, config: Config, version: int, expected: str) -> Force:
    if config.target is None or not config.adopted:
        return Force(version, "published", note="Node-RED is not locked: run redlatch up")
    uid = config.target.uid
    deadline = time.monotonic() + IN_FORCE_SECONDS
    claim = running(site, uid)
    if claim is None:
        return Force(version, "published", note="no guard runs yet: it counts from the next start of Node-RED on")
    while claim is not None and time.monotonic() < deadline:
        if claim.version > version:  # a later change overtook this one, which it contains
            return Force(version, "in-force")
        if claim.version == version and claim.digest == expected:
            return Force(version, "in-force", closed=claim.closed, ms=claim.ms)
        time.sleep(0.005)
        claim = running(site, uid)
    note = f"the guard has not confirmed it within {IN_FORCE_SECONDS:.0f} s"
    return Force(version, "published", note=f"{note}: {claim.problem}" if claim and claim.problem else note)


def running(site: Site, uid: int) -> claims.InForce | None:
    """The guard's last claim, when the process that made it is alive and belongs to Node-RED's user."""
    try:
        claim = claims.read_in_force(site.settings, uid)
        if claim is None or Path(f"/proc/{claim.pid}").stat().st_uid != uid:
            return None
    except (OSError, RedlatchError):
        return None
    return claim
