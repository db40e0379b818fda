"""What will break or stay outside when this Node-RED is locked: each with its remedy. Pure; flows
are handed in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redlatch.engines.nodered.flows import Node, canonical_prefix, running
from redlatch.engines.nodered.inspection import Inspection

_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know before the lock closes.

    `severity`: "breaks" stops working, "changes" works differently, "outside" is not protected by it, "note".
    `nodes` are node ids of the flows, for the editor's search.
    """

    code: str
    severity: Literal["breaks", "changes", "outside", "note"]
    text: str
    remedy: str
    nodes: tuple[str, ...] = ()


def what_will_break(
    inspection: Inspection, flows: Sequence[Node] | None, *, names: Sequence[str] = ()
) -> list[Finding]:
    """Findings from settings.js and flows; `names` are further host names and addresses of this machine."""
    found = [*_settings(inspection)]
    if flows is None:
        return found
    active = running(flows)
    found += [
        *_calls(inspection, active, names),
        *_endpoints(inspection, active),
        *_dashboards(inspection, active),
    ]
    found += [*_outside(active), *_links(active, inspection)]
    return found


def _text(value: Any, most: int = 120) -> str:
    return "".join(c if c.isprintable() else " " for c in str(value)[:most])


def _list(items: Sequence[str]) -> str:
    shown = [*dict.fromkeys(items)]
    more = f" and {len(shown) - _MOST_NAMES} more" if len(shown) > _MOST_NAMES else ""
    return ", ".join(shown[:_MOST_NAMES]) + more


def _label(node: Node) -> str:
    return f"“{_text(node.get('name') or node.get('url') or node.get('id'), 60)}”"


def _ids(nodes: Sequence[Node]) -> tuple[str, ...]:
    return tuple(_text(node.get("id"), 40) for node in nodes)


def _settings(inspection: Inspection) -> Iterator[Finding]:
    if inspection.https != "none":
        yield Finding(
            "own-https",
            "changes",
            f"settings.js has {inspection.https_summary}",
            "redlatch takes its place while it is locked; --server-cert and --server-key keep your certificate",
        )
    else:
        yield Finding(
            "http-becomes-https",
            "changes",
            f"the address changes from http:// to https:// (port {inspection.port} stays)",
            "update bookmarks; http:// from your own network is led to https://",
        )
    if inspection.admin_auth != "none":
        yield Finding(
            "admin-auth",
            "changes",
            f"settings.js has an adminAuth of your own ({inspection.admin_auth})",
            "the certificate logs in instead of it; with --keep-auth yours stays and is asked in addition",
        )
    if inspection.node_auth:
        yield Finding(
            "node-auth",
            "note",
            "httpNodeAuth stays: endpoints and dashboards ask for its password after the certificate",
            "take httpNodeAuth out of settings.js if the certificate is enough",
        )
    if inspection.static_auth:
        yield Finding(
            "static-auth",
            "note",
            "httpStaticAuth stays: static files ask for its password after the certificate",
            "take httpStaticAuth out of settings.js if the certificate is enough",
        )
    if inspection.middleware:
        yield Finding(
            "middleware",
            "note",
            f"{', '.join(inspection.middleware)} of your own run after redlatch's decision",
            "an address list there is not needed any more; it never covered websockets",
        )
    if inspection.ui_host in ("127.0.0.1", "::1", "localhost"):
        yield Finding(
            "ui-host",
            "note",
            f"Node-RED listens on {inspection.ui_host} only, so no other device reaches it",
            "take uiHost out of settings.js to let devices in; a reverse proxy in front cannot pass "
            "their certificates on",
        )
    if inspection.trust_proxy:
        yield Finding(
            "trust-proxy",
            "breaks",
            "httpServerOptions trusts a proxy: behind one, Node-RED sees no device's certificate",
            "let devices reach Node-RED directly (or pass TCP through), or use a gateway",
        )
    if inspection.static:
        yield Finding(
            "static",
            "changes",
            f"static files ({_list([root for _, root in inspection.static])}) need a certificate as well",
            "nothing to do for browsers with a certificate",
        )
    if inspection.disable_editor:
        yield Finding("no-editor", "note", "the editor is switched off in settings.js", "nothing to do")
    if not inspection.credential_secret and inspection.ok:
        yield Finding(
            "credential-secret",
            "note",
            "no credentialSecret is set: Node-RED keeps the key beside the credentials",
            "set credentialSecret in settings.js, and back it up",
        )


_LOCAL = r"localhost|127(?:\.\d{1,3}){3}|\[?::1\]?|0\.0\.0\.0|\[::\]"


