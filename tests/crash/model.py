"""What should be, in plain Python: devices, roles, certificates, rules, networks and links, and who gets in.

Written from docs/rules.md, networks.md, node-red.md and commands.md, and from nothing else: it shares no line with
what it is held against. It knows the paths that the tests ask for, and no more.
"""

from __future__ import annotations

import copy
import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

BUILT_IN_ROLES = ("owner", "admin", "viewer", "user", "thing")
BUILT_IN_NETWORKS = {
    "localhost": ("127.0.0.0/8",),
    "private": ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
}
#: What a path counts as. Whatever is not known to be anything else is the editor's.
PATHS = {
    "/flows": "editor",
    "/settings": "editor",
    "/nobody/knows": "editor",
    "/hook/a": "editor",
    "/hooks": "editor",
    "/hello": "http-in",
    "/dashboard/page": "dashboards",
}
#: Paths that belong to the editor itself: no rule for a path of one's own opens them.
THE_EDITORS = ("/flows", "/settings")
READING = ("GET", "HEAD", "OPTIONS")


@dataclass
class Device:
    name: str
    role: str
    good: set[str] = field(default_factory=set)
    revoked: bool = False
    bad: set[str] = field(default_factory=set)


@dataclass
class Rule:
    area: str | None = None
    path: str | None = None
    methods: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    device: Device | None = None
    anyone: bool = False
    network: str | None = None


@dataclass
class Link:
    name: str
    role: str
    state: str = "open"


@dataclass(frozen=True)
class Probe:
    """A request: by whom (a certificate's fingerprint, or none), from where, for what."""

    fingerprint: str | None
    address: str
    path: str
    method: str


class Model:
    """The state, and `events`: how many of each kind the audit trail should have from here on."""

    def __init__(self) -> None:
        self.devices: list[Device] = []
        self.roles: dict[str, str] = {}
        self.networks: dict[str, list[str]] = {}
        self.links: dict[int, Link] = {}
        self.rules: dict[int, Rule] = {
            1: Rule(area="all", roles=("owner",)),
            2: Rule(area="all", roles=("admin",)),
            3: Rule(area="editor-read", roles=("viewer",)),
            4: Rule(area="dashboards", roles=("user",)),
        }
        self.events: Counter[str] = Counter()

    def copy(self) -> Model:
        return copy.deepcopy(self)

    # --- who gets in

    def admits(self, probe: Probe) -> bool:
        return any(self._fits(rule, probe) for rule in self.rules.values())

    def _fits(self, rule: Rule, probe: Probe) -> bool:
        return self._who(rule, probe) and self._where(rule, probe.address) and self._what(rule, probe)

    def _who(self, rule: Rule, probe: Probe) -> bool:
        device = next((one for one in self.devices if probe.fingerprint in one.good), None)
        if rule.anyone:
            return True  # with whatever certificate: one that is not good any more could be left out as well
        if device is None:
            return False
        if rule.roles:
            base = self.roles.get(device.role, device.role)
            return device.role in rule.roles or base in rule.roles
        return rule.device is None or rule.device is device

    def _where(self, rule: Rule, address: str) -> bool:
        if rule.network is None:
            return True
        entries = self.networks.get(rule.network, list(BUILT_IN_NETWORKS.get(rule.network, ())))
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(one) for one in entries)

    def _what(self, rule: Rule, probe: Probe) -> bool:
        if rule.methods and probe.method not in rule.methods:
            return False
        kind = PATHS[probe.path]
        if rule.path is not None:
            below = probe.path == rule.path or probe.path.startswith(rule.path + "/")
            return below and probe.path not in THE_EDITORS
        if rule.area == "all":
            return True
        if rule.area == "editor-read":
            return probe.path in THE_EDITORS and probe.method in READING  # flows and settings, not what is unknown
        return rule.area == kind

    # --- what happens

    def device(self, name: str) -> Device:
        return next(one for one in self.devices if one.name == name and not one.revoked)

    def add(self, name: str, role: str, fingerprint: str) -> None:
        self.devices.append(Device(name, role, {fingerprint}))
        self.events.update(("device.added", "certificate.issued"))

    def renew(self, name: str, fingerprint: str) -> None:
        self.device(name).good.add(fingerprint)
        self.events.update(("certificate.issued",))

    def revoke(self, name: str) -> None:
        device = self.device(name)
        device.bad |= device.good
        device.good, device.revoked = set(), True
        self.events.update(("device.revoked",))

    def rename(self, name: str, new: str) -> None:
        self.device(name).name = new
        self.events.update(("device.renamed",))

    def set_role(self, name: str, role: str) -> None:
        self.device(name).role = role
        self.events.update(("device.role-changed",))

    def add_rule(self, number: int, rule: dict[str, Any]) -> None:
        named = dict(rule)
        if named.get("device") is not None:
            named["device"] = self.device(named["device"])
        self.rules[number] = Rule(**named)
        self.events.update(("rule.added",))

    def remove_rule(self, number: int) -> None:
        del self.rules[number]
        self.events.update(("rule.removed",))

    def add_network(self, name: str, entries: tuple[str, ...]) -> None:
        self.networks.setdefault(name, []).extend(entries)
        self.events.update(("network.changed",))

    def remove_network(self, name: str) -> None:
        del self.networks[name]
        self.events.update(("network.removed",))

    def add_role(self, name: str, base: str) -> None:
        self.roles[name] = self.roles.get(base, base)
        self.events.update(("role.added",))

    def remove_role(self, name: str) -> None:
        del self.roles[name]
        self.events.update(("role.removed",))

    def invite(self, number: int, name: str, role: str) -> None:
        self.links[number] = Link(name, role)
        self.events.update(("link.made",))

    def withdraw(self, number: int) -> None:
        self.links[number].state = "withdrawn"
        self.events.update(("link.withdrawn",))

    def redeem(self, number: int, fingerprint: str) -> None:
        link = self.links[number]
        link.state = "used"
        self.add(link.name, link.role, fingerprint)
        self.events.update(("link.redeemed",))

    # --- to be compared with what a store says

    def summary(self) -> dict[str, Any]:
        """Everything, in a form in which two of them can be compared."""
        return {
            "devices": sorted(
                (one.name, one.role, one.revoked, sorted(one.good), sorted(one.bad)) for one in self.devices
            ),
            "roles": dict(self.roles),
            "networks": {name: sorted(entries) for name, entries in self.networks.items()},
            "rules": {
                number: (
                    one.area, one.path, sorted(one.methods), sorted(one.roles),
                    None if one.device is None else sorted(one.device.good | one.device.bad)[:1],
                    one.anyone, one.network,
                )
                for number, one in self.rules.items()
            },
            "links": {number: (one.name, one.role, one.state) for number, one in self.links.items()},
        }  # fmt: skip
