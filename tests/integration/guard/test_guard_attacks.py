"""What attackers do, by class: for each one accepted and one refused case against the real Node-REDs.

Where another module has the case already, COVERED names it, and a test here sees to it that it is still there.
"""

from __future__ import annotations

import re
import socket as sockets
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.integration.guard.conftest import Lock
from tests.integration.guard.rules import AWAY, HOME, OFFICE, gets_nothing, is_refused, ruled
from tests.integration.guard.test_guard_certificates import entry_expired, expired, foreign, server_only
from tests.integration.guard.test_guard_claims import logged
from tests.integration.guard.test_guard_door import say
from tests.integration.guard.test_guard_live import claim, in_force
from tests.support.clients import Connection, Refused, WebSocket, context, request
from tests.support.nodered import free_port
from tests.support.site import Device, odd_certificate
from tests.support.wait import until

from redlatch.pki.authority import Authority
from redlatch.pki.keys import generate_key
from redlatch.policy.model import Rule

# class: (what is accepted, what is refused), each as "module: test" of this folder
COVERED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "1 resumption": (
        ("certificates: test_a_session_is_resumed", "attacks: test_1_another_name_resumes_the_same_right"),
        (
            "certificates: test_a_revoked_device_resumes_nothing",
            "certificates: test_an_expired_entry_resumes_nothing",
            "rules: test_a_session_of_the_open_port_opens_nothing_else",
            "attacks: test_1_a_session_of_a_ca_that_is_gone",
        ),
    ),
    "2 a session without a certificate": (
        ("rules: test_a_session_without_a_certificate_is_resumed",),
        ("certificates: test_a_stranger_who_resumes_stays_a_stranger",),
    ),
    "3 missing and broken files": (
        ("live: test_a_second_device_ca_counts_at_once",),
        (
            "start: test_no_start_without_keys",
            "start: test_nobody_gets_in_without_a_snapshot",
            "live: test_a_bad_snapshot_changes_nothing",
            "live: test_a_bad_key_file_changes_nothing",
            "attacks: test_3_a_part_that_is_gone_at_the_start",
        ),
    ),
    "4 server name and host": (
        ("requests: test_a_device_is_let_in",),
        ("certificates: test_the_server_name_decides_nothing", "attacks: test_4_no_http2"),
    ),
    "5 bad certificates": (
        ("areas: test_a_device_reaches_everything",),
        (
            "certificates: test_a_bad_certificate_gets_nothing",
            "attacks: test_5_a_bad_certificate_is_no_better_than_none",
        ),
    ),
    "6 what is open outlives its right": (
        ("live: test_a_renewed_entry_stays_connected",),
        (
            "live: test_revocation_cuts_what_is_open",
            "live: test_expiry_cuts_what_is_open",
            "rules: test_a_lost_right_cuts_who_had_it",
            "rules: test_a_request_behind_another_hides_nothing",
        ),
    ),
    "7 names in certificates": (
        ("attacks: test_7_two_devices_of_one_name",),
        ("attacks: test_7_a_borrowed_name_is_nobody",),
    ),
    "8 identity headers": (
        ("attacks: test_8_a_device_is_itself_whatever_it_says",),
        ("attacks: test_8_headers_make_nobody_a_device",),
    ),
    "9 around the guard": (
        ("door: test_plain_http_is_sent_to_https",),
        ("start: test_no_start_with_the_lock_undone", "attacks: test_9_plain_http_serves_nothing_on_any_port"),
    ),
    "10 paths": (
        ("rules: test_a_webhook_and_nothing_beside_it",),
        ("rules: test_a_webhook_and_nothing_beside_it", "generated: test_the_guard_and_decide_agree"),
    ),
    "11 smuggling and upgrades": (
        ("requests: test_an_own_websocket_passes", "attacks: test_11_a_body_is_no_request"),
        (
            "requests: test_an_upgrade_is_refused",
            "rules: test_a_right_to_a_websocket_is_none_to_the_page",
            "generated: test_what_node_refuses_never_gets_to_node_red",
        ),
    ),
    "12 other pages": (
        ("rules: test_other_origins_that_are_named",),
        ("requests: test_a_device_is_refused", "rules: test_another_page_has_the_guard_do_nothing"),
    ),
    "13 addresses that are only said": (
        ("attacks: test_13_the_peer_is_the_address", "attacks: test_13_a_mapped_address_is_the_address"),
        ("attacks: test_13_the_peer_is_the_address", "attacks: test_13_a_mapped_address_is_the_address"),
    ),
}
WEBHOOK = Rule(2, anyone=True, path="/hello", methods=("POST",))
TLS = pytest.mark.parametrize("tls", ["1.2", "1.3"])


