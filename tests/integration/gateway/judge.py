"""Asks a running HAProxy what `decide` has answered already: the examiner of the guard, at the other engine."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from typing import Any

from tests.integration.guard.examiner import Client, Examiner, answered
from tests.support.clients import Connection, request
from tests.support.haproxy import Door, version
from tests.support.requests import Seen


def as_haproxy(raw: bytes, seen: Seen, door: Door) -> Seen:
    """What HAProxy's parser makes of it where that is not what Node.js's does: it takes Upgrade headers out of
    requests that then are plain ones (RFC 9110 7.8 allows to ignore them). 2.6 does so where there is a body;
    later ones where nothing but h2c is left of it; and some where Connection does not name it.
    """
    head, _, body = raw.partition(b"\r\n\r\n")
    named = re.search(rb"(?im)^connection:.*upgrade", head) is not None
    upgrade = seen.facts.upgrade
    if version(door.name) < (2, 7):
        upgrade = None if body and named else upgrade
    else:
        values = b",".join(re.findall(rb"(?im)^upgrade:([^\r]*)", head)).decode().split(",")
        kept = ", ".join(one.strip() for one in values if one.strip() not in ("", "h2c"))
        upgrade = (kept if named else "" if keeps_unnamed(door) else None) if kept else None
    # The guard's refusal of an upgrade is written to a bare socket, with a body for HEAD too
    upgrades = seen.upgrades and seen.facts.method != "HEAD"
    return replace(seen, facts=replace(seen.facts, upgrade=upgrade), upgrades=upgrades)


@functools.cache
def keeps_unnamed(door: Door) -> bool:
    """Whether this HAProxy leaves an Upgrade in a request whose Connection does not name it (3.0.11 does, 2.8.25
    does not). Asked of it, before it has any other snapshot than the first.
    """
    return request(door.port, "GET", "/hello", door.admin, headers={"Upgrade": "websocket"}).status == 403


def is_invalid(raw: bytes) -> bool:
    """Whether RFC 9112 has a server answer 400: a host named twice (3.2), or not at all with HTTP/1.1, and a
    fragment in the target (RFC 9110 7.1); and 413 to a body that HTTP/1.0 has nothing to do with. Node.js takes
    them, and the first of two hosts.
    """
    first, *lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    hosts = sum(line.lower().startswith(b"host:") for line in lines)
    return hosts > 1 or (hosts == 0 and first.endswith(b"1.1")) or b"#" in first or first.endswith(b"1.0")


class Judge(Examiner):
    """Compares HAProxy with `decide`, one snapshot after another.

    `by_parser` counts the requests that HAProxy's own parser refused, before any rule: `decide` refuses them too,
    or they are no valid HTTP.
    """

    def __init__(self, door: Door) -> None:
        super().__init__(door)  # type: ignore[arg-type]
        self.door = door
        self.by_parser = 0
        self.reached += not keeps_unnamed(door)  # the one request that was to find out

    def publish(self, **fields: Any) -> None:
        self.door.publish(**fields)

    def _compare(self, client: Client, connection: Connection, raw: bytes, seen: Seen) -> bool:
        seen = as_haproxy(raw, seen, self.door)
        wanted = self.judged(client, seen.facts)
        got, goes_on = answered(connection, seen)
        if got in ("400", "413") and (not wanted.allow or is_invalid(raw)):
            self.by_parser += 1
            return False
        self.asked[wanted.reason] += 1
        if got == "ok":
            self.reached += 1
        if got == wanted.reason or (got == "?" and not wanted.allow):
            return goes_on
        self._report(client, raw, wanted.reason, got)
        return False
