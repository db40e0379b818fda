"""What the sidebar is told by a real Node-RED: by the certificate behind the connection, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.sso.test_single_sign_on import OWN_AUTH
from tests.support import sidebar
from tests.support.clients import Connection, Refused, Response, WebSocket, request
from tests.support.site import Device
from tests.support.wait import until

STATE = "/redlatch/state"


def ask(lock: Lock, device: Device | None, target: str = STATE, **more: Any) -> Response:
    return request(lock.port, "GET", target, device, **more)


def state(lock: Lock, device: Device, **more: Any) -> dict[str, Any]:
    answer = ask(lock, device, **more)
    assert answer.status == 200, answer.body
    return answer.json()  # type: ignore[no-any-return]


@pytest.fixture
def listed(lock: Lock) -> Iterator[Lock]:
    """With a list of two devices, one of which nobody holds."""
    devices = [sidebar.row(lock.admin, "owner", owner="Ann"), sidebar.made_up(1, name="<script>alert(1)</script>")]
    sidebar.put(lock.site, devices)
    yield lock
    (lock.site.published / "sidebar.json").unlink(missing_ok=True)


def entered(lock: Lock, role: str) -> Device:
    """A new device, once the guard knows it."""
    device = lock.device(role)
    until(lambda: in_force(lock) == lock.site.snapshot.version, what="the newest snapshot")
    return device


def in_force(lock: Lock) -> int:
    return int(json.loads((lock.site.spool / "in-force.json").read_text())["version"])


@pytest.mark.parametrize("role", ["owner", "admin"])
def test_owners_and_admins_are_told_everything(listed: Lock, role: str) -> None:
    """Their own certificate, all devices, who is connected, what was refused; with the names as they are."""
    device = entered(listed, role)
    with pytest.raises(Refused):
        ask(listed, None, source="127.0.0.7")
    with WebSocket(listed.port, "/comms", device, source="127.0.0.9"):
        found = state(listed, device)
    own = found["own"]
    assert (own["id"], own["base"], own["fingerprint"]) == (device.id, role, device.fingerprint)
    assert own["not_after"] == device.entry.not_after
    assert [one["name"] for one in found["list"]["devices"]] == ["admin", "<script>alert(1)</script>"]
    assert found["console"] == {"port": 1881, "listen": ["loopback"]}
    mine = [one for one in found["connections"] if one["id"] == device.id and one["from"] == "127.0.0.9"]
    assert [one["websockets"] for one in mine] == [1]
    assert any(one["from"] == "127.0.0.7" and one["reason"] == "no-certificate" for one in found["refusals"])


def test_a_viewer_is_told_about_itself_alone(listed: Lock) -> None:
    """Its certificate and where the console is; no name, address or number of others."""
    device = entered(listed, "viewer")
    found = state(listed, device)
    assert found["own"]["fingerprint"] == device.fingerprint
    assert set(found) == {"own", "console", "problem", "now"}
    answer = request(listed.port, "POST", STATE, device, body=b"")
    assert answer.status == 403


@pytest.mark.parametrize("role", ["user", "thing"])
def test_other_roles_are_told_nothing(listed: Lock, role: str) -> None:
    """They do not even reach it; nor does a header make them somebody else."""
    device = entered(listed, role)
    claims = {"X-Role": "owner", "Authorization": "Bearer owner", "Cookie": "role=owner"}
    assert ask(listed, device).status == 403
    assert ask(listed, device, headers=claims).status == 403


def test_strangers_and_the_revoked_are_told_nothing(listed: Lock) -> None:
    """No certificate: no answer. Revoked: the same, on the connection that was open too."""
    with pytest.raises(Refused):
        ask(listed, None)
    device = entered(listed, "owner")
    with Connection(listed.port, device) as connection:
        assert connection.request("GET", STATE).status == 200
        listed.site.revoke(device)
        assert connection.is_closed()
    with pytest.raises(Refused):
        ask(listed, device)


def test_a_rule_for_the_editor_does_not_open_it(listed: Lock) -> None:
    """A user whom a rule lets into the editor passes the guard and is still told nothing: the role decides."""
    from redlatch.policy.model import Area, Rule

    before = listed.site.snapshot.rules
    device = entered(listed, "user")
    try:
        listed.site.change(rules=(*before, Rule(90, devices=(device.id,), area=Area.EDITOR)))
        until(lambda: ask(listed, device, "/settings").status == 200, what="the rule")
        answer = ask(listed, device)
        assert (answer.status, answer.json()) == (403, {"error": "not-for-this-role"})
    finally:
        listed.site.change(rules=before)
        until(lambda: in_force(listed) == listed.site.snapshot.version, what="the rules as they were")


def test_a_role_like_owner_is_an_owner(listed: Lock) -> None:
    """A role of the operator's own sees what the one that it is like sees."""
    before = listed.site.snapshot.roles
    try:
        listed.site.change(roles={"boss": "owner"})
        device = entered(listed, "boss")
        assert state(listed, device)["own"]["base"] == "owner"
    finally:
        listed.site.change(roles=before)
        until(lambda: in_force(listed) == listed.site.snapshot.version, what="the roles as they were")


