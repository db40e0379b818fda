"""The decision. The guard inside Node-RED (guard/decide.js) is a compiled form of this and runs its vectors."""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from redlatch.policy.model import Decision, Entry, Facts, Snapshot
from redlatch.policy.paths import PathClass, classify, is_target

_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?", re.ASCII)
_READS: Final = ("GET", "HEAD")


def decide(facts: Facts, snapshot: Snapshot | None) -> Decision:
    """Whether a request may reach Node-RED, and why (not).

    Fails closed: without a snapshot nobody gets in; without an entry for the very certificate that the peer
    proved to hold nobody gets in; a role reaches only what is named here. The time that counts is the later
    of clock and snapshot, so that a clock set back revives nothing.
    """
    if snapshot is None:
        return Decision(allow=False, reason="no-snapshot")
    entry = snapshot.devices.get(facts.certificate) if facts.certificate else None
    reason = (
        _certificate(facts, entry, max(facts.now, snapshot.time))
        or _request(facts, snapshot)
        or (_role(facts, entry.role, snapshot) if entry else "unknown-certificate")
    )
    return Decision(allow=reason == "ok", reason=reason)


def _certificate(facts: Facts, entry: Entry | None, now: int) -> str | None:
    """Identity is the fingerprint alone: names in a certificate decide nothing."""
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


def _request(facts: Facts, snapshot: Snapshot) -> str | None:
    """What no device may do, whatever its role: a browser sends its certificate for any page that asks."""
    if not _is_own_host(facts.host, snapshot.names):
        return "foreign-host"
    if not is_target(facts.target):
        return "bad-target"
    if facts.method == "CONNECT" or (facts.upgrade is not None and not _is_websocket(facts)):
        return "bad-upgrade"
    if _is_cross_origin(facts, snapshot.origins):
        return "cross-origin"
    return None


def _role(facts: Facts, role: str, snapshot: Snapshot) -> str:
    """No rule, no entry: what is not said to be allowed is refused."""
    if role in ("owner", "admin"):
        return "ok"
    area = classify(facts.target, snapshot.admin_root, snapshot.dashboards)
    if role == "user":
        return "ok" if area is PathClass.DASHBOARD else "no-rule"
    if role == "viewer" and area is not PathClass.DASHBOARD:
        if facts.method not in _READS:
            return "read-only"
        if area is PathClass.EDITOR_READ and (facts.upgrade is None or _is_comms(facts, snapshot.admin_root)):
            return "ok"
    return "no-rule"


def _is_comms(facts: Facts, admin_root: str | None) -> bool:
    return facts.target.partition("?")[0] == (admin_root or "").rstrip("/") + "/comms"


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
    Origin nor Sec-Fetch-* is no browser of today and is judged by its certificate alone.
    """
    if facts.origin is not None:
        return facts.origin != f"https://{(facts.host or '').lower()}" and facts.origin not in origins
    if facts.fetch_site in (None, "same-origin", "none"):
        return False
    navigates = facts.fetch_mode == "navigate" and facts.fetch_dest == "document"
    return not (navigates and facts.method in _READS and facts.upgrade is None)
