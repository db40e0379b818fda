"""A Node-RED behind a gateway that the test plays: plain http, with whatever headers it likes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.clients import SECONDS, Connection, Response, WebSocket, refusals
from tests.support.nodered import NodeRed, Version, write_settings

from redlatch.engines.nodered import publish
from redlatch.settings import Settings

SECRET: Final = "5e" * 32
OTHER: Final = "07" * 32

# Everything that a flow could read a header from, without leaving the request
PRINT: Final = """
const req = msg.req, headers = req.headers;
const util = global.get("util");
msg.payload = {headers, raw: req.rawHeaders, distinct: req.headersDistinct,
               all: util.inspect(req, {depth: 3, showHidden: true, maxArrayLength: null, maxStringLength: null})};
return msg;
"""
FLOWS: Final[list[dict[str, Any]]] = [
    {"id": "home", "type": "tab", "label": "Home"},
    {"id": "asked", "type": "http in", "z": "home", "url": "/look", "method": "get", "wires": [["print"]]},
    {"id": "posted", "type": "http in", "z": "home", "url": "/look", "method": "post", "wires": [["print"]]},
    {"id": "print", "type": "function", "z": "home", "func": PRINT, "outputs": 1, "wires": [["answer"]]},
    {"id": "answer", "type": "http response", "z": "home", "wires": []},
    {"id": "listen", "type": "websocket-listener", "path": "/chat", "wholemsg": "false"},
    {"id": "in", "type": "websocket in", "z": "home", "server": "listen", "client": "", "wires": [["out"]]},
    {"id": "out", "type": "websocket out", "z": "home", "server": "listen", "client": "", "wires": []},
    {"id": "base", "type": "ui-base", "name": "D", "path": "/dashboard"},
    {"id": "theme", "type": "ui-theme", "name": "T", "colors": {}, "sizes": {}},
    {"id": "page", "type": "ui-page", "name": "P", "ui": "base", "path": "/page", "theme": "theme"},
]  # fmt: skip
OWN: Final = 'functionGlobalContext: {util: require("util")}, uiHost: "0.0.0.0", requireHttps: true,'


class Plain(Connection):
    """One connection without TLS, kept alive between requests."""

    def __init__(self, port: int, *_: object, address: str = "127.0.0.1", **__: object) -> None:
        self.port = port
        with refusals():
            self.socket = socket.create_connection((address, port), SECONDS)  # type: ignore[assignment]
        self.buffer = b""


class PlainWebSocket(WebSocket, Plain):
    """A websocket without TLS."""


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def known(user: str | None = None, permission: str | None = None, secret: str = SECRET) -> dict[str, str | None]:
    """The headers that the gateway adds."""
    return {
        "X-Redlatch-Secret": secret,
        "X-Redlatch-Device": user and f"{user}-device",
        "X-Redlatch-User": user,
        "X-Redlatch-Role": user and "role",
        "X-Redlatch-Permission": permission,
    }


@dataclass
class Behind:
    """One running Node-RED, and what is published for it."""

    settings: Settings
    node_red: NodeRed

    def publish(self, **told: Any) -> None:
        publish_behind(self.settings, **told)

    def ask(
        self, method: str, target: str, headers: Mapping[str, str | None] | None = None, body: object = None
    ) -> Response:
        """One request on a connection of its own."""
        with Plain(self.node_red.port) as connection:
            return send(connection, method, target, headers, body)

    def websocket(self, target: str, headers: Mapping[str, str | None]) -> PlainWebSocket:
        return PlainWebSocket(self.node_red.port, target, headers=headers)


def send(
    connection: Connection,
    method: str,
    target: str,
    headers: Mapping[str, str | None] | None = None,
    body: object = None,
) -> Response:
    data = None if body is None else json.dumps(body).encode()
    fields = {"Content-Type": "application/json", **(headers or {})} if data else headers
    return connection.request(method, target, headers=fields, body=data)


def publish_behind(
    settings: Settings, *, secret: str = SECRET, keep_auth: bool = False, keep_host: bool = False
) -> None:
    """What `redlatch gateway up` publishes."""
    publish.publish_behind(settings, digest(secret), keep_auth, keep_host, os.getgid())


def house(root: Path, version: Version, *, body: str = "", **told: Any) -> Iterator[Behind]:
    settings = Settings(root / "home", system=False)
    publish_behind(settings, **told)
    user_dir = root / "node-red"
    write_settings(user_dir, published=settings.published, body=OWN + body, flows=FLOWS, entry="behind.js")
    with NodeRed(version, user_dir) as node_red:
        yield Behind(settings, node_red)
