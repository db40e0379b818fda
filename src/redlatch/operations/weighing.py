"""What every change is weighed by before it is committed, inside its own transaction.

Whether it locks somebody out; whether another change is on trial; what it would do to those who came in lately,
when it is rehearsed and not made. One place, so that no operation can forget it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from redlatch.operations import lockout, traffic, trials
from redlatch.operations.site import Site
from redlatch.policy.impact import Impact, Moved, impact

if TYPE_CHECKING:
    from redlatch.policy.model import Snapshot
    from redlatch.store import Transaction


@dataclass(slots=True)
class Rehearsal:
    """A change that is weighed and not made: the devices to look at, and what was found."""

    devices: Sequence[str]
    before: Snapshot | None = None
    after: Snapshot | None = None
    lost: str = ""


class Rehearsed(Exception):
    """Takes a rehearsed change back: it has been seen."""


@dataclass(frozen=True, slots=True)
class Affected:
    """Somebody who would be cut or let in: a device's `name` (None for who has none), the `address` that it came
    from last, `what` it asked for ("the editor" or a path), how many `times`, and when `last`.
    """

    name: str | None
    address: str
    what: str
    times: int
    last: datetime


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a change would do: `lost` is why it would be refused without --force ("" when it would not), `cut` and
    `let_in` who of the last seven days' accesses would be, `judged` how many those were, and `by` whose word.
    """

    lost: str
    cut: tuple[Affected, ...]
    let_in: tuple[Affected, ...]
    judged: int
    by: str


@contextlib.contextmanager
def weighed(site: Site, tx: Transaction) -> Iterator[None]:
    """Around one change. LockOut, Conflict; Rehearsed at the end of a rehearsal."""
    before = lockout.look(site, tx)
    state = trials.state(tx) if site.trial is not None else None
    if site.rehearsal is not None:
        site.rehearsal.before = lockout.snapshot(site, tx, site.rehearsal.devices)
    yield
    if not tx.recorded:
        return
    trials.refuse_beside(tx, asked=site.trial)
    lost = lockout.judge(before, lockout.look(site, tx))
    if site.rehearsal is not None:
        site.rehearsal.after = lockout.snapshot(site, tx, site.rehearsal.devices)
        site.rehearsal.lost = lost
        raise Rehearsed
    if lost and not site.insist:
        raise lockout.refused(lost)
    if state is not None and site.trial is not None:
        trials.begin(site, tx, state, site.trial)


def rehearse(site: Site, operation: Callable[[Site], object]) -> Weighed:
    """Runs `operation(site)` up to where its change would be committed, and takes it back.

    Nothing is changed and nothing published; its errors are those of the operation itself, but for LockOut, which
    is told in `lost`.
    """
    log = traffic.lately(site)
    devices = list(dict.fromkeys(one.device for one in log.seen if one.device is not None))
    rehearsal = Rehearsal(devices)
    with contextlib.suppress(Rehearsed):
        operation(replace(site, rehearsal=rehearsal, trial=None, tell=lambda _: None))
    if rehearsal.before is None or rehearsal.after is None:
        return Weighed("", (), (), 0, log.by)  # it changes nothing
    found: Impact = impact(rehearsal.before, rehearsal.after, log.seen, now=int(site.clock().timestamp()))
    with site.store.read() as view:
        names = {one: device.name for one in devices if (device := view.device_by_id(one)) is not None}

    def affected(some: Sequence[Moved]) -> tuple[Affected, ...]:
        return tuple(
            Affected(
                names.get(one.device or ""),
                one.address,
                one.what,
                one.times,
                datetime.fromtimestamp(one.last, log.since.tzinfo),
            )
            for one in some
        )

    return Weighed(rehearsal.lost, affected(found.cut), affected(found.let_in), found.judged, log.by)
