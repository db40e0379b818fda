"""A user's flows, read with the user's rights: what listens, what calls, which dashboards there are."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import call_as, read_regular
from redlatch.errors import RedlatchError

Node = dict[str, Any]
_MAX_BYTES = 32 << 20


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
    try:
        nodes = json.loads(data)
    except (ValueError, RecursionError):
        return []
    if isinstance(nodes, dict):  # the editor's own export format keeps them under "flows"
        nodes = nodes.get("flows")
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _read_flow_file(user_dir: str, flow_file: str | None, arguments: list[str]) -> bytes:
    base = Path(user_dir)
    candidates = [
        *arguments,
        *([flow_file] if flow_file else []),
        *_project_file(base),
        "flows.json",
        f"flows_{socket.gethostname()}.json",
    ]
    for name in candidates:
        try:
            return read_regular(base / name, _MAX_BYTES)
        except OSError:
            continue
    return b""


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


def dashboards(nodes: list[Node], *, node_root: str | None, settings_path: str | None) -> list[str]:
    """Path prefixes of the dashboards: @flowfuse's ui-base nodes (default /dashboard), node-red-dashboard's (/ui).

    The defaults are named even before a dashboard is used, so that the first one works at once; not where an
    http-in endpoint of the flows lives there already: a role for dashboards must not reach it.
    """
    if node_root is None:
        return []
    found = [
        canonical_prefix(node_root, node["path"])
        for node in nodes
        if node.get("type") == "ui-base" and isinstance(node.get("path"), str)
    ]
    endpoints = [
        canonical_prefix(node_root, node.get("url"))
        for node in nodes
        if node.get("type") == "http in" and isinstance(node.get("url"), str)
    ]
    old_used = any(str(node.get("type", "")).startswith("ui_") for node in nodes)
    for prefix, used in (
        (canonical_prefix(node_root, settings_path or "ui"), old_used),
        (canonical_prefix(node_root, "dashboard"), False),
    ):
        occupied = any(endpoint == prefix or endpoint.startswith(prefix + "/") for endpoint in endpoints)
        if used or not occupied:
            found.append(prefix)
    # A dashboard at "/" would make the whole editor its area.
    return sorted({prefix for prefix in found if prefix != "/" and prefix != canonical_prefix(node_root)})
