"""What other pages do with a browser's certificate, at live HAProxy: class 12."""

from __future__ import annotations

from collections.abc import Callable

from tests.integration.gateway.house import AREAS, BOTH, House, asks, reason
from tests.support.clients import Connection, Refused, WebSocket, request
from tests.support.http2 import Http2

# --- 12 other pages ----------------------------------------------------------------------------------------------

Ask = Callable[..., object]


@BOTH
def test_12_requests_of_other_pages(house: House, http2: bool) -> None:
    """The device's certificate comes with every request of its browser; another page's are refused."""
    house.ruled(areas=AREAS)
    own = "https://localhost" if http2 else f"https://localhost:{house.port}"
    port = own.removeprefix("https://localhost")
    foreign = [
        "null", "", f"{own}.evil.example", f"https://evillocalhost{port}", f"http://localhost{port}",
        "https://evil.example",
        "https://localhost:1", f"{own}/", f"{own},{own}", f"{own}\t{own}", own.upper(), "https://pi.local",
        f"x{own}", "file://",
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
            ("cross-site", "navigate", "iframe", "cross-origin"),
            ("cross-site", "navigate", "embed", "cross-origin"),
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
        ([("origin", f"{own}.evil.example")], "cross-origin"),
        ([("origin", "https://evil.example")], "cross-origin"),
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
