"""The flow file that Node-RED would load."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redlatch.engines.nodered.flows import Endpoint, areas, endpoints, read_flows, running
from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import user_by_uid


@pytest.fixture
def red(tmp_path: Path) -> NodeRed:
    user = user_by_uid(os.geteuid())
    assert user is not None
    return NodeRed(user, tmp_path, tmp_path / "settings.js", True, (), None, None)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def ids(nodes: list[dict[str, Any]] | None) -> list[str] | None:
    return None if nodes is None else [node["id"] for node in nodes]


def test_settings_and_arguments_name_the_file(red: NodeRed) -> None:
    """The command line counts more than settings.js, and that more than the default."""
    for name in ("flows", "mine", "given"):
        put(red.user_dir / f"{name}.json", [{"id": name}])
    assert ids(read_flows(red)) == ["flows"]
    assert ids(read_flows(red, flow_file="mine.json")) == ["mine"]
    assert ids(read_flows(replace(red, argv=("-v", "given.json")), flow_file="mine.json")) == ["given"]


def test_active_project_has_its_own_file(red: NodeRed) -> None:
    """With projects, .config.projects.json names the project and its package.json the file."""
    put(red.user_dir / "flows.json", [{"id": "old"}])
    put(red.user_dir / ".config.projects.json", {"projects": {}, "activeProject": "house"})
    put(red.user_dir / "projects/house/package.json", {"node-red": {"settings": {"flowFile": "house.json"}}})
    put(red.user_dir / "projects/house/house.json", [{"id": "house"}])
    assert ids(read_flows(red)) == ["house"]


@pytest.mark.parametrize("name", ["../elsewhere", "{base}/elsewhere", ".hidden", "a/b"])
def test_project_names_do_not_lead_elsewhere(name: str, red: NodeRed) -> None:
    """A project is a folder of projects/, nothing else."""
    name = name.format(base=red.user_dir)
    put(red.user_dir / "flows.json", [{"id": "old"}])
    put(red.user_dir / ".config.projects.json", {"activeProject": name})
    put(red.user_dir / "projects" / name / "package.json", {"node-red": {"settings": {"flowFile": "f.json"}}})
    put(red.user_dir / "projects" / name / "f.json", [{"id": "led astray"}])
    assert ids(read_flows(red)) == ["old"]


@pytest.mark.parametrize("text", ["", "not json", "[" * 100_000, "7", '{"flows": 3}', "[1, null]"])
def test_flows_that_cannot_be_understood_stop_nothing(text: str, red: NodeRed) -> None:
    """They are Node-RED's problem."""
    (red.user_dir / "flows.json").write_text(text)
    assert not read_flows(red)


def test_no_flows_is_none(red: NodeRed) -> None:
    """A Node-RED that was never used; a FIFO in the file's place is not waited for."""
    assert read_flows(red) is None
    os.mkfifo(red.user_dir / "flows.json")
    assert read_flows(red) is None


def http_in(url: str, **more: Any) -> dict[str, Any]:
    return {"id": url, "type": "http in", "url": url, "method": "get", **more}


def known(url: str, *, node_root: str | None = "/", admin_root: str | None = "/") -> tuple[str, ...]:
    return areas([http_in(url)], node_root=node_root, admin_root=admin_root, settings_path=None).http_in


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/webhook/github", "/webhook/github"),
        ("webhook", "/webhook"),
        ("/hello/", "/hello"),
        ("/light/:room/state", "/light/:room/state"),
        ("/a~b!c&d'e,f=g@h-i_j.k", "/a~b!c&d'e,f=g@h-i_j.k"),
        ("/caf%C3%A9/%20", "/caf%C3%A9/%20"),
    ],
)
def test_literal_endpoints_are_an_area(url: str, expected: str) -> None:
    """With parameters for whole segments."""
    assert known(url) == (expected,)


@pytest.mark.parametrize(
    "url",
    [
        "/", "", "*", "/*", "/a*", "/a/*", "/a?", "/a+", "/a(b)", "/a/(b)?", "/:page", "/:page/x", "/a/:b-:c",
        "/a/:b?", "/a/:b(x|y)", "/a/:b*", "/a/:b+", "/a/12:30", "/a/:", "/a/:é", "/a.:b", "/a$", "/a|b", "/a[bc]",
        "/a\\b", "//a", "/a//b", "/a/../b", "/a/./b", "/a%2fb", "/a%41", "/a b", "/café", "/a;b", "/a#b", "${X}",
        "/flows", "/Flows/x", "/comms", "/nodes/:name", "/red/x", "/dashboard/chart/:id", "/x" * 5000,
    ],
)  # fmt: skip
def test_what_is_not_literal_or_the_editors_is_no_area(url: str) -> None:
    """A flow's wildcard, or an endpoint called /flows, widens nothing."""
    assert known(url) == ()


