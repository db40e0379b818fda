"""A user's flows, read with the user's rights: what runs in them, and which paths they serve."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import call_as, read_regular
from redlatch.errors import RedlatchError
from redlatch.policy.model import Areas
from redlatch.policy.paths import MAX_TARGET, is_canonical, is_editors

Node = dict[str, Any]
_MAX_BYTES = 32 << 20

# What means itself to Express 4 (path-to-regexp 0.1): that one leaves "(", "+", "$" and the like to the regular
# expression it makes, so that only these are literal in a route. A parameter stands for a whole segment.
_LITERAL: Final = re.compile(r"(?:[A-Za-z0-9._~!&',=@-]|%20|%[89A-Fa-f][0-9A-Fa-f])+", re.ASCII)
_CLIENT: Final = re.compile(r"wss?://", re.IGNORECASE)  # a websocket node that calls instead of listening
_PARAMETER: Final = re.compile(r":[A-Za-z0-9_]+", re.ASCII)


def read_flows(
    nodered: NodeRed, *, user_dir: str | None = None, flow_file: str | None = None
) -> list[Node] | None:
    """The nodes of the flow file; None when there is none, [] when it cannot be understood.

    `user_dir` and `flow_file` are what settings.js says, which counts more than the folder's default. With
    projects the active project's flow file is read.
    """
    arguments = [argument for argument in nodered.argv if argument.endswith(".json")]
    base = Path(user_dir) if user_dir and not nodered.argv else nodered.user_dir
    try:
        data = call_as(nodered.user, _read_flow_file, str(base), flow_file, arguments[-1:])
    except RedlatchError:
        return None
    if not data:
        return None
    return parse(data)


def parse(data: bytes) -> list[Node]:
    """The nodes of a flow file's content; [] for what cannot be understood."""
    try:
        nodes = json.loads(data)
    except (ValueError, RecursionError):
        return []
    if isinstance(nodes, dict):  # the editor's own export format keeps them under "flows"
        nodes = nodes.get("flows")
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _read_flow_file(user_dir: str, flow_file: str | None, arguments: list[str]) -> bytes:
    for name in flow_files(user_dir, flow_file, arguments):
        try:
            return read_regular(name, _MAX_BYTES)
        except OSError:
            continue
    return b""


def flow_files(user_dir: str, flow_file: str | None, arguments: Sequence[str]) -> list[Path]:
    """Where the flows may lie, the likeliest first; runs as their user, who alone may look. `arguments` are the
    files that the command line names.
    """
    base = Path(user_dir)
    names = [
        *arguments,
        *([flow_file] if flow_file else []),
        *_project_file(base),
        "flows.json",
        f"flows_{socket.gethostname()}.json",
    ]
    return [base / name for name in names]


def _project_file(base: Path) -> list[str]:
    """The active project's flow file: .config.projects.json (before Node-RED 1.0 .config.json) names it."""
    for name in (".config.projects.json", ".config.json"):
        try:
            config = json.loads(read_regular(base / name, 1 << 20))
            active = config.get("activeProject") or (config.get("projects") or {}).get("activeProject")
            if not isinstance(active, str) or os.sep in active or active.startswith("."):
                continue
            package = json.loads(read_regular(base / "projects" / active / "package.json", 1 << 20))
            return [str(Path("projects") / active / package["node-red"]["settings"]["flowFile"])]
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue
    return []


