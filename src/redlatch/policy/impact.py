"""What a change means for those who came in lately: who of the logged traffic would be cut, and who let in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from redlatch.policy.decide import decide
from redlatch.policy.model import Facts, Snapshot
from redlatch.policy.paths import is_canonical, is_editors

#: A literal address: it is nobody's foreign name, so that an entry without a host is judged by all but its host.
_ANY_HOST: Final = "127.0.0.1"
#: What stands for all paths that the editor owns.
EDITOR: Final = "the editor"


@dataclass(frozen=True, slots=True)
class Seen:
    """One entry of an access log: at `at` (Unix seconds), `count` times alike.

    `device` is its id (None: nobody known), `certificate` the beginning of its fingerprint, `path` without a query
    and perhaps cut short, `allowed` whether it was let in. `host` is None where the log does not say it.
    """

    at: int
    address: str
    method: str
    path: str
    device: str | None = None
    certificate: str | None = None
    websocket: bool = False
    allowed: bool = True
    host: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody who would be cut or let in: `device` by id or, without one, an `address` (of a device the last one
    that it came from); `what` is a path, or EDITOR; `times` it was asked for, last at `last`.
    """

    device: str | None
    address: str
    what: str
    times: int
    last: int


@dataclass(frozen=True, slots=True)
class Impact:
    """Who would be cut and who let in, the most frequent first; `judged` is how many accesses were looked at."""

    cut: tuple[Moved, ...] = ()
    let_in: tuple[Moved, ...] = ()
    judged: int = 0


def impact(before: Snapshot, after: Snapshot, seen: Iterable[Seen], *, now: int) -> Impact:
    """What the change from `before` to `after` means for the traffic that was seen.

    Both need the devices of that traffic only, and their networks. Cut is what was let in, would be by `before`,
    and is not by `after`; let in is the other way round, whatever the log says of it. Entries that say the same
    are judged once, by two decisions: 30 microseconds for both with four rules, 1.4 for one alike (measured).
    """
    judged = 0
    alike: dict[Seen, tuple[int, int]] = {}
    for one in seen:
        judged += one.count
        key = Seen(
            0, one.address, one.method, one.path, one.device, one.certificate, one.websocket, one.allowed, one.host
        )
        times, last = alike.get(key, (0, 0))
        alike[key] = times + one.count, max(last, one.at)
    certificates = _by_device(before, after)
    cut: dict[tuple[str, str], Moved] = {}
    let_in: dict[tuple[str, str], Moved] = {}
    for one, (times, last) in alike.items():
        certificate = _certificate(one, certificates)
        was = _admitted(one, certificate, before, before, now)
        will = _admitted(one, certificate, before, after, now)
        if was and one.allowed and not will:
            _count(cut, one, before, times, last)
        elif will and not was:
            _count(let_in, one, before, times, last)
    return Impact(_sorted(cut), _sorted(let_in), judged)


def _by_device(before: Snapshot, after: Snapshot) -> dict[str, list[str]]:
    """Device -> its certificates, those that count now first."""
    found: dict[str, list[str]] = {}
    for snapshot in (before, after):
        for fingerprint, entry in snapshot.devices.items():
            found.setdefault(entry.id, []).append(fingerprint)
    return found


def _certificate(one: Seen, certificates: dict[str, list[str]]) -> str | None:
    """The certificate that it would show: the one of the log or, when that is none in use, the device's other."""
    if one.certificate is None:
        return None
    held = certificates.get(one.device or "", [])
    same = (fingerprint for fingerprint in held if fingerprint.startswith(one.certificate))
    return next(same, held[0] if held else one.certificate)


def _admitted(one: Seen, certificate: str | None, before: Snapshot, snapshot: Snapshot, now: int) -> bool:
    """Whether `snapshot` admits it, at the port that it used: who has no certificate came by the open port, where
    there was one, and calls in vain when that is closed or another one.
    """
    by_open_port = certificate is None and before.open_port is not None
    if by_open_port and snapshot.open_port != before.open_port:
        return False
    facts = Facts(
        method=one.method,
        target=one.path,
        host=one.host or _ANY_HOST,
        certificate=certificate,
        verified=True,
        now=now,
        upgrade="websocket" if one.websocket else None,
        peer=one.address,
        by_open_port=by_open_port,
    )
    return decide(facts, snapshot).allow


def _count(found: dict[tuple[str, str], Moved], one: Seen, before: Snapshot, times: int, last: int) -> None:
    editors = not is_canonical(one.path) or is_editors(one.path, before.admin_root)
    what = EDITOR if editors else one.path
    key = (one.device or one.address, what)
    present = found.get(key, Moved(one.device, one.address, what, 0, 0))
    address = one.address if last >= present.last else present.address
    found[key] = Moved(one.device, address, what, present.times + times, max(present.last, last))


def _sorted(found: dict[tuple[str, str], Moved]) -> tuple[Moved, ...]:
    return tuple(
        sorted(found.values(), key=lambda one: (-one.times, -one.last, one.device or one.address, one.what))
    )
