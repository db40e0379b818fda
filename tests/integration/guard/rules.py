"""Rules for the Node-RED under test, put in force; and what a refusal looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.clients import Refused, Response, request
from tests.support.requests import network

from redlatch.policy.model import Areas, Rule

if TYPE_CHECKING:
    from tests.integration.guard.conftest import Lock

HOME, OFFICE, AWAY = "127.1.0.1", "127.2.0.1", "127.3.0.1"
NETWORKS = {"home": network("127.1.0.0/16"), "office": network("127.2.0.0/16")}
AREAS = Areas(dashboards=("/dashboard",), http_in=("/hello",), static=("/note.txt",), websockets=("/ws/echo",))
OWNER = Rule(1, roles=("owner",), area="all")
SOCKET_IO = "/dashboard/socket.io/?EIO=4&transport=websocket"
PLAIN: dict[str, Any] = {
    "mode": "strict", "networks": NETWORKS, "areas": AREAS, "roles": {}, "origins": (), "open_port": None,
}  # fmt: skip


def ruled(house: Lock, *rules: Rule, **fields: Any) -> None:
    """These rules, beside the owner's, are in force."""
    from tests.integration.guard.test_guard_live import in_force  # which needs conftest, which needs this

    house.site.change(**{**PLAIN, **fields}, rules=(OWNER, *rules))
    in_force(house)


def is_refused(answer: Response, reason: str) -> bool:
    return answer.status == 403 and f"({reason})" in answer.body.decode()


def gets_nothing(house: Lock, *asked: Any, **how: Any) -> bool:
    """Whether the connection ends without an answer."""
    try:
        request(house.port, *asked, **how)
    except Refused:
        return True
    return False
