"""The routes that real Node-REDs have for their editor: nothing but the editor ever has them."""

from __future__ import annotations

import http.client
import json
import re
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.support.nodered import VERSIONS, NodeRed, Version, write_settings

from redlatch.engines.nodered.flows import areas
from redlatch.policy.decide import decide
from redlatch.policy.model import Area, Areas, Facts, Rule, Snapshot
from redlatch.policy.paths import classify, is_editors

# Express keeps no path of a mount: what is mounted where is noted as it happens, before Node-RED makes its apps.
_HOOK = """
  httpNodeRoot: "/node",
  httpAdminMiddleware: (() => {
    const mounts = new Map();
    // each of Node-RED's packages has an Express of its own, all loaded before settings.js
    for (const { exports } of Object.values(require.cache)) {
      const application = exports && exports.application;
      if (!application || !application.lazyrouter) continue;
      const { use } = application;
      application.use = function (path, ...handlers) {
        const [at, all] = typeof path === "function" ? ["", [path, ...handlers]] : [path, handlers];
        if (!mounts.has(this)) mounts.set(this, []);
        for (const handler of all.flat(9)) mounts.get(this).push([at, handler]);
        return use.apply(this, arguments);
      };
    }
    const walk = (app, base, found) => {
      const stack = app.stack || (app._router || { stack: [] }).stack;
      for (const { route } of stack) {
        for (const path of route ? [].concat(route.path) : []) {
          for (const method of Object.keys(route.methods)) found.push([method, base + path]);
        }
      }
      for (const [at, handler] of mounts.get(app) || []) {
        if (handler.handle || handler.stack) walk(handler, base + at, found);
        else if (at) found.push(["use", base + at]);
      }
      return found;
    };
    return (req, res, next) => {
      let app = req.app;
      while (app.parent && app.parent.parent) app = app.parent;
      require("fs").writeFileSync(__dirname + "/routes.json", JSON.stringify(walk(app, "", [])));
      next();
    };
  })(),
"""
_DASHBOARD = [
    {"id": "tab", "type": "tab"},
    {"id": "base", "type": "ui-base", "name": "Dashboard", "path": "/dashboard"},
    {"id": "inject", "type": "inject", "z": "tab", "wires": [[]]},
]


@pytest.fixture(scope="module", params=VERSIONS)
def routes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """(method, path) of all that Express answers for the editor, its nodes and plugins; "use" for mounts."""
    version: Version = request.param
    user_dir = tmp_path_factory.mktemp("routes") / "user"
    write_settings(user_dir, body=_HOOK, flows=_DASHBOARD)
    with NodeRed(version, user_dir) as node_red:
        urllib.request.urlopen(f"http://127.0.0.1:{node_red.port}/settings", timeout=10).read()
        found = json.loads((user_dir / "routes.json").read_text())
    return sorted({(method, path) for method, path in found})


def _example(route: str) -> str:
    """A path that the route answers; for a regular expression one below the folder it begins with."""
    if match := re.match(r"/\^\\/(\w+)", route):
        return f"/{match[1]}/x/y"
    return re.sub(r":\w+(\([^)]*\))?|\*", "x", route).replace("?", "")


def test_the_routes_that_matter_were_seen(routes: list[tuple[str, str]]) -> None:
    """Deploying, injecting, installing; what the dashboard adds to the editor's; and no few of them."""
    wanted = {
        ("post", "/flows"), ("post", "/inject/:id"), ("post", "/nodes"), ("get", "/debug/view/*"),
        ("post", "/dashboard/chart/:id/clear"), ("patch", "/dashboard/api/v1/:dashboardId/flows"),
    }  # fmt: skip
    assert wanted <= set(routes)
    assert len(routes) > 80


