"""What will break when the lock closes: each finding once where it is true, and not where it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from redlatch.engines.nodered.flows import areas
from redlatch.engines.nodered.inspection import Https, Inspection
from redlatch.engines.nodered.scan import Finding, what_will_break

PLAIN = Inspection(ok=True, credential_secret=True)


def codes(inspection: Inspection, *flows: dict[str, Any]) -> list[str]:
    return [one.code for one in what_will_break(inspection, flows, names=("pi.local", "192.168.1.5"))]


def node(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"id-{kind}", "type": kind, "z": "tab", **fields}


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("own-https", {"https": "object", "https_block": Https(kind="object", client_ca=True)}),
        ("admin-auth", {"admin_auth": "credentials"}),
        ("node-auth", {"node_auth": True}),
        ("static-auth", {"static_auth": True}),
        ("middleware", {"middleware": ("httpAdminMiddleware",)}),
        ("ui-host", {"ui_host": "127.0.0.1"}),
        ("trust-proxy", {"trust_proxy": True}),
        ("static", {"static": (("/home/pi/pictures", "/pictures"),)}),
        ("no-editor", {"disable_editor": True}),
        ("credential-secret", {"credential_secret": False}),
        ("projects", {"projects": True}),
    ],
)
def test_settings_that_matter_are_listed(code: str, change: dict[str, Any]) -> None:
    """Each setting has its finding, and a settings.js without it has not."""
    assert code in codes(replace(PLAIN, **change))
    assert code not in codes(PLAIN)


LISTED = [
    ("calls-itself", node("http request", url="http://localhost:1880/light")),
    ("calls-itself", node("http request", url="HTTP://127.0.0.1:1880")),
    ("calls-itself", node("http request", url="https://user:pw@pi.local:1880/x?y")),
    ("calls-itself", node("http request", url="http://192.168.1.5:1880/x")),
    ("calls-itself", node("http request", url="http://[::1]:1880/x")),
    ("calls-itself", node("websocket-client", path="ws://localhost:1880/ws/x")),
    ("code-calls-itself", node("function", func="return fetch('http://localhost:1880/x')")),
    ("code-calls-itself", node("exec", command="curl http://127.0.0.1:1880/light/on")),
    ("http-in", node("http in", url="/hook", method="post")),
    ("websocket", node("websocket-listener", path="/ws/x")),
    ("dashboard", node("ui-base", path="/dashboard")),
    ("dashboard", node("ui_tab")),
    ("own-ports", node("tcp in", server="server", port="9000")),
    ("own-ports", node("tcp out", beserver="server", port="9000")),
    ("own-ports", node("udp in", port="5000")),
    ("own-ports", node("aedes broker", mqtt_port="1883")),
    ("mqtt", node("mqtt-broker", broker="localhost")),
]
UNLISTED = [
    ("calls-itself", node("http request", url="http://localhost:8080/x")),
    ("calls-itself", node("http request", url="http://localhost:18800/x")),
    ("calls-itself", node("http request", url="https://example.org/?u=http://localhost:1880/")),
    ("calls-itself", node("http request", url="")),
    ("calls-itself", node("http request", url=7)),
    ("code-calls-itself", node("function", func="// localhost is nice")),
    ("http-in", node("http in")),
    ("own-ports", node("tcp in", server="client", port="9000")),
    ("dashboard", node("inject")),
]


@pytest.mark.parametrize(("code", "one"), LISTED)
def test_nodes_that_matter_are_listed(code: str, one: dict[str, Any]) -> None:
    """Each with a remedy; not when it is disabled, or its tab is."""
    assert code in codes(PLAIN, one)
    assert code not in codes(PLAIN, {**one, "d": True})
    assert code not in codes(PLAIN, {"id": "tab", "type": "tab", "disabled": True}, one)
    assert code not in codes(PLAIN)


@pytest.mark.parametrize(("code", "one"), UNLISTED)
def test_nodes_that_do_not_matter_are_not_listed(code: str, one: dict[str, Any]) -> None:
    """Other ports and hosts, clients, odd values."""
    assert code not in codes(PLAIN, one)


def test_every_finding_says_what_and_what_to_do() -> None:
    """Text and remedy are there, and what a flow's author named cannot break a line or a terminal."""
    flows = [{**one, "name": "evil\x1b[2J\n\u202ename"} for _, one in LISTED]
    found = what_will_break(replace(PLAIN, https="object", node_root="/api"), flows)
    assert len(found) > 5
    for one in found:
        assert isinstance(one, Finding)
        assert one.remedy
        assert one.text.isprintable()


def test_writing_endpoints_break_and_reading_ones_change() -> None:
    """A sensor that posts stops; a page that is read needs a certificate."""
    post = what_will_break(PLAIN, [node("http in", url="/a", method="post")])
    get = what_will_break(PLAIN, [node("http in", url="/a", method="get")])
    assert [f.severity for f in post if f.code == "http-in"] == ["breaks"]
    assert [f.severity for f in get if f.code == "http-in"] == ["changes"]


@pytest.mark.parametrize(
    ("flows", "root", "setting", "expected"),
    [
        ([], "/", None, ["/dashboard", "/ui"]),
        ([], None, None, []),
        ([], "/api/", "panel/", ["/api/dashboard", "/api/panel"]),
        ([node("ui-base", path="//home//")], "/", None, ["/dashboard", "/home", "/ui"]),
        ([node("ui-base", path="/")], "/", None, ["/dashboard", "/ui"]),
        ([node("ui-base", path="")], "/api", None, ["/api/dashboard", "/api/ui"]),
        ([node("ui-base", path=3)], "/", None, ["/dashboard", "/ui"]),
        ([node("http in", url="/ui/secret")], "/", None, ["/dashboard"]),
        ([node("http in", url="/ui/secret"), node("ui_tab")], "/", None, ["/dashboard", "/ui"]),
        ([node("http in", url="/uix")], "/", None, ["/dashboard", "/ui"]),
        ([node("http in", url="/UI")], "/", None, ["/dashboard"]),
        ([node("http in", url="/ui?/x")], "/", None, ["/dashboard"]),
        ([node("http in", url="/d*")], "/", None, ["/ui"]),
        ([node("http in", url="/:page")], "/", None, []),
        ([node("http in", url="/")], "/", None, ["/dashboard", "/ui"]),
        ([node("ui-base", path="/flows"), node("ui-base", path="/a*")], "/", None, ["/dashboard", "/ui"]),
    ],
)
def test_dashboard_prefixes(
    flows: list[dict[str, Any]], root: str | None, setting: str | None, expected: list[str]
) -> None:
    """Canonical, below httpNodeRoot, never the root itself, never an endpoint of the flows' own."""
    found = areas(flows, node_root=root, admin_root="/", settings_path=setting)
    assert list(found.dashboards) == expected
