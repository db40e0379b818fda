"""Before anybody is known: plain http, unfinished handshakes, floods."""

from __future__ import annotations

import socket as sockets
import ssl

import pytest
from tests.integration.guard.conftest import Lock
from tests.support.clients import Connection, Refused, request
from tests.support.wait import until


def say(port: int, data: bytes, source: str = "127.0.0.1") -> bytes:
    """Sends bytes without TLS; everything that comes back."""
    with sockets.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)) as raw:
        raw.sendall(data)
        answer = b""
        try:
            while chunk := raw.recv(4096):
                answer += chunk
        except ConnectionError:
            pass
        return answer


def test_plain_http_is_sent_to_https(lock: Lock) -> None:
    """http:// from a private network is answered with the https address of the same page."""
    answer = say(lock.port, b"GET /hello?a=1 HTTP/1.1\r\nHost: pi.local:1880\r\n\r\n").decode()
    assert answer.startswith("HTTP/1.1 308 ")
    assert "\r\nLocation: https://pi.local:1880/hello?a=1\r\n" in answer


def test_a_head_in_pieces_is_read(lock: Lock) -> None:
    """The first byte tells, the rest may come later."""
    with sockets.create_connection(("127.0.0.1", lock.port), 10) as raw:
        for part in (b"G", b"ET / HTTP/1.1\r\nHo", b"st: localhost\r\n\r\n"):
            raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
            raw.sendall(part)
        assert raw.recv(4096).startswith(b"HTTP/1.1 308 ")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", id="foreign-host"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", id="two-hosts"),
        pytest.param(b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", id="absolute-form"),
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n", id="control-character"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", id="header-injection"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 9000 + b"\r\n\r\n", id="endless"),
        pytest.param(b"\x00\x01\x02\x03", id="garbage"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n\r\n", id="ssh"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http2"),
        pytest.param(b"\x80\x2e\x01\x00\x02", id="sslv2"),
    ],
)
def test_anything_else_gets_nothing(lock: Lock, data: bytes) -> None:
    """What is neither TLS nor a proper request for a name of ours is closed without a byte."""
    assert say(lock.port, data) == b""


def test_a_handshake_in_pieces_completes(lock: Lock) -> None:
    """A client whose first packet is a single byte is served: the peek loses nothing."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.load_cert_chain(lock.admin.cert_file)
    tls = made.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with sockets.create_connection(("127.0.0.1", lock.port), 10) as raw:
        raw.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in (data := outgoing.read())[:1], data[1:]:
                    raw.sendall(byte)
                incoming.write(raw.recv(65536))
        tls.write(b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        raw.sendall(outgoing.read())
        answer = b""
        while b"hello true" not in answer:
            incoming.write(raw.recv(65536))
            try:
                answer += tls.read(65536)
            except ssl.SSLWantReadError:
                continue
        assert answer.startswith(b"HTTP/1.1 200")


def is_closed(raw: sockets.socket) -> bool:
    raw.setblocking(False)
    try:
        return raw.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        raw.setblocking(True)


def test_unfinished_connections_are_capped_per_address(lock: Lock) -> None:
    """Of one address at most 16 unfinished connections are kept, and others are not touched by it."""
    idle = [
        sockets.create_connection(("127.0.0.1", lock.port), source_address=("127.0.7.1", 0)) for _ in range(20)
    ]
    try:
        until(lambda: sum(map(is_closed, idle)) == 4, what="the cap")
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200
    finally:
        for raw in idle:
            raw.close()


def test_unfinished_connections_are_capped_in_all(lock: Lock) -> None:
    """At most 64 are kept in all; a device gets in all the same, because the oldest stranger makes room."""
    assert request(lock.port, "GET", "/hello", lock.admin).status == 200  # 127.0.0.1 is known now
    idle = [
        sockets.create_connection(("127.0.0.1", lock.port), source_address=(f"127.0.8.{host}", 0))
        for host in range(1, 11)
        for _ in range(8)
    ]
    try:
        until(lambda: sum(map(is_closed, idle)) >= 16, what="the cap")
        assert sum(map(is_closed, idle)) == 16
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200
        assert request(lock.port, "GET", "/hello", lock.admin, source="127.0.8.99").status == 200
    finally:
        for raw in idle:
            raw.close()


def test_an_idle_connection_ends_soon(lock: Lock) -> None:
    """Who says nothing, or stops in the middle of a handshake, is cut after a few seconds."""
    with (
        sockets.create_connection(("127.0.0.1", lock.port), 15) as silent,
        sockets.create_connection(("127.0.0.1", lock.port), 15) as halfway,
        sockets.create_connection(("127.0.0.1", lock.port), 15) as reading,
    ):
        halfway.sendall(b"\x16\x03\x01\x02\x00\x01")
        reading.sendall(b"GET / HT")
        assert [raw.recv(1) for raw in (silent, halfway, reading)] == [b"", b"", b""]


def test_a_flood_of_strangers_is_rationed(lock: Lock) -> None:
    """An address that only ever fails gets few handshakes; a device from another address gets in meanwhile."""

    def shakes() -> bool:
        """Whether the server begins the handshake, at the cost of a signature."""
        try:
            Connection(lock.port, source="127.0.9.1", tls="1.3").close()
        except Refused as refused:
            return "ConnectionResetError" not in str(refused) and "EOF" not in str(refused)
        return True

    begun = sum(shakes() for _ in range(80))
    assert begun < 60
    assert request(lock.port, "GET", "/hello", lock.admin).status == 200
    assert request(lock.port, "GET", "/hello", lock.admin, source="127.0.9.2").status == 200