def test_every_class_has_its_cases() -> None:
    """Classes 1 to 13 each name an accepted and a refused case, and all that are named exist."""
    assert [int(name.split()[0]) for name in COVERED] == list(range(1, 14))
    for accepted, refused in COVERED.values():
        assert accepted
        assert refused
        for one in (*accepted, *refused):
            module, _, test = one.partition(": ")
            text = (Path(__file__).parent / f"test_guard_{module}.py").read_text()
            assert re.search(rf"^def {test}\(", text, re.MULTILINE), one


# --- 1 resumption ------------------------------------------------------------------------------------------------


@TLS
def test_1_another_name_resumes_the_same_right(house: Lock, tls: str) -> None:
    """A session begun under one server name and resumed under another is the same device's, with the same
    rights.
    """
    ruled(house, Rule(2, roles=("thing",), path="/hello"))
    device = house.device("thing")
    in_force(house)
    shared = context(device, tls=tls)
    with Connection(house.port, with_context=shared, server_name="localhost") as first:
        assert first.request("GET", "/hello").status == 200
        session = first.socket.session
    with Connection(house.port, with_context=shared, session=session, server_name="other.example") as second:
        assert second.request("GET", "/hello").status == 200
        assert is_refused(second.request("GET", "/flows"), "no-rule")
        assert is_refused(second.request("GET", "/hello", headers={"Host": "other.example"}), "foreign-host")


@TLS
@pytest.mark.parametrize("insisted", [False, True], ids=["", "after-again"])
def test_1_a_session_of_a_ca_that_is_gone(house: Lock, tls: str, insisted: bool) -> None:
    """A device CA that was taken away takes the sessions along, though the device stands in the list still."""
    ruled(house, mode="explain")
    second = Authority.create_device("second", now=datetime.now(UTC))
    device = house.site.device("of-second", "owner", authority=second)
    house.site.publish_device_ca(house.site.device_ca, second)
    until(lambda: request(house.port, "GET", "/hello", device).status == 200, what="the second CA")
    if insisted:  # which makes ticket keys of its own
        until(lambda: asked_again(house), what="the end of an earlier second")
    shared = context(device, tls=tls)
    with Connection(house.port, with_context=shared) as first:
        assert first.request("GET", "/hello").status == 200
        session = first.socket.session
    house.site.publish_device_ca(house.site.device_ca)
    until(lambda: not lets_in(house, device), what="the end of the second CA")
    try:
        with Connection(house.port, with_context=shared, session=session) as again_:
            assert is_refused(again_.request("GET", "/hello"), "untrusted-certificate")
    except Refused:
        pass  # no byte at all is as good


def asked_again(house: Lock) -> bool:
    try:
        own = {"Sec-Fetch-Site": "same-origin"}
        return request(house.port, "POST", "/.redlatch/again", headers=own, body=b"", source=OFFICE).status == 204
    except Refused:
        return False


def lets_in(house: Lock, device: Device | None) -> bool:
    try:
        return request(house.port, "GET", "/hello", device).status == 200
    except Refused:
        return False


# --- 3 files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["devices", "home"])
def test_3_a_part_that_is_gone_at_the_start(unstarted: Callable[..., Lock], part: str) -> None:
    """With a rule that opens a path to all: a missing list of devices or addresses shuts, and what comes back
    opens.
    """
    from tests.integration.guard.rules import NETWORKS

    lock = unstarted(networks=NETWORKS)
    lock.site.change(
        rules=(Rule(1, roles=("owner",), area="all"), Rule(2, anyone=True, networks=("home",), area="all"))
    )
    folder = lock.site.published / "snapshot"
    tables = {digest for _, digest in lock.site._tables.values()}
    gone = [path for path in folder.iterdir() if (path.name in tables) == (part == "home")]
    kept = {path: path.read_bytes() for path in gone}
    for path in gone:
        path.unlink()
    with lock.red:
        for device in (None, lock.admin):
            with pytest.raises(Refused):
                request(lock.port, "GET", "/hello", device, source=HOME)
        assert "missing" in until(lambda: claim(lock).get("problem"), what="the report")
        for path, content in kept.items():
            path.write_bytes(content)
        lock.site.change()
        in_force(lock)
        assert request(lock.port, "GET", "/hello", source=HOME).status == 200
        assert request(lock.port, "GET", "/hello", lock.admin).status == 200


# --- 4 server name and host --------------------------------------------------------------------------------------


