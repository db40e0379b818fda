"""A real nginx and a real Caddy on loopback with an exported configuration, and what stands behind them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.nodered import free_port
from tests.support.site import Device, Site
from tests.support.wait import until

from redlatch.engines.export import caddy, nginx
from redlatch.engines.export.model import Export

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
SECONDS = 20


class Behind(socketserver.ThreadingTCPServer):
    """A server that answers every request with what it got, and websockets with an echo; `seen` are the heads."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: Behind

    def handle(self) -> None:
        while (head := self._head()) is not None:
            fields = fields_of(head)
            self.rfile.read(int(fields.get("content-length", "0")))
            self.server.seen.append(head)
            if "upgrade" in fields:
                self._websocket(fields)
                return
            body = b"" if head.startswith(b"HEAD ") else json.dumps(fields).encode()
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Reached: 1\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def _head(self) -> bytes | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return None
            head += line
        return head

    def _websocket(self, fields: dict[str, str]) -> None:
        key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept.encode()
        )
        while len(begin := self.rfile.read(2)) == 2:
            mask = self.rfile.read(4)
            data = bytes(byte ^ mask[n % 4] for n, byte in enumerate(self.rfile.read(begin[1] & 0x7F)))
            if begin[0] & 0x0F == 8:
                return
            self.wfile.write(bytes([0x81, len(data)]) + data)


def fields_of(head: bytes) -> dict[str, str]:
    """Lower-case name -> value of a request's headers."""
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}


def export_of(site: Site, listed: list[Device], port: int, behind: Behind, **fields: Any) -> Export:
    """The export of what `site` publishes; `listed` are the devices whose certificates the store would have."""
    return Export(
        snapshot=site.snapshot,
        listen=f"127.0.0.1:{port}",
        upstream=behind.url,
        server_cert=str(site.published / "server.pem"),
        server_key=str(site.published / "server.pem"),
        device_ca=str(site.published / "device-ca.pem"),
        authorities=(site.device_ca.certificate.public_bytes(Encoding.DER),),
        sha1={one.fingerprint: one.certificate.fingerprint(hashes.SHA1()).hex() for one in listed},
        labels={one.id: one.name for one in listed},
        **fields,
    )


class Proxy:
    """One program with one configuration at a time. `load` writes it, has the program check it, and runs it."""

    name: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def load(self, export: Export) -> None:
        self.write(export)
        checked = self.check()
        assert checked.returncode == 0, checked.stderr.decode()
        self.stop()
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            self._run(), env=self._environ, stdout=log, stderr=log, start_new_session=True
        )
        until(self._answers, seconds=SECONDS, what=f"{self.name} listening")

    def write(self, export: Export) -> None:
        raise NotImplementedError

    def check(self) -> subprocess.CompletedProcess[bytes]:
        raise NotImplementedError

    def reload(self, export: Export) -> None:
        """As an operator does: the file anew, checked, taken up by the running program."""
        raise NotImplementedError

    def _run(self) -> list[str]:
        raise NotImplementedError

    @property
    def _environ(self) -> dict[str, str]:
        return {
            "PATH": PATH,
            "HOME": str(self.folder),
            "XDG_DATA_HOME": str(self.folder),
            "XDG_CONFIG_HOME": str(self.folder),
        }

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(arguments, env=self._environ, capture_output=True, timeout=60, check=False)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        return self._listens()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            # A worker ends a little after its master, and listens until then
            until(lambda: not self._listens(), seconds=SECONDS, what=f"{self.name} gone")


class Nginx(Proxy):
    name = "nginx"

    def write(self, export: Export) -> None:
        (self.folder / "export.conf").write_text(nginx.render(export))
        self.wrap()

    def wrap(self) -> None:
        """The file that includes the export."""
        user = "user root root;" if os.geteuid() == 0 else ""
        temporary = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self.folder / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes 1; worker_shutdown_timeout 1s;\n"
            f"pid {self.folder}/pid; error_log stderr; events {{}}\n"
            f"http {{ access_log off; {temporary} include {self.folder}/export.conf; }}\n"
        )

    def check(self) -> subprocess.CompletedProcess[bytes]:
        return self._call("nginx", "-e", "stderr", "-t", "-c", str(self.folder / "nginx.conf"))

    def reload(self, export: Export) -> None:
        self.write(export)
        assert self.check().returncode == 0
        assert self._process is not None
        before = self._workers()
        os.kill(self._process.pid, signal.SIGHUP)
        until(lambda: not before & self._workers(), seconds=SECONDS, what="the old worker gone")

    def _workers(self) -> set[str]:
        assert self._process is not None
        return set(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split())

    def _run(self) -> list[str]:
        return ["nginx", "-e", "stderr", "-c", str(self.folder / "nginx.conf")]


class Caddy(Proxy):
    name = "caddy"
    options = ""  # further global ones

    def write(self, export: Export) -> None:
        (self.folder / "export.caddy").write_text(caddy.render(export))
        (self.folder / "Caddyfile").write_text(
            f"{{\n\tadmin unix/{self.folder}/admin\n\tauto_https off\n\tgrace_period 1s\n{self.options}}}\n"
            f"import {self.folder}/export.caddy\n"
        )

    def check(self) -> subprocess.CompletedProcess[bytes]:
        return self._call(
            "caddy", "validate", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")
        )

    def reload(self, export: Export) -> None:
        self.write(export)
        place = f"unix/{self.folder}/admin"
        done = self._call(
            "caddy",
            "reload",
            "--adapter",
            "caddyfile",
            "--config",
            str(self.folder / "Caddyfile"),
            "--address",
            place,
        )
        assert done.returncode == 0, done.stderr.decode()

    def _run(self) -> list[str]:
        return ["caddy", "run", "--adapter", "caddyfile", "--config", str(self.folder / "Caddyfile")]


@contextmanager
def running(kind: type[Proxy], folder: Path) -> Iterator[Proxy]:
    proxy = kind(folder)
    assert shutil.which(proxy.name, path=PATH), f"{proxy.name} is missing: scripts/test installs it"
    try:
        yield proxy
    finally:
        proxy.stop()


def unlisted(export: Export, *devices: Device) -> Export:
    """As written after these devices were revoked."""
    gone = {one.fingerprint for one in devices}
    left = {key: entry for key, entry in export.snapshot.devices.items() if key not in gone}
    return replace(export, snapshot=replace(export.snapshot, devices=left))
