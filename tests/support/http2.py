"""An HTTP/2 client that does exactly what a test says, also what no decent client does: frames and HPACK by hand.

It writes literals only, and reads what HAProxy writes: no Huffman codes. RFC 9113, RFC 7541; websockets: RFC 8441.
"""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from tests.support.clients import Connection, HasCertificate, Refused, Response, context

Fields = Iterable[tuple[str, str]]

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 1, 1, 4, 8, 32
_ENABLE_CONNECT_PROTOCOL: Final = 8
# RFC 7541, appendix A: names in their order, with their values where there are some
_STATIC: Final = (  # noqa: SIM905
    ":authority :method=GET :method=POST :path=/ :path=/index.html :scheme=http :scheme=https :status=200 "
    ":status=204 :status=206 :status=304 :status=400 :status=404 :status=500 accept-charset "
    "accept-encoding=gzip,deflate accept-language accept-ranges accept access-control-allow-origin age allow "
    "authorization cache-control content-disposition content-encoding content-language content-length "
    "content-location content-range content-type cookie date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards "
    "proxy-authenticate proxy-authorization range referer refresh retry-after server set-cookie "
    "strict-transport-security transfer-encoding user-agent vary via www-authenticate"
).split()


@dataclass
class Stream:
    """One request's answer, as far as it has come. `error`: the code of the reset that ended it."""

    fields: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    ended: bool = False
    error: int | None = None

    @property
    def response(self) -> Response:
        return Response(int(dict(self.fields)[":status"]), dict(self.fields), self.body)


