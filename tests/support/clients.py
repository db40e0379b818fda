"""Clients that do exactly what a test says, also what no decent client does: TLS, HTTP, websockets, by hand."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

SECONDS = 10
_ANY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class HasCertificate(Protocol):
    """What holds a certificate and its key in one PEM file."""

    @property
    def cert_file(self) -> Path: ...


class Refused(Exception):
    """The other side ended the connection without an answer."""


@dataclass(frozen=True)
class Response:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def context(device: HasCertificate | None = None, *, tls: str | None = None) -> ssl.SSLContext:
    """A client's TLS context; `tls` "1.2" or "1.3" fixes the version. The server's name is tested elsewhere."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if tls is not None:
        made.minimum_version = made.maximum_version = {
            "1.2": ssl.TLSVersion.TLSv1_2,
            "1.3": ssl.TLSVersion.TLSv1_3,
        }[tls]
    if device is not None:
        made.load_cert_chain(device.cert_file)
    return made


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turns the many ways in which a connection is ended into `Refused`."""
    try:
        yield
    except TimeoutError:
        raise
    except (ssl.SSLError, ConnectionError, EOFError, BrokenPipeError) as error:
        forget_errors()
        raise Refused(repr(error)) from error


def forget_errors() -> None:
    """Empties OpenSSL's list of this thread's errors. As of Python 3.13 ssl leaves that of a broken connection in
    it, and the next read of another one, which is whole, raises it (python/cpython#148594).
    """
    with contextlib.suppress(ssl.SSLError):
        _ANY.set_ciphers("none at all")  # the one call that does nothing else


class Connection:
    """One TLS connection, kept alive between requests. `source` is the address to come from (127.0.0.0/8)."""

    def __init__(
        self,
        port: int,
        device: HasCertificate | None = None,
        *,
        tls: str | None = None,
        session: ssl.SSLSession | None = None,
        with_context: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        server_name: str | None = "localhost",
    ) -> None:
        self.port = port
        self.context = with_context or context(device, tls=tls)
        with refusals():
            raw = socket.create_connection(("127.0.0.1", port), SECONDS, source_address=(source, 0))
            self.socket = self.context.wrap_socket(raw, server_hostname=server_name, session=session)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        with refusals():
            self.socket.sendall(data)

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
    ) -> Response:
        """Sends one request; a header None is left out (Host and Content-Length are there by themselves)."""
        fields: dict[str, str | None] = {"Host": f"localhost:{self.port}"}
        if body is not None:
            fields["Content-Length"] = str(len(body))
        fields.update(headers or {})
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
        self.send(f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + (body or b""))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        if method == "HEAD" or status < 200 or status in (204, 304):
            return Response(status, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return Response(status, headers, self._chunks())
        if "content-length" in headers:
            return Response(status, headers, self._exactly(int(headers["content-length"])))
        return Response(status, headers, self.rest())

    def is_closed(self, seconds: float = SECONDS) -> bool:
        """Whether the other side ends the connection within `seconds`; what it still sends is read and dropped."""
        deadline = time.monotonic() + seconds
        try:
            while (left := deadline - time.monotonic()) > 0:
                self.socket.settimeout(left)
                if not self.socket.recv(65536):
                    return True
        except TimeoutError:
            return False
        except OSError:
            forget_errors()
            return True
        return False

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        data = self.buffer
        try:
            while chunk := self.socket.recv(65536):
                data += chunk
        except OSError:
            forget_errors()
        self.buffer = b""
        return data

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _more(self) -> None:
        with refusals():
            chunk = self.socket.recv(65536)
            if not chunk:
                raise EOFError("closed without an answer")
        self.buffer += chunk

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        data, _, self.buffer = self.buffer.partition(mark)
        return data

    def _exactly(self, count: int) -> bytes:
        while len(self.buffer) < count:
            self._more()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def _chunks(self) -> bytes:
        data = b""
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            data += self._exactly(size)
            self._exactly(2)
        self._until(b"\r\n")
        return data


def request(
    port: int,
    method: str,
    target: str,
    device: HasCertificate | None = None,
    *,
    headers: Mapping[str, str | None] | None = None,
    body: bytes | None = None,
    tls: str | None = None,
    source: str = "127.0.0.1",
) -> Response:
    """One request on a connection of its own; Refused when there is no answer."""
    with Connection(port, device, tls=tls, source=source) as connection:
        return connection.request(method, target, headers={"Connection": "close", **(headers or {})}, body=body)


class WebSocket(Connection):
    """A websocket client. Refused when the upgrade is not answered; `upgrade` holds any other answer than 101."""

    def __init__(
        self,
        port: int,
        target: str,
        device: HasCertificate | None = None,
        *,
        headers: Mapping[str, str | None] | None = None,
        tls: str | None = None,
        source: str = "127.0.0.1",
    ) -> None:
        super().__init__(port, device, tls=tls, source=source)
        key = base64.b64encode(os.urandom(16)).decode()
        self.upgrade = self.request(
            "GET",
            target,
            headers={
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": key,
                **(headers or {}),
            },
        )

    @property
    def is_open(self) -> bool:
        return self.upgrade.status == 101

    def send_text(self, text: str) -> None:
        data = text.encode()
        mask = os.urandom(4)
        size = struct.pack("!B", 0x80 | len(data)) if len(data) < 126 else struct.pack("!BH", 0xFE, len(data))
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
        self.send(b"\x81" + size + mask + masked)

    def receive(self) -> str:
        """The next text message."""
        while True:
            kind, length = self._exactly(2)
            length &= 0x7F
            if length == 126:
                length = struct.unpack("!H", self._exactly(2))[0]
            elif length == 127:
                length = struct.unpack("!Q", self._exactly(8))[0]
            data = self._exactly(length)
            if kind & 0x0F == 1:
                return data.decode()
            if kind & 0x0F == 8:
                raise Refused("the websocket was closed")
