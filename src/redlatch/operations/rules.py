"""Rules: who may reach what, from where. Each is said in a sentence, with what it brings, before it counts."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from redlatch.engines.haproxy.model import listener
from redlatch.errors import Conflict, InvalidInput, NotFound, UsageError
from redlatch.operations import machine, networks, traffic
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, changing, set_config
from redlatch.pki import names as pki_names
from redlatch.policy import rules as policy
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import ROLES, Rule
from redlatch.policy.networks import Network

if TYPE_CHECKING:
    from redlatch.store import Device, Reader


@dataclass(frozen=True, slots=True)
class Wanted:
    """A rule as an operator words it: devices by name, nobody named stands for any device."""

    area: str | None = None
    path: str | None = None
    methods: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    anyone: bool = False
    networks: tuple[str, ...] = ()
    open_port: int | None = None


@dataclass(frozen=True, slots=True)
class Shown:
    """A rule with its sentence. `gone` are the names of its devices that are revoked."""

    rule: Rule
    sentence: str
    gone: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of the rules would do, or did.

    `changed` is false when everything is so already. `question` is what to ask before it, "" where it needs no
    asking; `remarks` are what to know about it. `force` is None where nothing happened.
    """

    shown: Shown | None
    changed: bool
    question: str
    remarks: tuple[str, ...]
    open_port: int | None
    force: Force | None = None


def add(site: Site, wanted: Wanted, *, force: bool = False, dry_run: bool = False) -> Change:
    """Adds a rule, and with `open_port` opens that port for those without a certificate.

    With `dry_run` it says what it would do. Errors: NotFound (role, network, device), InvalidInput, Conflict (it
    would open everything; or, without `force`, a network in it stands for everybody).
    """
    with site.store.read() as view:
        change = _considered(site, view, wanted, force=force)[1]
    if dry_run or not change.changed:
        return change
    with changing(site) as tx:
        rule, change = _considered(site, tx, wanted, force=force)
        config = Config.of(tx.site().config)
        if config.open_port != change.open_port:
            set_config(tx, open_port=change.open_port)
            tx.record("open-port.changed", old=config.open_port, new=change.open_port)
        if rule.id == 0:
            rule = tx.add_rule(rule)
            tx.record("rule.added", rule=rule.id, what=policy.sentence(rule, device_names(tx, [rule])))
        shown = _shown(tx, rule)
    return replace(change, shown=shown, force=enforce(site))


def _considered(site: Site, view: Reader, wanted: Wanted, *, force: bool) -> tuple[Rule, Change]:
    """The rule (with its number when there is one like it) and what adding it does."""
    config = Config.of(view.site().config)
    if wanted.open_port is not None and not wanted.anyone:
        raise UsageError(
            "a second port is for those who have no certificate", hint="add --anyone, or leave --open-port out"
        )
    port = config.open_port if wanted.open_port is None else check_port(config, wanted.open_port)
    rule = policy.checked(
        Rule(
            0,
            roles=wanted.roles,
            devices=tuple(device_id(view, name) for name in wanted.devices),
            any_device=not (wanted.roles or wanted.devices or wanted.anyone),
            anyone=wanted.anyone,
            networks=wanted.networks,
            area=wanted.area,
            path=wanted.path,
            methods=wanted.methods,
        ),
        roles=(*ROLES, *view.roles()),
        networks=(*BUILTIN, *view.network_digests()),
        admin_root=config.admin_root,
    )
    present = view.rules()
    same = next((one for one in present if policy.same(one, rule)), None)
    held = {name: networks.network(view, name) for name in rule.networks}
    remarks = judge(site, rule, held, force=force) if same is None else []
    asked = same is None and policy.makes_optional(rule, present, port)
    if port != config.open_port:
        remarks += port_remarks(port)
        if config.open_port is not None:
            remarks.append(f"the port {config.open_port} that asks nobody for a certificate is closed")
    change = Change(
        _shown(view, same or rule),
        same is None or port != config.open_port,
        policy.OPTIONAL_CERTIFICATE if asked else "",
        tuple(remarks),
        port,
    )
    return same or rule, change


def judge(site: Site, rule: Rule, held: Mapping[str, Network], *, force: bool) -> list[str]:
    """What to know about a new rule's networks, which `held` has; Conflict for one that is refused."""
    policy.refuse_openness(rule, held)
    if not rule.anyone:
        return []
    found = traffic.seen(site)
    problem = policy.stands_for_everybody(rule, held, _everybody(found))
    if problem and not force:
        raise Conflict(
            problem,
            hint="ask for a certificate as well (leave --anyone out), or add --force if it is as you want it",
        )
    if problem:
        return [problem]
    return [one for name, network in held.items() for one in traffic.cautions(name, network, found)]


def _everybody(found: traffic.Seen) -> policy.Seen | None:
    """The one private address that all traffic comes from, and whether it is one behind which others may be."""
    address = found.everybody
    if address is None:
        return None
    own = {str(one) for one in (*machine.private_addresses(), *machine.gateways())}
    shared = address in own or ipaddress.ip_address(address).is_loopback
    return policy.Seen(address, found.connections, shared)


