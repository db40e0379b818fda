"""A change on trial: made, published, and taken back by itself unless somebody keeps it over a new connection.

At most one at a time. What stood before is kept in the store beside the change, in the same transaction, so that
whoever comes next can take it back, however many were killed meanwhile: the command that waits, the service, a
timer or a process of its own (trial_watch), and the next redlatch command of whatever kind.

How long it lasts is counted by the machine's uptime (CLOCK_BOOTTIME, which no clock that is set can move); after
a restart of the machine a trial is over when the uptime is less than it was, and at the latest when as much time
has passed again.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from redlatch.audit import canonical_json
from redlatch.errors import Conflict, InvalidInput, NotFound, NotPermitted, StoreError
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, changing, set_config
from redlatch.policy.model import Rule

if TYPE_CHECKING:
    from redlatch.settings import Settings
    from redlatch.store import NetworkRow, Reader, Transaction, TrialRow

LEAST: Final = timedelta(seconds=10)
MOST: Final = timedelta(hours=1)
#: The events of changes that can be taken back.
TRIABLE: Final = frozenset(
    {
        "rule.added",
        "rule.removed",
        "rules.applied",
        "network.changed",
        "network.removed",
        "role.added",
        "role.removed",
        "origin.added",
        "origin.removed",
        "open-port.changed",
        "device.role-changed",
    }
)
_CLOCK_TOLERANCE: Final = timedelta(days=1)
_AUTOMATIC: Final = "redlatch itself"
_WAY_OUT: Final = "redlatch trial keep keeps it, redlatch trial undo takes it back"


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that was asked for: how long, of what (in words), and over which connection or by which process.
    `watch` is started inside the change's transaction, to take it back when everybody else is gone.
    """

    length: timedelta
    what: str
    connection: str
    watch: Callable[[Settings, timedelta], None] = lambda _settings, _length: None


@dataclass(frozen=True, slots=True)
class Trial:
    """The change on trial: `what` it was, who made it, until when it lasts (by the clock, to be read), and how
    many `seconds` are left.
    """

    what: str
    actor: str
    connection: str
    begun: datetime
    until: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Ended:
    """A trial that was kept or taken back, what stayed although it was taken back, and how far that got."""

    what: str
    kept: bool
    stayed: tuple[str, ...]
    force: Force


def uptime() -> float:
    """Seconds since this machine was started, sleep included: what no change of the clock moves."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def length(wanted: timedelta) -> timedelta:
    """How long a trial may last; InvalidInput for less than ten seconds and more than an hour."""
    if not LEAST <= wanted <= MOST:
        raise InvalidInput(
            f"a change cannot be on trial for {wanted.total_seconds():.0f} seconds",
            hint="from 10s to 1h, as in 2m",
        )
    return wanted


# --- what stood before


def state(view: Reader) -> dict[str, Any]:
    """Rules with their numbers, roles, networks, origins and open port, as JSON can say them."""
    config = Config.of(view.site().config)
    return {
        "format": 1,
        "open_port": config.open_port,
        "origins": list(config.origins),
        "roles": view.roles(),
        "rules": [asdict(rule) for rule in view.rules()],
        "networks": {row.name: _kept(view, row) for row in view.networks()},
    }


def _kept(view: Reader, row: NetworkRow) -> dict[str, Any]:
    table = view.network_table(row.name) or b""
    return asdict(row) | {"table": base64.b64encode(table).decode("ascii")}


def refuse_beside(tx: Transaction, *, asked: Asked | None) -> None:
    """Conflict for a change beside another one's trial that taking that one back would undo, or meet changed."""
    row = tx.trial()
    if row is not None and (asked is not None or any(event.kind in TRIABLE for event in tx.recorded)):
        raise Conflict(
            f"a change is on trial ({row.what}), and until that is over there is no other one",
            hint=_WAY_OUT,
        )


