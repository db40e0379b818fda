"""What the guard claims, and the access logs of guard and gateway: text that cannot steer a terminal, or nothing.

Input: what to read it as, then the file.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.harness import attempt, lines, pick
from redlatch.engines.haproxy import knocks, streams
from redlatch.engines.haproxy.runtime import parse_sessions
from redlatch.engines.nodered import claims
from redlatch.settings import Settings


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="redlatch-fuzz-")


def _settings(name: str, data: bytes) -> Settings:
    settings = Settings(Path(_folder().name), system=False)
    settings.spool.mkdir(parents=True, exist_ok=True)
    (settings.spool / name).write_bytes(data)
    return settings


def TestOneInput(data: bytes) -> None:
    which, text = lines(data, 2)
    rest = text.encode("utf-8", "surrogateescape")
    pick(which, (_access, _in_force, _connections, _stream, _sessions, _knocks))(rest)


def _shown(found: Any) -> None:
    """Every text of a claim can be shown and stored; numbers fit a column."""
    if found is None:
        return
    for field in fields(found):
        value = getattr(found, field.name)
        if isinstance(value, str):
            assert value.isprintable(), (field.name, value)
            value.encode()
            assert len(value) <= 500
        elif isinstance(value, int):
            assert abs(value) < 1 << 53, (field.name, value)


def _access(data: bytes) -> None:
    for line in data.split(b"\n"):
        _shown(claims.parse_access(line))
    for entry in claims.read_access(_settings("access.jsonl", data), os.getuid(), limit=10):
        _shown(entry)


def _in_force(data: bytes) -> None:
    _shown(attempt(claims.read_in_force, _settings("in-force.json", data), os.getuid()))


def _connections(data: bytes) -> None:
    for entry in claims.read_connections(_settings("connections.json", data), os.getuid()) or []:
        _shown(entry)


def _stream(data: bytes) -> None:
    told = streams.Streams()
    told.feed(data.split(b"\n"))
    told.open({}, 0.0)


def _sessions(data: bytes) -> None:
    for session in parse_sessions(data.decode("utf-8", "replace")):
        assert session.pointer.startswith("0x"), session
        assert session.pointer.isalnum(), "it becomes a word of a command"


def _knocks(data: bytes) -> None:
    settings = _settings("knocks.json", data)
    told = knocks.Knocks(settings.spool / "knocks.json")
    for line in told.fold({1: {"192.0.2.1|no-certificate": 3, data[:40].decode("utf-8", "replace"): 2}}):
        assert line["count"] > 0
        assert line["allow"] is False
