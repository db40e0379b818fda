"""Single sign-on in the real Node-RED: what each role is inside it, without a password."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest
from tests.support.clients import Refused, Response, WebSocket, request
from tests.support.nodered import VERSIONS, NodeRed, Version, write_settings
from tests.support.site import Device, Site
from tests.support.wait import until

# The hash of "password" in Node-RED's own documentation on securing it.
PASSWORD_HASH: Final = "$2a$08$zZWtXTja0fB1pzD4sHCMyOCMYz2Z6dNbM6tl8sJogENOMcxWV9DN."
_OWN_USER: Final = f'{{username: "old", password: "{PASSWORD_HASH}", permissions: "*"}}'
OWN_AUTH: Final = f'adminAuth: {{type: "credentials", users: [{_OWN_USER}]}}'
OLD_TOKEN: Final = "token-of-an-old-session"
ROLES: Final = ("owner", "admin", "viewer", "user", "thing")

# A flow that looks for everything that the headers of its request hold, and hands over what could be sent again.
LOOK: Final = """
const headers = msg.req.headers;
const hidden = Object.getOwnPropertyNames(headers).filter((name) => !Object.keys(headers).includes(name));
msg.payload = {
    printed: JSON.stringify(headers),
    hidden: hidden.map((name) => ({name, type: typeof headers[name], text: String(headers[name]),
                                   json: JSON.stringify(headers[name])})),
};
return msg;
"""
FLOWS: Final[list[dict[str, Any]]] = [
    {"id": "home", "type": "tab", "label": "Home"},
    {"id": "asked", "type": "http in", "z": "home", "url": "/look", "method": "get", "wires": [["search"]]},
    {"id": "search", "type": "function", "z": "home", "func": LOOK, "outputs": 1, "wires": [["answer", "shout"]]},
    {"id": "answer", "type": "http response", "z": "home", "wires": []},
    {"id": "shout", "type": "debug", "z": "home", "active": True, "complete": "payload"},
    {"id": "base", "type": "ui-base", "name": "D", "path": "/dashboard"},
    {"id": "theme", "type": "ui-theme", "name": "T", "colors": {}, "sizes": {}},
    {"id": "page", "type": "ui-page", "name": "P", "ui": "base", "path": "/page", "theme": "theme"},
]  # fmt: skip


@dataclass
class House:
    """One running Node-RED behind the guard, with a device for each role."""

    site: Site
    node_red: NodeRed
    devices: dict[str, Device]

    def ask(
        self, role: str, method: str, target: str, body: object = None, headers: dict[str, str] | None = None
    ) -> Response:
        data = None if body is None else json.dumps(body).encode()
        fields: dict[str, str | None] = {"Content-Type": "application/json", **(headers or {})}
        return request(self.node_red.port, method, target, self.devices[role], headers=fields, body=data)

    def deploy(self, role: str) -> Response:
        """What the editor's Deploy button sends, with the flows as they are."""
        return self.ask(role, "POST", "/flows", FLOWS, {"Node-RED-Deployment-Type": "full"})

    def comms(self, role: str) -> WebSocket:
        return WebSocket(self.node_red.port, "/comms", self.devices[role])


def house(root: Path, version: Version, *, body: str = "", **snapshot: Any) -> Iterator[House]:
    site = Site(root, **snapshot)
    devices = {role: site.device(f"{role}-name", role) for role in ROLES}
    user_dir = root / "node-red"
    write_settings(user_dir, published=site.published, body=body, flows=FLOWS)
    session = {"user": "old", "client": "node-red-editor", "scope": "*", "accessToken": OLD_TOKEN, "expires": 4e12}
    (user_dir / ".sessions.json").write_text(json.dumps({OLD_TOKEN: session}))
    with NodeRed(version, user_dir) as node_red:
        yield House(site, node_red, devices)


def _version(asked: pytest.FixtureRequest) -> Version:
    return cast(Version, asked.param)


