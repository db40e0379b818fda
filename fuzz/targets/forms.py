"""The console's and the enrolment page's requests: forms, numbers in paths, and what no application gets to see.

Input: lines: method, `name: value` headers, an empty line, then the form.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fuzz.harness import Refused, attempt
from redlatch.service.console.asking import Fields
from redlatch.service.security import Guarded

_NAMES, _PORTS = ("pi.local",), (1881, 443)


def TestOneInput(data: bytes) -> None:
    head, _, body = data.partition(b"\n\n")
    method, *rows = head.split(b"\n")
    _form(body)
    headers = [(name.strip().lower(), value.strip()) for name, _, value in (row.partition(b":") for row in rows)]
    _request(method.decode("latin-1"), [(name, value) for name, value in headers if name], body)


def _form(body: bytes) -> None:
    form = attempt(Fields, body)
    if isinstance(form, Refused):
        return
    for name in ("name", "role", "days", ""):
        value = form.get(name)
        assert value == value.strip()
        value.encode()  # no half characters reach a template or the store
        assert all(form.all(name))
        number = attempt(form.number, name, 15, least=1, most=10_000)
        assert isinstance(number, Refused) or 1 <= number <= 10_000


def _request(method: str, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    reached: list[bytes] = []
    answers: list[dict[str, Any]] = []
    pieces = [body[:50], body[50:]]

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        reached.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    scope = {"type": "http", "method": method, "headers": headers, "raw_path": b"/", "query_string": b""}
    asyncio.run(Guarded(app, names=lambda: _NAMES, ports=lambda: _PORTS, body_bytes=4096)(scope, receive, send))
    said = dict(answers[0]["headers"])
    assert said[b"x-frame-options"] == b"DENY"
    assert b"content-security-policy" in said
    if not reached:
        return
    sent = dict(headers)
    host = sent.get(b"host", b"").lower()
    origin = sent.get(b"origin", b"").lower()
    assert method in ("GET", "HEAD", "POST"), method
    assert not origin or origin == b"https://" + host, (origin, host)
    name, _, port = host.rpartition(b":")
    assert host.endswith(b"]") or not name or int(port) in _PORTS, host
    site = sent.get(b"sec-fetch-site", b"same-origin").lower() or b"same-origin"
    assert method != "POST" or site == b"same-origin", site