def test_nothing_takes_the_editors_routes_over(routes: list[tuple[str, str]]) -> None:
    """Whatever flows, settings and operators claim: each is the editor's, and other areas' rules admit nobody."""
    taken = []
    for method, route in routes:
        path = _example(route)
        claims = tuple({f"/{path.split('/')[1]}", path.rstrip("/") or "/", "/dashboard", "/dashboard/api"})
        areas = Areas(dashboards=claims, http_in=(*claims, "/:a", "/:a/:b"), static=claims, websockets=claims)
        kinds = {classify(path, websocket=websocket, admin_root="/", areas=areas) for websocket in (False, True)}
        if not is_editors(path, "/") or not kinds <= {Area.EDITOR, Area.EDITOR_READ}:
            taken.append((method, route, kinds))
        rules = [
            *(Rule(number, anyone=True, path=claim) for number, claim in enumerate(claims)),
            *(Rule(9, anyone=True, area=area) for area in ("dashboards", "http-in", "static", "websockets")),
        ]
        snapshot = Snapshot(
            site="", version=1, time=0, mode="strict", port=None, keep_auth=False, names=("pi",), admin_root="/",
            spool="", devices={}, areas=areas, rules=tuple(rules),
        )  # fmt: skip
        asks = "GET" if method == "use" else method.upper()
        if decide(Facts(method=asks, target=path, host="pi"), snapshot).allow:
            taken.append((method, route, "admitted"))
    assert taken == []


def test_flows_cannot_name_them_an_area(routes: list[tuple[str, str]]) -> None:
    """An http-in endpoint, websocket, dashboard or static folder at such a path is in no area."""
    for _, route in routes:
        path = _example(route)
        nodes: list[dict[str, Any]] = [
            {"type": "http in", "url": path}, {"type": "websocket-listener", "path": path},
            {"type": "ui-base", "path": path},
        ]  # fmt: skip
        found = areas(nodes, node_root="/", admin_root="/", settings_path=None, static=[path])
        assert path.rstrip("/") not in {*found.dashboards, *found.http_in, *found.static, *found.websockets}, route


_LITERAL = ("/hello", "/a~b!c&d'e,f=g@h-i_j.k", "/caf%C3%A9/%20x", "/light/:room/on", "/with/slash/")
_ODD = ("/f*", "/g?h", "/i+j", "/k/:l-:m", "/n(o|p)", "/q/:r(\\d+)", "/:any/only")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_area_is_what_the_endpoints_answer(version: Version, tmp_path: Path) -> None:
    """A real Express answers the literal ones at their own path; others answer elsewhere too, and are left out."""
    flows: list[dict[str, Any]] = [{"id": "t", "type": "tab"}]
    for number, url in enumerate((*_LITERAL, *_ODD)):
        flows += [
            {"id": f"i{number}", "z": "t", "type": "http in", "url": url, "method": "get",
             "wires": [[f"f{number}"]]},
            {"id": f"f{number}", "z": "t", "type": "function", "outputs": 1, "wires": [[f"o{number}"]],
             "func": f"msg.payload = {json.dumps(url)};\nreturn msg;"},
            {"id": f"o{number}", "z": "t", "type": "http response"},
        ]  # fmt: skip
    flows.append({"id": "ws", "type": "websocket-listener", "path": "ws/", "wholemsg": "false"})
    found = areas(flows, node_root="/", admin_root="/", settings_path=None)
    assert found.http_in == tuple(sorted(url.rstrip("/") for url in _LITERAL))
    user_dir = tmp_path / "user"
    write_settings(user_dir, flows=flows)
    with NodeRed(version, user_dir) as node_red:

        def get(path: str, **headers: str) -> tuple[int, str]:
            connection = http.client.HTTPConnection("127.0.0.1", node_red.port, timeout=10)
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode() if answer.status != 101 else ""

        for url in _LITERAL:
            assert get(url.replace(":room", "kitchen")) == (200, url)
        for path, url in (
            ("/fxyz", "/f*"), ("/h", "/g?h"), ("/iij", "/i+j"), ("/k/a-b", "/k/:l-:m"), ("/np", "/n(o|p)"),
            ("/q/7", "/q/:r(\\d+)"), ("/whatever/only", "/:any/only"),
        ):  # fmt: skip
            assert get(path) == (200, url)
            assert classify(path, websocket=False, admin_root="/", areas=found) == Area.EDITOR
        upgrade = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        }  # fmt: skip
        assert found.websockets == ("/ws/",)
        assert get("/ws/", **upgrade)[0] == 101
