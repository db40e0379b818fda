"""The flows of the Node-RED under test: one of everything that serves somebody."""

from __future__ import annotations

from typing import Any, Final

_TAB: Final = {"id": "tab", "type": "tab", "label": "test", "disabled": False, "info": ""}


def _node(identity: str, kind: str, wires: list[list[str]], **fields: Any) -> dict[str, Any]:
    return {"id": identity, "type": kind, "z": "tab", "name": "", "x": 100, "y": 100, "wires": wires, **fields}


ALL: Final[list[dict[str, Any]]] = [
    _TAB,
    # http-in, GET and POST: says who Node-RED thinks is there
    _node("hello", "http in", [["what"]], url="/hello", method="get", upload=False, swaggerDoc=""),
    _node("hello-post", "http in", [["what"]], url="/hello", method="post", upload=False, swaggerDoc=""),
    _node(
        "what", "function", [["answer"]],
        func="msg.payload = `hello ${msg.req.socket.authorized}`; return msg;",
        outputs=1, timeout=0, noerr=0, initialize="", finalize="", libs=[],
    ),
    _node("answer", "http response", [], statusCode="", headers={}),
    # a websocket node that sends back what it gets
    {"id": "ws-listener", "type": "websocket-listener", "path": "/ws/echo", "wholemsg": "false"},
    _node("ws-in", "websocket in", [["ws-out"]], server="ws-listener", client=""),
    _node("ws-out", "websocket out", [], server="ws-listener", client=""),
    # a dashboard
    {"id": "ui", "type": "ui-base", "name": "UI", "path": "/dashboard", "appIcon": "", "includeClientData": True,
     "acceptsClientConfig": ["ui-notification", "ui-control"], "showPathInSidebar": False,
     "headerContent": "page", "navigationStyle": "default", "titleBarStyle": "default"},
    {"id": "ui-theme", "type": "ui-theme", "name": "T", "colors": {}, "sizes": {}},
    {"id": "ui-page", "type": "ui-page", "name": "P", "ui": "ui", "path": "/page", "layout": "grid",
     "theme": "ui-theme", "breakpoints": [], "order": 1, "className": "", "visible": "true", "disabled": "false"},
    {"id": "ui-group", "type": "ui-group", "name": "G", "page": "ui-page", "width": 6, "height": 1, "order": 1,
     "showTitle": True, "className": "", "visible": "true", "disabled": "false", "groupType": "default"},
    _node("ui-text", "ui-text", [], group="ui-group", order=1, width=0, height=0, label="t",
          format="{{msg.payload}}", layout="row-spread", style=False, className="", value="payload",
          valueType="msg"),
]  # fmt: skip