def test_endpoints_lie_below_the_root_of_nodes() -> None:
    """httpNodeRoot counts, switched off there are none; an editor elsewhere owns what lies there."""
    assert known("/x", node_root="/api") == ("/api/x",)
    assert known("/:x", node_root="/api") == ()
    assert known("/", node_root="/api") == ("/api",)
    assert known("/flows", node_root="/api") == ("/api/flows",)
    assert known("/x", node_root="/a*") == ()
    assert known("/x", node_root=None) == ()
    assert known("/flows", admin_root="/admin") == ("/flows",)
    assert known("/admin/x", admin_root="/admin") == ()
    assert known("/flows", admin_root=None) == ("/flows",)


def test_only_what_runs_counts() -> None:
    """Not a disabled node, tab or subflow, nor a subflow that nothing uses."""
    nodes = [
        {"id": "on", "type": "tab"}, {"id": "off", "type": "tab", "disabled": True},
        {"id": "used", "type": "subflow"}, {"id": "inner", "type": "subflow"}, {"id": "unused", "type": "subflow"},
        {"id": "1", "type": "subflow:used", "z": "on"}, {"id": "2", "type": "subflow:unused", "z": "off"},
        {"id": "3", "type": "subflow:inner", "z": "used"},
        {"id": "4", "type": "subflow:unused", "z": "on", "d": True},
        http_in("/on", z="on"), http_in("/off", z="off"), http_in("/d", z="on", d=True),
        http_in("/used", z="used"), http_in("/inner", z="inner"), http_in("/unused", z="unused"),
    ]  # fmt: skip
    found = areas(nodes, node_root="/", admin_root="/", settings_path=None)
    assert found.http_in == ("/inner", "/on", "/used")
    assert [node["id"] for node in running(nodes) if node["type"] == "subflow:unused"] == []


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/ws/echo", "/", "/ws/echo"), ("ws", "/api", "/api/ws"), ("/ws/", "/", "/ws/"), ("/ws", None, "/ws"),
        ("/comms", "/", None), ("/comms", "/api", "/api/comms"), ("ws://elsewhere/x", "/", None),
        ("WSS://x", "/", None), ("/a b", "/", None), ("", "/", None), ("/a//b", "/", None),
    ],
)  # fmt: skip
def test_websockets_are_named_as_they_are_compared(path: str, root: str | None, expected: str | None) -> None:
    """Root and path with one slash between them, and nothing else changed (22-websocket.js)."""
    node = {"id": "1", "type": "websocket-listener", "path": path}
    found = areas([node], node_root=root, admin_root="/", settings_path=None)
    assert found.websockets == ((expected,) if expected else ())


def test_static_files_at_a_path_of_their_own() -> None:
    """Not at the root, not where the editor lives, not where a flow's wildcard answers first."""

    def mounts(*static: str, nodes: list[dict[str, Any]] | None = None, admin_root: str = "/") -> tuple[str, ...]:
        return areas(nodes or [], node_root="/", admin_root=admin_root, settings_path=None, static=static).static

    assert mounts("/", "/img/", "pictures//of/me") == ("/img", "/pictures/of/me")
    assert mounts("/red", "/a b", "/i*", "/../x") == ()
    assert mounts("/red", admin_root="/admin") == ("/red",)
    assert mounts("/img", "/pub", nodes=[http_in("/pub/*")]) == ("/img",)
    assert mounts("/img", "/pub", nodes=[http_in("/pu?b")]) == ("/img",)
    assert mounts("/img", nodes=[http_in("/*")]) == ()


def test_endpoints_are_all_named_with_their_methods() -> None:
    """Those in no area too: a map shows them."""
    nodes = [http_in("/a"), http_in("/a", id="again"), http_in("/a", method="post"), http_in("/*", method="all")]
    assert endpoints(nodes, node_root="/", admin_root="/") == [
        Endpoint("http-in", "ALL", "/*", own=False),
        Endpoint("http-in", "GET", "/a", own=True),
        Endpoint("http-in", "POST", "/a", own=True),
    ]
