"""Enrolment: tokens, links and pins as people paste them, and the bodies that a page or a program posts.

Input: what to read it as; for a body the media type, then the body; for a link the link.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from starlette.requests import Request

from fuzz.harness import Refused, attempt, lines, pick
from redlatch import enrolment
from redlatch.operations import enrolling
from redlatch.operations.https import checked_pin, checked_url
from redlatch.service.enrolment import answers


def TestOneInput(data: bytes) -> None:
    which, rest = lines(data, 2)
    pick(which, (_link, _body, _token, _authorization))(rest)


def _token(text: str) -> None:
    kept = enrolment.digest(text)
    assert len(kept) == 32
    assert enrolment.digest(f" {text.upper()}\n") == kept or not text.isascii()
    assert enrolment.refusal((text, True, False), inside=False, by_page=False) is not None or text == "open"
    pin = attempt(checked_pin, text)
    assert isinstance(pin, Refused) or (len(pin) == 52 and pin.isascii()), pin


def _link(text: str) -> None:
    parts = attempt(checked_url, text)
    if isinstance(parts, Refused):
        return
    assert parts.scheme == "https"
    assert parts.hostname
    shown = attempt(checked_url, parts._replace(fragment="").geturl())
    assert not isinstance(shown, Refused), parts
    assert (shown.hostname, shown.port) == (parts.hostname, parts.port), "two readings of one link"
    answer = enrolling.Answer(200, {"redlatch-renew": text}, b"")
    told = enrolling._renew_url(answer, parts)
    assert told is None or checked_url(told).hostname == parts.hostname


def _body(text: str) -> None:
    kind, _, body = text.partition("\n")
    _ask([("content-type", kind)], body)


def _authorization(text: str) -> None:
    header, _, body = text.partition("\n")
    found = _ask([("content-type", "application/pkcs10"), ("authorization", header)], body)
    assert isinstance(found, Refused) or found.kind == "csr"


def _ask(headers: list[tuple[str, str]], body: str) -> answers.Wanted | Refused:
    sent = body.encode("utf-8", "surrogateescape")
    pieces = [sent[:100], sent[100:]]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": pieces.pop(0) if pieces else b"", "more_body": bool(pieces)}

    raw = [(name.encode(), value.encode("utf-8", "surrogateescape")) for name, value in headers]
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)
    found = attempt(asyncio.run, answers.wanted(request), also=(answers.Refused,))
    if not isinstance(found, Refused):
        assert (found.csr is not None) == (found.kind == "csr")
        assert found.kind == "csr" or found.kind in answers.FORMATS
        assert "token" not in repr(replace(found, csr=None)), "a token in a log"
    return found
