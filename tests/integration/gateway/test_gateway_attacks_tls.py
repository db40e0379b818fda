"""What attackers do in TLS, at live HAProxy: classes 1, 2, 4, 5 and 6 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from tests.integration.gateway.house import House, Live, gets_nothing, reason
from tests.integration.guard.rules import OWNER
from tests.integration.guard.test_guard_certificates import CASES, Chained
from tests.integration.guard.test_guard_certificates import revoked as withdrawn
from tests.support.clients import Connection, Refused, WebSocket, context, request
from tests.support.http2 import Http2
from tests.support.nodered import free_port
from tests.support.site import Device
from tests.support.wait import until

from redlatch.pki.authority import Authority
from redlatch.policy.model import Rule

ADMIN = Rule(2, roles=("admin",), area="all")
WEBHOOK = Rule(3, anyone=True, path="/hello", methods=("POST",))
# TLS 1.2 resumes by tickets and by ids of sessions that the server keeps; 1.3 by either, in tickets
HOW = pytest.mark.parametrize(
    ("tls", "tickets"), [("1.2", True), ("1.2", False), ("1.3", True)], ids=["1.2-tickets", "1.2-ids", "1.3"]
)


def shared(device: Device | None, tls: str, tickets: bool = True) -> ssl.SSLContext:
    made = context(device, tls=tls)
    if not tickets:
        made.options |= ssl.OP_NO_TICKET
    return made


def begun(port: int, kept: ssl.SSLContext, target: str = "/hello", method: str = "GET", **how: Any) -> Any:
    """A session of a connection on which a request was answered, with how."""
    with Connection(port, with_context=kept, **how) as first:
        answer = first.request(method, target, body=b"" if method == "POST" else None)
        session = first.socket.session
        assert session is not None
    return session, reason(answer)


def again(port: int, kept: ssl.SSLContext, session: ssl.SSLSession, target: str = "/hello") -> tuple[bool, str]:
    """(resumed, reason) of a request on a connection that offers the session."""
    with Connection(port, with_context=kept, session=session) as second:
        return bool(second.socket.session_reused), reason(second.request("GET", target))


# --- 1 resumption ------------------------------------------------------------------------------------------------


@HOW
def test_1_a_session_is_resumed(live: Live, tls: str, tickets: bool) -> None:
    """A device may, and is known on it, under another server name too: the control for the next ones."""
    device = live.device()
    kept = shared(device, tls, tickets)
    session, first = begun(live.port, kept)
    assert (first, *again(live.port, kept, session)) == ("ok", True, "ok")
    with Connection(live.port, with_context=kept, session=session, server_name="other.example") as other:
        assert reason(other.request("GET", "/hello")) == "ok"
        assert reason(other.request("GET", "/hello", headers={"Host": "other.example"})) == "foreign-host"


@HOW
def test_1_a_revoked_device_resumes_nothing(live: Live, tls: str, tickets: bool) -> None:
    """The session is resumed and its certificate known: it is no longer in the list."""
    device = live.device()
    kept = shared(device, tls, tickets)
    session, _ = begun(live.port, kept)
    live.revoke(device)
    assert again(live.port, kept, session) == (True, "unknown-certificate")


@HOW
def test_1_an_expired_entry_resumes_nothing(live: Live, tls: str, tickets: bool) -> None:
    """As in the list, whatever the certificate says."""
    device = live.device()
    kept = shared(device, tls, tickets)
    session, _ = begun(live.port, kept)
    live.site.list(device, not_after=live.site.snapshot.time - 1)
    live.wait()
    assert again(live.port, kept, session) == (True, "expired")


@HOW
@pytest.mark.parametrize("listed", [False, True])
def test_1_a_foreign_certificate_stays_one(live: Live, tls: str, tickets: bool, listed: bool) -> None:
    """What TLS did not verify the first time is not verified by being resumed, though it stood in the list."""
    other = Authority.create_device("elsewhere", now=datetime.now(UTC))
    device = live.site.device("foreign", authority=other, listed=listed)
    live.wait()
    kept = shared(device, tls, tickets)
    session, first = begun(live.port, kept)
    assert first == "untrusted-certificate"
    assert again(live.port, kept, session)[1] == "untrusted-certificate"


@HOW
def test_1_a_stranger_resumes_in_silence(strict: Live, tls: str, tickets: bool) -> None:
    """Strict: a device's session after its revocation does not get to ask."""
    device = strict.device()
    kept = shared(device, tls, tickets)
    session, first = begun(strict.port, kept)
    assert first == "ok"
    strict.revoke(device)
    with pytest.raises(Refused):
        again(strict.port, kept, session)


