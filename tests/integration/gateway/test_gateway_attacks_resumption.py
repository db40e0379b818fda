"""Sessions that are resumed, at live HAProxy: classes 1 and 2 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.integration.gateway.house import House, Live, reason
from tests.support.clients import Connection, Refused, context, request
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