class Http2:
    """One HTTP/2 connection. Ended by the other side, or a request that is reset: `Refused`."""

    def __init__(
        self,
        port: int,
        device: HasCertificate | None = None,
        *,
        source: str = "127.0.0.1",
        server_name: str | None = "localhost",
        with_context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
        alpn: bool = True,
    ) -> None:
        made = with_context or context(device)
        if alpn:
            made.set_alpn_protocols(["h2"])
        self.port = port
        self.connection = Connection(
            port, with_context=made, source=source, server_name=server_name, session=session
        )
        self.connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.streams: dict[int, Stream] = {}
        self.settings: dict[int, int] = {}
        self.went_away = False
        self._next = 1
        self.connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b""))

    # --- sending

    def open(self, fields: Fields, *, end: bool = True) -> int:
        """Begins a request with exactly these fields; its stream's number."""
        number, self._next = self._next, self._next + 2
        self.streams[number] = Stream()
        self.fields(number, fields, end=end)
        return number

    def fields(self, number: int, fields: Fields, *, end: bool = True) -> None:
        """A block of fields: the first is the request's head, a later one its trailers."""
        flags = END_HEADERS | (END_STREAM if end else 0)
        self.connection.send(frame(HEADERS, flags, number, block(fields)))

    def data(self, number: int, data: bytes, *, end: bool = False) -> None:
        self.connection.send(frame(DATA, END_STREAM if end else 0, number, data))

    def request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | Fields = (),
        body: bytes | None = None,
        trailers: Fields = (),
        authority: str | None = "localhost",
        scheme: str = "https",
    ) -> Response:
        """One request and its answer."""
        own = headers.items() if isinstance(headers, Mapping) else headers
        pseudo = [(":method", method), (":scheme", scheme), (":path", target)]
        if authority is not None:
            pseudo.append((":authority", authority))
        number = self.open([*pseudo, *own], end=body is None and not trailers)
        if body is not None:
            self.data(number, body, end=not trailers)
        if trailers:
            self.fields(number, trailers)
        return self.response(number)

    def websocket(self, target: str, *, headers: Fields = (), protocol: str = "websocket") -> int:
        """Asks for a websocket (RFC 8441) as browsers do; its stream's number. `head` says what came of it."""
        asked = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "https"), (":path", target)]
        fields = [*asked, (":authority", "localhost"), ("sec-websocket-version", "13"), *headers]
        return self.open(fields, end=False)

    # --- receiving

    def response(self, number: int) -> Response:
        """The whole answer."""
        while not self.streams[number].ended:
            self._frame(number)
        return self.streams[number].response

    def head(self, number: int) -> Response:
        """What there is of it once its head has come."""
        while not self.streams[number].fields:
            self._frame(number)
        return self.streams[number].response

    def receive(self, number: int, count: int) -> bytes:
        """That many bytes of a stream that stays open."""
        one = self.streams[number]
        while len(one.body) < count:
            self._frame(number)
        data, one.body = one.body[:count], one.body[count:]
        return data

    def ended(self, number: int) -> bool:
        """Waits until the stream is over, however that comes about; False: not within the time for an answer."""
        try:
            while not self.streams[number].ended:
                self._frame(number)
        except Refused:
            return True
        except TimeoutError:
            return False
        return True

    def _frame(self, number: int) -> None:
        one = self.streams[number]
        if one.error is not None:
            raise Refused(f"stream {number} was reset: {one.error}")
        head = self.connection._exactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        about = int.from_bytes(head[5:], "big") & 0x7FFFFFFF
        payload = self.connection._exactly(length)
        stream = self.streams.setdefault(about, Stream())
        if kind == SETTINGS and not flags & ACK:
            self.settings |= dict(struct.iter_unpack("!HI", payload))
            self.connection.send(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.connection.send(frame(PING, ACK, 0, payload))
        elif kind == HEADERS:
            assert flags & END_HEADERS, "a block in several frames is not read here"
            assert not flags & (PADDED | PRIORITY)
            stream.fields += unblock(payload)
        elif kind == DATA:
            assert not flags & PADDED
            stream.body += payload
            if payload:
                more = struct.pack("!I", len(payload))
                self.connection.send(frame(WINDOW_UPDATE, 0, 0, more) + frame(WINDOW_UPDATE, 0, about or 1, more))
        elif kind == RST_STREAM:
            stream.error = int.from_bytes(payload, "big")
            stream.ended = True
            if about == number and not (stream.error == 0 and stream.fields):
                raise Refused(f"stream {number} was reset: {stream.error}")
        elif kind == GOAWAY:
            self.went_away = True
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            stream.ended = True

    @property
    def offers_websockets(self) -> bool:
        """Whether the server's settings say so; they come before any answer."""
        return self.settings.get(_ENABLE_CONNECT_PROTOCOL) == 1

    def is_closed(self) -> bool:
        return self.connection.is_closed()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def block(fields: Fields) -> bytes:
    """HPACK: each field as a literal that is never indexed, names and values as they are."""
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields)


def _text(text: str) -> bytes:
    data = text.encode("latin-1")
    return _number(len(data), 7) + data


def _number(number: int, bits: int) -> bytes:
    most = (1 << bits) - 1
    if number < most:
        return bytes([number])
    data, number = bytes([most]), number - most
    while number >= 128:
        data, number = data + bytes([number % 128 + 128]), number // 128
    return data + bytes([number])


def unblock(data: bytes) -> list[tuple[str, str]]:
    """HPACK as HAProxy writes it: the static table, no Huffman codes, nothing to remember."""
    fields, at = [], 0

    def number(bits: int) -> int:
        nonlocal at
        found = data[at] & (1 << bits) - 1
        at += 1
        if found < (1 << bits) - 1:
            return found
        shift = 0
        while True:
            found += (data[at] & 127) << shift
            at, shift = at + 1, shift + 7
            if not data[at - 1] & 128:
                return found

    def text() -> str:
        nonlocal at
        assert not data[at] & 0x80, "a Huffman code"
        length = number(7)
        at += length
        return data[at - length : at].decode("latin-1")

    while at < len(data):
        if data[at] & 0x80:
            name, _, value = _STATIC[number(7) - 1].partition("=")
        elif data[at] & 0xE0 == 0x20:  # a new size of the table that is not used
            number(5)
            continue
        else:
            index = number(6 if data[at] & 0x40 else 4)
            name = _STATIC[index - 1].partition("=")[0] if index else text()
            value = text()
        fields.append((name, value))
    return fields