def _calls(inspection: Inspection, flows: Sequence[Node], names: Sequence[str]) -> Iterator[Finding]:
    """Nodes (http request, websocket) that talk to this very Node-RED."""
    hosts = "|".join([_LOCAL, *(re.escape(name) for name in names if name)])
    default = rf"(?::{inspection.port})" + ("?" if inspection.port in (80, 443) else "")
    here = re.compile(rf"\s*(https?|wss?)://(?:[^/@\s]*@)?(?:{hosts}){default}(?:[/?#]|\s*$)", re.IGNORECASE)
    callers = [
        node
        for node in flows
        if node.get("type") in ("http request", "websocket-client")
        and here.match(str(node.get("url") or node.get("path") or ""))
    ]
    if callers:
        yield Finding(
            "calls-itself",
            "breaks",
            f"{len(callers)} node(s) call this Node-RED over the network: {_list([_label(n) for n in callers])}",
            "replace them with link nodes, or give the node a TLS configuration with a certificate: "
            "redlatch device add flows --format pem --out DIR, and https:// in its URL",
            _ids(callers),
        )
    code = re.compile(rf"(https?|wss?)://(?:{hosts}){default}(?=[/?#\"'`\s]|$)", re.IGNORECASE)
    inside = [
        n
        for n in flows
        if n.get("type") in ("function", "exec", "template", "ui_template", "ui-template", "change")
        and code.search(
            str(n.get("func") or "")
            + str(n.get("command") or "")
            + str(n.get("append") or "")
            + str(n.get("template") or "")
            + str(n.get("format") or "")
            + str(n.get("rules") or "")
        )
    ]
    if inside:
        yield Finding(
            "code-calls-itself",
            "breaks",
            f"{len(inside)} node(s) have this Node-RED's address in their code: "
            f"{_list([_label(n) for n in inside])}",
            "use a path without host (in pages), link nodes, or https:// with a certificate",
            _ids(inside),
        )


def _endpoints(inspection: Inspection, flows: Sequence[Node]) -> Iterator[Finding]:
    inputs = [node for node in flows if node.get("type") == "http in" and isinstance(node.get("url"), str)]
    if inputs and inspection.node_root is not None:
        writes = [n for n in inputs if str(n.get("method", "get")).lower() != "get"]
        shown = [
            _text(n.get("method", "get"), 8).upper()
            + " "
            + canonical_prefix(inspection.node_root, _text(n["url"], 60))
            for n in inputs
        ]
        yield Finding(
            "http-in",
            "breaks" if writes else "changes",
            f"{len(inputs)} http-in endpoint(s) need a certificate from whatever calls them: {_list(shown)}",
            "give each caller a certificate (redlatch device add NAME --role thing --format pem) and a rule "
            "(redlatch rule add --role thing --area http-in); for webhooks that cannot have one: redlatch rule "
            "add --anyone --path PATH --method POST",
            _ids(inputs),
        )
    sockets = [n for n in flows if n.get("type") == "websocket-listener"]
    if sockets:
        paths = _list([_text(n.get("path"), 60) for n in sockets])
        yield Finding(
            "websocket",
            "changes",
            f"{len(sockets)} websocket endpoint(s) need a certificate: {paths}",
            "give each client a certificate; a page loaded with one connects by itself with wss://",
            _ids(sockets),
        )


def _dashboards(inspection: Inspection, flows: Sequence[Node]) -> Iterator[Finding]:
    if any(n.get("type") == "ui-base" or str(n.get("type", "")).startswith("ui_") for n in flows):
        yield Finding(
            "dashboard",
            "changes",
            f"the dashboard ({_list(inspection.areas.dashboards)}) needs a certificate on every phone and tablet",
            "redlatch device add NAME --role user gives one that opens dashboards and nothing else",
        )


_LISTENERS: dict[str, Callable[[Node], bool]] = {
    "tcp in": lambda n: n.get("server") == "server",
    "tcp out": lambda n: n.get("beserver") == "server",
    "udp in": lambda n: True,
    "aedes broker": lambda n: True,
    "mosca in": lambda n: True,
    "ftp-server": lambda n: True,
    "modbus-server": lambda n: True,
    "modbus-flex-server": lambda n: True,
    "amazon-echo-hub": lambda n: True,
    "alexa-home-controller": lambda n: True,
    "homekit-bridge": lambda n: True,
    "opcua-server": lambda n: True,
    "OpcUa-Server": lambda n: True,
}


def own_ports(flows: Sequence[Node]) -> list[tuple[str, str]]:
    """(kind of node, port or "") of every node that runs and opens a port of its own, in words."""
    return [_port(node) for node in _listening(running(flows))]


def _listening(flows: Sequence[Node]) -> list[Node]:
    return [n for n in flows if (test := _LISTENERS.get(str(n.get("type")))) and test(n)]


def _port(node: Node) -> tuple[str, str]:
    return _text(node.get("type"), 30), _text(node.get("port") or node.get("mqtt_port") or "", 8)


def _outside(flows: Sequence[Node]) -> Iterator[Finding]:
    listening = _listening(flows)
    if listening:
        shown = [" ".join(_port(n)).strip() for n in listening]
        yield Finding(
            "own-ports",
            "outside",
            f"{len(listening)} node(s) open ports of their own, which the lock does not cover: {_list(shown)}",
            "close them in the firewall (ufw, nftables) for everybody who need not reach them, or "
            "set their own passwords",
            _ids(listening),
        )


def _links(flows: Sequence[Node], inspection: Inspection) -> Iterator[Finding]:
    brokers = [n for n in flows if n.get("type") == "mqtt-broker"]
    if brokers:
        yield Finding(
            "mqtt",
            "outside",
            f"MQTT ({_list([_text(n.get('broker'), 60) for n in brokers])}) goes on as before, past the lock",
            "who may write to that broker may steer your flows: give it passwords",
            _ids(brokers),
        )
    if inspection.projects:
        yield Finding(
            "projects", "note", "projects stay as they are; git uses the device owner's name", "nothing to do"
        )