def canonical_prefix(*parts: str | None) -> str:
    """A path prefix out of parts as people write them: one slash before each segment, none at the end."""
    segments = [segment for part in parts if part for segment in part.split("/") if segment]
    return "/" + "/".join(segments)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a node of the flows serves, with the path below Node-RED's root as the node says it.

    `own` is whether it is an area of its own: one that Express gives a meaning (wildcards, optional parts), that
    is not canonical or that the editor owns counts as editor. `method` in capitals, "WEBSOCKET" for websockets.
    """

    kind: Literal["http-in", "websocket"]
    method: str
    path: str
    own: bool


def running(nodes: Sequence[Node]) -> list[Node]:
    """Nodes that run: not disabled, not on a disabled tab, not in a subflow of which no instance runs."""
    tabs = {str(node.get("id")) for node in nodes if node.get("type") == "tab" and node.get("disabled") is True}
    subflows = {str(node.get("id")) for node in nodes if node.get("type") == "subflow"}
    placed = [node for node in nodes if node.get("d") is not True and str(node.get("z")) not in tabs]
    used: set[str] = set()
    while True:
        runs = [node for node in placed if str(node.get("z")) not in subflows or str(node.get("z")) in used]
        kinds = [str(node.get("type")) for node in runs]
        found = {kind.removeprefix("subflow:") for kind in kinds if kind.startswith("subflow:")}
        if found <= used:
            return runs
        used |= found


def endpoints(nodes: Sequence[Node], *, node_root: str | None, admin_root: str | None) -> list[Endpoint]:
    """The http-in endpoints and websockets of nodes that run, sorted by path; each once."""
    found = set()
    for node in running(nodes):
        url, path = node.get("url"), node.get("path")
        if node.get("type") == "http in" and isinstance(url, str) and url and node_root is not None:
            method = str(node.get("method") or "get").upper()[:20]
            shown = node_root.rstrip("/") + "/" + url.removeprefix("/")
            found.add(Endpoint("http-in", method, shown, _is_route(shown, node_root, admin_root)))
        elif node.get("type") == "websocket-listener" and isinstance(path, str) and not _CLIENT.match(path):
            # 22-websocket.js of 4.1 and 5.0: root, one slash, path; compared as it is, and "/" without a root
            shown = (node_root or "/").rstrip("/") + "/" + path.removeprefix("/")
            found.add(Endpoint("websocket", "WEBSOCKET", shown, _is_literal(shown, admin_root)))
    return sorted(found, key=lambda one: (one.path, one.method))


def areas(
    nodes: Sequence[Node],
    *,
    node_root: str | None,
    admin_root: str | None,
    settings_path: str | None,
    static: Iterable[str] = (),
) -> Areas:
    """The paths that flows and settings are known to serve; everything else stays the editor's.

    `static` are the paths at which static files are mounted, `settings_path` the ui.path of settings.js. A flow's
    wildcard never widens anything: what is no literal path (with `:name` for a whole segment, not the first) is
    left out, and so is what the editor owns.
    """
    found = endpoints(nodes, node_root=node_root, admin_root=admin_root)
    own = [one for one in found if one.own]
    odd = [one.path for one in found if one.kind == "http-in" and not one.own]
    mounts = sorted({canonical_prefix(mount) for mount in static})
    return Areas(
        dashboards=tuple(
            _dashboards(nodes, node_root=node_root, admin_root=admin_root, settings_path=settings_path)
        ),
        http_in=tuple(sorted({one.path.rstrip("/") for one in own if one.kind == "http-in"})),
        # Node-RED asks the flows before the files: a wildcard that reaches in there must not become static
        static=tuple(
            mount
            for mount in mounts
            if _is_literal(mount, admin_root) and not any(_may_meet(mount, one) for one in odd)
        ),
        websockets=tuple(sorted({one.path for one in own if one.kind == "websocket"})),
    )


def _is_literal(path: str, admin_root: str | None) -> bool:
    """Whether a path stands for itself alone, and is not "/" nor the editor's."""
    inner = path.strip("/")
    return (
        inner != ""
        and len(path) <= MAX_TARGET
        and is_canonical(path)
        and all(_LITERAL.fullmatch(segment) for segment in inner.split("/"))
        and not is_editors(path.rstrip("/"), admin_root)
    )


def _is_route(path: str, node_root: str, admin_root: str | None) -> bool:
    """As _is_literal, with parameters in all segments but the first below the root."""
    root = canonical_prefix(node_root)
    inner = path[len(root) :].strip("/").split("/")
    plain = "/".join(["", *(("x" if _PARAMETER.fullmatch(part) else part) for part in path.strip("/").split("/"))])
    return (
        len(path) <= MAX_TARGET
        and is_canonical(path)
        and _PARAMETER.fullmatch(inner[0]) is None
        and (root == "/" or _is_literal(root, None))
        and _is_literal(plain, admin_root)
    )


def _may_meet(prefix: str, route: str) -> bool:
    """Whether a route may answer at `prefix` or below it: as far as it is literal, in any case, it decides."""
    match = re.match(r"[A-Za-z0-9._~!&',=@%/-]*", route)
    begin = match[0] if match else ""
    rest = route[len(begin) :]
    if rest and not rest.startswith("*"):  # what follows may make the last character optional
        begin = begin[:-1]
    begin, prefix = begin.lower(), prefix.lower()
    return begin == prefix or begin.startswith(prefix + "/") or (rest != "" and prefix.startswith(begin))


def _dashboards(
    nodes: Sequence[Node], *, node_root: str | None, admin_root: str | None, settings_path: str | None
) -> list[str]:
    """Path prefixes of the dashboards: @flowfuse's ui-base nodes (default /dashboard), node-red-dashboard's (/ui).

    The defaults are named even before a dashboard is used, so that the first one works at once; not where an
    http-in endpoint of the flows lives there already: a role for dashboards must not reach it.
    """
    if node_root is None:
        return []
    found = [
        canonical_prefix(node_root, node["path"])
        for node in nodes
        if node.get("type") == "ui-base" and isinstance(node.get("path"), str) and node.get("d") is not True
    ]
    routes = [
        canonical_prefix(node_root, node.get("url"))
        for node in nodes
        if node.get("type") == "http in" and isinstance(node.get("url"), str)
    ]
    old_used = any(str(node.get("type", "")).startswith("ui_") for node in nodes)
    for prefix, used in (
        (canonical_prefix(node_root, settings_path or "ui"), old_used),
        (canonical_prefix(node_root, "dashboard"), False),
    ):
        if used or not any(_may_meet(prefix, one) for one in routes):
            found.append(prefix)
    # A dashboard at "/" would make the whole editor its area.
    root = canonical_prefix(node_root)
    return sorted({prefix for prefix in found if prefix != root and _is_literal(prefix, admin_root)})