def test_another_page_cannot_read_it(listed: Lock) -> None:
    """A script of another origin that uses this device's certificate is refused."""
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}):
        assert ask(listed, listed.admin, headers=headers).status == 403


@pytest.mark.parametrize("text", ["", "{", "null", '{"format":1}', "x" * 100])
def test_a_garbled_list_is_said(listed: Lock, text: str) -> None:
    """What the guard itself knows is shown all the same."""
    listed.site.put("sidebar.json", text.encode())
    found = state(listed, listed.admin)
    assert (found["list"], found["problem"], found["own"]["name"]) == (None, "garbled", None)
    assert found["connections"]


def test_a_missing_list_is_said_and_the_next_one_counts(lock: Lock) -> None:
    """As before the first `redlatch up` of a version that has a sidebar."""
    found = state(lock, lock.admin)
    assert (found["list"], found["problem"]) == (None, "missing")
    sidebar.put(lock.site, [sidebar.row(lock.admin, "owner")])
    assert state(lock, lock.admin)["list"]["total"] == 1
    (lock.site.published / "sidebar.json").unlink()
    assert state(lock, lock.admin)["problem"] == "missing"


def test_it_follows_http_admin_root(unstarted: Callable[..., Lock]) -> None:
    """Below httpAdminRoot as the rest of the editor, and read-only for a viewer there too."""
    lock = unstarted(body='httpAdminRoot: "/admin"', admin_root="/admin")
    viewer = lock.site.device("vera", "viewer")
    with lock.red:
        assert ask(lock, viewer, "/admin/redlatch/state").status == 200
        assert ask(lock, lock.admin, STATE).status == 404


def test_keep_auth_asks_for_both(unstarted: Callable[..., Lock]) -> None:
    """With the person's own adminAuth: its session and the certificate's role, each of them."""
    lock = unstarted(body=OWN_AUTH, keep_auth=True)
    user = lock.site.device("ursula", "user")
    viewer = lock.site.device("vera", "viewer")
    with lock.red:
        assert ask(lock, lock.admin).status == 401
        form = {"client_id": "node-red-editor", "grant_type": "password", "scope": "*", "username": "old"}
        body = json.dumps({**form, "password": "password"}).encode()
        fields: Mapping[str, str | None] = {"Content-Type": "application/json"}
        token = request(lock.port, "POST", "/auth/token", lock.admin, headers=fields, body=body).json()[
            "access_token"
        ]
        bearer = {"Authorization": f"Bearer {token}"}
        assert state(lock, lock.admin, headers=bearer)["own"]["base"] == "owner"
        assert set(state(lock, viewer, headers=bearer)) == {"own", "console", "problem", "now"}
        assert ask(lock, user, headers=bearer).status == 403


NODE = """
module.exports = function (RED) {
  RED.nodes.registerType("mine", function (config) { RED.nodes.createNode(this, config); });
};
"""
PAGE = (
    "<script>RED.nodes.registerType('mine', {category: 'function', defaults: {}, inputs: 1, outputs: 0});</script>"
)


@pytest.mark.parametrize("given", ["text", "list"])
def test_own_nodes_dir_is_kept(
    unstarted: Callable[..., Lock], tmp_path_factory: pytest.TempPathFactory, given: str
) -> None:
    """The person's own nodes load from their own nodesDir, as text or list, beside the sidebar."""
    own = tmp_path_factory.mktemp("nodes")
    (own / "mine.js").write_text(NODE)
    (own / "mine.html").write_text('<script type="text/html" data-template-name="mine"></script>' + PAGE)
    lock = unstarted(body=f"nodesDir: {json.dumps(str(own) if given == 'text' else [str(own)])}")
    with lock.red:
        asked = {"Accept": "application/json"}
        nodes = ask(lock, lock.admin, "/nodes", headers=asked).json()
        assert [one["enabled"] for one in nodes if "mine" in one["types"]] == [True]
        plugins = ask(lock, lock.admin, "/plugins", headers=asked).json()
        assert [one["id"] for one in plugins if one["module"] == "redlatch"] == ["redlatch/sidebar"]


@pytest.mark.parametrize("fault", ["throws", "garbled", "gone"])
def test_a_sidebar_that_cannot_be_loaded_leaves_the_lock_alone(unstarted: Callable[..., Lock], fault: str) -> None:
    """Node-RED starts, devices get in and strangers do not."""
    lock = unstarted()
    [plugin] = lock.site.published.glob("guard-*/plugin")
    if fault == "gone":
        plugin.rename(plugin.with_name("elsewhere"))
    else:
        (plugin / "sidebar.js").write_text({"throws": "throw new Error('no');", "garbled": "}{"}[fault])
    with lock.red:
        assert ask(lock, lock.admin, "/settings").status == 200
        assert ask(lock, lock.admin).status == 404
        with pytest.raises(Refused):
            ask(lock, None, "/settings")
