"""The way back in, on the machine itself: an owner's device for at most seven days, whatever the rules say.

It needs the rights of the home and nothing else: no service, no console, no rule. Whoever has these rights could
take the lock off altogether, so that it opens nothing to anybody who was not in already.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from redlatch.errors import InvalidInput
from redlatch.operations import devices, trials
from redlatch.operations.site import Config, Emergency, Site, changing, set_config
from redlatch.pki import names as pki_names
from redlatch.policy.model import ALL, Rule

if TYPE_CHECKING:
    from redlatch.operations.devices import Deliver, Issued, KeyKind
    from redlatch.store import Reader

DAYS: Final = 7


@dataclass(frozen=True, slots=True)
class Opened:
    """What was opened: the device with its certificate, the rule that was added for it (None: none was needed),
    and the change on trial that was taken back first.
    """

    issued: Issued
    rule: int | None
    taken_back: str | None


def plan(site: Site, name: str, *, days: int) -> tuple[str, ...]:
    """What opening it will do, in words. InvalidInput for more than seven days."""
    name = pki_names.device_name(name)
    if not 1 <= days <= DAYS:
        raise InvalidInput(f"a way back in is not open for {days} days", hint=f"from 1 to {DAYS}")
    with site.store.read() as view:
        trial = view.trial()
        needed = not _owners_reach_everything(view)
    until = site.clock() + timedelta(days=days)
    said = [f"the device {name} is added with the role owner; its certificate ends on {until:%Y-%m-%d}"]
    if trial is not None:
        said.append(f"the change on trial is taken back: {trial.what}")
    if needed:
        said.append("a rule is added: devices with the role owner, from anywhere, may reach everything")
    return (*said, "the audit trail and the console tell of it until then")


def open_(
    site: Site,
    name: str,
    *,
    days: int = DAYS,
    key_kind: KeyKind = "p256",
    csr: bytes | None = None,
    deliver: Deliver | None = None,
) -> Opened:
    """Adds an owner's device and, where the rules keep owners out, the rule that lets them in. One transaction.

    Errors: InvalidInput (name, days), Conflict (the name is taken), PassphraseNeeded.
    """
    plan(site, name, days=days)
    name = pki_names.device_name(name)
    made = devices.order(site, key_kind=key_kind, csr=csr)
    with changing(site, weighed=False) as tx:
        trial = tx.trial()
        if trial is not None:  # or its end would take the rule back, and with it the way in
            trials.restored(tx)
        issued = devices.added(site, tx, made, name=name, role="owner", owner=None, days=days)
        rule = None
        if not _owners_reach_everything(tx):
            rule = tx.add_rule(Rule(0, roles=("owner",), area=ALL)).id
        now = site.clock()
        opened = Emergency(issued.device.id, int(issued.not_after.timestamp()))
        present = [one for one in Config.of(tx.site().config).emergencies if one.until > now.timestamp()]
        set_config(tx, emergencies=(*present, opened))
        tx.record("emergency.opened", device=issued.device.id, name=name, days=days, rule=rule)
        if deliver is not None:
            deliver(issued)
    return Opened(devices.in_force(site, issued), rule, None if trial is None else trial.what)


def warnings(view: Reader, config: Config, now: datetime) -> list[str]:
    """What to say of ways that are open still: each until its certificate ends or its device is revoked."""
    said = []
    for one in config.emergencies:
        device = view.device_by_id(one.device)
        if device is None or device.revoked_at is not None or one.until <= now.timestamp():
            continue
        end = datetime.fromtimestamp(one.until, now.tzinfo)
        said.append(
            f"a way back in is open until {end:%Y-%m-%d}: the device {device.name!r}, an owner's; when it is not "
            f"needed any more: redlatch device revoke {device.name!r}"
        )
    return said


def _owners_reach_everything(view: Reader) -> bool:
    """Whether some rule lets owners reach everything, from anywhere."""
    return any(
        rule.area == ALL
        and not rule.networks
        and not rule.methods
        and (rule.any_device or rule.anyone or "owner" in rule.roles)
        for rule in view.rules()
    )
