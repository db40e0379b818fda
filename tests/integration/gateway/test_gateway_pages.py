"""What who is refused gets to read, and what there is to read while Node-RED is away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.gateway.house import House, reason
from tests.support.clients import Connection, Response, WebSocket, request
from tests.support.haproxy import PROGRAMS, Door
from tests.support.http2 import Http2
from tests.support.nodered import free_port
from tests.support.wait import until

from redlatch.engines.nodered.reasons import reasons
from redlatch.policy.model import Rule

PAGE = {"Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
MARK = "jhqzx"  # in no page
REFLECTED = (
    f"/{MARK}", f"/<script>{MARK}</script>", f"/%3Cscript%3E{MARK}", f"/flows?{MARK}=%[var(txn.reason)]",
    f"/%[src]{MARK}", f"/{MARK}%0d%0aX-{MARK}:1",
)  # fmt: skip


def is_a_page(answer: Response) -> bool:
    return (
        answer.headers["content-type"] == "text/html; charset=utf-8"
        and answer.headers["cache-control"] == "no-store"
        and answer.headers["x-content-type-options"] == "nosniff"
        and answer.headers["referrer-policy"] == "no-referrer"
        and "default-src 'none'" in answer.headers["content-security-policy"]
        and "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        and answer.body.startswith(b"<!doctype html>")
        and answer.body.endswith(b"</html>\n")
        and answer.body.count(b"<script") == 0
    )


@pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])
def test_a_refusal_in_both_forms(house: House, http2: bool) -> None:
    """A page for a browser, two lines for anything else, both with the reason and what to do; nothing is kept."""
    house.ruled()
    with Http2(house.port) if http2 else Connection(house.port) as asks:
        answer = asks.request("GET", "/flows", headers={name.lower(): value for name, value in PAGE.items()})
        assert answer.status == 403
        assert is_a_page(answer)
        assert b"<code>no-certificate</code>" in answer.body
        assert b"Install the certificate that you were given" in answer.body
        plain = asks.request("GET", "/flows")
        assert plain.status == 403
        assert plain.headers["content-type"] == "text/plain; charset=utf-8"
        assert plain.headers["cache-control"] == "no-store"
        assert plain.headers["x-content-type-options"] == "nosniff"
        assert plain.body.decode().splitlines()[0].endswith("(no-certificate)")
        assert len(plain.body.decode().splitlines()) == 2
        head = asks.request("HEAD", "/flows", headers={name.lower(): value for name, value in PAGE.items()})
        assert (head.status, head.body) == (403, b"")
        assert head.headers["content-type"] == "text/html; charset=utf-8"
        assert reason(asks.request("GET", "/flows")) == "no-certificate"  # and nothing is left of the HEAD
    assert house.reached == []


@pytest.mark.parametrize("target", REFLECTED)
def test_nothing_of_the_request_is_in_it(house: House, target: str) -> None:
    """Neither of the target nor of any header, and no word of where or what this site is."""
    house.ruled()
    said = {
        "User-Agent": MARK,
        "Referer": f"https://{MARK}/",
        "Cookie": MARK,
        "X-Redlatch-User": MARK,
        "Origin": MARK,
    }
    for headers in (
        said,
        {**said, **PAGE},
        {**said, "Accept": f"text/html;{MARK}"},
        {**said, "Host": f"{MARK}.example"},
    ):
        answer = request(house.port, "GET", target, headers=headers)
        assert answer.status == 403
        shown = answer.body + json.dumps(dict(answer.headers)).encode()
        assert MARK.encode() not in shown
        for secret in (house.site.snapshot.site, house.admin.fingerprint, str(house.folder), "127.0.0.1", "%["):
            assert secret.encode() not in shown
        assert not {"server", "via", "x-powered-by"} & answer.headers.keys()


def test_a_websocket_is_told_as_well(house: House) -> None:
    """The answer to its request says why."""
    house.ruled()
    with WebSocket(house.port, "/comms", headers=PAGE) as websocket:
        assert websocket.upgrade.status == 403
        assert is_a_page(websocket.upgrade)


def test_every_reason_has_its_words(house: House) -> None:
    """Each code that the gateway knows stands in its tables, with the guard's words."""
    house.ruled()
    for name in ("why-text.map", "why-next.map", "why-html.map"):
        lines = (house.folder / name).read_text().splitlines()
        assert {line.split(" ")[0] for line in lines} == reasons().keys() - {"ok"}
        assert all(len(line.split(" ")) > 3 for line in lines)


@pytest.fixture(params=PROGRAMS)
def lonely(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Door]:
    """A gateway with nothing behind it."""
    with Door(request.param, tmp_path, free_port(), mode="explain") as door:
        door.publish(rules=(Rule(1, roles=("owner",), area="all"), Rule(2, anyone=True, path="/hello")))
        yield door


def test_node_red_is_down(lonely: Door) -> None:
    """Who is let in reads so, with 503; who is not reads that; the log has both."""
    for method, device, target in (
        ("GET", lonely.admin, f"/{MARK}"),
        ("POST", lonely.admin, "/flows"),
        ("GET", None, "/hello"),
    ):
        answer = request(
            lonely.port, method, target, device, headers=PAGE, body=b"[]" if method == "POST" else None
        )
        assert answer.status == 503
        assert is_a_page(answer)
        assert answer.headers["retry-after"] == "5"
        assert b"Node-RED does not answer" in answer.body
        assert MARK.encode() not in answer.body
    assert request(lonely.port, "HEAD", "/", lonely.admin).status == 503
    with Http2(lonely.port, lonely.admin) as http2:
        answer = http2.request("GET", "/")
        assert answer.status == 503
        assert is_a_page(answer)
    with WebSocket(lonely.port, "/comms", lonely.admin) as websocket:
        assert websocket.upgrade.status == 503
    refused = request(lonely.port, "GET", "/flows", headers=PAGE)
    assert refused.status == 403
    assert is_a_page(refused)

    def logged() -> bool:
        lines = [json.loads(line) for line in lonely.log_file.read_text().splitlines()]
        told = {(line["reason"], line["allow"], line.get("status")) for line in lines}
        return {("ok", True, 503), ("no-certificate", False, 403)} <= told

    until(logged, what="the access log")


def test_what_the_log_says_of_odd_requests_is_json(house: House) -> None:
    """Quotes, backslashes and line ends in a path end neither a string nor a line of it."""
    house.ruled(Rule(2, anyone=True, path="/hello"))
    before = len(house.log_file.read_bytes())
    odd = (
        '/hello?"',
        '/x"},{"allow":true',
        "/x%22%7d",
        "/x%0a%0d",
        "/x\\n",
        "/\\",
        "/\\u0000",
        "/x%[src]",
        "/%ci%ST",
    )
    with Connection(house.port) as asks:
        for target in odd:
            asks.request("GET", target)

    def told() -> set[str]:
        lines = house.log_file.read_bytes()[before:].decode().splitlines()
        return {line["path"] for line in map(json.loads, lines) if line["path"]}

    until(lambda: told() == {target.partition("?")[0] for target in odd}, what="the access log")
