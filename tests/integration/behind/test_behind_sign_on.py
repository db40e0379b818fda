"""Single sign-on behind the gateway: the user is the request's, whoever's connection it came on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.integration.behind.houses import FLOWS, OTHER, SECRET, Behind, Plain, house, known, send
from tests.integration.sso.test_single_sign_on import OLD_TOKEN, OWN_AUTH, answer_to_auth, heard
from tests.support.clients import Refused
from tests.support.nodered import VERSIONS

DEPLOY = {"Node-RED-Deployment-Type": "full", "Content-Type": "application/json"}


@pytest.fixture(scope="module", params=VERSIONS)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """keep_auth with an adminAuth of the person's own."""
    yield from house(tmp_path_factory.mktemp("kept"), request.param, body=OWN_AUTH, keep_auth=True)


@pytest.mark.parametrize(("user", "permission"), [("ann", "*"), ("anyone", "read")])
def test_who_the_gateway_says_is_the_user(behind: Behind, user: str, permission: str) -> None:
    """The editor shows the name, and Node-RED knows what that user may do; nobody is asked for a password."""
    settings = behind.ask("GET", "/settings", known(user, permission)).json()
    assert settings["user"] == {"username": user, "permissions": permission}
    assert behind.ask("GET", "/auth/login", known(user, permission)).json() == {}
    deployed = behind.ask("POST", "/flows", {**known(user, permission), **DEPLOY}, FLOWS)
    assert deployed.status == (204 if permission == "*" else 401)
    with behind.websocket("/comms", known(user, permission)) as comms:
        comms.send_text(json.dumps({"subscribe": "notification/#"}))
        assert isinstance(heard(comms), list)


NOBODY = {
    "no permission": known("ann"),
    "no user": known(permission="*"),
    "an unknown permission": known("ann", "admin"),
    "two permissions": {**known("ann", "*"), "x-redlatch-permission": "*"},
    "two users": {**known("ann", "*"), "x-redlatch-user": "bob"},
    "no user name": known("../ann", "*"),
    "underscores": {"X-Redlatch-Secret": SECRET, "X_Redlatch_User": "ann", "X_Redlatch_Permission": "*"},
}


@pytest.mark.parametrize("who", NOBODY)
def test_who_is_nobody_in_the_editor(behind: Behind, who: str) -> None:
    """Without the gateway's plain word there is no user, so no editor; the flows' pages are there."""
    assert behind.ask("GET", "/flows", NOBODY[who]).status == 401
    assert behind.ask("GET", "/settings", NOBODY[who]).status == 401
    assert behind.ask("POST", "/flows", {**NOBODY[who], **DEPLOY}, FLOWS).status == 401
    assert behind.ask("GET", "/look", NOBODY[who]).status == 200
    with pytest.raises(Refused):
        behind.websocket("/comms", NOBODY[who])


def test_two_users_on_one_connection(behind: Behind) -> None:
    """The gateway's connections carry requests of different people: each is its own, in any order."""
    people = [("ann", "*"), ("bob", "read"), ("carl", None), ("bob", "read"), ("ann", "*"), ("carl", None)]
    with Plain(behind.node_red.port) as connection:
        for user, permission in people * 5:
            found = send(connection, "GET", "/settings", known(user, permission))
            if permission is None:
                assert found.status == 401
            else:
                assert found.json()["user"] == {"username": user, "permissions": permission}
            status = send(connection, "POST", "/flows", {**known(user, permission), **DEPLOY}, FLOWS).status
            assert status == (204 if permission == "*" else 401)


def test_two_users_at_once_on_one_connection(behind: Behind) -> None:
    """Requests that were sent before the first one was answered are not mixed either."""
    people = [("ann", "*"), ("bob", "read")] * 10
    with Plain(behind.node_red.port) as connection:
        for user, permission in people:
            fields = {"Host": "localhost", **known(user, permission)}
            head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
            connection.send(f"GET /settings HTTP/1.1\r\n{head}\r\n".encode())
        for user, permission in people:
            assert connection.response().json()["user"] == {"username": user, "permissions": permission}


def test_nothing_a_client_sends_makes_a_user(behind: Behind) -> None:
    """Names and tokens of Node-RED's own sign-on count for nothing beside what the gateway says."""
    bearer = {"Authorization": f"Bearer {OLD_TOKEN}"}
    bob = {"username": "bob", "permissions": "read"}
    assert behind.ask("GET", "/settings", {**known("bob", "read"), **bearer}).json()["user"] == bob
    assert behind.ask("GET", "/settings", {**known(), **bearer}).status == 401
    body = {"client_id": "node-red-editor", "grant_type": "password", "username": "ann", "password": "password"}
    assert behind.ask("POST", "/auth/token", known("bob", "read"), body).status >= 400
    with behind.websocket("/comms", known("bob", "read")) as comms:
        comms.send_text(json.dumps({"auth": {"user": "ann"}}))
        assert answer_to_auth(comms) == {"auth": "fail"}


def test_an_own_admin_auth_stays(kept: Behind) -> None:
    """With keep_auth the person's own users sign on by password; the gateway's word is not used."""
    assert kept.ask("GET", "/settings", known("ann", "*")).status == 401
    assert kept.ask("GET", "/auth/login", known()).json()["type"] == "credentials"
    body = {
        "client_id": "node-red-editor", "grant_type": "password", "scope": "*", "username": "old",
        "password": "password",
    }  # fmt: skip
    token = kept.ask("POST", "/auth/token", known(), body).json()["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert kept.ask("GET", "/settings", {**known(), **bearer}).json()["user"]["username"] == "old"
    assert kept.ask("GET", "/settings", {**known(secret=OTHER), **bearer}).status == 403
    assert kept.ask("GET", "/look", known("ann", "*")).json()["headers"]["x-redlatch-user"] == "ann"
    assert b"redlatch-editor.js" not in kept.ask("GET", "/", known()).body
