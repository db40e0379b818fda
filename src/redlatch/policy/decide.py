"""The decision. The guard inside Node-RED (guard/decide.js) is a compiled form of this and runs its vectors."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import partial
from typing import Final

from redlatch.policy.model import ALL, READS, Area, Decision, Entry, Facts, Rule, Snapshot
from redlatch.policy.paths import below, classify, is_canonical, is_editors, is_target, path_of

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)


def decide(facts: Facts, snapshot: Snapshot | None) -> Decision:
    """Whether a request may reach Node-RED, and why (not).

    Fails closed: without a snapshot nobody gets in; without a rule that names who asks, from where and for what,
    nobody gets in; who shows no certificate of this very list is nobody but "anyone". Rules only add up. The time
    that counts is the later of clock and snapshot, so that a clock set back revives nothing.
    """
    if snapshot is None:
        return Decision(allow=False, reason="no-snapshot")
    found = snapshot.devices.get(facts.certificate or "")
    stranger = _certificate(facts, found, max(facts.now, snapshot.time))
    entry = None if stranger else found
    named = [rule for rule in snapshot.rules if _names(rule, entry, facts, snapshot)]
    applying = [rule for rule in named if _is_from(rule, facts, snapshot)]
    reason = stranger if stranger and not applying else _request(facts, snapshot)
    if reason is not None:
        return Decision(allow=False, reason=reason)
    reaches = partial(_reaches, facts=facts, area=_area(facts, snapshot), snapshot=snapshot)
    admitting = [rule for rule in applying if reaches(rule) and allows_method(rule, facts.method)]
    if admitting:
        return Decision(allow=True, reason="ok", rules=_ids(admitting))
    return Decision(allow=False, reason=stranger) if stranger else _refusal(facts, snapshot, named, applying)


def _refusal(facts: Facts, snapshot: Snapshot, named: list[Rule], applying: list[Rule]) -> Decision:
    """Why a device that no rule admits is refused: the nearest rule says it best."""
    area = _area(facts, snapshot)
    if facts.method not in READS and _is_editor(area) and any(rule.area == Area.EDITOR_READ for rule in applying):
        return Decision(allow=False, reason="read-only")
    reaching = [rule for rule in named if _reaches(rule, facts, area, snapshot)]
    here = _ids(rule for rule in reaching if rule in applying)
    if here:
        return Decision(allow=False, reason="wrong-method", rules=here)
    elsewhere = _ids(rule for rule in reaching if allows_method(rule, facts.method))
    return Decision(allow=False, reason="wrong-network" if elsewhere else "no-rule", rules=elsewhere)


def allows_method(rule: Rule, method: str) -> bool:
    """Whether a rule lets this method through. GET includes HEAD; reading in the editor is reading alone."""
    if rule.area == Area.EDITOR_READ and method not in READS:
        return False
    return not rule.methods or method in rule.methods or (method == "HEAD" and "GET" in rule.methods)


def _certificate(facts: Facts, entry: Entry | None, now: int) -> str | None:
    """Why this certificate makes its holder no device, or None. The fingerprint alone counts, no name in it."""
    if not facts.certificate:
        return "no-certificate"
    if not facts.verified:
        return "untrusted-certificate"
    if entry is None:
        return "unknown-certificate"
    if now < entry.not_before:
        return "not-yet-valid"
    if now > entry.not_after:
        return "expired"
    return None


def _names(rule: Rule, entry: Entry | None, facts: Facts, snapshot: Snapshot) -> bool:
    """Whether the rule speaks of who asks. With an open port, every other one needs a certificate."""
    if rule.anyone and (entry is not None or facts.by_open_port or snapshot.open_port is None):
        return True
    if entry is None:
        return False
    roles = (entry.role, snapshot.roles.get(entry.role))
    return rule.any_device or entry.id in rule.devices or any(role in rule.roles for role in roles)


def _is_from(rule: Rule, facts: Facts, snapshot: Snapshot) -> bool:
    """Whether the peer is in one of the rule's networks. A network that is not in the snapshot holds nobody."""
    return not rule.networks or any(
        name in snapshot.networks and snapshot.networks[name].contains(facts.peer) for name in rule.networks
    )


def _reaches(rule: Rule, facts: Facts, area: Area, snapshot: Snapshot) -> bool:
    """Whether the rule speaks of this path. A path of the operator's is literal and never one of the editor's."""
    if rule.path is not None:
        path = path_of(facts.target)
        return is_canonical(path) and not is_editors(path, snapshot.admin_root) and below(path, rule.path)
    if rule.area == Area.EDITOR:
        return _is_editor(area)
    return rule.area in (ALL, area)


def _area(facts: Facts, snapshot: Snapshot) -> Area:
    return classify(
        facts.target, websocket=facts.upgrade is not None, admin_root=snapshot.admin_root, areas=snapshot.areas
    )


def _is_editor(area: Area) -> bool:
    return area in (Area.EDITOR, Area.EDITOR_READ)


def _ids(rules: Iterable[Rule]) -> tuple[int, ...]:
    return tuple(rule.id for rule in rules)


def _request(facts: Facts, snapshot: Snapshot) -> str | None:
    """What nobody may do, whatever the rules: a browser sends its certificate for any page that asks."""
    if not _is_own_host(facts.host, snapshot.names):
        return "foreign-host"
    if not is_target(facts.target):
        return "bad-target"
    if facts.method == "CONNECT" or (facts.upgrade is not None and not _is_websocket(facts)):
        return "bad-upgrade"
    if _is_cross_origin(facts, snapshot.origins):
        return "cross-origin"
    return None


def _is_websocket(facts: Facts) -> bool:
    return facts.method == "GET" and (facts.upgrade or "").lower() == "websocket"


def _is_own_host(host: str | None, names: tuple[str, ...]) -> bool:
    """A name of this site or any literal address: DNS rebinding needs a name (attack class 12)."""
    match = _HOST.fullmatch(host or "")
    if match is None:
        return False
    name = match[1].lower()
    if name.startswith("["):
        return _is_address(name[1:-1], 6)
    return name.removesuffix(".") in names or _is_address(name, 4)


def _is_address(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False


def _is_cross_origin(facts: Facts, origins: tuple[str, ...]) -> bool:
    """Client certificates are ambient credentials, like cookies: another page must not use them.

    Same-site is not enough, another port of the same host is another origin. A client that sends neither
    Origin nor Sec-Fetch-* is no browser of today and is judged by its certificate alone. Where the operator named
    other origins, a page may be shown in a frame: which pages may frame it is the browser's to see to, by the
    frame-ancestors that the engine then adds to the answer (no header of the request says who frames it).
    """
    if facts.origin is not None:
        return facts.origin != f"https://{(facts.host or '').lower()}" and facts.origin not in origins
    if facts.fetch_site in (None, "same-origin", "none"):
        return False
    shown = ("document", "iframe") if origins else ("document",)
    navigates = facts.fetch_mode == "navigate" and facts.fetch_dest in shown
    return not (navigates and facts.method in READS and facts.upgrade is None)
