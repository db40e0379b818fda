"""What the sidebar in Node-RED's editor lists: sidebar.json, beside the snapshot and after it.

Only names for people to read; nothing is decided by it. It is made anew with every change, so it holds a bounded
number of devices, found along indexes: 5 ms with 100,000 devices, 3 with 1,000. The console has all of them.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from redlatch.engines.nodered import publish
from redlatch.operations.site import Config, Site

if TYPE_CHECKING:
    from datetime import datetime

    from redlatch.store import Reader
    from redlatch.store.records import SidebarRow

BY_NAME = 500
BY_END = 50
#: The editor shows what ends within 30 days; the list may be that old before it is made again.
AHEAD = timedelta(days=60)


def content(view: Reader, now: datetime) -> bytes:
    """sidebar.json as plugin/sidebar.js reads it; `version` is the site's revision, as in the snapshot's head."""
    row = view.site()
    service = Config.of(row.config).service
    roles = view.roles()
    listed = view.sidebar_devices(BY_NAME)
    known = {one.id for one in listed}
    ending = [one for one in view.sidebar_ending(now, now + AHEAD, BY_END) if one.id not in known]
    found = {
        "format": 1,
        "version": row.revision,
        "site": row.uuid,
        "total": view.devices_in_use(),
        "console": {"port": service.console_port, "listen": service.console},
        "devices": [_device(one, roles) for one in listed],
        "ending": [_device(one, roles) for one in ending],
    }
    return json.dumps(found, separators=(",", ":")).encode("ascii") + b"\n"


def _device(one: SidebarRow, roles: dict[str, str]) -> dict[str, Any]:
    base = roles.get(one.role, one.role)
    return {
        "id": one.id, "name": one.name, "role": one.role, "base": base, "owner": one.owner,
        "not_after": one.not_after,
    }  # fmt: skip


def write(site: Site, group: int) -> bool:
    """Publishes the list; False when it was the same already. To be called within `exclusive`. FileProblem."""
    with site.store.read() as view:
        data = content(view, site.clock())
    return publish.publish_sidebar(site.settings, data, group)