def test_4_no_http2(house: Lock) -> None:
    """Nobody is offered HTTP/2, in which one connection serves many names; HTTP/1.1 is spoken all the same."""
    made = context(house.admin)
    made.set_alpn_protocols(["h2", "http/1.1"])
    with Connection(house.port, with_context=made) as connection:
        assert connection.socket.selected_alpn_protocol() in (None, "http/1.1")
        assert connection.request("GET", "/hello").status == 200
        connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        answer = connection.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


# --- 5 bad certificates ------------------------------------------------------------------------------------------


def withdrawn(house: Lock) -> Device:
    device = house.device()
    in_force(house)
    assert request(house.port, "POST", "/hello", device, body=b"{}").body == b"hello true"
    house.site.revoke(device)
    return device


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (foreign, "untrusted-certificate"),
        (server_only, "untrusted-certificate"),
        (expired, "expired"),
        (entry_expired, "expired"),
        (withdrawn, "unknown-certificate"),
    ],
)
def test_5_a_bad_certificate_is_no_better_than_none(
    house: Lock, make: Callable[[Lock], Device], reason: str
) -> None:
    """Where a certificate is optional a bad one gets what anybody gets, and flows are not told that it is good."""
    ruled(house, WEBHOOK)
    device = make(house)
    in_force(house)
    with Connection(house.port, device, source=AWAY) as connection:
        assert connection.request("POST", "/hello", body=b"{}").body == b"hello false"
        for method, target in (("GET", "/hello"), ("GET", "/flows"), ("GET", "/dashboard/")):
            assert is_refused(connection.request(method, target), reason)
    with WebSocket(house.port, "/comms", device, source=AWAY) as comms:
        assert is_refused(comms.upgrade, reason)


# --- 7 names in certificates -------------------------------------------------------------------------------------


def forged(house: Lock, name: str) -> Device:
    """Of our own CA, not listed, with this common name and the id of a device that may everything."""
    key = generate_key()
    made = odd_certificate(house.site.device_ca, key, name, house.admin.id)
    return Device("forged", house.admin.id, made, key, house.site.root / "devices")


@pytest.mark.parametrize(
    "name", ["admin", "admin\0.evil", "admin\0", "ADMIN", "owner", "https://localhost/device/x"]
)
def test_7_a_borrowed_name_is_nobody(house: Lock, name: str) -> None:
    """The common name and the alternative name of a device that is let in make nobody that device."""
    ruled(house, mode="explain")
    device = forged(house, name)
    answer = request(house.port, "GET", "/hello", device)
    assert is_refused(answer, "unknown-certificate")
    ruled(house)
    assert gets_nothing(house, "GET", "/hello", device)


def test_7_two_devices_of_one_name(house: Lock) -> None:
    """Two certificates with one common name are two devices: each has its own role, and one goes without the
    other.
    """
    ruled(house, Rule(2, roles=("viewer",), area="editor-read"))
    one, other = house.site.device("twin", "owner"), house.site.device("twin", "viewer")
    in_force(house)
    assert request(house.port, "POST", "/hello", one, body=b"{}").status == 200
    assert is_refused(request(house.port, "POST", "/flows", other, body=b"[]"), "read-only")
    house.site.revoke(one)
    in_force(house)
    assert gets_nothing(house, "GET", "/flows", one)
    assert request(house.port, "GET", "/flows", other).status == 200


# --- 8 identity headers ------------------------------------------------------------------------------------------

CLAIMS = {
    "X-Forwarded-User": "admin", "X_Forwarded_User": "admin", "Remote-User": "admin",
    "X-SSL-Client-Verify": "SUCCESS",
    "X-Client-Cert": "admin", "SSL-Client-Cert": "admin", "X-SSL-Client-Fingerprint": "ab" * 32,
    "Redlatch": "owner", "Redlatch-User": "owner", "Authorization": "Bearer admin", "Cookie": "user=admin",
    "Connection": "keep-alive, X-Client-Cert", "X-HTTP-Method-Override": "GET", "X-Original-URL": "/hello",
    "X-Rewrite-URL": "/hello",
}  # fmt: skip


def test_8_headers_make_nobody_a_device(house: Lock) -> None:
    """Whatever a stranger says about itself, alone or twice, it is a stranger."""
    ruled(house, WEBHOOK)
    for headers in ({name: value} for name, value in CLAIMS.items()):
        assert is_refused(request(house.port, "GET", "/flows", headers=headers, source=AWAY), "no-certificate")
        assert is_refused(request(house.port, "GET", "/hello", headers=headers, source=AWAY), "no-certificate")
    assert is_refused(request(house.port, "GET", "/flows", headers=CLAIMS, source=AWAY), "no-certificate")