@HOW
def test_1_across_the_open_port(house: House, tls: str, tickets: bool) -> None:
    """A session of the open port is nobody's at the main one; a device's is that device's at the open one, or no
    more than anybody's."""
    port = free_port()
    device = house.device("thing")
    house.ruled(WEBHOOK, Rule(4, roles=("thing",), path="/things"), open_port=port)
    nobody = shared(None, tls, tickets)
    session, first = begun(port, nobody, method="POST")
    assert first == "ok"
    for target in ("/hello", "/things", "/flows"):
        assert again(house.port, nobody, session, target)[1] == "no-certificate"
    with Connection(house.port, with_context=nobody, session=session) as main:
        assert reason(main.request("POST", "/hello", body=b"")) == "no-certificate"
    own = shared(device, tls, tickets)
    session, first = begun(house.port, own, "/things")
    assert first == "ok"
    resumed, things = again(port, own, session, "/things")
    assert things == ("ok" if resumed else "no-certificate")
    assert again(port, own, session, "/flows")[1] == ("no-rule" if resumed else "no-certificate")


@HOW
def test_1_a_session_of_a_ca_that_is_gone(live: Live, tls: str, tickets: bool) -> None:
    """A device CA that was taken away takes the sessions along, though the device stands in the list still."""
    second = Authority.create_device("second", now=datetime.now(UTC))
    device = live.site.device("of-second", authority=second)
    live.site.publish_device_ca(live.site.device_ca, second)
    until(lambda: reason(request(live.port, "GET", "/hello", device)) == "ok", what="the second CA")
    kept = shared(device, tls, tickets)
    session, _ = begun(live.port, kept)
    live.site.publish_device_ca(live.site.device_ca)
    until(lambda: reason(request(live.port, "GET", "/hello", device)) != "ok", what="the end of the second CA")
    assert again(live.port, kept, session)[1] == "untrusted-certificate"
    assert reason(request(live.port, "GET", "/hello", live.admin)) == "ok"


# --- 2 a session without a certificate ---------------------------------------------------------------------------


@HOW
def test_2_a_session_without_a_certificate(house: House, tls: str, tickets: bool) -> None:
    """It gets what anybody gets, resumed or not, and OpenSSL's word that it is verified counts for nothing."""
    house.ruled(WEBHOOK)
    kept = shared(None, tls, tickets)
    session, first = begun(house.port, kept, method="POST")
    assert first == "ok"
    assert again(house.port, kept, session) == (True, "no-certificate")
    with Connection(house.port, with_context=kept, session=session) as second:
        assert reason(second.request("POST", "/hello", body=b"")) == "ok"
        assert reason(second.request("GET", "/flows")) == "no-certificate"
    house.ruled()
    assert reason(request(house.port, "POST", "/hello", body=b"")) == "no-certificate"


@HOW
def test_2_a_certificate_is_not_lent_to_a_session_without(house: House, tls: str, tickets: bool) -> None:
    """Who has a certificate and resumes a session that began without one is still nobody."""
    house.ruled(WEBHOOK)
    kept = shared(None, tls, tickets)
    session, _ = begun(house.port, kept, method="POST")
    kept.load_cert_chain(house.admin.cert_file)
    resumed, found = again(house.port, kept, session)
    assert found == ("no-certificate" if resumed else "ok")


# --- 4 server name and host --------------------------------------------------------------------------------------

NAMES = [None, "localhost", "LOCALHOST", "pi.local", "other.example"]


@pytest.mark.parametrize("name", NAMES)
def test_4_the_server_name_decides_nothing(house: House, name: str | None) -> None:
    """Whatever name the handshake asks for, or none: certificate and Host decide."""
    house.ruled()
    with Connection(house.port, house.admin, server_name=name) as connection:
        for host, wanted in (
            ("localhost", "ok"), ("LocalHost", "ok"), ("pi.local.", "ok"), ("pi.local.:8443", "ok"),
            ("127.0.0.1", "ok"), ("[::1]:1", "ok"), ("other.example", "foreign-host"),
            ("localhost..", "foreign-host"), ("localhost.other.example", "foreign-host"),
            ("otherlocalhost", "foreign-host"), ("", "foreign-host"), ("localhost", "ok"),
        ):  # fmt: skip
            assert reason(connection.request("GET", "/hello", headers={"Host": host})) == wanted, host
    assert reason(request(house.port, "GET", "/hello")) == "no-certificate"
    assert len(house.reached) == 7


