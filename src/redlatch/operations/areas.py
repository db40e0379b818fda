"""What Node-RED serves, read from its settings and flows as its own user, and what changed in that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from redlatch.engines.nodered import locate, scan
from redlatch.engines.nodered.flows import read_flows
from redlatch.engines.nodered.inspection import Inspection, inspect_settings
from redlatch.errors import EngineError, RedlatchError
from redlatch.operations.site import Config, Site
from redlatch.policy.model import Areas

_WORDS: Mapping[str, str] = {
    "dashboards": "dashboard",
    "http_in": "http-in",
    "static": "static files at",
    "websockets": "websocket",
}


def look(site: Site, environ: Mapping[str, str]) -> tuple[Inspection, tuple[tuple[str, str], ...]]:
    """The settings as Node-RED loads them now, and the ports that its nodes open besides.

    Errors: NotSetUp, NodeRedNotFound, EngineError when the settings cannot be loaded.
    """
    target = site.target()
    node_red = locate.locate(
        user_dir=Path(target.user_dir), settings_file=Path(target.settings_file), environ=environ
    )
    found = inspect_settings(node_red)
    if not found.ok:
        raise EngineError(
            f"{target.settings_file} cannot be loaded: {found.error}", hint="see that Node-RED starts with it"
        )
    flows = read_flows(node_red, user_dir=found.user_dir, flow_file=found.flow_file) or []
    return found, tuple(scan.own_ports(flows))


def reread(site: Site, config: Config, environ: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """What of the configuration settings and flows have changed since they were read, and that in words.

    Nothing when they cannot be read now: what was known stays, and `redlatch status` says why.
    """
    try:
        found, _ = look(site, environ)
    except RedlatchError:
        return {}, []
    fields: dict[str, Any] = {}
    changes = differences(config.areas, found.areas)
    if found.admin_root != config.admin_root:
        changes.append("editor: " + (f"at {found.admin_root}" if found.admin_root else "switched off"))
        fields["admin_root"] = found.admin_root
    if found.areas != config.areas:
        fields["areas"] = found.areas
    return fields, changes


def differences(before: Areas, after: Areas) -> list[str]:
    """What came and went, a line each."""
    old, new = asdict(before), asdict(after)
    lines = []
    for kind, word in _WORDS.items():
        lines += [f"areas: {word} {path}" for path in new[kind] if path not in old[kind]]
        lines += [f"areas: no {word} {path} any more" for path in old[kind] if path not in new[kind]]
    return lines