def begin(site: Site, tx: Transaction, before: dict[str, Any], asked: Asked) -> None:
    """Puts the change of this transaction on trial; `before` is the `state` at its beginning."""
    for event in tx.recorded:
        if event.kind not in TRIABLE:
            raise Conflict("this change cannot be taken back by itself", hint="make it without --try")
    seconds = length(asked.length).total_seconds()
    now = uptime()
    digests = tx.network_digests()
    changed = {
        name: one
        for name, one in before["networks"].items()
        if one["digest"] != digests.get(name) or (row := tx.network(name)) is None or row.entries != one["entries"]
    }
    kept = before | {
        "networks": changed,
        "network_names": sorted(before["networks"]),
        "device_roles": {
            str(event.data["device"]): event.data["old"]
            for event in tx.recorded
            if event.kind == "device.role-changed"
        },
        "begun": now,
        "over": now + seconds,
    }
    begun = tx.now
    tx.begin_trial(
        before=canonical_json(kept),
        what=asked.what,
        begun=begun,
        until=begun + asked.length,
        actor=tx.actor,
        connection=asked.connection,
    )
    tx.record("trial.begun", what=asked.what, seconds=int(seconds), connection=asked.connection)
    asked.watch(site.settings, asked.length)


# --- what becomes of it


def show(site: Site) -> Trial | None:
    """The change on trial, None when there is none."""
    with site.store.read() as view:
        row = view.trial()
    return None if row is None else _shown(row)


def _shown(row: TrialRow) -> Trial:
    left = max(0.0, _before(row)["over"] - uptime())
    return Trial(row.what, row.actor, row.connection, row.begun_at, row.until, 0.0 if _is_over(row) else left)


def keep(site: Site, *, connected: float | None = None) -> Ended:
    """Keeps the change on trial. `connected` is the uptime at which the connection began over which this is asked
    (None: a command of its own), and must be after the change: it proves that one still gets in.

    Errors: NotFound, Conflict (it is over, or the connection was there before), NotPermitted (in the console: who
    asks manages nothing any more).
    """
    from redlatch.operations import lockout

    with changing(site, enforced=False) as tx:
        row = _standing(tx)
        if _is_over(row):
            raise Conflict("its time is over: it is taken back", hint="make the change again")
        if connected is not None and connected <= _before(row)["begun"]:
            raise Conflict(
                "this came over a connection that was there before the change, and proves nothing",
                hint="press it once more: the old connection is closed now, and the next one is a new one",
            )
        maker = lockout.look(site, tx).maker
        if maker is not None and not maker.manages:
            raise NotPermitted(
                "by the rules on trial this device manages nothing here any more",
                hint="use another owner's device, or on the machine: redlatch trial keep",
            )
        tx.end_trial()
        tx.record("trial.kept", what=row.what)
        revision = tx.revision
    return Ended(row.what, True, (), Force(revision, "recorded"))


def undo(site: Site, *, only_over: bool = False) -> Ended:
    """Takes the change on trial back, in one transaction; with `only_over` not before its time. It is never
    refused for whom it locks out: it is what was.

    Errors: NotFound, Conflict (with `only_over`: it is not over).
    """
    with site.store.read() as view:
        clock = _clock(site, view)
    with changing(replace(site, clock=clock, rehearsal=None, trial=None), weighed=False) as tx:
        row = _standing(tx)
        if only_over and not _is_over(row):
            raise Conflict("its time is not over yet", hint=_WAY_OUT)
        stayed = restored(tx)
    return Ended(row.what, False, stayed, enforce(site))


def _clock(site: Site, view: Reader) -> Callable[[], datetime]:
    """The clock to take a trial back by: this machine's own or, when it was set to something else meanwhile (which
    would have the change refused), the time of the trial's beginning and how long the machine has run since.
    """
    row = _standing(view)
    elapsed = uptime() - _before(row)["begun"]
    expected = row.begun_at + timedelta(seconds=elapsed) if elapsed >= 0 else _newest(view, row)
    return site.clock if abs(site.clock() - expected) < _CLOCK_TOLERANCE else lambda: expected


