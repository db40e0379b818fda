"""What attackers do with HTTP and websockets, at live HAProxy: classes 10 to 12 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable

import pytest
from tests.integration.gateway.house import House, fields, reason
from tests.integration.guard.rules import AWAY
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.http2 import CONTINUATION, END_HEADERS, HEADERS, Http2, Stream, block, frame
from tests.support.nodered import node

from redlatch.policy.model import Areas, Rule

WEBHOOK = Rule(2, anyone=True, path="/hello", methods=("POST",))
WEBSOCKETS = Rule(3, anyone=True, area="websockets")
AREAS = Areas(
    dashboards=("/dashboard",), http_in=("/hello", "/in/:what"), static=("/files",),
    websockets=("/ws/echo", "/ws/plain", "/hello"),
)  # fmt: skip


def asks(http2: bool, house: House, *how: object) -> Connection | Http2:
    """A stranger's connection from far away, or a device's."""
    return Http2(house.port, *how, source=AWAY) if http2 else Connection(house.port, *how, source=AWAY)  # type: ignore[arg-type]


BOTH = pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])

# --- 10 paths ----------------------------------------------------------------------------------------------------

BESIDE = [
    ("GET", "/hello"), ("HEAD", "/hello"), ("PUT", "/hello"), ("DELETE", "/hello"), ("OPTIONS", "/hello"),
    ("MKCOL", "/hello"), ("post", "/hello"), ("POST", "/HELLO"), ("POST", "//hello"), ("POST", "/hell%6f"),
    ("POST", "/hell%6F"), ("POST", "/helloworld"), ("POST", "/hello;x"), ("POST", "/hello;x=1"),
    ("POST", "/hello/../flows"), ("POST", "/hello/%2e%2e/flows"), ("POST", "/hello/.%2E/flows"),
    ("POST", "/hello%2f..%2fflows"), ("POST", "/hello%2F"), ("POST", "/hello%5c..%5cflows"), ("POST", "/hello%00"),
    ("POST", "/hello%0d%0ax"), ("POST", "/hello%"), ("POST", "/hello%zz"), ("POST", "/./hello"), ("POST", "/.//hello"),
    ("POST", "/hello/."), ("POST", "/hello//x"), ("POST", "/x/../hello"), ("POST", "/%68ello"), ("POST", "/%2568ello"),
    ("POST", "/flows"), ("POST", "/FLOWS"), ("POST", "/Flows/"), ("POST", "/"), ("GET", "/flows"), ("GET", "/files/x"),
    ("POST", "/in/x"), ("POST", "/hell"), ("POST", "/hell/o"), ("POST", "/red/hello"), ("POST", "/flows?/hello"),
    ("POST", "/hello:x"), ("POST", "/hello.json"), ("POST", "/hello,x"),
]  # fmt: skip


@BOTH
def test_10_a_webhook_and_nothing_beside_it(house: House, http2: bool) -> None:
    """A path that is open to anyone opens that path, and what lies below it, with that method, in that spelling."""
    house.ruled(WEBHOOK, areas=AREAS)
    with asks(http2, house) as connection:
        for method, target in BESIDE:
            answer = connection.request(method, target, body=b"{}" if method in ("POST", "PUT", "post") else None)
            assert answer.status == 403, target
            assert method == "HEAD" or reason(answer) == "no-certificate", target
        assert house.reached == []
        for target in ("/hello", "/hello?a=//..;/%2e", "/hello/", "/hello/x", "/hello/%c3%bc%20y", "/hello?"):
            assert reason(connection.request("POST", target, body=b"{}")) == "ok", target
    assert house.reached == [
        f"POST {target}"
        for target in ("/hello", "/hello?a=//..;/%2e", "/hello/", "/hello/x", "/hello/%c3%bc%20y", "/hello?")
    ]


@pytest.mark.parametrize(
    "byte", ["\\", "|", "^", "`", "{", '"', "<", "\x7f", "\x80", "\xfc", " ", "\t", "\x01", "\0", "#"]
)
def test_10_bytes_that_do_not_belong_in_a_target(house: House, byte: str) -> None:
    """In the path or the query: refused, or (what is printable in a query) handed on as it is. A blank ends the
    target."""
    house.ruled(WEBHOOK, areas=AREAS)
    printable_query = byte.isascii() and byte.isprintable() and byte not in " #"
    for http2 in (False, True):
        for target in (f"/hello{byte}", f"/hello{byte}/../flows", f"/hello?{byte}", f"{byte}/hello"):
            house.upstream.seen.clear()
            try:
                with asks(http2, house) as connection:
                    if http2:
                        answer = connection.request("POST", target, body=b"")
                    else:
                        head = f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
                        connection.send(head.encode("latin-1"))  # type: ignore[union-attr]
                        answer = connection.response()  # type: ignore[call-arg]
                got = reason(answer)
            except Refused:
                got = "nothing"
            if target == f"/hello?{byte}" and printable_query and got == "ok":
                assert house.reached == [f"POST {target}"]
                continue
            if byte in " \t" and not http2 and got == "ok":
                assert house.reached == [f"POST {target.strip(byte)}"]
                continue
            assert got in ("no-certificate", "bad-target", "400", "nothing"), (http2, target)
            assert house.upstream.seen == []


@pytest.mark.parametrize("form", ["http://localhost{}", "https://localhost{}", "HTTP://localhost{}", "foo://localhost{}", "//localhost{}",
                                  "localhost{}", "https:{}", "?{}", "*{}"])  # fmt: skip
def test_10_other_forms_than_a_path(house: House, form: str) -> None:
    """A target that names a scheme or a host gets to nobody, whatever rule there is for its path."""
    house.ruled(WEBHOOK)
    with Connection(house.port, house.admin) as connection:
        assert reason(connection.request("POST", "/hello", body=b"")) == "ok"
        answer = connection.request("POST", form.format("/hello"), body=b"")
        if form.startswith("//"):  # a path, of the editor's
            assert house.reached == ["POST /hello", "POST //localhost/hello"]
            assert reason(request(house.port, "POST", form.format("/hello"), body=b"")) == "no-certificate"
            return
        assert reason(answer) in ("bad-target", "400")
    assert house.reached == ["POST /hello"]


@pytest.mark.parametrize(
    ("pseudo", "wanted"),
    [
        ({":scheme": "foo"}, "bad-target"), ({":scheme": "https://localhost/hello?"}, None), ({":scheme": ""}, None),
        ({":scheme": "http"}, "ok"), ({":path": "*"}, None), ({":path": ""}, None), ({":path": "hello"}, None),
        ({":path": "https://localhost/hello"}, None), ({":path": "//localhost/hello"}, "no-certificate"),
        ({":method": "PO ST"}, None), ({":method": "POST /hello HTTP/1.1\r\nx: "}, None), ({":method": ""}, None),
        ({":method": "CONNECT"}, None), ({":authority": "localhost\r\nx: y"}, None), ({":other": "x"}, None),
    ],
)  # fmt: skip
def test_10_pseudo_headers(house: House, pseudo: dict[str, str], wanted: str | None) -> None:
    """What HTTP/2 makes a target of: Node-RED gets a path, or nothing (None: HAProxy's own refusal, or ours)."""
    house.ruled(WEBHOOK)
    fine = {":method": "POST", ":scheme": "https", ":path": "/hello", ":authority": "localhost", **pseudo}
    try:
        with Http2(house.port) as http2:
            got = reason(http2.response(http2.open(fine.items())))
    except Refused:
        got = "reset"
    if wanted is None:
        assert got != "ok"
    elif got != "reset":
        assert got == wanted
    assert house.reached == (["POST /hello"] if wanted == "ok" else [])
    assert wanted != "ok" or got == "ok"


def test_10_prefixes_end_with_a_segment(house: House) -> None:
    """Of rules, of dashboards and of static files, with and without a slash at their end."""
    house.ruled(
        Rule(2, anyone=True, path="/a/b"), Rule(3, anyone=True, path="/c/"), Rule(4, anyone=True, area="dashboards"),
        Rule(5, anyone=True, area="static"),
        areas=Areas(dashboards=("/dash", "/ui/"), static=("/files", "/pub/")),
    )  # fmt: skip
    inside = ["/a/b", "/a/b/", "/a/b/c", "/c/", "/c/x", "/dash", "/dash/x", "/ui/x", "/ui/", "/files/x", "/pub/x"]
    outside = [
        "/a",
        "/a/",
        "/a/bc",
        "/a/b.",
        "/A/b",
        "/c",
        "/cx",
        "/dashboard",
        "/das",
        "/ui",
        "/uix",
        "/filesx",
        "/pub",
    ]
    with Connection(house.port) as connection:
        for target in inside:
            assert reason(connection.request("GET", target)) == "ok", target
        for target in outside:
            assert reason(connection.request("GET", target)) == "no-certificate", target
    assert house.reached == [f"GET {target}" for target in inside]


# --- 11 smuggling ------------------------------------------------------------------------------------------------

INNER = b"GET /flows HTTP/1.1\r\nHost: localhost\r\nX: "
SIZE = b"%x" % len(INNER)
POST = b"POST /hello HTTP/1.1\r\nHost: localhost\r\n"
SMUGGLED = {
    "cl-te": POST + b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(INNER)) + INNER,
    "te-cl": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + SIZE + b"\r\n" + INNER + b"\r\n0\r\n\r\n",
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
    "te-fold": POST + b"Content-Length: %d\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" % (5 + len(INNER)) + INNER,
    "obs-fold": POST + b"X: y\r\n Content-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(INNER) + INNER,
    "bare-lf": POST + b"X: y\nContent-Length: %d\n\n" % len(INNER) + INNER,
    "bare-lf-end": POST + b"Content-Length: 0\r\n\n" + INNER,
    "bare-cr": POST + b"X: y\rContent-Length: %d\r\nContent-Length: 0\r\n\r\n" % len(INNER) + INNER,
    "te-unknown": POST + b"Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + INNER,
    "te-identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + INNER,
    "te-twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + INNER,
    "te-list": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + INNER,
    "te-chunked-twice": POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n" + INNER,
    "te-tab": POST + b"Transfer-Encoding:\tchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-vtab": POST + b"Transfer-Encoding: \x0bchunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-nul": POST + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n" + INNER,
    "te-quoted": POST + b'Transfer-Encoding: "chunked"\r\nContent-Length: 4\r\n\r\n0\r\n\r\n' + INNER,
    "te-blank": POST + b"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-underscore": POST + b"Transfer_Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + INNER,
    "te-1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    "te-with-cl-1.0": POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n" + INNER,
    "chunk-size-0x": POST + b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n" + INNER,
    "chunk-size-plus": POST + b"Transfer-Encoding: chunked\r\n\r\n+0\r\n\r\n" + INNER,
    "chunk-size-blank": POST + b"Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n" + INNER,
    "chunk-size-huge": POST + b"Transfer-Encoding: chunked\r\n\r\n100000000" + SIZE + b"\r\n" + INNER,
    "chunk-bare-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n" + INNER,
    "chunk-ext-lf": POST + b"Transfer-Encoding: chunked\r\n\r\n2;\nxx\r\n" + SIZE + b"\r\n0\r\n\r\n" + INNER,
    "chunk-ext": POST + b"Transfer-Encoding: chunked\r\n\r\n3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n" + INNER,
    "chunk-no-crlf": POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcde0\r\n\r\n" + INNER,
    "trailer-cl": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER,
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
    """HTTP/2: a head in several frames is one request; a path of the second frame counts, a second one does not."""
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


# --- 11 upgrades -------------------------------------------------------------------------------------------------


def test_11_websockets_pass_and_echo(house: House) -> None:
    """Over HTTP/1.1 and HTTP/2, which the server offers; two on one connection, beside requests."""
    house.ruled(WEBHOOK, WEBSOCKETS, areas=AREAS)
    with WebSocket(house.port, "/ws/echo", source=AWAY) as websocket:
        assert websocket.is_open
        websocket.send(b"abc")
        assert websocket._exactly(3) == b"abc"
    with Http2(house.port, source=AWAY) as http2:
        one, other = http2.websocket("/ws/echo"), http2.websocket("/ws/echo")
        for stream, data in ((one, b"abc"), (other, b"defg")):
            assert http2.head(stream).status == 200
            http2.data(stream, data)
        assert http2.receive(other, 4) == b"defg"
        assert reason(http2.request("GET", "/flows")) == "no-certificate"
        assert http2.receive(one, 3) == b"abc"
        assert http2.offers_websockets
    assert house.reached == ["GET /ws/echo"] * 3


@BOTH
def test_11_a_right_to_a_websocket_is_none_to_the_page(house: House, http2: bool) -> None:
    """Nor the other way round; and no other protocol than websocket is one."""
    house.ruled(WEBHOOK, WEBSOCKETS, areas=AREAS)
    with asks(http2, house) as connection:
        for target in ("/ws/echo", "/ws/plain"):
            assert reason(connection.request("GET", target)) == "no-certificate"
    for target, wanted in (
        ("/hello", "ok"),
        ("/hello/x", "no-certificate"),
        ("/comms", "no-certificate"),
        ("/", "no-certificate"),
    ):
        assert upgrade(house, http2, target) == wanted
    for protocol in ("h2c", "WebSocket2", "websocket, h2c", "h2", "tcp", "TLS/1.0", "websocket/13", ""):
        got = upgrade(house, http2, "/ws/echo", protocol)
        # 2.8 itself takes h2c out of the list
        assert got in ("bad-upgrade", "no-certificate", "reset", "400") or (got, protocol) == (
            "ok",
            "websocket, h2c",
        )
    assert set(house.reached) <= {"GET /hello", "GET /ws/echo"}
    assert [fields(head)["upgrade"] for head in house.upstream.seen] == [["websocket"]] * len(house.reached)


def upgrade(house: House, http2: bool, target: str, protocol: str = "websocket") -> str:
    """ "ok" when a websocket opens."""
    try:
        if http2:
            with Http2(house.port, source=AWAY) as connection:
                number = connection.websocket(target, protocol=protocol)
                if connection.head(number).status == 200:
                    return "ok"
                return reason(connection.response(number))
        with WebSocket(house.port, target, headers={"Upgrade": protocol}, source=AWAY) as websocket:
            return "ok" if websocket.is_open else reason(websocket.upgrade)
    except Refused:
        return "reset"


@pytest.mark.parametrize(
    "headers",
    [
        {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
        {"Connection": "Upgrade", "Upgrade": "h2c"}, {"Upgrade": "h2c"}, {"Connection": "HTTP2-Settings", "HTTP2-Settings": "AA"},
        {"Upgrade": "websocket", "Connection": None}, {"Upgrade": "websocket", "Connection": "close"},
        {"Upgrade": "websocket", "Connection": "x-upgrade"}, {"Upgrade": "h2c, websocket", "Connection": "Upgrade"},
    ],
)  # fmt: skip
def test_11_no_upgrade_gets_to_node_red_but_websocket(house: House, headers: dict[str, str | None]) -> None:
    """Refused, or served as the plain request that it then is, without a word of an upgrade."""
    house.ruled(Rule(2, anyone=True, path="/hello", methods=("GET",)), WEBSOCKETS, areas=AREAS)
    with Connection(house.port, source=AWAY) as connection:
        assert reason(connection.request("GET", "/hello", headers=headers)) in ("ok", "bad-upgrade", "400")
        try:
            assert connection.request("GET", "/flows").status == 403
        except Refused:
            pass
    for head in house.upstream.seen:
        assert "upgrade" not in fields(head)
    assert set(house.reached) <= {"GET /hello"}
    assert reason(request(house.port, "GET", "/hello")) == "ok"


@BOTH
def test_11_an_upgrade_that_node_red_declines_opens_no_tunnel(house: House, http2: bool) -> None:
    """What follows on the connection is a request like any other, and judged."""
    house.ruled(WEBSOCKETS, areas=AREAS)
    if http2:
        with Http2(house.port, source=AWAY) as connection:
            number = connection.websocket("/ws/plain")
            connection.head(number)
            connection.data(number, b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n", end=True)
            connection.ended(number)
            assert reason(connection.request("GET", "/flows")) == "no-certificate"
    else:
        with WebSocket(house.port, "/ws/plain", source=AWAY) as websocket:
            assert not websocket.is_open
            websocket.send(b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n")
            try:
                assert reason(websocket.response()) == "no-certificate"
            except Refused:
                pass
    assert house.reached == ["GET /ws/plain"]


def test_11_http2_without_being_offered_is_judged(house: House) -> None:
    """A client that begins with HTTP/2 unasked, and one that asks for it in the middle."""
    house.ruled(WEBHOOK)
    try:
        with Http2(house.port, source=AWAY, alpn=False) as http2:
            assert reason(http2.request("GET", "/flows")) == "no-certificate"
            assert reason(http2.request("POST", "/hello", body=b"")) == "ok"
    except Refused:
        pass
    house.upstream.seen.clear()
    with Connection(house.port, source=AWAY) as plain:
        assert reason(plain.request("POST", "/hello", body=b"")) == "ok"
        plain.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b""))
        plain.rest()
    assert house.reached == ["POST /hello"]
    # CONNECT is nobody's
    with Connection(house.port, house.admin) as plain:
        assert plain.request("CONNECT", "localhost:1880").status in (400, 403)
    with Http2(house.port, house.admin) as http2:
        asked = http2.open([(":method", "CONNECT"), (":authority", "localhost")], end=False)
        try:
            assert reason(http2.head(asked)) != "ok"
            assert http2.head(asked).status in (400, 403)
        except Refused:
            pass
    assert house.reached == ["POST /hello"]


# --- 12 other pages ----------------------------------------------------------------------------------------------

Ask = Callable[..., object]


@BOTH
def test_12_requests_of_other_pages(house: House, http2: bool) -> None:
    """The device's certificate comes with every request of its browser; another page's are refused."""
    house.ruled(areas=AREAS)
    own = "https://localhost" if http2 else f"https://localhost:{house.port}"
    port = own.removeprefix("https://localhost")
    foreign = [
        "null", "", f"{own}.evil.example", f"https://evillocalhost{port}", f"http://localhost{port}", "https://evil.example",
        "https://localhost:1", f"{own}/", f"{own},{own}", f"{own}\t{own}", own.upper(), "https://pi.local", f"x{own}", "file://",
        f"https://localhost.{port}", f"https://user@localhost{port}",
    ]  # fmt: skip
    with asks(http2, house, house.admin) as connection:
        for method in ("GET", "POST"):
            body = b"{}" if method == "POST" else None
            assert reason(connection.request(method, "/flows", body=body)) == "ok"  # no browser: no Origin
            assert reason(connection.request(method, "/flows", headers={"origin": own}, body=body)) == "ok"
            for origin in foreign:
                answer = connection.request(method, "/flows", headers={"origin": origin}, body=body)
                assert reason(answer) == "cross-origin", origin
        # Without Origin the browser still says from where: what is no visit is refused
        for site, mode, dest, wanted in (
            ("same-origin", "cors", "empty", "ok"), ("none", "navigate", "document", "ok"),
            ("cross-site", "navigate", "document", "ok"), ("same-site", "navigate", "document", "ok"),
            ("cross-site", "no-cors", "image", "cross-origin"), ("same-site", "no-cors", "script", "cross-origin"),
            ("cross-site", "navigate", "iframe", "cross-origin"), ("cross-site", "navigate", "embed", "cross-origin"),
            ("Same-Origin", "cors", "empty", "cross-origin"), ("", "cors", "empty", "cross-origin"),
            ("same-origin, none", "cors", "empty", "cross-origin"),
        ):  # fmt: skip
            said = {"sec-fetch-site": site, "sec-fetch-mode": mode, "sec-fetch-dest": dest}
            assert reason(connection.request("GET", "/light/on", headers=said)) == wanted, said
        said = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        assert reason(connection.request("POST", "/flows", headers=said, body=b"")) == "cross-origin"


@BOTH
def test_12_a_header_twice_is_none_of_ours(house: House, http2: bool) -> None:
    """Of two origins, or two words about the site, none counts as the right one."""
    house.ruled()
    port = "" if http2 else f":{house.port}"
    own = ("origin", f"https://localhost{port}")
    for pair in (
        [own, ("origin", "https://evil.example")], [("origin", "https://evil.example"), own], [own, own],
        [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-site", "same-origin")],
    ):  # fmt: skip
        if http2:
            with Http2(house.port, house.admin) as connection:
                answer = connection.request("POST", "/flows", headers=pair, body=b"")
        else:
            with Connection(house.port, house.admin) as plain:
                lines = "".join(f"{name}: {value}\r\n" for name, value in pair)
                plain.send(
                    f"POST /flows HTTP/1.1\r\nHost: localhost{port}\r\nContent-Length: 0\r\n{lines}\r\n".encode()
                )
                answer = plain.response()
        assert reason(answer) == "cross-origin", pair
    assert house.reached == []


@BOTH
def test_12_websockets_of_other_pages(house: House, http2: bool) -> None:
    """A page may open a websocket to anywhere: the origin decides, at /comms too; navigation is no excuse."""
    house.ruled(areas=AREAS)
    port = "" if http2 else f":{house.port}"
    own = f"https://localhost{port}"
    visit = [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")]
    for headers, wanted in (
        ([], "ok"), ([("origin", own)], "ok"), ([("origin", "null")], "cross-origin"),
        ([("origin", f"{own}.evil.example")], "cross-origin"), ([("origin", "https://evil.example")], "cross-origin"),
        (visit, "cross-origin"), ([("origin", "https://panel.example")], "cross-origin"),
    ):  # fmt: skip
        for target in ("/comms", "/ws/echo"):
            if http2:
                with Http2(house.port, house.admin) as connection:
                    number = connection.websocket(target, headers=headers)
                    opened = connection.head(number).status == 200
                    got = "ok" if opened else reason(connection.response(number))
            else:
                with WebSocket(house.port, target, house.admin, headers=dict(headers)) as websocket:
                    got = "ok" if websocket.is_open else reason(websocket.upgrade)
            assert got == wanted, headers
    assert len(house.reached) == 4
    house.ruled(areas=AREAS, origins=("https://panel.example",))
    if not http2:
        with WebSocket(
            house.port, "/ws/echo", house.admin, headers={"Origin": "https://panel.example"}
        ) as websocket:
            assert websocket.is_open
        for near in (
            "https://panel.example.",
            "https://panel.example:444",
            "http://panel.example",
            "https://a.panel.example",
        ):
            with WebSocket(house.port, "/ws/echo", house.admin, headers={"Origin": near}) as websocket:
                assert reason(websocket.upgrade) == "cross-origin"


@BOTH
def test_12_a_foreign_host_that_leads_here(house: House, http2: bool) -> None:
    """DNS rebinding: the page's own origin and host agree with each other, and are not ours."""
    house.ruled()
    for host in (
        "evil.example",
        "localhost.evil.example",
        "evil-localhost",
        "localhost:99999999",
        "1.2.3",
        "0x7f.1",
        "localhost,evil",
    ):
        if http2:
            with Http2(house.port, house.admin) as connection:
                try:
                    answer = connection.request(
                        "GET", "/flows", authority=host, headers={"origin": f"https://{host}"}
                    )
                except Refused:
                    continue
        else:
            answer = request(
                house.port, "GET", "/flows", house.admin, headers={"Host": host, "Origin": f"https://{host}"}
            )
        assert reason(answer) in ("foreign-host", "400"), host
    assert house.reached == []
    assert reason(request(house.port, "GET", "/flows", house.admin, headers={"Host": "192.168.1.2"})) == "ok"