def list_rules(site: Site) -> list[Shown]:
    """All rules, by their numbers."""
    with site.store.read() as view:
        return [_shown(view, rule) for rule in view.rules()]


def remove(site: Site, rule_id: int, *, dry_run: bool = False) -> Change:
    """Removes a rule; with `dry_run` says what that would do. Errors: NotFound."""
    if dry_run:
        with site.store.read() as view:
            return _without(view, rule_id)
    with changing(site) as tx:
        change = _without(tx, rule_id)
        tx.remove_rule(rule_id)
        what = change.shown.sentence if change.shown is not None else ""
        tx.record("rule.removed", rule=rule_id, what=what)
    return replace(change, force=enforce(site))


def _without(view: Reader, rule_id: int) -> Change:
    present = view.rules()
    rule = next((one for one in present if one.id == rule_id), None)
    if rule is None:
        raise NotFound(f"there is no rule {rule_id}", hint="redlatch rule list shows all of them")
    rest = [one for one in present if one.id != rule_id]
    port = Config.of(view.site().config).open_port
    remarks = []
    if rule.anyone and not any(one.anyone for one in rest):
        remarks.append(
            f"nobody gets in by port {port} any more; close it with: redlatch rule open-port off"
            if port is not None
            else "from now on everybody needs a certificate at the handshake again"
        )
    return Change(_shown(view, rule), True, "", tuple(remarks), port)


def set_open_port(site: Site, port: int | None, *, dry_run: bool = False) -> Change:
    """Opens the port that asks nobody for a certificate, or (None) closes it. Errors: InvalidInput, Conflict."""
    with site.store.read() as view:
        change = _with_port(view, port)
    if dry_run or not change.changed:
        return change
    with changing(site) as tx:
        change = _with_port(tx, port)
        old = Config.of(tx.site().config).open_port
        set_config(tx, open_port=port)
        tx.record("open-port.changed", old=old, new=port)
    return replace(change, force=enforce(site))


def _with_port(view: Reader, port: int | None) -> Change:
    config = Config.of(view.site().config)
    if port is not None:
        check_port(config, port)
    changed = port != config.open_port
    strangers = any(rule.anyone for rule in view.rules())
    question = policy.OPTIONAL_CERTIFICATE if changed and port is None and strangers else ""
    remarks = port_remarks(port) if changed else []
    if port is not None and not strangers:
        remarks.append("no rule admits anyone without a certificate yet, so nobody gets in there")
    return Change(None, changed, question, tuple(remarks), port)


def check_port(config: Config, port: int) -> int:
    """The port, when it can be a second one."""
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{port} is no port", hint="a number from 1 to 65535")
    if config.gateway is not None and port in {listener(one)[1] for one in config.gateway.listen}:
        raise Conflict(
            f"{port} is the gateway's own port, which devices use with their certificate",
            hint=f"choose another one, as in {port + 10 if port < 65526 else port - 10}",
        )
    if config.target is not None and port == config.target.listen_port:
        raise Conflict(
            f"{port} is Node-RED's own port, which devices use with their certificate",
            hint=f"choose another one, as in {port + 10 if port < 65526 else port - 10}",
        )
    if port in (config.service.console_port, config.service.enrolment_port):
        raise Conflict(f"{port} is redlatch's own, of console or enrolment", hint="redlatch console shows both")
    return port


def port_remarks(port: int | None) -> list[str]:
    """What to know about a second port."""
    if port is None:
        return []
    remarks = [f"port {port} must be open in a firewall, and be the one in the addresses that need no certificate"]
    if port < 1024:
        remarks.append(f"below 1024 a program needs a right of its own: Node-RED's user may not open port {port}")
    return remarks


# --- names and ids


def device_id(view: Reader, name: str) -> str:
    """The id of the device in use of that name; NotFound, with the nearest one."""
    found = view.device_by_name(pki_names.name_key(name))
    if found is None:
        known = [one.name for one in view.devices() if one.revoked_at is None]
        raise policy.unknown("device named", name, known, hint="redlatch device list shows all of them")
    return found.id


def device_names(view: Reader, rules: Iterable[Rule]) -> dict[str, str]:
    """Id -> what to call it, of every device that the rules name; revoked ones are said to be."""
    return {
        one.id: one.name if one.revoked_at is None else f"{one.name} (revoked)" for one in devices(view, rules)
    }


def devices(view: Reader, rules: Iterable[Rule]) -> list[Device]:
    """The devices that the rules name, revoked ones too."""
    ids = dict.fromkeys(one for rule in rules for one in rule.devices)
    return [device for one in ids if (device := view.device_by_id(one)) is not None]


def _shown(view: Reader, rule: Rule) -> Shown:
    gone = tuple(one.name for one in devices(view, [rule]) if one.revoked_at is not None)
    return Shown(rule, policy.sentence(rule, device_names(view, [rule])), gone)