def _newest(view: Reader, row: TrialRow) -> datetime:
    """The newest audit event's time, at least the trial's beginning."""
    newest = view.audit_before(None, 1)
    return max((row.begun_at, *(one.event.at for one in newest)))


def settle(site: Site) -> Ended | None:
    """Takes back a trial whose time is over, if there is one. Costs one look-up when there is none."""
    with site.store.read() as view:
        row = view.trial()
    if row is None or not _is_over(row):
        return None
    try:
        return undo(replace(site, actor=_AUTOMATIC, maker=None), only_over=True)
    except (NotFound, Conflict):  # somebody else was faster
        return None


def was_kept(site: Site) -> bool:
    """Whether the last trial was kept, by the audit trail."""
    with site.store.read() as view:
        found = (one.event.kind for one in view.audit_before(None, 100))
        return next((kind for kind in found if kind in ("trial.kept", "trial.undone")), "") == "trial.kept"


def restored(tx: Transaction) -> tuple[str, ...]:
    """Within a transaction: makes the state the one before the trial, and ends it. Returns what stayed, in words.

    Rules get the numbers that they had. A role that a device got meanwhile (by a link) stays: without it that
    device would have none.
    """
    row = _standing(tx)
    before = _before(row)
    wanted = {one["id"]: _rule(one) for one in before["rules"]}
    for rule in tx.rules():
        if wanted.get(rule.id) != rule:
            tx.remove_rule(rule.id)
    present = {rule.id for rule in tx.rules()}
    for number, rule in wanted.items():
        if number not in present:
            tx.restore_rule(rule)
    _restore_networks(tx, before)
    for device_id, role in before["device_roles"].items():
        device = tx.device_by_id(device_id)
        if device is not None and device.revoked_at is None and device.role != role:
            tx.set_role(device_id, role)
    stayed = _restore_roles(tx, before["roles"])
    set_config(tx, open_port=before["open_port"], origins=tuple(before["origins"]))
    tx.end_trial()
    tx.record("trial.undone", what=row.what, stayed=list(stayed))
    return stayed


def _restore_networks(tx: Transaction, before: Mapping[str, Any]) -> None:
    from redlatch.store import NetworkRow

    for name in tx.network_digests():
        if name not in before["network_names"]:
            tx.remove_network(name)
    for one in before["networks"].values():
        fields = {key: one[key] for key in NetworkRow.__slots__}
        tx.put_network(NetworkRow(**fields), base64.b64decode(one["table"]))


def _restore_roles(tx: Transaction, wanted: Mapping[str, str]) -> tuple[str, ...]:
    used = tx.device_count_by_role()
    stayed = []
    for name, base in tx.roles().items():
        if wanted.get(name) == base:
            continue
        if name not in wanted and used.get(name):
            stayed.append(f"the role {name}, which a device got meanwhile")
            continue
        tx.remove_role(name)
    for name, base in wanted.items():
        if name not in tx.roles():
            tx.add_role(name, base)
    return tuple(stayed)


def _rule(stored: Mapping[str, Any]) -> Rule:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }
    return Rule(**fields)


def _standing(view: Reader) -> TrialRow:
    row = view.trial()
    if row is None:
        raise NotFound("no change is on trial", hint="what became of the last one: redlatch audit")
    return row


def _before(row: TrialRow) -> dict[str, Any]:
    try:
        found = json.loads(row.before)
        if found["format"] == 1 and isinstance(found["begun"], float) and isinstance(found["over"], float):
            return dict(found)
    except (ValueError, TypeError, KeyError):
        pass
    raise StoreError(
        "what stood before the change on trial cannot be read",
        hint="redlatch trial keep leaves everything as it is now",
    )


def _is_over(row: TrialRow) -> bool:
    before = _before(row)
    return not before["begun"] <= uptime() < before["over"]
