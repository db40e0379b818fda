"""One https origin: sockets, TLS, limits, and uvicorn's HTTP/1.1 in between.

uvicorn's own server knows one TLS context for its whole life, and hands applications nothing of the client's
certificate. Here an accept loop hands each connection to uvicorn's protocol instead: the certificate comes from
the TLS layer into `scope["extensions"]["tls"]["certificate"]` (DER, or None), a changed server certificate or CA
counts from the next handshake, and who is slow or many is dropped: uvicorn has no time limit for a request's
head, and asyncio's for a handshake is 60 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from redlatch.errors import FileProblem
from redlatch.operations.trials import uptime

#: An ASGI application.
App = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds, bytes and connections. Tests make them smaller."""

    handshake: float = 5
    head: float = 10
    exchange: float = 60  # a whole request with its answer: a change waits up to 13 s for store and guard
    idle: int = 15  # between two requests
    head_bytes: int = 16384
    half_open: int = 64
    per_address: int = 16
    total: int = 256


def server_context(
    pem: Path | str, *, device_ca: str | None = None, oldest: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    """TLS with key, leaf and chain in the file `pem`. With `device_ca` (PEM) a client needs a certificate of it.

    No tickets: a resumed session would bring an older certificate than the one that a browser has now. The console
    (`device_ca`) speaks TLS 1.3 only, unless `oldest` says otherwise; enrolment is for older phones and
    microcontrollers too. Raises FileProblem for a file that cannot be served with.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(pem)
        if device_ca is not None:
            context.minimum_version = oldest or ssl.TLSVersion.TLSv1_3
            context.load_verify_locations(cadata=device_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ValueError) as error:  # SSLError is an OSError
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise FileProblem(
            f"cannot serve with {pem}: {reason.lower()}", hint="`redlatch refresh` writes it anew"
        ) from error
    return context


class Origin:
    """Serves `app` on whatever sockets it is given, until `close`. One event loop."""

    def __init__(
        self,
        app: App,
        context: Callable[[], ssl.SSLContext],
        *,
        limits: Limits | None = None,
        admit: Callable[[str], bool] = lambda _: True,
        refused: Callable[[str, str], None] = lambda _address, _why: None,
    ) -> None:
        """`context()` is asked for every connection, `admit(address)` before its handshake.

        `refused(address, why)` hears of handshakes that failed.
        """
        self.limits = limits or Limits()
        self._context = context
        self._admit = admit
        self._refused = refused
        self._config = Config(
            _with_certificate(app),
            http=H11Protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,  # the default believes X-Forwarded-For from loopback
            server_header=False,
            date_header=False,
            timeout_keep_alive=self.limits.idle,
            h11_max_incomplete_event_size=self.limits.head_bytes,
        )
        self._config.load()
        self._state = ServerState()
        self._open: Counter[str] = Counter()
        self._half_open = 0
        self._accepting: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        self._sockets: list[socket.socket] = []
        self._one_left = asyncio.Event()

    @property
    def ports(self) -> set[int]:
        """The ports that are open."""
        return {sock.getsockname()[1] for sock in self._sockets}

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that are listened on."""
        return tuple(str(sock.getsockname()[0]) for sock in self._sockets)

    def open(self, sockets: Sequence[socket.socket]) -> None:
        """Begins to accept on listening, non-blocking sockets, which it closes itself later."""
        for sock in sockets:
            self._sockets.append(sock)
            task = asyncio.get_running_loop().create_task(self._accept(sock))
            self._accepting.add(task)
            task.add_done_callback(self._accepting.discard)

    def renew(self) -> None:
        """Ends all connections, each after the answer that is under way; the ports stay open."""
        for protocol in list(self._state.connections):
            protocol.shutdown()

    async def shut(self) -> None:
        """Closes the ports at once; what is connected stays so."""
        for task in self._accepting:
            task.cancel()
        # First they leave the selector: a socket that is held elsewhere would stay in it when it is closed here.
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def close(self, patience: float = 5) -> None:
        """Closes the ports at once, and connections when their answers are out or `patience` seconds are over."""
        await self.shut()
        for task in self._handshakes:
            task.cancel()
        await asyncio.gather(*self._handshakes, return_exceptions=True)
        for protocol in list(self._state.connections):
            protocol.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._open:
                    self._one_left.clear()
                    await self._one_left.wait()
        for protocol in list(self._state.connections):
            protocol.transport.abort()

    async def _accept(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, peer = await loop.sock_accept(sock)
            except OSError:  # out of descriptors, or the peer was gone before we took it
                await asyncio.sleep(0.1)
                continue
            address = str(peer[0])
            full = self._half_open >= self.limits.half_open or self._open.total() >= self.limits.total
            if full or self._open[address] >= self.limits.per_address or not self._admit(address):
                connection.close()
                continue
            self._open[address] += 1
            self._half_open += 1
            task = loop.create_task(self._handshake(connection, address))
            self._handshakes.add(task)
            task.add_done_callback(self._handshakes.discard)

    async def _handshake(self, connection: socket.socket, address: str) -> None:
        protocol = _Protocol(self, address)
        try:
            connection.setblocking(False)
            # proto 0 keeps asyncio from doing this itself: keep-alive answers then take 44 ms instead of 0.2.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=self.limits.handshake,
                ssl_shutdown_timeout=2,
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            connection.close()
            why = str(getattr(error, "reason", None) or error)
            if why:  # whoever closes without a word was only looking whether somebody is there
                self._refused(address, why)
        finally:
            self._half_open -= 1
            if protocol.transport is None:
                self.left(address)

    def left(self, address: str) -> None:
        """A connection of that address is over."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]
        self._one_left.set()


class _Protocol(H11Protocol):
    """uvicorn's, with the client's certificate and with time limits."""

    def __init__(self, origin: Origin, address: str) -> None:
        super().__init__(origin._config, origin._state, {}, asyncio.get_running_loop())
        self._origin = origin
        self._address = address
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        self.app_state = {"certificate": tls.getpeercert(binary_form=True), "since": uptime()}
        self._limit(self._origin.limits.head)

    def data_received(self, data: bytes) -> None:
        if self._timer is None:  # the first byte of a further head
            self._limit(self._origin.limits.head)
        super().data_received(data)
        if not self._busy and self.cycle is not None and not self.cycle.response_complete:
            self._busy = True
            self._limit(self._origin.limits.exchange)

    def on_response_complete(self) -> None:
        self._busy = False
        self._limit(None)
        unread = self.conn.their_state is h11.SEND_BODY
        super().on_response_complete()
        if unread:  # answered before all of it came: uvicorn would read the rest, however long
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._limit(None)
        super().connection_lost(exc)
        # uvicorn forgets it after a reset: 2,400 such connections held 256 MB (34 MB with this line).
        self._unset_keepalive_if_required()
        self._origin.left(self._address)

    def _limit(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._abort)

    def _abort(self) -> None:
        self.transport.abort()


def _with_certificate(app: App) -> App:
    """Tells `app` of the client's certificate where ASGI's TLS extension would, and since when (uptime, in
    seconds) the connection is there.
    """

    async def told(scope: Any, receive: Any, send: Any) -> None:
        state = scope.pop("state", {})
        extensions = scope.setdefault("extensions", {})
        extensions["tls"] = {"certificate": state.get("certificate")}
        extensions["redlatch.connection"] = {"since": state.get("since", 0.0)}
        await app(scope, receive, send)

    return told
