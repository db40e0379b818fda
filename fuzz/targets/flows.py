"""Flow files: no flow widens an area, and what is told about flows is text that can be shown.

Input: three lines: the editor's root, the flows' root, the dashboard's path; then the file (JSON).
"""

from __future__ import annotations

import json

from fuzz.harness import lines
from redlatch.engines.nodered.flows import areas, endpoints
from redlatch.engines.nodered.flows import parse as nodes_of
from redlatch.engines.nodered.inspection import Inspection
from redlatch.engines.nodered.scan import what_will_break
from redlatch.policy.model import Area
from redlatch.policy.paths import classify, is_canonical, is_editors

_PARAMETER = ":"


def TestOneInput(data: bytes) -> None:
    admin, node, dashboard, rest = lines(data, 4)
    admin_root, node_root = (one if is_canonical(one) else None for one in (admin, node))
    nodes = nodes_of(rest.encode("utf-8", "surrogateescape"))
    found = areas(
        nodes,
        node_root=node_root,
        admin_root=admin_root,
        settings_path=dashboard or None,
        static=["/files", dashboard],
    )
    for path in (*found.dashboards, *found.static, *found.websockets):
        assert is_canonical(path), path
        assert path != "/", path
        assert not is_editors(path, admin_root), path
        assert _PARAMETER not in path, path
    for path in found.http_in:
        assert is_canonical(path), path
        assert not is_editors(path.replace(":", "x"), admin_root), path
    for own in ("/flows", "/", "/settings", "/comms", "/inject/x", "/red/x.js"):
        target = own if admin_root in (None, "/") else str(admin_root).rstrip("/") + own
        if admin_root is not None:
            kind = classify(target, websocket=False, admin_root=admin_root, areas=found)
            assert kind in (Area.EDITOR, Area.EDITOR_READ), (target, kind)
    for one in endpoints(nodes, node_root=node_root, admin_root=admin_root):
        assert not one.own or is_canonical(one.path), one
    for finding in what_will_break(
        Inspection(True, admin_root=admin_root, node_root=node_root), nodes, names=["pi"]
    ):
        assert finding.text.isprintable(), finding
        assert finding.remedy.isprintable(), finding
        assert all(one.isprintable() for one in finding.nodes), finding
        json.dumps(finding.text).encode()