def test_4_one_http2_connection_for_several_names(house: House) -> None:
    """A browser asks for other names on a connection that it has: each request is judged by its own."""
    house.ruled(origins=("https://pi.local",))
    with Http2(house.port, house.admin, server_name="pi.local") as connection:
        for authority, wanted in (
            ("pi.local", "ok"), ("localhost", "ok"), ("other.example", "foreign-host"), ("PI.local.:1", "ok"),
            ("other.example", "foreign-host"), ("pi.local", "ok"), ("", "foreign-host"), ("localhost", "ok"),
        ):  # fmt: skip
            assert reason(connection.request("GET", "/hello", authority=authority)) == wanted, authority
        # A request that names none takes nothing from the next one, nor does it get its name
        assert reason(connection.request("GET", "/hello", authority=None)) == "foreign-host"
        assert reason(connection.request("GET", "/hello")) == "ok"
        # An origin is compared with the name of that very request
        own = {"origin": "https://localhost"}
        assert reason(connection.request("POST", "/hello", headers=own, body=b"")) == "ok"
        assert reason(connection.request("POST", "/hello", headers=own, body=b"", authority="127.0.0.1")) == (
            "cross-origin"
        )


def test_4_two_names_in_one_request(house: House) -> None:
    """With :authority and Host at odds, or two Hosts, Node-RED gets the one that was judged, or nothing."""
    house.ruled()
    for pseudo, hosts in (
        ("localhost", ["other.example"]), ("other.example", ["localhost"]), (None, ["localhost", "other.example"]),
        (None, ["other.example", "localhost"]), ("localhost/flows", ["localhost"]), ("localhost?", ["localhost"]),
        ("localhost#", ["localhost"]), ("user@localhost", ["localhost"]), ("localhost:1", ["localhost:2"]),
    ):  # fmt: skip
        house.upstream.seen.clear()
        with Http2(house.port, house.admin) as connection:
            try:
                answer = connection.request(
                    "GET", "/hello", authority=pseudo, headers=[("host", host) for host in hosts]
                )
            except Refused:
                answer = None
        got = "reset" if answer is None else reason(answer)
        for head in house.upstream.seen:
            assert head.lower().count(b"\r\nhost:") == 1
            assert b"\r\nhost: localhost" in head
            assert head.startswith(b"GET /hello HTTP/1.1\r\n")
        assert len(house.upstream.seen) == (got == "ok"), (pseudo, hosts)
    for hosts in (["localhost", "other.example"], ["other.example", "localhost"], []):
        house.upstream.seen.clear()
        lines = "".join(f"Host: {host}\r\n" for host in hosts)
        with Connection(house.port, house.admin) as plain:
            plain.send(f"GET /hello HTTP/1.1\r\n{lines}\r\n".encode())
            assert plain.response().status in (400, 403)
        assert house.upstream.seen == []


# --- 5 bad certificates ------------------------------------------------------------------------------------------


def same_subject_and_key_id(lock: Any) -> Device:
    """Of a CA with the name, the serial number and the key identifier of ours, but not its key."""
    ours = lock.site.device_ca.certificate
    key = Authority.create_device("twin", now=datetime.now(UTC)).key
    assert key is not None
    twin = (
        x509.CertificateBuilder()
        .subject_name(ours.subject)
        .issuer_name(ours.subject)
        .public_key(key.public_key())
        .serial_number(ours.serial_number)
        .not_valid_before(ours.not_valid_before_utc)
        .not_valid_after(ours.not_valid_after_utc)
    )
    for extension in ours.extensions:
        twin = twin.add_extension(extension.value, extension.critical)
    authority = Authority(twin.sign(key, SHA256()), key)
    device = lock.site.device(lock.admin.name, authority=authority, listed=False)
    return Chained(device.name, device.id, device.certificate, device.key, device.folder, (authority.certificate,))


def self_signed(lock: Any) -> Device:
    """With the subject and the issuer of a device that is let in, signed by itself."""
    device = lock.site.device("self", listed=False)
    source = lock.admin.certificate
    made = (
        x509.CertificateBuilder()
        .subject_name(source.subject)
        .issuer_name(source.issuer)
        .public_key(device.key.public_key())
        .serial_number(source.serial_number)
        .not_valid_before(source.not_valid_before_utc)
        .not_valid_after(source.not_valid_after_utc)
    )
    for extension in source.extensions:
        made = made.add_extension(extension.value, extension.critical)
    return Device("self", lock.admin.id, made.sign(device.key, SHA256()), device.key, device.folder)  # type: ignore[arg-type]


