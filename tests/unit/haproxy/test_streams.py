"""Lines of HAProxy's log that are none."""

from __future__ import annotations

import json

import pytest

from redlatch.engines.haproxy.streams import parse

LINE = {
    "at": 1700000000.5, "from": "192.0.2.1", "device": "d", "method": "GET", "path": "/", "allow": True,
    "upgrade": False, "cert": "ab", "pid": 7, "id": 3, "port": 40000,
}  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"3",
        b"{",
        b"[" * 5000,
        json.dumps(LINE)[:-9].encode(),
        json.dumps(LINE | {"at": 10**400}).encode(),
    ],
)
def test_what_is_no_line_is_passed_over(line: bytes) -> None:
    """Cut, of another form, or with a number that no clock shows (found by fuzzing: it was raised)."""
    assert parse(json.dumps(LINE).encode()) is not None
    assert parse(line) is None
