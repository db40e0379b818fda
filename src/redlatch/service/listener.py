"""A small https listener that lives for minutes: one request per connection, hard limits, private peers only.

It carries the two pages that exist before a device has its key: the handover of a link and the test port. The
handler is a plain function and runs in the one event loop, so that what it decides happens one after the other.
Limits as measured for listeners that strangers reach: 5 s for a handshake (asyncio's default is 60), 10 s for a
request's head and body together, 16 connections per address and 64 in all.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from redlatch.errors import EngineError, FileProblem, InvalidInput
from redlatch.operations import machine

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes and connections. Tests make them smaller; nobody makes them larger."""

    handshake: float = 5
    request: float = 10
    response: float = 10
    head_bytes: int = 8192
    body_bytes: int = 4096
    per_address: int = 16
    total: int = 64


@dataclass(frozen=True, slots=True)
class Request:
    """What one connection asked. Header names are lower case; `certificate` is DER, checked by OpenSSL."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    peer: str
    certificate: bytes | None


@dataclass(frozen=True, slots=True)
class Response:
    """`after` is called once with whether every byte was handed to the peer's connection."""

    status: int
    body: bytes = b""
    media_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    after: Callable[[bool], None] | None = None


Handler = Callable[[Request], Response]


class _Malformed(Exception):
    """A request that gets an answer of its own, or none (status None)."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def is_private(address: str) -> bool:
    """Whether `address` (as a socket reports it: IPv4-mapped, with a zone id) is private."""
    try:
        return machine.is_private(ipaddress.ip_address(address))
    except ValueError:
        return False


def bind(addresses: Sequence[str], port: int = 0, *, told: bool = False) -> list[socket.socket]:
    """Listening sockets on all `addresses`, the same port on each (0: a free one).

    Refuses public and unspecified addresses unless the operator named them (`told`): nothing of ours listens
    to the internet by default. InvalidInput for those, EngineError when an address or port cannot be had.
    """
    if not addresses:
        raise EngineError(
            "this machine has no address in a private network",
            hint="connect it to the network, or name an address with --listen",
        )
    for address in addresses:
        if not told and not is_private(address):
            raise InvalidInput(
                f"{address} is not an address of a private network",
                hint="name it with --listen if it shall be reachable there",
            )
    for last_try in (False, False, True):
        sockets: list[socket.socket] = []
        chosen = port
        try:
            for address in addresses:
                sockets.append(_listen(address, chosen))
                chosen = sockets[0].getsockname()[1]
        except OSError as error:
            for sock in sockets:
                sock.close()
            # A free port on the first address may be taken on the second one: another one then.
            if port == 0 and len(sockets) > 0 and not last_try:
                continue
            raise EngineError(
                f"cannot listen on {address} port {chosen}: {(error.strerror or str(error)).lower()}",
                hint="name another address with --listen or another port with --listen-port",
            ) from error
        return sockets
    raise EngineError("no free port was found", hint="name one with --listen-port")


def _listen(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(64)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def server_context(pem: Path, *, device_ca: str | None = None) -> ssl.SSLContext:
    """TLS as this site's server: `pem` holds key, leaf and chain. With `device_ca` (PEM) clients need one too.

    No tickets: a resumed session would bring an older certificate than the one that just came in.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(pem)
        if device_ca is not None:
            context.load_verify_locations(cadata=device_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        raise FileProblem(
            f"cannot serve with {pem}: {reason.lower()}", hint="`redlatch refresh` writes it anew"
        ) from error
    return context


class Listener:
    """Serves `handler` on `sockets` until `stop()` or the end of `serve`'s caller; closes the sockets itself."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        context: ssl.SSLContext,
        handler: Handler,
        limits: Limits | None = None,
    ) -> None:
        self._sockets = sockets
        self._context = context
        self._handler = handler
        self._limits = limits or Limits()
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, until: asyncio.Event, seconds: float) -> None:
        """Serves until `until` is set or `seconds` are over. The port is closed after it."""
        accepting = [asyncio.create_task(self._accept(sock)) for sock in self._sockets]
        try:
            async with asyncio.timeout(seconds):
                await until.wait()
        except TimeoutError:
            pass
        finally:
            for sock in self._sockets:
                sock.close()
            for task in (*accepting, *self._tasks):
                task.cancel()
            await asyncio.gather(*accepting, *self._tasks, return_exceptions=True)

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(sock)
            except OSError:  # out of descriptors, or the peer was gone before we took it
                await asyncio.sleep(0.1)
                continue
            address = str(peer[0])
            full = self._open.total() >= self._limits.total
            if not is_private(address) or full or self._open[address] >= self._limits.per_address:
                connection.close()
                continue
            self._open[address] += 1
            task = asyncio.create_task(self._connection(connection, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connection(self, connection: socket.socket, address: str) -> None:
        try:
            connection.setblocking(False)
            # proto 0 keeps asyncio from doing this itself: 44 ms instead of 0.2 (measured).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._exchange(connection, address)
        except (OSError, ssl.SSLError, TimeoutError, EOFError, asyncio.LimitOverrunError):
            pass  # whoever breaks off, is slow or speaks no TLS gets nothing
        finally:
            connection.close()
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _exchange(self, connection: socket.socket, address: str) -> None:
        limits = self._limits
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=limits.head_bytes)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=self._context,
            ssl_handshake_timeout=limits.handshake,
            ssl_shutdown_timeout=2,
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        after: Callable[[bool], None] | None = None
        sent = False
        try:
            try:
                async with asyncio.timeout(limits.request):
                    request = await self._read(reader, writer, address)
            except _Malformed as fault:
                response = Response(fault.status, HTTPStatus(fault.status).phrase.encode())
            else:
                response = self._handler(request)
                after = response.after
            async with asyncio.timeout(limits.response):
                transport.set_write_buffer_limits(0)  # so that drain() waits for the last byte
                writer.write(_wire(response))
                await writer.drain()
            sent = True
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                await writer.wait_closed()  # first, because `after` may end the listener and with it this task
            if after is not None:
                after(sent)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> Request:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as error:
            raise _Malformed(431) from error
        method, target, headers = _parse(head)
        length = headers.get("content-length", "0")
        if "transfer-encoding" in headers or not (length.isascii() and length.isdigit()) or len(length) > 9:
            raise _Malformed(400)
        if int(length) > self._limits.body_bytes:
            raise _Malformed(413)
        body = await reader.readexactly(int(length))
        tls = writer.get_extra_info("ssl_object")
        return Request(method, target, headers, body, address, tls.getpeercert(binary_form=True))


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """asyncio.run, with ctrl-c held back until the loop can take it: before that it tears a half-made loop apart,
    which says so in a traceback.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    async def main() -> _T:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return await coroutine

    try:
        return asyncio.run(main())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    """The head of an HTTP/1.1 request, strictly: what could be read in two ways is malformed."""
    try:
        first, *lines = head.decode("ascii").removesuffix("\r\n\r\n").split("\r\n")
        method, target, version = first.split(" ")
    except ValueError as error:
        raise _Malformed(400) from error
    if version not in ("HTTP/1.1", "HTTP/1.0") or not method.isalpha() or not target.startswith("/"):
        raise _Malformed(400)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.lower()
        # One Host, one Content-Length, one Origin: a second one is an attempt to be read in two ways.
        if not colon or not name or name != name.strip() or not value.isprintable() or name in headers:
            raise _Malformed(400)
        headers[name] = value.strip()
    return method, target, headers


def _wire(response: Response) -> bytes:
    status = HTTPStatus(response.status)
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {response.media_type}",
        f"Content-Length: {len(response.body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cross-Origin-Opener-Policy: same-origin",
        "Cross-Origin-Resource-Policy: same-origin",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii") + response.body
