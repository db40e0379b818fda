"""A Node-RED behind the guard, and what a person's browser needs to reach it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Playwright
from tests.browser.chromium import Chromium
from tests.support.clients import request
from tests.support.nodered import NodeRed, Version, write_settings
from tests.support.site import Device, Site
from tests.support.wait import until

from redlatch.pki.bundles import generate_password, pkcs12

COUNT: Final = """
const seen = flow.get("seen") || {};
if (msg.req.params.who) seen[msg.req.params.who] = (seen[msg.req.params.who] || 0) + 1;
flow.set("seen", seen);
msg.payload = seen;
return msg;
"""
# /light/NAME has a side effect with any method: it counts. Each count is shown in the debug sidebar, over /comms.
FLOWS: Final[list[dict[str, Any]]] = [
    {"id": "home", "type": "tab", "label": "Home"},
    {"id": "got", "type": "http in", "z": "home", "url": "/light/:who", "method": "get", "wires": [["count"]]},
    {"id": "posted", "type": "http in", "z": "home", "url": "/light/:who", "method": "post", "wires": [["count"]]},
    {"id": "asked", "type": "http in", "z": "home", "url": "/lights", "method": "get", "wires": [["count"]]},
    {"id": "looked", "type": "http in", "z": "home", "url": "/page", "method": "get", "wires": [["page"]]},
    {
        "id": "page",
        "type": "template",
        "z": "home",
        "template": "<!doctype html><body></body>",
        "wires": [["answer"]],
    },
    {"id": "count", "type": "function", "z": "home", "func": COUNT, "outputs": 1, "wires": [["answer", "shout"]]},
    {"id": "answer", "type": "http response", "z": "home"},
    {"id": "base", "type": "ui-base", "name": "House", "path": "/dashboard"},
    {"id": "theme", "type": "ui-theme", "name": "Theme", "colors": {}, "sizes": {}},
    {
        "id": "page1", "type": "ui-page", "name": "Page", "ui": "base", "path": "/page", "layout": "grid",
        "theme": "theme", "order": 1, "visible": "true", "disabled": "false",
    },
    {
        "id": "group", "type": "ui-group", "name": "Lights", "page": "page1", "order": 1, "width": "6",
        "height": "1", "showTitle": True, "visible": "true", "disabled": "false", "groupType": "default",
    },
    {
        "id": "text", "type": "ui-text", "z": "home", "group": "group", "order": 1, "width": 0, "height": 0,
        "label": "Switched", "format": "{{msg.payload}}", "layout": "row-spread",
    },
    {"id": "shout", "type": "debug", "z": "home", "active": True, "complete": "payload"},
]  # fmt: skip


@dataclass(frozen=True)
class House:
    """`url` is the origin that a person's bookmark holds."""

    site: Site
    node_red: NodeRed
    laptop: Device

    @property
    def url(self) -> str:
        return f"https://pi.local:{self.node_red.port}"

    def browser(
        self, playwright: Playwright, folder: Path, device: Device | None, *, modern: bool = False, **where: Any
    ) -> Chromium:
        """A browser that trusts this site's root and holds `device`'s .p12; `where` as Chromium takes it."""
        p12 = None if device is None else self.p12(device, modern=modern)
        return Chromium(playwright, folder, p12=p12, root=self.site.server_ca_file.read_bytes(), **where)

    def p12(self, device: Device, *, modern: bool = False) -> tuple[bytes, str]:
        """The file that the device's person gets, and its password."""
        password = generate_password()
        ca = [self.site.server_ca.certificate]
        return pkcs12(device.key, device.certificate, ca, device.name, password, modern=modern), password

    def counted(self) -> dict[str, int]:
        """How often each light was switched, as the flow knows it."""
        seen: dict[str, int] = request(self.node_red.port, "GET", "/lights", self.laptop).json()
        return seen

    def switch(self, light: str) -> None:
        """The owner's laptop switches a light."""
        assert request(self.node_red.port, "POST", f"/light/{light}", self.laptop, body=b"").status == 200

    def refusals(self, device: Device, reason: str) -> int:
        """How often the guard says that it refused `device` for `reason`; its lines come up to a second later."""
        log = self.site.spool / "access.jsonl"
        lines = map(json.loads, log.read_text().splitlines() if log.exists() else [])
        return sum(line["count"] for line in lines if (line["device"], line["reason"]) == (device.id, reason))

    @contextmanager
    def changed(self, **fields: Any) -> Iterator[None]:
        """Inside it the site is published with these fields, and the guard has taken them up."""
        before = {name: getattr(self.site.snapshot, name) for name in fields}
        self.site.change(**fields)
        self.settled()
        try:
            yield
        finally:
            self.site.change(**before)
            self.settled()

    def settled(self) -> None:
        """Waits until the guard says that the newest snapshot is in force."""
        claim = self.site.spool / "in-force.json"

        def newest() -> bool:
            return claim.exists() and json.loads(claim.read_text())["version"] == self.site.snapshot.version

        until(newest, what="the newest snapshot")


def house(
    root: Path,
    version: Version,
    *,
    env: Mapping[str, str] | None = None,
    body: str = "",
    inside: Sequence[str] = (),
    **snapshot: Any,
) -> Iterator[House]:
    """A locked Node-RED. `body` is more of its settings.js, `inside` the command that its own is put behind."""
    site = Site(root, **snapshot)
    laptop = site.device("laptop", "owner")
    write_settings(root / "node-red", published=site.published, flows=FLOWS, body=body)
    with NodeRed(version, root / "node-red", env=env, inside=inside) as node_red:
        yield House(site, node_red, laptop)
