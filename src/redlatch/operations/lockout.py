"""The lock-out guard: no change takes away the last who could undo it, unless somebody insists.

It is judged inside the change's own transaction, on what the store would say after it: of two administrators who
each revoke one of two owners at the same instant, the second one is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from redlatch.errors import LockOut
from redlatch.operations import networks
from redlatch.operations.publishing import outline
from redlatch.operations.site import Config, Site, latest
from redlatch.policy import lockout as policy
from redlatch.policy.model import Entry, Rule
from redlatch.policy.networks import Network, encode

if TYPE_CHECKING:
    from redlatch.policy.lockout import Maker, Standing
    from redlatch.policy.model import Snapshot
    from redlatch.store import Reader

#: A certificate that ends within this time is none that stays.
A_WHILE: Final = timedelta(hours=1)
_EMPTY: Final = hashlib.sha256(encode(Network())).hexdigest()
_HINT: Final = (
    "when that is what you want, say so (--force; in the console, the box); on this machine there is always a way "
    "back in: redlatch device add NAME --emergency"
)


@dataclass(frozen=True, slots=True)
class View:
    """How things stand: now and in a while, and for the device that makes the change."""

    standings: tuple[Standing, ...]
    maker: Maker | None


def look(site: Site, view: Reader) -> View:
    """How things stand by what the store says in `view`. A few look-ups, however many devices there are."""
    now = latest(site, view)
    own, rules = view.roles(), view.rules()
    empty = [name for name, digest in view.network_digests().items() if digest == _EMPTY]
    return View(
        tuple(
            policy.standing(rules, own, empty, lambda rule, at=at: _holds(view, rule, own, at))  # type: ignore[misc]
            for at in (now, now + A_WHILE)
        ),
        _maker(site, view, now),
    )


def judge(before: View, after: View) -> str:
    """What a change takes away that must not be lost, in words; "" when nothing is."""
    return "; ".join(policy.lost(before.standings, after.standings, before.maker, after.maker))


def refused(lost: str) -> LockOut:
    """The error for what `judge` found."""
    return LockOut(lost, hint=_HINT)


def has_owner(site: Site) -> bool:
    """Whether some device with the role owner, or one that is like it, has a certificate that has not ended."""
    with site.store.read() as view:
        return look(replace(site, maker=None), view).standings[0].owner


def _holds(view: Reader, rule: Rule, own: dict[str, str], at: datetime) -> bool:
    """Whether anybody is there of those whom the rule names, with a certificate that ends after `at`."""
    if rule.anyone:
        return True
    if rule.any_device:
        return any(view.somebody_has(role, at) for role in view.device_count_by_role())
    like = [name for name, base in own.items() if base in rule.roles]
    if any(view.somebody_has(role, at) for role in dict.fromkeys((*rule.roles, *like))):
        return True
    return any(entry.not_after > at.timestamp() for entry in entries(view, rule.devices).values())


def _maker(site: Site, view: Reader, now: datetime) -> Maker | None:
    if site.maker is None:
        return None
    from redlatch.operations import roles

    found = view.certificate(site.maker.certificate)
    device = view.device_by_id(site.maker.device_id)
    in_use = (
        device is not None
        and device.revoked_at is None
        and found is not None
        and found.revoked_at is None
        and found.not_before <= now <= found.not_after
    )
    return policy.maker(
        snapshot(site, view, [site.maker.device_id]),
        certificate=site.maker.certificate,
        address=site.maker.address,
        base=roles.base_of(view, device.role) if in_use and device is not None else None,
        now=int(now.timestamp()),
    )


def snapshot(site: Site, view: Reader, device_ids: Sequence[str]) -> Snapshot:
    """What engines would enforce by what the store says, with these devices only."""
    made = outline(view, Config.of(view.site().config), spool=site.settings.spool)
    named = dict.fromkeys(name for rule in made.rules for name in rule.networks)
    return replace(
        made,
        devices=entries(view, device_ids),
        networks={name: networks.network(view, name) for name in named},
    )


def entries(view: Reader, device_ids: Sequence[str]) -> dict[str, Entry]:
    """The certificates in use of these devices, as an engine knows them."""
    found: dict[str, Entry] = {}
    for device_id in device_ids:
        device = view.device_by_id(device_id)
        if device is None or device.revoked_at is not None:
            continue
        for one in view.certificates(device_id):
            if one.revoked_at is None:
                found[one.fingerprint] = Entry(
                    device.id,
                    device.role,
                    device.user_slug,
                    int(one.not_before.timestamp()),
                    int(one.not_after.timestamp()),
                )
    return found
