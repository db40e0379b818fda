"""The sidebar's list in a published folder that was made without the rest of redlatch."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from tests.support.site import Device, Site

DAY = 86400


def row(device: Device, role: str, **fields: Any) -> dict[str, Any]:
    """One device as sidebar.json names it."""
    end = device.entry.not_after
    made = {"id": device.id, "name": device.name, "role": role, "base": role, "owner": None, "not_after": end}
    return made | fields


def made_up(number: int, **fields: Any) -> dict[str, Any]:
    """One that nobody holds."""
    made = {"id": f"id-{number}", "name": f"sensor {number:04}", "role": "thing", "base": "thing", "owner": None}
    return made | {"not_after": int(time.time()) + 300 * DAY} | fields


def put(site: Site, devices: Sequence[dict[str, Any]], **fields: Any) -> None:
    """Publishes the list; `fields` of it may be others."""
    found = {
        "format": 1,
        "version": site.snapshot.version,
        "site": site.snapshot.site,
        "total": len(devices),
        "console": {"port": 1881, "listen": ["loopback"]},
        "devices": list(devices),
        "ending": [],
        **fields,
    }
    site.put("sidebar.json", json.dumps(found).encode() + b"\n")