def listed_second(lock: Any) -> Device:
    """Keycloak's CVE-2023-2422: a foreign certificate in front, one that is let in as the second, and the third."""
    other = Authority.create_device("elsewhere", now=datetime.now(UTC))
    own = lock.site.device("front", authority=other, listed=False)
    behind = (lock.admin.certificate, other.certificate, lock.admin.certificate)
    return Chained(own.name, own.id, own.certificate, own.key, own.folder, behind)


ALL_CASES = [
    *CASES,
    (same_subject_and_key_id, "untrusted-certificate"),
    (self_signed, "untrusted-certificate"),
    (listed_second, "untrusted-certificate"),
]
BAD = pytest.mark.parametrize(("make", "why"), ALL_CASES, ids=[make.__name__ for make, _ in ALL_CASES])
TLS = pytest.mark.parametrize("tls", ["1.2", "1.3"])


@TLS
@BAD
def test_5_a_bad_certificate_gets_nothing(strict: Live, make: Callable[[Any], Device], why: str, tls: str) -> None:
    """Strict: whatever is wrong with a certificate, not a byte of HTTP comes back; a good one is let in."""
    device = make(strict)
    strict.wait()
    assert gets_nothing(strict.port, "GET", "/hello", device, tls=tls)
    assert reason(request(strict.port, "GET", "/hello", strict.admin, tls=tls)) == "ok"


@TLS
@BAD
def test_5_a_bad_certificate_is_told_why(live: Live, make: Callable[[Any], Device], why: str, tls: str) -> None:
    """Explaining: 403 with the reason, of which the fingerprint of the first certificate is the subject."""
    device = make(live)
    live.wait()
    assert reason(request(live.port, "GET", "/hello", device, tls=tls)) == why


@pytest.mark.parametrize(
    ("make", "why"),
    [case for case in ALL_CASES if case[0] is not withdrawn],  # for a revocation is put in force by `run`
    ids=[make.__name__ for make, _ in ALL_CASES if make is not withdrawn],
)
def test_5_a_bad_certificate_is_no_better_than_none(house: House, make: Callable[[Any], Device], why: str) -> None:
    """Where a certificate is optional a bad one gets what anybody gets, and Node-RED is told of nobody."""
    device = make(house)
    house.ruled(WEBHOOK)
    with Connection(house.port, device) as connection:
        assert reason(connection.request("POST", "/hello", body=b"{}")) == "ok"
        assert reason(connection.request("GET", "/flows")) == why
    assert b"\r\nx-redlatch-user: anyone\r\n" in house.upstream.seen[0]
    assert b"\r\nx-redlatch-device:" not in house.upstream.seen[0]


def test_5_a_chain_of_an_own_device(house: House) -> None:
    """What a device sends behind its own certificate changes nothing."""
    device = house.device("thing")
    other = house.site.device("other", listed=False)
    house.ruled(Rule(2, roles=("thing",), path="/hello"))
    chained = Chained(
        device.name, device.id, device.certificate, device.key, device.folder,
        (house.admin.certificate, other.certificate, house.site.device_ca.certificate),
    )  # fmt: skip
    assert reason(request(house.port, "GET", "/hello", chained)) == "ok"
    assert reason(request(house.port, "GET", "/flows", chained)) == "no-rule"


