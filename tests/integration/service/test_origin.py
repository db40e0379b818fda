"""One https origin: the certificate reaches the application, limits hold, a port is closed when it is closed."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.support.clients import Connection, Refused
from tests.support.home import small_site
from tests.support.loop import Loop
from tests.support.wait import until

from redlatch.operations import devices, service
from redlatch.operations.site import Site, changing
from redlatch.pki.bundles import pem_files
from redlatch.pki.certificates import certificate_pem
from redlatch.service import sockets
from redlatch.service.origin import Limits, Origin, server_context
from redlatch.service.security import Guarded, TooLong

QUICK = Limits(handshake=0.3, head=0.3, exchange=1.0, idle=1, half_open=8, per_address=6, total=12)


@dataclass(frozen=True)
class Key:
    cert_file: Path
    fingerprint: str


class Ground:
    """A site, its devices as files, and origins that are closed at the end."""

    def __init__(self, site: Site, folder: Path, loop: Loop) -> None:
        self.site, self.folder, self.loop = site, folder, loop
        self.pem = service.server_pem(site)
        self.refused: list[tuple[str, str]] = []
        self.context = server_context(str(self.pem), device_ca=self.device_ca())

    def device_ca(self) -> str:
        from cryptography import x509

        with self.site.store.read() as view:
            rows = view.authorities("device")
        return "".join(certificate_pem(x509.load_der_x509_certificate(row.certificate)).decode() for row in rows)

    def key(self, name: str, **told: Any) -> Key:
        issued = devices.add(self.site, name, **told)
        files = pem_files(issued.key, issued.certificate, issued.server_cas)
        path = self.folder / f"{issued.fingerprint[:16]}.pem"
        path.write_bytes(files["cert.pem"] + files["key.pem"])
        return Key(path, issued.fingerprint)

    def open(self, app: Any, *, address: str = "127.0.0.1", **told: Any) -> Origin:
        """An origin with `app`, listening; `told` as Origin takes it."""
        told.setdefault("context", lambda: self.context)
        told.setdefault("refused", lambda *one: self.refused.append(one))

        def make() -> Origin:
            origin = Origin(app, **told)
            origin.open(sockets.bind([address], 0, told=True))
            return origin

        return self.loop.call(make)


def port_of(origin: Origin) -> int:
    return next(iter(origin.ports))


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    site = small_site(tmp_path)
    with closing(site.store), Loop() as loop:
        yield Ground(site, tmp_path, loop)


async def who(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the fingerprint of the certificate, the length of the body and the peer's address."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    der = scope["extensions"]["tls"]["certificate"]
    shown = hashlib.sha256(der).hexdigest() if der else "nobody"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{shown} {length} {scope['client'][0]}".encode()})


def test_the_certificate_comes_from_the_tls_layer(ground: Ground) -> None:
    """And from nowhere else: what a header says is a header."""
    key = ground.key("Lamp")
    origin = ground.open(who)
    with Connection(port_of(origin), key, tls="1.3") as connection:
        for _ in range(2):  # kept alive, the same
            answer = connection.request(
                "GET",
                "/",
                headers={"X-Client-Cert": "x", "X-Forwarded-For": "203.0.113.9", "X-SSL-Client-Verify": "SUCCESS"},
            )
            assert answer.body.decode() == f"{key.fingerprint} 0 127.0.0.1"


@pytest.mark.parametrize("kind", ["none", "foreign", "tls 1.2"])
def test_without_a_certificate_of_the_device_ca_there_is_no_answer(
    ground: Ground, kind: str, tmp_path: Path
) -> None:
    key: Any = None
    if kind == "foreign":
        other = small_site(tmp_path / "other")
        with closing(other.store):
            key = Ground.key(replace_site(ground, other, tmp_path), "Lamp")
    elif kind == "tls 1.2":
        key = ground.key("Lamp")
    origin = ground.open(who)
    version = "1.2" if kind == "tls 1.2" else "1.3"
    with pytest.raises(Refused), Connection(port_of(origin), key, tls=version) as connection:
        connection.request("GET", "/")
    assert until(lambda: ground.refused, what="the refusal being heard of")[0][0] == "127.0.0.1"
    with Connection(port_of(origin), ground.key("Another"), tls="1.3") as connection:
        assert connection.request("GET", "/").status == 200


def replace_site(ground: Ground, site: Site, folder: Path) -> Ground:
    other = object.__new__(Ground)
    other.site, other.folder = site, folder
    return other


def test_enrolment_asks_for_no_certificate(ground: Ground) -> None:
    context = server_context(str(ground.pem))
    origin = ground.open(who, context=lambda: context)
    for tls in ("1.2", "1.3"):
        with Connection(port_of(origin), ground.key(f"Lamp {tls}"), tls=tls) as connection:
            assert connection.request("GET", "/").body.startswith(b"nobody")


def test_a_changed_ca_counts_from_the_next_handshake(ground: Ground) -> None:
    """Sessions are not resumed: no ticket is handed out."""
    key = ground.key("Lamp")
    accepting = [ground.context]
    origin = ground.open(who, context=lambda: accepting[0])
    with Connection(port_of(origin), key, tls="1.3") as connection:
        assert connection.request("GET", "/").status == 200
        session = connection.socket.session
        assert session is None or not session.has_ticket
    accepting[0] = server_context(str(ground.pem), device_ca=ground.pem.read_text())
    with pytest.raises(Refused), Connection(port_of(origin), key, tls="1.3") as connection:
        connection.request("GET", "/")


def raw(origin: Origin) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port_of(origin)), timeout=10)


def is_closed(sock: socket.socket) -> bool:
    """Waits until the other side closes; False when it sends something."""
    try:
        return sock.recv(1) == b""
    except ConnectionError:
        return True


def test_a_handshake_that_does_not_come_is_ended(ground: Ground) -> None:
    origin = ground.open(who, limits=QUICK)
    with raw(origin) as sock:
        assert is_closed(sock)


def tls(ground: Ground, origin: Origin, key: Key) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(ground.pem))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(key.cert_file)
    return context.wrap_socket(raw(origin), server_hostname="localhost")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc",
    ],
)
def test_who_is_slow_is_dropped(ground: Ground, sent: bytes) -> None:
    """A head that does not come, half a head, half a body."""
    origin = ground.open(who, limits=QUICK)
    with tls(ground, origin, ground.key("Lamp")) as sock:
        sock.sendall(sent)
        assert is_closed(sock)
    until(lambda: not ground.loop.call(lambda: origin._open), what="the connection being forgotten")


def test_an_idle_connection_is_closed(ground: Ground) -> None:
    origin = ground.open(who, limits=QUICK)
    with tls(ground, origin, ground.key("Lamp")) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while chunk := sock.recv(4096):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 200")


def test_one_address_cannot_take_every_place(ground: Ground) -> None:
    """The seventh connection of an address is closed; another address still gets in."""
    limits = replace(QUICK, handshake=10)
    origin = ground.open(who, limits=limits)
    held = [raw(origin) for _ in range(6)]
    until(lambda: ground.loop.call(origin._open.total) == 6, what="six connections")
    with raw(origin) as seventh:
        seventh.settimeout(2)  # a handshake may take 10
        assert is_closed(seventh)
    with socket.create_connection(
        ("127.0.0.1", port_of(origin)), timeout=10, source_address=("127.0.0.2", 0)
    ) as other:
        until(lambda: ground.loop.call(lambda: origin._open["127.0.0.2"]) == 1, what="the other one being let in")
        other.close()
    for sock in held:
        sock.close()


def test_closing_closes_the_port(ground: Ground) -> None:
    origin = ground.open(who)
    port = port_of(origin)
    key = ground.key("Lamp")
    with Connection(port, key, tls="1.3") as connection:
        assert connection.request("GET", "/").status == 200
        ground.loop.do(origin.close())
        with pytest.raises((Refused, ConnectionError, EOFError)):
            connection.request("GET", "/")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert not origin.ports


# --- what holds for every request


HOST = "localhost"


def guarded(ground: Ground, app: Any = who) -> int:
    made: list[Origin] = []
    wrapped = Guarded(app, names=lambda: {HOST, "attic.local"}, ports=lambda: made[0].ports, body_bytes=1000)
    made.append(ground.open(wrapped))
    return port_of(made[0])


Ask = Callable[..., int]


@pytest.fixture
def ask(ground: Ground) -> Ask:
    port = guarded(ground)
    key = ground.key("Lamp")

    def asking(method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b"") -> int:
        told = {"Host": f"{HOST}:{port}"}
        told.update({name: value.replace("{port}", str(port)) for name, value in (headers or {}).items()})
        with Connection(port, key, tls="1.3") as connection:
            return connection.request(method, "/", headers=told, body=body if method == "POST" else None).status

    return asking


@pytest.mark.parametrize("host", ["localhost:{port}", "ATTIC.local:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_own_names_are_served(ask: Ask, host: str) -> None:
    assert ask("GET", {"Host": host}) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:{port}",
        "localhost",
        "localhost:1",
        "localhost.:{port}",
        "localhost:{port}.evil",
        "",
        "x@localhost:{port}",
    ],
)
def test_foreign_names_are_not(ask: Ask, host: str) -> None:
    """DNS rebinding brings a foreign name; another port is another origin."""
    assert ask("GET", {"Host": host}) in (400, 421)


OWN = "https://localhost:{port}"


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Origin": OWN}, 200),
        ("POST", {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", {}, 200),  # no browser: judged by its certificate
        ("POST", {"Origin": "https://localhost:1880"}, 403),  # a flow's page on another port of this host
        ("POST", {"Origin": "https://localhost:1880", "Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", {"Sec-Fetch-Site": "none"}, 403),
        ("POST", {"Origin": "null"}, 403),
        ("POST", {"Origin": "http://localhost:{port}"}, 403),
        ("POST", {"Origin": "https://localhost:{port}.evil.example"}, 403),
        ("POST", {"Origin": OWN, "Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}, 403),
        ("GET", {"Origin": "https://localhost:1880"}, 403),
        ("PUT", {"Origin": OWN}, 405),
        ("DELETE", {}, 405),
        ("OPTIONS", {"Origin": "https://localhost:1880"}, 405),
        ("GET", {"Upgrade": "websocket", "Connection": "Upgrade"}, 400),
        ("GET", {"Upgrade": "h2c", "Connection": "Upgrade"}, 400),
    ],
)
def test_only_its_own_pages_start_something(ask: Ask, method: str, headers: dict[str, str], status: int) -> None:
    assert ask(method, headers) == status


def test_a_long_body_is_not_read(ground: Ground, ask: Ask) -> None:
    """By its stated length at once; without one as soon as it is too much."""
    assert ask("POST", {}, b"x" * 1000) == 200
    assert ask("POST", {}, b"x" * 1001) == 413
    port = guarded(ground)
    with tls_to(ground, port) as sock:
        sock.sendall(
            f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"400\r\n" + b"x" * 1024 + b"\r\n"
        )  # fmt: skip
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def test_fifty_megabytes_are_refused_without_holding_them(ground: Ground) -> None:
    """By the length that it states, before any of it comes."""
    port = guarded(ground)
    with tls_to(ground, port) as sock:
        sock.settimeout(2)
        sock.sendall(f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 52428800\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 413")


def tls_to(ground: Ground, port: int) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(ground.key(f"Client {datetime.now(UTC).timestamp()}").cert_file)
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10))


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: localhost:{port}\r\nHost: evil.example\r\n\r\n",
        (
            b"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: https://localhost:{port}\r\n"
            b"Origin: https://evil.example\r\nContent-Length: 0\r\n\r\n"
        ),
        b"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost:{port}\r\n folded: x\r\n\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
        b"GET /?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01nonsense\r\n\r\n",
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(ground: Ground, head: bytes) -> None:
    port = guarded(ground)
    with tls_to(ground, port) as sock:
        sock.sendall(head.replace(b"{port}", str(port).encode()))
        assert sock.recv(4096)[:12] in tuple(b"HTTP/1.1 %d" % status for status in (400, 414, 421, 431))


def test_what_is_answered_early_is_not_read_to_its_end(ground: Ground) -> None:
    """An application that wants no body gets none: the connection is closed, and the rest is not taken."""

    async def deaf(scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    port = guarded(ground, deaf)
    with tls_to(ground, port) as sock:
        sock.sendall(f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        assert sock.recv(4096).startswith(b"HTTP/1.1 404")
        sock.settimeout(1)  # the idle time is 15 s, and a head may take 10
        assert is_closed(sock)


def test_every_answer_has_the_headers_that_keep_a_page_to_itself(ground: Ground) -> None:
    """Refusals too."""
    port = guarded(ground)
    key = ground.key("Lamp")
    with Connection(port, key, tls="1.3") as connection:
        for headers in ({"Host": f"localhost:{port}"}, {"Host": "evil.example"}):
            answer = connection.request("GET", "/", headers=headers)
            found = {name.lower(): value for name, value in answer.headers.items()}
            assert "default-src 'none'" in found["content-security-policy"]
            assert "unsafe" not in found["content-security-policy"]
            assert "frame-ancestors 'none'" in found["content-security-policy"]
            assert found["cache-control"] == "no-store"
            assert found["x-content-type-options"] == "nosniff"
            assert found["cross-origin-resource-policy"] == "same-origin"
            assert "strict-transport-security" not in found  # it would hold for every port of this host
            assert "set-cookie" not in found  # cookies cross ports


def test_a_workers_script_ends_the_worker(ground: Ground) -> None:
    """Whatever it is called, and whatever it asks for: what a browser fetches for a service worker ends it."""
    port = guarded(ground)
    key = ground.key("Lamp")
    with Connection(port, key, tls="1.3") as connection:
        for path in ("/", "/sw.js"):
            answer = connection.request(
                "GET", path, headers={"Service-Worker": "script", "Sec-Fetch-Dest": "serviceworker"}
            )
            assert answer.headers["content-type"] == "text/javascript"
            assert b"unregister" in answer.body


def test_an_application_that_answers_before_it_reads_is_not_answered_twice(ground: Ground) -> None:
    async def eager(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
        try:
            while (await receive()).get("more_body"):
                pass
        except TooLong:
            raise

    port = guarded(ground, eager)
    with tls_to(ground, port) as sock:
        sock.sendall(
            f"POST / HTTP/1.1\r\nHost: localhost:{port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"400\r\n" + b"x" * 1024 + b"\r\n0\r\n\r\n"
        )  # fmt: skip
        assert sock.recv(4096).count(b"HTTP/1.1") == 1


def test_openssl_itself_sees_no_tls_below_what_is_promised(ground: Ground) -> None:
    """The console speaks TLS 1.3 only, enrolment 1.2 and 1.3, neither compression nor renegotiation."""
    port = port_of(ground.open(who))
    plain = server_context(str(ground.pem))
    enrolment = port_of(ground.open(who, context=lambda: plain))

    def shown(where: int, *options: str) -> bool:
        done = subprocess.run(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{where}", *options],
            input=b"", capture_output=True, timeout=20, check=False,
        )  # fmt: skip
        return b"Cipher is (NONE)" not in done.stdout and b"Cipher is" in done.stdout

    assert (shown(port, "-tls1_3"), shown(port, "-tls1_2")) == (True, False)
    assert (shown(enrolment, "-tls1_3"), shown(enrolment, "-tls1_2")) == (True, True)
    assert not shown(enrolment, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0")


# --- who stands behind a certificate


def test_a_clock_that_falls_back_revives_no_key(ground: Ground) -> None:
    """An ended key stays ended: the newest audit event is the earliest that it can be."""
    from redlatch.service.visitor import visitor

    site = ground.site
    issued = devices.add(site, "Ada's laptop", role="owner", days=1)
    der = ssl.PEM_cert_to_DER_cert(certificate_pem(issued.certificate).decode())
    assert visitor(site, der) is not None
    devices.add(replace(site, clock=lambda: datetime.now(UTC) + timedelta(days=2)), "Lamp")
    assert visitor(site, der) is None


def test_a_visitor_is_who_the_store_says_now(ground: Ground) -> None:
    from redlatch.service.visitor import visitor

    site = ground.site
    issued = devices.add(site, "Ada's laptop", role="owner")
    der = ssl.PEM_cert_to_DER_cert(certificate_pem(issued.certificate).decode())
    found = visitor(site, der)
    assert found is not None
    assert (found.device.name, found.base, found.may_see, found.may_change) == (
        "Ada's laptop",
        "owner",
        True,
        True,
    )
    site = replace(site, insist=True)  # it is the only owner
    devices.set_role(site, "Ada's laptop", "admin")
    found = visitor(site, der)
    assert found is not None
    assert (found.may_see, found.may_change) == (True, False)
    devices.set_role(site, "Ada's laptop", "viewer")
    found = visitor(site, der)
    assert found is not None
    assert not found.may_see
    assert visitor(site, None) is None
    assert visitor(site, der + b"x") is None
    for moment in (timedelta(days=366), timedelta(days=367)):
        later = replace(site, clock=lambda moment=moment: datetime.now(UTC) + moment)
        assert visitor(later, der) is None
    second = devices.renew(site, "Ada's laptop")
    with changing(site) as tx:
        tx.revoke_certificate(issued.fingerprint, datetime.now(UTC), "lost")
        tx.record("certificate.revoked")
    assert visitor(site, der) is None
    der = ssl.PEM_cert_to_DER_cert(certificate_pem(second.certificate).decode())
    assert visitor(site, der) is not None
    devices.revoke(site, "Ada's laptop")
    assert visitor(site, der) is None
