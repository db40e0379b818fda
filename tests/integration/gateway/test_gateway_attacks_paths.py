"""How attackers write a target, at live HAProxy: class 10 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import pytest
from tests.integration.gateway.house import AREAS, BOTH, WEBHOOK, House, asks, reason
from tests.support.clients import Connection, Refused, request
from tests.support.http2 import Http2

from redlatch.policy.model import Areas, Rule

# --- 10 paths ----------------------------------------------------------------------------------------------------

BESIDE = [
    ("GET", "/hello"), ("HEAD", "/hello"), ("PUT", "/hello"), ("DELETE", "/hello"), ("OPTIONS", "/hello"),
    ("MKCOL", "/hello"), ("post", "/hello"), ("POST", "/HELLO"), ("POST", "//hello"), ("POST", "/hell%6f"),
    ("POST", "/hell%6F"), ("POST", "/helloworld"), ("POST", "/hello;x"), ("POST", "/hello;x=1"),
    ("POST", "/hello/../flows"), ("POST", "/hello/%2e%2e/flows"), ("POST", "/hello/.%2E/flows"),
    ("POST", "/hello%2f..%2fflows"), ("POST", "/hello%2F"), ("POST", "/hello%5c..%5cflows"), ("POST", "/hello%00"),
    ("POST", "/hello%0d%0ax"), ("POST", "/hello%"), ("POST", "/hello%zz"), ("POST", "/./hello"),
    ("POST", "/.//hello"),
    ("POST", "/hello/."), ("POST", "/hello//x"), ("POST", "/x/../hello"), ("POST", "/%68ello"),
    ("POST", "/%2568ello"),
    ("POST", "/flows"), ("POST", "/FLOWS"), ("POST", "/Flows/"), ("POST", "/"), ("GET", "/flows"),
    ("GET", "/files/x"),
    ("POST", "/in/x"), ("POST", "/hell"), ("POST", "/hell/o"), ("POST", "/red/hello"), ("POST", "/flows?/hello"),
    ("POST", "/hello:x"), ("POST", "/hello.json"), ("POST", "/hello,x"),
]  # fmt: skip


@BOTH
def test_10_a_webhook_and_nothing_beside_it(house: House, http2: bool) -> None:
    """A path that is open to anyone opens that path, and what lies below it, with that method, in that
    spelling.
    """
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


@pytest.mark.parametrize("form", ["http://localhost{}", "https://localhost{}", "HTTP://localhost{}",
"foo://localhost{}", "//localhost{}",
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
        ({":scheme": "foo"}, "bad-target"), ({":scheme": "https://localhost/hello?"}, None),
        ({":scheme": ""}, None),
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
        Rule(2, anyone=True, path="/a/b"), Rule(3, anyone=True, path="/c/"),
        Rule(4, anyone=True, area="dashboards"), Rule(5, anyone=True, area="static"),
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
        # What nobody may do is refused whatever the rule for its path
        for target in inside:
            assert reason(connection.request("GET", target, headers={"Origin": "null"})) == "cross-origin", target
    assert house.reached == [f"GET {target}" for target in inside]
