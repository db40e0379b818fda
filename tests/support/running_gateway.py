"""`run` of the gateway as a process of its own, and something behind it that answers and keeps websockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tests.support.haproxy import PROGRAMS
from tests.support.nodered import free_port
from tests.support.site import Site
from tests.support.wait import until

from redlatch.engines.haproxy.model import Gateway, Upstream, gateway_json
from redlatch.engines.haproxy.runtime import Runtime
from redlatch.engines.nodered.claims import InForce, read_in_force
from redlatch.settings import Settings

SECRET = "ab" * 32
RUN = """
import sys
from pathlib import Path
from redlatch.engines.haproxy.process import run
from redlatch.errors import RedlatchError
from redlatch.settings import Settings
try:
    run(Settings(home=Path(sys.argv[1]), system=False), haproxy=Path(sys.argv[2]))
except RedlatchError as error:
    sys.exit(f"{error.message} ({error.hint})")
"""


class _Answers(socketserver.StreamRequestHandler):
    """One connection: `/slow...` is answered when the server's `slow` event is set, the rest at once."""

    def handle(self) -> None:
        while line := self.rfile.readline():
            method, target, _ = line.decode("latin-1").split(" ", 2)
            fields = {}
            while (field := self.rfile.readline().strip()) != b"":
                name, _, value = field.decode("latin-1").partition(":")
                fields[name.lower()] = value.strip()
            self.rfile.read(int(fields.get("content-length", 0)))
            if "sec-websocket-key" in fields:
                return self._echo(fields["sec-websocket-key"])
            if target.startswith("/slow"):
                self.server.slow.wait(60)  # type: ignore[attr-defined]
            body = json.dumps({"method": method, "target": target, "headers": fields}).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return None

    def _echo(self, key: str) -> None:
        digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
        )
        while head := self.rfile.read(6):
            data = self.rfile.read(head[1] & 0x7F)
            text = bytes(byte ^ head[2 + index % 4] for index, byte in enumerate(data))
            self.wfile.write(bytes([0x81, len(text)]) + text)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, *_: Any) -> None:
        """A connection that was cut."""


@contextlib.contextmanager
def upstream(port: int = 0) -> Iterator[_Server]:
    """Something that answers every request with what it got, and echoes what comes by websocket."""
    with _Server(("127.0.0.1", port), _Answers) as server:
        server.slow = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.slow.set()  # type: ignore[attr-defined]
        server.shutdown()


class RunningGateway:
    """`run` on a site's published folder. Leaving ends it, and the HAProxy that it may have left behind."""

    def __init__(self, site: Site, haproxy: Path, to: int, *, inside: tuple[str, ...] = (), **fields: Any) -> None:
        """`to`: the port behind it; `inside`: a command that runs the rest of its line."""
        self.site = site
        self.port = free_port()
        self.settings = Settings(home=site.root, system=False)
        self.root = site.spool / "haproxy"
        self.stderr = site.root / "stderr"
        self._haproxy = haproxy
        self._inside = inside
        self._process: subprocess.Popen[bytes] | None = None
        self._left: set[int] = set()
        self.behind: Any = None
        self.gateway = Gateway(
            **{
                "listen": (f"127.0.0.1:{self.port}",),
                "upstreams": (Upstream(f"http://127.0.0.1:{to}"),),
                **fields,
            }
        )
        site.put("gateway.json", gateway_json(self.gateway))
        site.put("secret", f"{SECRET}\n".encode())

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, *, wait: bool = True) -> None:
        with self.stderr.open("ab") as stderr:
            self._process = subprocess.Popen(
                [*self._inside, sys.executable, "-c", RUN, str(self.site.root), str(self._haproxy)],
                stderr=stderr,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                process_group=0,
            )
        if wait:
            self.wait()

    def wait(self, version: int | None = None, *, seconds: float = 20) -> InForce:
        """The claim of this very process, once it enforces the version (the published one)."""
        wanted = self.site.snapshot.version if version is None else version

        def enforced() -> InForce | None:
            assert self._process is not None
            if self._process.poll() is not None:
                raise AssertionError(f"run has ended: {self.told()}")
            found = self.claim()
            return found if found and found.pid == self._process.pid and found.version >= wanted else None

        return until(enforced, seconds=seconds, what=f"version {wanted} in force")

    def claim(self) -> InForce | None:
        return read_in_force(self.settings, os.geteuid())

    def problem(self) -> str | None:
        found = self.claim()
        return found.problem if found else None

    def told(self) -> str:
        return self.stderr.read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def haproxy(self) -> int:
        """The master's pid."""
        return int(json.loads((self.root / "haproxy.json").read_text())["pid"])

    @property
    def runtime(self) -> Runtime:
        return Runtime(self.root / "master.sock")

    def kill(self) -> None:
        """kill -9 of `run`; HAProxy stays."""
        assert self._process is not None
        self._left.add(self.haproxy)
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM, and whatever is left of it."""
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in self._left:
            with contextlib.suppress(OSError):
                if b"haproxy" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def running(
    root: Path, program: str, *, site: Mapping[str, Any] | None = None, **fields: Any
) -> Iterator[RunningGateway]:
    """A gateway in front of `upstream` (its `behind`); `site` and `fields` as Site and Gateway take them."""
    with upstream() as server:
        made = RunningGateway(
            Site(root / "h", **(site or {})), PROGRAMS[program], server.server_address[1], **fields
        )
        made.behind = server
        with made:
            yield made


def accepts(port: int) -> bool:
    """Whether something listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
