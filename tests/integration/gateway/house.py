"""A gateway for rules, put in force by its restart; and one that `run` keeps at what is published."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
from tests.integration.guard.rules import AWAY, OWNER, PLAIN
from tests.support.clients import Connection, Refused, Response, request
from tests.support.haproxy import PROGRAMS, Counting, Door
from tests.support.http2 import Http2
from tests.support.nodered import free_port
from tests.support.running_gateway import RunningGateway
from tests.support.site import Device, Site

from redlatch.policy.model import Areas, Rule

WEBHOOK = Rule(2, anyone=True, path="/hello", methods=("POST",))
WEBSOCKETS = Rule(3, anyone=True, area="websockets")
AREAS = Areas(
    dashboards=("/dashboard",), http_in=("/hello", "/in/:what"), static=("/files",),
    websockets=("/ws/echo", "/ws/plain", "/hello"),
)  # fmt: skip


def asks(http2: bool, house: House, *how: object) -> Connection | Http2:
    """A stranger's connection from far away, or a device's."""
    return Http2(house.port, *how, source=AWAY) if http2 else Connection(house.port, *how, source=AWAY)  # type: ignore[arg-type]


BOTH = pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])


class House(Door):
    """HAProxy in front of something that counts what reaches it. Where nothing else is said it tells everybody
    why.
    """

    def __init__(self, name: str, root: Path, **extra: Any) -> None:
        self.upstream = Counting()
        super().__init__(name, root, self.upstream.port, extra=extra, **{**PLAIN, "mode": "explain"})
        self.ruled()

    def ruled(self, *rules: Rule, **fields: Any) -> None:
        """These rules, beside the owner's, are in force, and so is every device made before."""
        self.publish(**{**PLAIN, "mode": "explain", **fields}, rules=(OWNER, *rules))
        self.upstream.seen.clear()
        self.upstream.trailers.clear()

    def start(self) -> Self:
        """On a port that is free now: between two starts somebody else may have got the last one."""
        last, self.port = self.port, free_port()
        listen = tuple(one.replace(f":{last}", f":{self.port}") for one in self.gateway.listen)
        self.gateway = replace(self.gateway, listen=listen)
        return super().start()

    def device(self, role: str = "admin", **odd: Any) -> Device:
        return self.site.device(f"{role}-{uuid.uuid4().hex[:6]}", role, **odd)

    @property
    def reached(self) -> list[str]:
        """Method and target of each request that got through since the rules were put in force."""
        return [
            head.decode("latin-1").rpartition(" HTTP/1.1\r")[0] or "?"
            for head in map(first_line, self.upstream.seen)
        ]

    def close(self) -> None:
        self.stop()
        self.upstream.close()


def first_line(head: bytes) -> bytes:
    return head.partition(b"\n")[0]


def fields(head: bytes) -> dict[str, list[str]]:
    """Name -> values of a head that reached the other side."""
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        found.setdefault(name.lower(), []).append(value.strip())
    return found


class Live(RunningGateway):
    """`run` and HAProxy; what is published is in force when `device` and `wait` come back."""

    def __init__(self, name: str, root: Path, behind: Counting, **fields_: Any) -> None:
        super().__init__(Site(root / "h", **{**PLAIN, "mode": "explain", **fields_}), PROGRAMS[name], behind.port)
        self.seen = behind.seen
        self.site.change(rules=(OWNER, Rule(2, roles=("admin",), area="all")))
        self.admin = self.site.device("admin", "owner")

    def device(self, role: str = "admin", **odd: Any) -> Device:
        made = self.site.device(f"{role}-{uuid.uuid4().hex[:6]}", role, **odd)
        self.wait()
        return made

    def revoke(self, device: Device) -> None:
        self.site.revoke(device)
        self.wait()


def gets_nothing(port: int, *asked: Any, **how: Any) -> bool:
    """Whether the connection ends without an answer."""
    try:
        request(port, *asked, **how)
    except Refused:
        return True
    return False


def reason(answer: Response) -> str:
    """ "ok" for what got through, the reason of a refusal, or the status of anything else."""
    if "x-reached" in answer.headers:
        return "ok"
    found = re.search(r"\(([a-z-]+)\)\n", answer.body.decode("latin-1"))
    return found[1] if answer.status == 403 and found else str(answer.status)
