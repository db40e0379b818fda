"""Requests inside of requests, at live HAProxy: class 11 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest
from tests.integration.gateway.house import WEBHOOK, House, fields, reason
from tests.integration.guard.rules import AWAY
from tests.support.clients import Connection, Refused, request
from tests.support.http2 import CONTINUATION, END_HEADERS, HEADERS, Http2, Stream, block, frame
from tests.support.nodered import node

from redlatch.policy.model import Rule

# --- 11 smuggling ------------------------------------------------------------------------------------------------

INNER = b"GET /flows HTTP/1.1\r\nHost: localhost\r\nX: "
SIZE = b"%x" % len(INNER)
POST = b"POST /hello HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n"
SMUGGLED = {
    "cl-te": POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n" % (5 + len(INNER)) + END + INNER,
    "te-cl": CHUNKED + b"Content-Length: 4\r\n\r\n" + SIZE + b"\r\n" + INNER + b"\r\n0\r\n\r\n",
    "two-cl": POST + b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "two-cl-reversed": POST + b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(INNER) + INNER,
    "cl-list": POST + b"Content-Length: 0, %d\r\n\r\n" % len(INNER) + INNER,
    "cl-empty": POST + b"Content-Length:\r\n\r\n" + INNER,
    "cl-plus": POST + b"Content-Length: +0\r\n\r\n" + INNER,
    "cl-minus": POST + b"Content-Length: -1\r\n\r\n" + INNER,
    "cl-hex": POST + b"Content-Length: 0x0\r\n\r\n" + INNER,
    "cl-huge": POST + b"Content-Length: 18446744073709551616\r\n\r\n" + INNER,
    "cl-blank": POST + b"Content-Length : 0\r\n\r\n" + INNER,
    "cl-underscore": POST + b"Content_Length: %d\r\n\r\n" % len(INNER) + INNER,
    "cl-fold": POST + b"Content-Length: 0\r\n %d\r\n\r\n" % len(INNER) + INNER,
    "te-fold": POST + b"Content-Length: 9\r\nTransfer-Encoding:\r\n chunked\r\n\r\n" + END + INNER,
    "obs-fold": POST + b"X: y\r\n Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(INNER) + INNER,
    "bare-lf": POST + b"X: y\nContent-Length: %d\n\n" % len(INNER) + INNER,
    "bare-lf-end": POST + b"Content-Length: 0\r\n\n" + INNER,
    "bare-cr": POST + b"X: y\rContent-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(INNER) + INNER,
    "te-unknown": POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + INNER,
    "te-identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
    "te-twice": CHUNKED + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n" + INNER,
    "te-list": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "te-chunked-twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "te-tab": POST + b"Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-vtab": POST + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-nul": POST + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n" + INNER,
    "te-quoted": POST + b'Transfer-Encoding: "chunked"\r\nContent-Length: 4\r\n\r\n0\r\n\r\n' + INNER,
    "te-blank": POST + b"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-underscore": POST + b"Transfer_Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "te-with-cl-1.0": POST.replace(b"1.1",
    b"1.0") + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" + INNER,
    "chunk-size-0x": CHUNKED + b"\r\n0x0\r\n\r\n" + INNER,
    "chunk-size-plus": CHUNKED + b"\r\n+0\r\n\r\n" + INNER,
    "chunk-size-blank": CHUNKED + b"\r\n0 \r\n\r\n" + INNER,
    "chunk-size-huge": CHUNKED + b"\r\n100000000" + SIZE + b"\r\n" + INNER,
    "chunk-bare-lf": CHUNKED + b"\r\n3\nabc\n0\n\n" + INNER,
    "chunk-ext-lf": CHUNKED + b"\r\n2;\nxx\r\n" + SIZE + b"\r\n0\r\n\r\n" + INNER,
    "chunk-ext": CHUNKED + b"\r\n3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n" + INNER,
    "chunk-no-crlf": CHUNKED + b"\r\n3\r\nabcde0\r\n\r\n" + INNER,
    "trailer-cl": CHUNKED + b"\r\n0\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "get-body": POST.replace(b"POST", b"GET") + b"Content-Length: %d\r\n\r\n" % len(INNER) + INNER,
    "empty-name": POST + b": y\r\nContent-Length: 0\r\n\r\n" + INNER,
    "line-without-colon": POST + b"Content-Length: 0\r\nX\r\n\r\n" + INNER,
    "blank-before-first": POST + b" X: y\r\nContent-Length: 0\r\n\r\n" + INNER,
    "version": POST.replace(b"1.1", b"1.1 HTTP/1.1") + b"Content-Length: 0\r\n\r\n" + INNER,
    "version-9": POST.replace(b"1.1", b"9.9") + b"Content-Length: 0\r\n\r\n" + INNER,
    "version-0.9": b"POST /hello\r\n" + INNER,
    "expect": POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
}  # fmt: skip
ENDS = b"y\r\nConnection: close\r\n\r\n"


def unambiguous(head: bytes) -> bool:
    """Whether no two programs could disagree on where the request ends that begins so."""
    lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    found = fields(head)
    length, coding = found.get("content-length", []), found.get("transfer-encoding", [])
    return (
        re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/1\.[01]", lines[0]) is not None
        and all(re.fullmatch(rb"[a-z0-9-]+: [\t\x20-\x7e\x80-\xff]*", line) for line in lines[1:])
        and (length, coding) in (([], []), ([], ["chunked"]), ([*length[:1]], []))
        and all(re.fullmatch(r"[0-9]+", one) for one in length)
    )


@pytest.mark.parametrize("how", SMUGGLED)
def test_11_nothing_is_smuggled(house: House, how: str) -> None:
    """Whatever is said of a body's length: Node-RED gets requests of one meaning only, and of those that were
    answered as let in, not one more.
    """
    house.ruled(WEBHOOK, Rule(3, anyone=True, path="/hello"))
    with Connection(house.port, source=AWAY) as connection:
        connection.send(SMUGGLED[how] + ENDS)
        connection.socket.settimeout(2)
        answers = connection.rest()
    let_in = answers.count(b"x-reached: ")
    assert len(house.upstream.seen) <= max(let_in, 1)  # one that is never answered, for its body does not end
    for head in house.upstream.seen:
        assert unambiguous(head), head
        assert b"/flows" not in head.partition(b"\r\n")[0]
    # And what comes next by another connection is answered by itself
    house.upstream.seen.clear()
    assert reason(request(house.port, "POST", "/hello", body=b"{}")) == "ok"
    assert house.reached == ["POST /hello"]


_NODE = """
const server = require("node:http").createServer((req, res) => {
  let body = "";
  req.on("data", (data) => { body += data; }).on("end", () => res.end(`${req.method} ${req.url} [${body}]`));
}).listen(0, "127.0.0.1", () => console.log(server.address().port));
"""


@pytest.mark.parametrize(
    ("raw", "answers"),
    [
        # chunks, though HTTP/1.0 knows none
        (POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n" + SIZE + b"\r\n" + INNER, {400}),
        (SMUGGLED["cl-huge"] + ENDS, {400}),  # which for HAProxy is no body at all
        (POST + b"Content-Length: 3\r\n\r\nabc", {200}),
    ],
    ids=["te-1.0", "cl-huge", "control"],
)
def test_11_node_is_not_led_astray(raw: bytes, answers: set[int]) -> None:
    """What HAProxy hands on and others might understand in another way, Node.js refuses."""
    with subprocess.Popen([node(), "-e", _NODE], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            with socket.create_connection(("127.0.0.1", int(server.stdout.readline())), 10) as plain:
                plain.sendall(raw)
                plain.shutdown(socket.SHUT_WR)
                answer = b""
                while data := plain.recv(65536):
                    answer += data
        finally:
            server.kill()
    assert {int(one) for one in re.findall(rb"HTTP/1.1 ([0-9]+)", answer)} == answers
    assert b"/flows" not in answer


def test_11_a_body_is_no_request(house: House) -> None:
    """A request inside of the body of one that is refused, or let in, is never answered; the next real one is."""
    house.ruled(WEBHOOK)
    inner = b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    for target, status in (("/hello", 200), ("/flows", 403)):
        for coded in (False, True):
            house.upstream.seen.clear()
            with Connection(house.port, source=AWAY) as connection:
                if coded:
                    head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                    connection.send(head.encode() + chunked)
                    assert connection.response().status == status
                else:
                    assert connection.request("POST", target, body=inner).status == status
                try:
                    assert connection.request("POST", "/hello", body=b"{}").status == 200
                except Refused:
                    assert status == 403  # a connection may end with a refusal
                assert connection.buffer == b""
            assert len(house.upstream.seen) <= 2
            assert set(house.reached) <= {"POST /hello"}


def test_11_http2_bodies(house: House) -> None:
    """A length that is none, or not the body's, and framing that HTTP/2 does not know, smuggle nothing."""
    house.ruled(WEBHOOK)
    for headers in (
        [("content-length", "0")], [("content-length", "1")], [("content-length", "500")],
        [("content-length", "0"), ("content-length", str(len(INNER)))], [("content-length", "+5")],
        [("transfer-encoding", "chunked")], [("te", "chunked")], [("connection", "transfer-encoding")],
        [("keep-alive", "1")], [("proxy-connection", "x")], [("content_length", "0")],
        [("x", "y\r\ntransfer-encoding: chunked")], [("transfer-encoding\r\nx", "chunked")],
        [("x", "y\r\n\r\n" + INNER.decode())], [("x:y", "z")], [("x y", "z")], [("", "z")],
    ):  # fmt: skip
        house.upstream.seen.clear()
        try:
            with Http2(house.port, source=AWAY) as http2:
                got = reason(http2.request("POST", "/hello", headers=headers, body=INNER + ENDS))
        except Refused:
            got = "reset"
        assert len(house.upstream.seen) <= 1, headers
        for head in house.upstream.seen:
            assert unambiguous(head), head
            assert head.startswith(b"POST /hello ")
        assert reason(request(house.port, "POST", "/hello", body=b"{}")) == "ok", (headers, got)
        assert set(house.reached) == {"POST /hello"}
    house.upstream.seen.clear()
    with Http2(house.port, source=AWAY) as http2:
        assert reason(http2.request("POST", "/hello", body=INNER + ENDS)) == "ok"
    assert house.reached == ["POST /hello"]


def test_11_a_head_that_goes_on(house: House) -> None:
    """HTTP/2: a head in several frames is one request; a path of the second frame counts, a second one does
    not.
    """
    house.ruled(WEBHOOK)
    first = [(":method", "POST"), (":scheme", "https"), (":authority", "localhost")]
    with Http2(house.port, source=AWAY) as http2:
        http2.streams[1] = Stream()
        http2.connection.send(
            frame(HEADERS, 1, 1, block(first)) + frame(CONTINUATION, END_HEADERS, 1, block([(":path", "/hello")]))
        )
        assert reason(http2.response(1)) == "ok"
    with pytest.raises(Refused), Http2(house.port, source=AWAY) as http2:
        http2.response(http2.open([*first, (":path", "/hello"), (":path", "/flows")]))
    assert house.reached == ["POST /hello"]
