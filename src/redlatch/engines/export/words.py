"""What the header of an export says: what it enforces, what it cannot, and what to do after every change."""

from __future__ import annotations

from collections.abc import Iterator

from redlatch.engines.export.model import Export
from redlatch.engines.export.tables import comment, networks, wants_certificate

_ENFORCED = (
    "TLS 1.2 or newer with a certificate that the device CA signed and that is in the list below, looked up for",
    "  each request; its dates as they stand in the list, for each request; roles, devices, networks, areas, paths",
    "  (with the boundary of a segment) and methods of the rules; the editor's paths for who may have the editor",
    "  alone, and every unknown or oddly written path with them; host names; no write, websocket or embedded load by",
    "  another site's page; identity headers of clients are taken away.",
)
_NEVER = (
    "Live revocation. The list is that of the day on which this was written: after every change of devices, roles,",
    "  rules, networks, names or flows it must be written and loaded anew. Until then a lost phone comes in.",
    "Cutting what is open. A websocket outlives revocation and the end of its certificate until somebody ends it.",
    "The clock: a clock that was set back revives certificates that ended since this was written (redlatch itself",
    "  takes the later of clock and last event).",
    "Reasons. A refused device gets a bare 403, with no word about why; redlatch explain says it.",
    "redlatch's access log, connections, sidebar and metrics: what came in stands in this proxy's own log.",
    "Reading only in the editor is the paths and methods above; Node-RED itself is told nothing (no single sign-on).",
    "Strangers: they get the handshake, and a connection that ends. How many of them knock is not limited here.",
)


def header(export: Export, program: str, own: tuple[str, ...], load: str) -> Iterator[str]:
    """The comment on top; `own` is what only this program cannot, `load` how it takes up a new file."""
    snapshot = export.snapshot
    yield f"Written by: redlatch export {program}"
    yield f"Site {comment(snapshot.site)}, version {snapshot.version} of its list, {len(snapshot.devices)} certificates."
    yield "What is changed here by hand is lost when it is written again."
    yield ""
    yield "WHAT IT ENFORCES"
    yield from (f"- {line}" if line[0] != " " else line for line in _ENFORCED)
    yield ""
    yield "WHAT IT CANNOT: where it cannot do what redlatch does, it refuses more, never less"
    yield from (f"- {line}" if line[0] != " " else line for line in (*_NEVER, *own, *_left_out(export)))
    yield ""
    yield "AFTER EVERY CHANGE"
    yield f"  redlatch export {program} --out FILE && {load}"
    yield "  and once a day by a timer, so that a change that somebody forgot is no older than that."
    yield ""
    yield "Node-RED behind it must answer to this proxy alone: plain http, uiHost 127.0.0.1 in settings.js."


def _left_out(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    if snapshot.open_port is not None:
        yield "The port that asks nobody for a certificate: who shows none gets in nowhere."
    if not wants_certificate(snapshot):
        yield "A rule lets somebody in without a certificate, so the handshake does not insist on one; who shows a bad"
        yield "  one is refused nevertheless."
    if snapshot.origins:
        yield "Pages of other origins may call; they get no CORS headers, and may not show this site in a frame."
    if snapshot.mode != "strict":
        yield f"The page of the mode {comment(snapshot.mode)}: strangers get no word (explain: a bare 403)."
    gone = {name for rule in snapshot.rules for name in rule.networks} - set(networks(snapshot))
    if gone:
        yield f"Networks that do not exist hold nobody: {comment(', '.join(sorted(gone)))}."
