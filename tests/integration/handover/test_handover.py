"""The link that works once, over real TLS: who gets a key, and who does not."""

from __future__ import annotations

import base64
import json
import socket
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.handover.harness import PARCEL, Pki, Serve, Served

from redlatch.enrolment import ATTEMPTS
from redlatch.errors import FileProblem, InvalidInput, StoreError
from redlatch.service import handover, listener


def test_the_right_link_hands_the_key_over_and_closes_the_port(serve: Serve) -> None:
    """File and password arrive, the page's receipt makes it "delivered", and nobody can connect afterwards."""
    kinds: list[str] = []

    def issue(kind: str) -> handover.Parcel:
        kinds.append(kind)
        return PARCEL

    served = serve(issue)
    answer = served.redeem(kind="p12-modern", Origin=f"https://{served.host}", Sec_Fetch_Site="same-origin")
    assert answer.status == 200
    sent = answer.json()
    assert base64.b64decode(sent["files"][0]["base64"]) == PARCEL.files[0].content
    assert sent["files"][0]["name"] == "barts-phone.p12"
    assert sent["password"] == PARCEL.password
    assert kinds == ["p12-modern"]
    assert served.confirm(answer).status == 204
    outcome = served.end()
    assert outcome == handover.Outcome(handover.State.DELIVERED, "127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=5)


def test_without_the_pages_receipt_it_is_sent_and_no_more(serve: Serve) -> None:
    """A client that never confirms gets the key; the terminal does not say that it was delivered."""
    served = serve()
    assert served.redeem().status == 200
    assert served.end().state is handover.State.SENT


def test_a_wrong_receipt_confirms_nothing(serve: Serve) -> None:
    """Only who got the answer can confirm it."""
    served = serve()
    early = served.request("POST", "/received", b'{"receipt": "x"}', Content_Type="application/json")
    assert early.status == 403
    served.redeem()
    late = served.request("POST", "/received", b'{"receipt": "x"}', Content_Type="application/json")
    assert late.status == 403
    assert served.end().state is handover.State.SENT


def test_a_wrong_token_is_refused_and_the_right_one_still_works(serve: Serve) -> None:
    """Nothing is issued for a wrong token; the link stays good."""
    issued: list[str] = []

    def issue(kind: str) -> handover.Parcel:
        issued.append(kind)
        return PARCEL

    served = serve(issue)
    refused = served.redeem("a" * 26)
    assert (refused.status, refused.json()["error"]) == (403, "wrong-token")
    assert issued == []
    assert served.redeem().status == 200
    assert served.end().wrong_tokens == 1


def test_ten_wrong_tokens_end_the_handover(serve: Serve) -> None:
    """Somebody who tries tokens closes the port, and the outcome says so."""
    served = serve()
    for _ in range(ATTEMPTS):
        assert served.redeem("a" * 26).status == 403
    assert served.end() == handover.Outcome(handover.State.LOCKED, None, ATTEMPTS)


def test_a_second_redemption_is_refused(serve: Serve) -> None:
    """The same link again gets nothing and is told that it was used."""
    served = serve(receipt_wait=5)
    first = served.redeem()
    assert first.status == 200
    second = served.redeem()
    assert (second.status, second.json()["error"]) == (410, "already-used")
    served.confirm(first)


def test_of_simultaneous_redemptions_exactly_one_wins(serve: Serve) -> None:
    """Eight clients with the right token at the same moment: one key is issued."""
    issued: list[str] = []

    def issue(kind: str) -> handover.Parcel:
        issued.append(kind)
        return PARCEL

    served = serve(issue, receipt_wait=0.5)
    together = threading.Barrier(8)
    body = json.dumps({"token": served.token}).encode()
    head = (
        f"POST /redeem HTTP/1.1\r\nHost: {served.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    def redeem(_: int) -> bytes:
        with served.connect() as connection:
            connection.sendall(head)
            together.wait(10)
            connection.sendall(body)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(redeem, range(8)))
    assert len(issued) == 1
    assert sorted(answer.split(b" ")[1] for answer in answers) == [b"200", *[b"410"] * 7]


def test_an_expired_link_is_refused(serve: Serve) -> None:
    """By the handover's own clock, whatever the port still does."""
    late = datetime.now(UTC) + timedelta(minutes=16)
    times = iter([datetime.now(UTC), *[late] * 10])
    served = serve(clock=lambda: next(times, datetime.now(UTC)))
    refused = served.redeem()
    assert (refused.status, refused.json()["error"]) == (410, "expired")
    times = iter([datetime.now(UTC)] * 5)


def test_the_port_closes_when_the_link_expires(serve: Serve) -> None:
    """Nobody came: the outcome is "expired" and the port is gone."""
    served = serve(lifetime=timedelta(milliseconds=300))
    assert served.end() == handover.Outcome(handover.State.EXPIRED, None, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=5)


@pytest.mark.parametrize("target", ["/redeem", "/received"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS"])
def test_only_a_post_redeems(serve: Serve, method: str, target: str) -> None:
    """Link previews and prefetchers send GET: it consumes nothing, even with the token in the query."""
    served = serve()
    assert served.request(method, f"{target}?token={served.token}").status in (404, 405)
    assert served.redeem().status == 200


def test_the_page_tells_a_stranger_nothing(serve: Serve) -> None:
    """Before the redemption neither device, role nor fingerprint can be read, and every path else is 404."""
    served = serve()
    page = served.request("GET", "/")
    assert page.status == 200
    assert b"Bart" not in page.body
    assert b"owner" not in page.body
    assert served.request("GET", "/flows").status == 404


def test_the_page_allows_no_inline_code_and_no_other_origin(serve: Serve) -> None:
    """Its policy names a nonce that is new each time; nothing in it is inline, and nobody may frame or keep it."""
    served = serve()
    pages = [served.request("GET", "/") for _ in range(2)]
    policies = [page.headers["content-security-policy"] for page in pages]
    assert policies[0] != policies[1]
    assert all(p.startswith("default-src 'none'") and "frame-ancestors 'none'" in p for p in policies)
    assert all("unsafe" not in policy for policy in policies)
    text = pages[0].body.decode()
    assert "<style" not in text
    assert "onclick" not in text
    assert text.count("<script") == text.count('<script src="/handover.js"')
    assert pages[0].headers["cache-control"] == "no-store"
    assert pages[0].headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example:{port}", "localhost", "localhost:1", "evil.example:{port}", ""],
)
def test_a_foreign_host_is_refused(serve: Serve, host: str) -> None:
    """A page of another site that rebinds its name to our address gets nothing, not even the page."""
    served = serve()
    named = host.format(port=served.port)
    assert served.redeem(Host=named).status == 421
    assert served.request("GET", "/", Host=named).status == 421
    assert served.redeem(Host=f"LOCALHOST:{served.port}").status == 200


def test_an_address_is_an_own_host(serve: Serve) -> None:
    """What the QR code names is an address: it needs no name."""
    served = serve()
    assert served.redeem(Host=f"127.0.0.1:{served.port}").status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://localhost.evil.example"},
        {"Origin": "http://{host}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "none"},
    ],
)
def test_another_origin_cannot_redeem(serve: Serve, headers: dict[str, str]) -> None:
    """Even with the token, a page of another site (or of another port of ours) is refused."""
    served = serve()
    sent = {name: value.format(host=served.host) for name, value in headers.items()}
    assert served.redeem(**sent).status == 403
    assert served.redeem(Origin=f"https://{served.host}").status == 200


def test_a_form_cannot_redeem(serve: Serve) -> None:
    """Only JSON is read: a plain form of another site needs no preflight."""
    served = serve()
    body = json.dumps({"token": served.token}).encode()
    assert served.request("POST", "/redeem", body, Content_Type="text/plain").status == 415
    assert served.redeem().status == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b"null", b"\xff", b'{"token": null}', b'{"token": ["x"]}', b"[" * 4000, b'"\\ud800"'],
)
def test_garbage_is_refused_and_harms_nothing(serve: Serve, body: bytes) -> None:
    """Whatever the body is, the link still works afterwards."""
    served = serve()
    assert served.request("POST", "/redeem", body, Content_Type="application/json").status in (400, 403)
    assert served.redeem().status == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: {h}\r\nHost: {h}\r\n\r\n", b"400"),
        (b"POST /redeem HTTP/1.1\r\nHost: {h}\r\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n", b"400"),
        (b"POST /redeem HTTP/1.1\r\nHost: {h}\r\nTransfer-Encoding: chunked\r\n\r\n", b"400"),
        (b"POST /redeem HTTP/1.1\r\nHost: {h}\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /redeem HTTP/1.1\r\nHost: {h}\r\nContent-Length: 5000\r\n\r\n", b"413"),
        (b"GET https://localhost/ HTTP/1.1\r\nHost: {h}\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost : {h}\r\n\r\n", b"400"),
        (b"PRI * HTTP/2.0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: {h}\r\nX: \xff\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(serve: Serve, head: bytes, status: bytes) -> None:
    """Doubled headers, other framings, absolute targets and giants get an error and the link still works."""
    served = serve()
    with served.connect() as connection:
        connection.sendall(head.replace(b"{h}", served.host.encode()))
        assert connection.recv(4096).split(b" ")[1] == status
    assert served.redeem().status == 200


def closed(connection: socket.socket) -> bool:
    """Whether the other side has closed, within the socket's timeout."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_handshake_that_does_not_come_is_closed(serve: Serve) -> None:
    """A connection that never begins TLS is cut; others get in meanwhile."""
    served = serve(limits=listener.Limits(handshake=0.3))
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as silent:
        assert served.request("GET", "/").status == 200
        assert closed(silent)


def test_a_slow_head_is_closed(serve: Serve) -> None:
    """A request that trickles in (slowloris) is cut at its deadline, whatever it still sends."""
    served = serve(limits=listener.Limits(request=0.4))
    with served.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
        assert closed(slow)


def test_a_slow_body_is_closed(serve: Serve) -> None:
    """The deadline covers head and body together."""
    served = serve(limits=listener.Limits(request=0.4))
    with served.connect() as slow:
        slow.sendall(f"POST /redeem HTTP/1.1\r\nHost: {served.host}\r\nContent-Length: 40\r\n\r\n{{".encode())
        assert closed(slow)


def test_one_address_cannot_take_every_place(serve: Serve) -> None:
    """The connection over the cap is closed at once; when one ends, the next gets in."""
    served = serve(limits=listener.Limits(per_address=2, handshake=10))
    held = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(2)]
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as third:
        assert closed(third)
    for connection in held:
        connection.close()
    for _ in range(50):  # the server sees the closing in its own time
        try:
            assert served.request("GET", "/").status == 200
            break
        except (ssl.SSLError, ConnectionError):
            continue
    else:
        pytest.fail("the freed place was not given to anybody")


def test_all_addresses_together_have_a_cap(serve: Serve) -> None:
    """The total cap closes further connections too."""
    served = serve(limits=listener.Limits(total=1, handshake=60))
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=10),
        socket.create_connection(("127.0.0.1", served.port), timeout=10) as second,
    ):
        assert closed(second)


def test_when_issuing_fails_the_network_learns_nothing(serve: Serve) -> None:
    """The error goes to the terminal; the page says to look there; the link is used up."""

    def issue(_kind: str) -> handover.Parcel:
        raise StoreError("the disk /dev/secret is full")

    served = serve(issue)
    answer = served.redeem()
    assert answer.status == 500
    assert b"secret" not in answer.body
    assert isinstance(served.end(), StoreError)


def test_an_unknown_format_is_refused_and_consumes_nothing(serve: Serve) -> None:
    """The link is still good for a known one."""
    served = serve()
    assert served.redeem(kind="exe").status == 400
    assert served.redeem(kind="pem").status == 200


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("192.168.1.20", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.32.0.1", False),
        ("8.8.8.8", False),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("2a00:1450::1", False),
        ("::ffff:192.168.1.20", True),
        ("::ffff:8.8.8.8", False),
        ("0.0.0.0", False),
        ("::", False),
        ("garbage", False),
    ],
)
def test_who_is_private(address: str, private: bool) -> None:
    """Mapped addresses count as what they map to; zone ids do not matter; the unspecified address is nobody."""
    assert listener.is_private(address) is private


def test_a_public_address_is_not_listened_on_unless_told() -> None:
    """Neither a public nor the unspecified address by default; told, it is tried."""
    for address in ("0.0.0.0", "::", "8.8.8.8"):
        with pytest.raises(InvalidInput):
            listener.bind([address])
    for sock in listener.bind(["0.0.0.0"], told=True):
        sock.close()


def test_all_addresses_share_one_port() -> None:
    """One URL scheme, several addresses: the port is the same on each."""
    sockets = listener.bind(["127.0.0.1", "127.0.0.2", "::1"])
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
    finally:
        for sock in sockets:
            sock.close()


def test_a_garbled_server_file_is_an_error_with_a_hint(pki: Pki, tmp_path: Any) -> None:
    """Missing, empty or without a key: said before anything listens."""
    bad = tmp_path / "server.pem"
    for content in (None, b"", pki.ca_pem.encode()):
        if content is not None:
            bad.write_bytes(content)
        with pytest.raises(FileProblem) as caught:
            listener.server_context(bad)
        assert caught.value.hint


def test_a_public_peer_is_refused(pki: Pki, tmp_path: Any) -> None:
    """From a public address in a network namespace not one byte comes back; from a private one the page does."""
    script = f"""
import socket, ssl, sys, threading
from datetime import UTC, datetime
from redlatch.enrolment import new_link
from redlatch.service import handover, listener
link, token = new_link("x", "owner", now=datetime.now(UTC), randomness=b"x" * 16)
sockets = listener.bind(["0.0.0.0"], told=True)
port = sockets[0].getsockname()[1]
threading.Thread(daemon=True, target=lambda: handover.run(link, None, names=("localhost",), formats=(),
    sockets=sockets, context=listener.server_context({str(pki.pem)!r}))).start()
client = ssl.create_default_context(cadata={pki.ca_pem!r})
def get(address):
    raw = socket.create_connection((address, port), timeout=10, source_address=(address, 0))
    try:
        with client.wrap_socket(raw, server_hostname="localhost") as tls:
            tls.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost:%d\\r\\n\\r\\n" % port)
            return tls.recv(100)[:15].decode()
    except (ssl.SSLError, OSError) as error:
        return "refused"
print(get("192.168.77.1"), "|", get("8.8.8.8"))
"""
    found = subprocess.run(
        [
            "unshare", "-rn", "sh", "-c",
            'ip link set lo up; for a in 192.168.77.1 8.8.8.8; do ip a add $a/32 dev lo; done; exec "$0" -c "$1"',
            sys.executable, script,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )  # fmt: skip
    assert found.stdout.strip() == "HTTP/1.1 200 OK | refused", found.stderr


def test_ctrl_c_closes_the_port(pki: Pki, tmp_path: Any) -> None:
    """An interrupted handover leaves no port behind and no traceback of its own making."""
    script = f"""
import os, signal, threading
from datetime import UTC, datetime
from redlatch.enrolment import new_link
from redlatch.service import handover, listener
link, token = new_link("x", "owner", now=datetime.now(UTC), randomness=b"x" * 16)
sockets = listener.bind(["127.0.0.1"])
threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
try:
    handover.run(link, None, names=(), formats=(), sockets=sockets,
        context=listener.server_context({str(pki.pem)!r}))
except KeyboardInterrupt:
    print("interrupted", all(sock.fileno() == -1 for sock in sockets))
"""
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (found.stdout.strip(), found.stderr) == ("interrupted True", "")


def test_served_is_what_the_terminal_shows(serve: Serve, pki: Pki) -> None:
    """The fingerprint printed for comparison is that of the certificate on the wire."""
    served: Served = serve()
    with served.connect() as connection:
        der = connection.getpeercert(binary_form=True)
    assert der is not None
    import hashlib

    shown = handover.fingerprint(pki.pem.read_bytes())
    assert shown.replace(":", "").lower() == hashlib.sha256(der).hexdigest()