@pytest.fixture(scope="module", params=VERSIONS)
def replaced(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Single sign-on instead of an adminAuth that was there before."""
    yield from house(tmp_path_factory.mktemp("replaced"), _version(request), body=OWN_AUTH)


@pytest.fixture(scope="module", params=VERSIONS)
def without(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """keep_auth where there is no adminAuth at all: the guard alone decides."""
    yield from house(tmp_path_factory.mktemp("without"), _version(request), keep_auth=True)


@pytest.fixture(scope="module", params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """keep_auth with an adminAuth of the person's own."""
    yield from house(tmp_path_factory.mktemp("kept"), _version(request), body=OWN_AUTH, keep_auth=True)


@pytest.mark.parametrize(("role", "permissions"), [("owner", "*"), ("admin", "*"), ("viewer", "read")])
def test_role_is_the_node_red_user(replaced: House, role: str, permissions: str) -> None:
    """The editor learns who it is from the certificate, and Node-RED knows what that user may do."""
    settings = replaced.ask(role, "GET", "/settings").json()
    assert settings["user"] == {"username": f"{role}-name", "permissions": permissions}
    assert replaced.ask(role, "GET", "/auth/login").json() == {}


@pytest.mark.parametrize("role", ["user", "thing"])
def test_others_are_nobody_in_the_editor(replaced: House, role: str) -> None:
    """Roles without the editor get no page of it, no flows and no /comms."""
    for target in ("/", "/settings", "/flows", "/red/red.min.js"):
        assert replaced.ask(role, "GET", target).status == 403
    assert replaced.deploy(role).status == 403
    with replaced.comms(role) as comms:
        assert comms.upgrade.status == 403


def test_user_reaches_the_dashboard(replaced: House) -> None:
    """A user gets the dashboard; a thing gets nothing of it."""
    assert replaced.ask("user", "GET", "/dashboard/").status == 200
    assert replaced.ask("thing", "GET", "/dashboard/").status == 403


def test_admin_deploys_and_viewer_does_not(replaced: House) -> None:
    """The viewer reads the flows and cannot change them, the admin can."""
    assert replaced.ask("viewer", "GET", "/flows").status == 200
    assert replaced.deploy("viewer").status == 403
    assert replaced.deploy("admin").status == 204


def test_viewer_without_any_admin_auth(without: House) -> None:
    """Where Node-RED itself would let everybody deploy, the guard keeps a viewer read-only."""
    assert "user" not in without.ask("viewer", "GET", "/settings").json()
    assert without.ask("viewer", "GET", "/flows").status == 200
    assert without.deploy("viewer").status == 403
    assert without.ask("viewer", "DELETE", "/nodes/node-red").status == 403
    assert without.deploy("admin").status == 204
    with without.comms("viewer") as comms:
        assert comms.is_open


def test_comms_is_signed_on(replaced: House) -> None:
    """/comms takes the certificate's word too: a viewer's debug sidebar fills without any auth packet."""
    with replaced.comms("viewer") as comms:
        comms.send_text(json.dumps({"subscribe": "debug"}))
        assert replaced.ask("admin", "GET", "/look").status == 200
        told = heard(comms)
        while isinstance(told, list) and all(message["topic"] != "debug" for message in told):
            told = heard(comms)
        assert isinstance(told, list), told


@pytest.mark.parametrize("packet", ["stolen", {}, {"role": "admin"}, OLD_TOKEN, "[object Object]"])
def test_no_auth_packet_makes_another_user(replaced: House, packet: object) -> None:
    """Whatever a viewer offers on /comms to become somebody else is refused, and the connection ends."""
    with replaced.comms("viewer") as comms:
        comms.send_text(json.dumps({"auth": packet}))
        assert answer_to_auth(comms) == {"auth": "fail"}
        with pytest.raises(Refused, match="the websocket was closed"):
            heard(comms)


def test_what_flows_see_is_of_no_use_elsewhere(replaced: House) -> None:
    """A flow that searches an admin's headers finds nothing that makes a viewer's connection an admin's."""
    seen = replaced.ask("admin", "GET", "/look").json()
    [ticket] = seen["hidden"]
    assert ticket["type"] == "object"
    assert ticket["name"] not in seen["printed"]
    for value in (ticket["text"], ticket["json"], "admin-name"):
        headers = {ticket["name"]: value, "Authorization": f"Bearer {value}"}
        settings = replaced.ask("viewer", "GET", "/settings", headers=headers).json()
        assert settings["user"] == {"username": "viewer-name", "permissions": "read"}
        assert replaced.ask("user", "GET", "/settings", headers=headers).status == 403
        with replaced.comms("viewer") as comms:
            comms.send_text(json.dumps({"auth": value}))
            assert answer_to_auth(comms) == {"auth": "fail"}


def test_old_passwords_and_sessions_are_worth_nothing(replaced: House) -> None:
    """The replaced adminAuth gives no token any more, and one that it gave before counts no more."""
    form = {"client_id": "node-red-editor", "grant_type": "password", "scope": "*", "username": "old"}
    assert replaced.ask("admin", "POST", "/auth/token", {**form, "password": "password"}).status in (400, 404)
    settings = replaced.ask("viewer", "GET", "/settings", headers={"Authorization": f"Bearer {OLD_TOKEN}"}).json()
    assert settings["user"] == {"username": "viewer-name", "permissions": "read"}


def test_own_admin_auth_is_left_alone(kept: House) -> None:
    """With keep_auth the certificate opens the door and the person's own password the editor."""
    assert kept.ask("admin", "GET", "/flows").status == 401
    assert kept.ask("admin", "GET", "/auth/login").json()["type"] == "credentials"
    form = {"client_id": "node-red-editor", "grant_type": "password", "scope": "*", "username": "old"}
    assert kept.ask("admin", "POST", "/auth/token", {**form, "password": "wrong"}).status == 403
    token = kept.ask("admin", "POST", "/auth/token", {**form, "password": "password"}).json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert kept.ask("admin", "GET", "/settings", headers=bearer).json()["user"]["username"] == "old"
    # The password does not lift what the certificate allows
    assert kept.ask("viewer", "GET", "/settings", headers=bearer).json()["user"]["permissions"] == "*"
    assert kept.ask("viewer", "POST", "/flows", FLOWS, bearer).status == 403
    assert b"redlatch-editor.js" not in kept.ask("admin", "GET", "/").body
    assert kept.ask("admin", "GET", "/look").json()["hidden"] == []


def test_user_settings_survive_a_new_phone(replaced: House) -> None:
    """Settings belong to the person's user name: their next device finds them, another person does not."""
    assert replaced.ask("admin", "POST", "/settings/user", {"menu-menu-item-palette": False}).status == 204
    replaced.devices["new phone"] = replaced.site.device("admin-name", "owner")
    wait_for(replaced, "new phone")
    assert replaced.ask("new phone", "GET", "/settings/user").json() == {"menu-menu-item-palette": False}
    assert replaced.ask("owner", "GET", "/settings/user").json() == {}


def test_changed_role_is_another_user_at_once(replaced: House) -> None:
    """A device that becomes a viewer loses its open /comms and is read-only from then on; back again likewise."""
    device = replaced.devices["changing"] = replaced.site.device("changing", "admin")
    wait_for(replaced, "changing")
    for role, permissions in (("viewer", "read"), ("admin", "*")):
        with replaced.comms("changing") as comms:
            assert comms.is_open
            replaced.site.list(device, role=role)
            assert comms.is_closed()
        assert replaced.ask("changing", "GET", "/settings").json()["user"]["permissions"] == permissions


def test_editor_page_forgets_old_tokens(replaced: House) -> None:
    """The page that a viewer gets loads the script that drops tokens of the password time."""
    assert b"redlatch-editor.js" in replaced.ask("viewer", "GET", "/").body
    script = replaced.ask("viewer", "GET", "/theme/scripts/redlatch-editor.js")
    assert b"auth-tokens" in script.body


def heard(comms: WebSocket) -> Any:
    """The next message: a list of what every editor is told, or an object that answers an auth packet."""
    return json.loads(comms.receive())


def answer_to_auth(comms: WebSocket) -> Any:
    while isinstance(told := heard(comms), list):
        pass
    return told


def wait_for(house: House, role: str) -> None:
    """Until the guard follows the snapshot that was published last."""
    until(lambda: answers(house, role), what="the new device's entry")


def answers(house: House, role: str) -> bool:
    try:
        return house.ask(role, "GET", "/settings").status == 200
    except Refused:
        return False
