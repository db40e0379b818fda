"""Versions of Node-RED, Node.js and HAProxy with known holes: a small table, with its sources and its date.

It has what a server that strangers may reach is hit by: nothing of Windows, of npm packages that flows bring
along, or of features that neither Node-RED nor redlatch uses. A distribution may put a hole right under an
older number: HAProxy says whose build it is, and a distribution's is left to its own updates; Node.js does not
say.

Sources: Node.js's are its security releases, as https://github.com/nodejs/security-wg (vuln/core) and the CVE
records list them, and https://github.com/nodejs/Release (schedule.json) for the ends; Node-RED's are its
advisories at https://github.com/node-red/node-red/security/advisories; HAProxy's are the CVE records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from redlatch.checks import looking
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown

MADE: Final = date(2026, 11, 26)
_OLD: Final = timedelta(days=365)
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """One hole: `fixed` are the first versions without it, one for each line of releases. A line that is older
    than the oldest of them has it for good, but for those before `since`; a newer one never had it.
    """

    cve: str
    what: str
    fixed: tuple[str, ...]
    source: str
    since: str = ""


_BLOG: Final = "https://nodejs.org/en/blog/vulnerability/"
NODE_JS: Final = (
    Hole(
        "CVE-2024-22019",
        "a request in endless pieces uses up the processor",
        ("18.19.1", "20.11.1"),
        f"{_BLOG}february-2024-security-releases",
    ),
    Hole(
        "CVE-2024-27982",
        "a request can hide another one",
        ("18.20.1", "20.12.1"),
        f"{_BLOG}april-2024-security-releases",
    ),
    Hole(
        "CVE-2025-23166",
        "what a stranger sends ends the process",
        ("20.19.2", "22.15.1", "23.11.1", "24.0.2"),
        f"{_BLOG}may-2025-security-releases",
    ),
    Hole(
        "CVE-2025-59464",
        "client certificates use up the memory",
        ("20.20.0", "22.22.0", "24.13.0"),
        f"{_BLOG}december-2025-security-releases",
    ),
    Hole(
        "CVE-2026-21637",
        "a handshake ends the process",
        ("20.20.2", "22.22.2", "24.14.1", "25.8.2"),
        f"{_BLOG}march-2026-security-releases",
    ),
    Hole(
        "CVE-2026-21710",
        "a header ends the process",
        ("20.20.2", "22.22.2", "24.14.1", "25.8.2"),
        f"{_BLOG}march-2026-security-releases",
    ),
    Hole(
        "CVE-2026-48934",
        "a flow that calls another server may take a wrong one for it",
        ("22.23.0", "24.17.0", "26.3.1"),
        f"{_BLOG}june-2026-security-releases",
    ),
    Hole(
        "CVE-2026-58040",
        "a flow that calls another server may take a wrong one for it: the first fix was half of one",
        ("22.23.2", "24.18.1", "26.5.1"),
        f"{_BLOG}july-2026-security-releases",
    ),
    Hole(
        "CVE-2026-106069",
        "a flow that calls an address written in an unusual way may take a wrong server for it",
        ("22.23.4", "24.22.1", "26.12.1"),
        f"{_BLOG}october-2026-security-releases",
    ),
    Hole(
        "CVE-2026-123867",
        "client certificates that differ by host name (redlatch's guard has one rule for all names)",
        ("22.23.5", "24.22.3", "26.13.1"),
        "https://www.cve.org/CVERecord?id=CVE-2026-123867",
    ),
)
#: When the last fixes of a line of Node.js come, or came.
NODE_JS_ENDS: Final[Mapping[int, date]] = {
    18: date(2025, 4, 30),
    19: date(2023, 6, 1),
    20: date(2026, 4, 30),
    21: date(2024, 6, 1),
    22: date(2027, 4, 30),
    23: date(2025, 6, 1),
    24: date(2028, 4, 30),
    25: date(2026, 6, 1),
    26: date(2029, 4, 30),
}
_ADVISORIES: Final = "https://github.com/node-red/node-red/security/advisories/"
NODE_RED: Final = (
    Hole(
        "CVE-2021-21298",
        "with projects, whoever reads the editor reads every file",
        ("1.2.8",),
        f"{_ADVISORIES}GHSA-m33v-338h-4v9f",
    ),
    Hole(
        "CVE-2021-21297",
        "a request to the editor changes how all of it works",
        ("1.2.8",),
        f"{_ADVISORIES}GHSA-xp9c-82x8-7f67",
    ),
)
HAPROXY: Final = (
    Hole(
        "CVE-2023-25725",
        "a header can make others vanish, and rules with them",
        ("2.6.9", "2.7.3"),
        "https://www.cve.org/CVERecord?id=CVE-2023-25725",
    ),
    Hole(
        "CVE-2023-40225",
        "a request can hide another one",
        ("2.6.15", "2.7.10", "2.8.2"),
        "https://www.cve.org/CVERecord?id=CVE-2023-40225",
    ),
    Hole(
        "CVE-2026-110353",
        "the PING frames of HTTP/2",
        ("3.2.26", "3.3.17", "3.4.6"),
        "https://www.cve.org/CVERecord?id=CVE-2026-110353",
        since="3.2.0",
    ),
)


def holes(version: str, known: Iterable[Hole], *, line: int) -> list[Hole]:
    """Those that `version` has. `line`: how many of its numbers name a line of releases (Node.js 1, HAProxy 2)."""
    number = _number(version)
    return [one for one in known if number and number >= _number(one.since) and _has(number, one.fixed, line)]


def _has(number: Version, fixed: Iterable[str], line: int) -> bool:
    fixes = [_number(one) for one in fixed]
    for one in fixes:
        if one[:line] == number[:line]:
            return number < one
    return number < min(fixes)


def _number(version: str) -> Version:
    match = re.match(r"v?(\d{1,5}(?:\.\d{1,5}){0,3})", version, re.ASCII)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def ended(version: str, day: date) -> date | None:
    """When that line of Node.js ended, where it has; before Node.js 18 all of them have."""
    number = _number(version)
    if not number:
        return None
    end = min(NODE_JS_ENDS.values()) if number[0] < min(NODE_JS_ENDS) else NODE_JS_ENDS.get(number[0])
    return end if end is not None and end < day else None


def _said(program: str, version: str, found: list[Hole]) -> Found:
    """The newest fix counts: whoever has that has all of them."""
    line = _number(version)[:1]
    fixes = [fixed for one in found for fixed in one.fixed if _number(fixed)[:1] == line]
    newest = max(fixes, key=_number, default="")
    until = f", the last put right in {newest}" if newest else ", and none of this line puts them right"
    words = "; ".join(f"{one.cve} ({one.what})" for one in found)
    return Found(f"{program} {version} has {len(found)} known holes{until}: {words}", f"{program} {version}")


def _node_js(scene: Scene) -> str:
    version = looking.loaded(scene).node_version
    if version is None:
        raise Unknown("it is not known which Node.js runs Node-RED")
    return version


def _node_js_holes(scene: Scene) -> Iterator[Found]:
    version = _node_js(scene)
    found = holes(version, NODE_JS, line=1)
    if found:
        yield _said("Node.js", version, found)


def _node_js_ended(scene: Scene) -> Iterator[Found]:
    version = _node_js(scene)
    end = ended(version, scene.site.clock().date())
    if end is not None:
        yield Found(f"Node.js {version}: its line had its last fixes by {end:%Y-%m-%d}", f"Node.js {version}")


def _node_red_holes(scene: Scene) -> Iterator[Found]:
    claim = looking.guard(scene)
    version = (claim.node_red if claim is not None else None) or looking.node_red(scene).version
    if version is None:
        raise Unknown("it is not known which Node-RED this is")
    found = holes(version, NODE_RED, line=1)
    if found:
        yield _said("Node-RED", version, found)


def _haproxy_holes(scene: Scene) -> Iterator[Found]:
    if scene.config.gateway is None:
        return
    from redlatch.engines.haproxy import program

    installed = program.find()
    if installed.name != installed.short:  # 2.6.12-1+deb12u4: its holes are put right under the old number
        return
    found = holes(installed.short, HAPROXY, line=2)
    if found:
        yield _said("HAProxy", installed.short, found)


def _table_old(scene: Scene) -> Iterator[Found]:
    if scene.site.clock().date() - MADE > _OLD:
        yield Found(f"what this redlatch knows of holes is of {MADE:%Y-%m-%d}")


CHECKS: Final = (
    Check(
        "node-js-holes",
        "this Node.js has known holes",
        Severity.WEAK,
        "It ends the handshakes and reads the requests of strangers. (A distribution may have put them right "
        "under this number.)",
        "update Node.js within its line, then restart Node-RED",
        _node_js_holes,
        ("store-unusable", "settings-broken", "node-js-ended"),
    ),
    Check(
        "node-js-ended",
        "this Node.js gets no fixes any more",
        Severity.WEAK,
        "Holes that are found in it stay open.",
        "update to a Node.js whose line goes on: https://nodejs.org/en/about/previous-releases",
        _node_js_ended,
        ("store-unusable", "settings-broken"),
    ),
    Check(
        "node-red-holes",
        "this Node-RED has known holes",
        Severity.WEAK,
        "Whoever may read the editor may do more than that.",
        "update Node-RED, then run: redlatch up",
        _node_red_holes,
        ("store-unusable",),
    ),
    Check(
        "haproxy-holes",
        "this HAProxy has known holes",
        Severity.WEAK,
        "It is what strangers reach first.",
        "update HAProxy, then restart the gateway",
        _haproxy_holes,
        ("store-unusable", "haproxy-missing"),
    ),
    Check(
        "holes-table-old",
        "what redlatch knows of holes is old",
        Severity.NOTE,
        "A version that is said to be fine may not be.",
        "update redlatch",
        _table_old,
    ),
)
