"""What the gateway tells: claims in its spool as the guard's are, systemd, and one line an event on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from redlatch.engines.haproxy.runtime import Session
from redlatch.engines.haproxy.streams import Known
from redlatch.errors import RedlatchError
from redlatch.files import read_own, write_soft

HEARTBEAT: Final = 30.0  # s
_READABLE: Final = 0o640  # by the folder's group, which is redlatch's own
_MOST: Final = 1000


def say(level: str, event: str, **fields: object) -> None:
    """One event, as the service's log has it: JSON, so that no value can begin a line or steer a terminal."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with contextlib.suppress(OSError, ValueError):  # nobody reads it any more
        print(
            json.dumps({"time": now, "level": level, "event": event, **fields}, default=str),
            file=sys.stderr,
            flush=True,
        )


def notify(state: str) -> None:
    """Tells systemd, where it listens (sd_notify(3))."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + place[1:] if place.startswith("@") else place)
        sock.send(state.encode())


@dataclass(slots=True)
class State:
    """What in-force.json says. Version 0 stands for no snapshot: nobody waits for it, and `problem` says why."""

    guard: str
    site: str = ""
    version: int = 0
    digest: str = ""
    port: int | None = None
    closed: int = 0
    ms: float | None = None
    problem: str | None = None
    server_not_after: float | None = None


class Claims:
    """The claims in `spool`. What cannot be written is not claimed; the first time that is said on stderr."""

    def __init__(self, spool: Path, state: State) -> None:
        self.state = state
        self._spool = spool
        self._started = time.time()
        self._failed = False
        self._beaten = 0.0

    def in_force(self) -> None:
        """Writes in-force.json."""
        state = self.state
        body = {
            "format": 1,
            "site": state.site,
            "version": state.version,
            "digest": state.digest,
            "pid": os.getpid(),
            "started": self._started,
            "at": time.time(),
            "port": state.port,
            "node_red": None,
            "guard": state.guard,
            "closed": state.closed,
            "ms": state.ms,
            "problem": state.problem,
            "server_not_after": state.server_not_after,
        }
        self._beaten = time.monotonic()
        self._write("in-force.json", body)

    def recall(self) -> None:
        """Says again what an earlier process said is in force, where that process left it so."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            body = json.loads(read_own(self._spool / "in-force.json"))
            state = self.state
            state.site, state.version, state.digest = str(body["site"]), int(body["version"]), str(body["digest"])

    def beat(self) -> None:
        """The same, every 30 s."""
        if time.monotonic() - self._beaten >= HEARTBEAT:
            self.in_force()

    def connections(self, found: Iterable[tuple[Known, Session]]) -> None:
        """Writes connections.json: devices' open streams, the oldest first."""
        listed = [
            {"id": known.device, "from": known.source, "since": known.at, "websocket": known.websocket}
            for known, _ in found
            if known.device is not None
        ]
        self._write("connections.json", {"format": 1, "at": time.time(), "connections": listed[:_MOST]})

    def _write(self, name: str, body: dict[str, Any]) -> None:
        try:
            write_soft(self._spool / name, json.dumps(body).encode() + b"\n", mode=_READABLE)
        except RedlatchError as error:
            if not self._failed:
                say("error", "a claim cannot be written", why=error.message)
            self._failed = True
        else:
            self._failed = False