def test_5_no_renegotiation(house: House) -> None:
    """A TLS 1.2 client cannot start the handshake anew, with another certificate, on an open connection."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{house.port}", "-tls1_2", "-cert"]
    done = subprocess.run(
        [*command, house.admin.cert_file, "-legacy_renegotiation"], input=b"R\n", capture_output=True, timeout=20,
        check=False,
    )  # fmt: skip
    assert b"no renegotiation" in done.stderr


# --- 6 what is open outlives its right ---------------------------------------------------------------------------


@dataclass
class Open:
    """A device's connections: requests kept alive and websockets, of both versions of HTTP."""

    device: Device
    plain: Connection
    echo: WebSocket
    http2: Http2
    stream: int

    @classmethod
    def of(cls, gateway: Live, device: Device) -> Open:
        plain = Connection(gateway.port, device)
        assert reason(plain.request("GET", "/hello")) == "ok"
        echo = WebSocket(gateway.port, "/ws/echo", device)
        assert echo.is_open
        http2 = Http2(gateway.port, device)
        assert reason(http2.request("GET", "/hello")) == "ok"
        stream = http2.websocket("/ws/echo")
        assert http2.head(stream).status == 200
        http2.data(stream, b"one")
        assert http2.receive(stream, 3) == b"one"
        return cls(device, plain, echo, http2, stream)

    def goes_on(self) -> None:
        assert reason(self.plain.request("GET", "/hello")) == "ok"
        self.echo.send(b"two")
        assert self.echo._exactly(3) == b"two"
        self.http2.data(self.stream, b"three")
        assert self.http2.receive(self.stream, 5) == b"three"
        assert reason(self.http2.request("GET", "/hello")) == "ok"

    def is_over(self, why: str) -> None:
        """The websockets are cut, and what is asked on the connections is refused, or they are cut as well."""
        assert self.echo.is_closed()
        assert self.http2.ended(self.stream)
        for ask in (self.plain.request, self.http2.request):
            try:
                assert reason(ask("GET", "/hello")) == why
            except Refused:
                pass  # cut

    def close(self) -> None:
        self.plain.close()
        self.echo.close()
        self.http2.connection.close()


def revoked(live: Live, device: Device) -> None:
    live.revoke(device)


def over(live: Live, device: Device) -> None:
    live.site.list(device, not_after=live.site.snapshot.time - 1)
    live.wait()


@pytest.mark.parametrize(
    ("end", "why"), [(revoked, "unknown-certificate"), (over, "expired")], ids=["revoked", "expired"]
)
def test_6_what_is_open_ends(live: Live, end: Callable[[Live, Device], None], why: str) -> None:
    """Keep-alive connections and websockets, over HTTP/1.1 and HTTP/2; those of another device go on."""
    one, other = Open.of(live, live.device()), Open.of(live, live.device())
    end(live, one.device)
    one.is_over(why)
    other.goes_on()
    one.close()
    other.close()


def test_6_expiry_by_the_clock(live: Live) -> None:
    """An end that comes while connections are open, without any change: the next request is refused."""
    device = live.site.device("short", listed=False)
    end = int(datetime.now(UTC).timestamp()) + 2
    live.site.list(device, not_after=end)
    live.wait()
    one, other = Open.of(live, device), Open.of(live, live.admin)
    until(lambda: datetime.now(UTC).timestamp() > end + 1, what="the end of the certificate")
    with Connection(live.port, device) as anew:
        assert reason(anew.request("GET", "/hello")) == "expired"
    one.is_over("expired")
    other.goes_on()
    one.close()
    other.close()


def test_6_expiry_without_anybody_who_cuts(house: House) -> None:
    """The same where nothing but HAProxy runs: on a connection that stays open, by HTTP/1.1 and HTTP/2."""
    device = house.site.device("short", listed=False)
    end = int(datetime.now(UTC).timestamp()) + 2
    house.site.list(device, role="admin", not_after=end)
    house.ruled(ADMIN)
    with Connection(house.port, device) as plain, Http2(house.port, device) as http2:
        for ask in (plain.request, http2.request):
            assert reason(ask("GET", "/hello")) == "ok"
        until(lambda: datetime.now(UTC).timestamp() > end + 1, what="the end of the certificate")
        for ask in (plain.request, http2.request):
            assert reason(ask("GET", "/hello")) == "expired"
    assert reason(request(house.port, "GET", "/hello", house.admin)) == "ok"


def test_6_a_right_that_went_is_gone_on_an_open_connection(live: Live) -> None:
    """Who may no more than before is asked anew on the connection that is there, by HTTP/1.1 and HTTP/2."""
    live.site.change(rules=(OWNER, ADMIN, WEBHOOK))
    live.wait()
    with Connection(live.port) as plain, Http2(live.port) as http2:
        assert reason(plain.request("POST", "/hello", body=b"")) == "ok"
        assert reason(http2.request("POST", "/hello", body=b"")) == "ok"
        live.site.change(rules=(OWNER, ADMIN))
        live.wait()
        for ask in (plain.request, http2.request):
            try:
                assert reason(ask("POST", "/hello", body=b"")) == "no-certificate"
            except Refused:
                pass
    assert reason(request(live.port, "POST", "/hello", live.admin, body=b"")) == "ok"
