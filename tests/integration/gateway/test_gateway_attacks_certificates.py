"""Names and certificates, at live HAProxy: classes 4 and 5 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from tests.integration.gateway.house import House, Live, gets_nothing, reason
from tests.integration.guard.test_guard_certificates import CASES, Chained
from tests.integration.guard.test_guard_certificates import revoked as withdrawn
from tests.support.clients import Connection, Refused, request
from tests.support.http2 import Http2
from tests.support.nodered import free_port
from tests.support.site import Device

from redlatch.pki.authority import Authority
from redlatch.policy.model import Rule

ADMIN = Rule(2, roles=("admin",), area="all")
WEBHOOK = Rule(3, anyone=True, path="/hello", methods=("POST",))

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
    # A stranger without any rule is told that alone
    assert reason(request(house.port, "GET", "/hello", headers={"Host": "other.example"})) == "no-certificate"
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
    """Keycloak's CVE-2023-2422: a foreign certificate in front, one that is let in as the second, and the
    third.
    """
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


def test_5_strangers_do_not_get_to_ask(house: House) -> None:
    """Strict, and on an open port whatever the mode: their connection ends with the handshake, before any request.
    Where a rule speaks of them it stays.
    """
    for mode, rule, stays in (("strict", None, False), ("strict", WEBHOOK, True), ("explain", None, True)):
        house.ruled(*([rule] if rule else []), mode=mode)
        with Connection(house.port) as connection:
            assert connection.is_closed(1 if stays else 10) is not stays
        with Connection(house.port, house.admin) as connection:
            assert not connection.is_closed(0.2)
    port = free_port()
    for rule, stays in ((None, False), (WEBHOOK, True)):
        house.ruled(*([rule] if rule else []), open_port=port)
        with Connection(port) as connection:
            assert connection.is_closed(1 if stays else 10) is not stays


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
