"""What the header of an export says: what it enforces, what it cannot, and what to do after every change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from redlatch.engines.export.model import Export
from redlatch.engines.export.tables import comment, networks, wants_certificate

_WIDTH: Final = 110

_ENFORCED: Final = (
    (
        "A certificate that the device CA signed and that is in the list below, looked up for each request, with "
        "its dates as they stand there."
    ),
    (
        "The rules: roles, devices, networks, areas, paths (a prefix ends with its segment), methods. What the "
        "editor owns and what is oddly written is for who may have the editor; so is what no rule and "
        "no area names."
    ),
    (
        "This site's own names. No write, websocket or embedded load by a page of another site. No upgrade but "
        "to a websocket."
    ),
    (
        "Identity headers (X-Redlatch-...) that a client sends are taken away; Node-RED is told "
        "X-Redlatch-Device, -User and -Role of the certificate."
    ),
)
_NEVER: Final = (
    (
        "LIVE REVOCATION. This is the list of the day on which it was written: after every change of devices, "
        "roles, rules, networks, names or flows it must be written and loaded (reload) anew. Until then a lost "
        "phone comes in."
    ),
    "Cutting what is open: a websocket outlives the revocation and the end of its certificate.",
    (
        "The clock: one that was set back revives certificates that ended since this was written (redlatch "
        "itself takes the later of clock and last event)."
    ),
    "Reasons: a refused device gets a bare 403, with no word about why (redlatch explain says it).",
    "redlatch's access log, connections, sidebar and metrics: who came in stands in this proxy's own log.",
    (
        "Single sign-on, and reading only as Node-RED's own permission: who reads the editor is held to the "
        "paths and methods that only read, by this proxy alone."
    ),
    "Strangers who knock by the thousand: nothing here limits them.",
)


@dataclass(frozen=True, slots=True)
class Program:
    """What is said of one program: its name, what it does and cannot besides, how it takes up a file."""

    name: str
    does: tuple[str, ...]
    cannot: tuple[str, ...]
    load: str


def header(export: Export, program: Program) -> Iterator[str]:
    """The lines of the comment on top."""
    snapshot = export.snapshot
    count = len(snapshot.devices)
    yield f"Written by: redlatch export {program.name}"
    yield f"Site {comment(snapshot.site)}, version {snapshot.version} of its list, {count} certificates."
    yield "What is changed here by hand is lost when it is written again."
    yield ""
    yield "WHAT IT ENFORCES"
    yield from _listed((*_ENFORCED, *program.does))
    yield ""
    yield "WHAT IT CANNOT. Where it cannot do what redlatch does, it refuses more, never less."
    yield from _listed((*_NEVER, *program.cannot, *_left_out(export)))
    yield ""
    yield "AFTER EVERY CHANGE"
    yield f"  redlatch export {program.name} --out FILE && {program.load}"
    yield "  and once a day by a timer, so that a change that somebody forgot is no older than that."
    yield ""
    yield "Node-RED behind it must answer to this proxy alone: plain http, uiHost 127.0.0.1 in settings.js."


def _listed(entries: Iterable[str]) -> Iterator[str]:
    for one in entries:
        yield from textwrap.wrap(one, _WIDTH, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


def _left_out(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    if snapshot.open_port is not None:
        yield "The port that asks nobody for a certificate: who shows none gets in nowhere."
    if not wants_certificate(snapshot):
        yield (
            "A rule lets somebody in without a certificate, so the handshake does not insist on one; who shows a "
            "bad one is refused nevertheless."
        )
    if snapshot.origins:
        yield "Pages of other origins may call, but get no CORS headers, and may not show this site in a frame."
    if snapshot.mode != "strict":
        yield f"The page of the mode {comment(snapshot.mode)}: strangers get no word (explain: a bare 403)."
    gone = {name for rule in snapshot.rules for name in rule.networks} - set(networks(snapshot))
    if gone:
        yield f"Networks that do not exist hold nobody: {comment(', '.join(sorted(gone)))}."