def test_8_a_device_is_itself_whatever_it_says(house: Lock) -> None:
    """A viewer that says to be somebody else is that viewer, in the guard and in Node-RED's editor."""
    ruled(house, Rule(2, roles=("viewer",), area="editor-read"))
    device = house.device("viewer")
    in_force(house)
    settings = request(house.port, "GET", "/settings", device, headers=CLAIMS).json()
    assert settings["user"] == {"username": device.name, "permissions": "read"}
    assert is_refused(request(house.port, "POST", "/flows", device, headers=CLAIMS, body=b"[]"), "read-only")


# --- 9 around the guard ------------------------------------------------------------------------------------------


def test_9_plain_http_serves_nothing_on_any_port(house: Lock) -> None:
    """A webhook that is open to anyone is open by https alone, on the main and on the open port."""
    port = free_port()
    ruled(house, WEBHOOK, open_port=port)
    until(lambda: lets_post(port), what="the open port")
    for one in (house.port, port):
        answer = say(one, b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", HOME)
        assert answer.startswith(b"HTTP/1.1 308 ")
        assert b"hello" not in answer.partition(b"\r\n\r\n")[2]


def lets_post(port: int) -> bool:
    try:
        return request(port, "POST", "/hello", body=b"", source=HOME).status == 200
    except (Refused, ConnectionError):
        return False


# --- 11 smuggling ------------------------------------------------------------------------------------------------


def test_11_a_body_is_no_request(house: Lock) -> None:
    """A request inside of the body of one that is refused, or let in, is never answered; the next real one is."""
    ruled(house, WEBHOOK)
    inner = b"POST /hello HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(inner), inner)
    with Connection(house.port, source=AWAY) as connection:
        for target, status in (("/flows", 403), ("/hello", 200)):
            answer = connection.request("POST", target, body=inner)
            assert answer.status == status
            connection.send(
                b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % target.encode()
            )
            connection.send(chunked)
            assert connection.response().status == status
        assert connection.request("POST", "/hello", body=b"{}").body == b"hello false"
        assert connection.buffer == b""


# --- 13 addresses ------------------------------------------------------------------------------------------------

SAID = ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "Forwarded", "True-Client-IP", "X-Client-IP")
FROM_HOME = Rule(2, anyone=True, networks=("home",), area="http-in")


def test_13_the_peer_is_the_address(house: Lock) -> None:
    """No header moves anybody into a network, or out of it."""
    ruled(house, FROM_HOME, Rule(3, anyone=True, path="/note.txt"))
    device = house.device("thing")
    in_force(house)
    for name in SAID:
        for home in (HOME, f"for={HOME}", f"{HOME}, {AWAY}", f"{AWAY}, {HOME}", f"::ffff:{HOME}"):
            assert is_refused(
                request(house.port, "GET", "/hello", headers={name: home}, source=AWAY), "no-certificate"
            )
        refused = request(house.port, "GET", "/hello", device, headers={name: HOME}, source=AWAY)
        assert is_refused(refused, "wrong-network")
        assert request(house.port, "GET", "/hello", headers={name: AWAY}, source=HOME).status == 200
    # PROXY protocol is not spoken: its line is no handshake
    assert say(house.port, f"PROXY TCP4 {HOME} 127.0.0.1 1 2\r\n".encode(), OFFICE) == b""


def has_ipv6() -> bool:
    try:
        sockets.create_server(("::1", 0), family=sockets.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_13_a_mapped_address_is_the_address(unstarted: Callable[..., Lock]) -> None:
    """On a server for IPv4 and IPv6 the peers are ::ffff:127.1.0.1: that is home, and ::1 or a neighbour is
    not.
    """
    from tests.integration.guard.rules import PLAIN

    lock = unstarted(body='uiHost: "::",', **PLAIN)
    lock.site.change(rules=(Rule(1, roles=("owner",), area="all"), FROM_HOME))
    with lock.red:
        assert request(lock.port, "GET", "/hello", source=HOME).status == 200
        with pytest.raises(Refused):
            request(lock.port, "GET", "/hello", source=AWAY)
        logged(lock, **{"from": AWAY, "reason": "no-certificate"})
        assert request(lock.port, "GET", "/hello", lock.admin, source=AWAY).status == 200
        with (
            sockets.create_connection(("::1", lock.port), 10) as raw,
            pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"),
        ):
            context(tls="1.2").wrap_socket(raw, server_hostname="localhost")  # the handshake insists
