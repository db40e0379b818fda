"""A link in the foreground, over real TLS and a real store: one link, one port, one end."""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.clients import Connection, Refused, Response, request
from tests.support.enrolling import serving
from tests.support.netns import own_network
from tests.support.serving import is_open
from tests.support.wait import until

from redlatch.operations import devices, hosts, links
from redlatch.operations.links import Invited, Wanted
from redlatch.operations.site import Site
from redlatch.service import sending, sockets
from redlatch.service.origin import server_context
from redlatch.service.sending import Sending, State


@dataclass
class Sent:
    """A link that is served on `port`."""

    site: Site
    made: Invited
    sending: Sending
    port: int

    def post(self, path: str, **document: str) -> Response:
        headers = {"Content-Type": "application/json"}
        return request(self.port, "POST", path, headers=headers, body=json.dumps(document).encode())

    def redeem(self, token: str | None = None) -> Response:
        return self.post("/redeem", token=token or self.made.token, format="p12")

    @property
    def state(self) -> str:
        return links.state(links.get(self.site, self.made.link.id), self.site.clock())


@contextmanager
def sent(site: Site, name: str, *, lifetime: timedelta | None = None, **more: Any) -> Iterator[Sent]:
    """A link for an owner, as `device send` makes and serves it."""
    (made,) = links.invite(site, [Wanted(name, "owner")], compared=True)
    served = made.link if lifetime is None else replace(made.link, expires_at=made.link.created_at + lifetime)
    bound = sockets.bind([more.pop("address", "127.0.0.1")], told=True)
    context = server_context(hosts.node_red_shows(site).pem)
    port = bound[0].getsockname()[1]
    with Sending(site, served, bound, context, **more) as running:
        yield Sent(site, made, running, port)
    assert not is_open(port)


def test_the_right_link_hands_the_key_over_and_closes_the_port(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the page's receipt confirms is "delivered"; when the page is gone, so is the port, by itself."""
    monkeypatch.setattr(sending, "PAGE_GONE", 0.5)
    with sent(site, "phone", next_url="https://pi.local:4711/") as at:
        offer = at.post("/offer", token=at.made.token).json()
        assert (offer["device"], offer["next"]) == ("phone", "https://pi.local:4711/")
        answer = at.redeem().json()
        assert answer["next"] == "https://pi.local:4711/"
        assert at.post("/received", receipt=answer["receipt"]).status == 204
        outcome = at.sending.wait()
        assert (outcome.state, outcome.link.used_from) == (State.DELIVERED, "127.0.0.1")
        assert outcome.issued is not None
        assert outcome.issued.fingerprint == answer["fingerprint"]
        assert outcome.issued.device.role == "owner"
        at.sending.linger()
        until(lambda: not is_open(at.port), seconds=5, what="that the port is closed")
        assert at.state == "confirmed"


def test_the_page_is_served_on_while_it_asks(site: Site) -> None:
    """Its tick may still come: the port stays after the link's end, for as long as the caller lets it."""
    with sent(site, "asking", receipt_wait=0.2) as at:
        receipt = at.redeem().json()["receipt"]
        at.sending.wait()
        assert at.post("/arrived", receipt=receipt).json()["in"] is False
        assert at.redeem().json()["error"] == "already-used"


def test_without_the_pages_receipt_it_is_sent_and_no_more(site: Site) -> None:
    """A client that never confirms gets the key; the terminal does not say that it was delivered."""
    with sent(site, "silent", receipt_wait=0.2) as at:
        assert at.redeem().status == 200
        assert at.post("/received", receipt="x" * 22).status == 404
        assert at.sending.wait().state is State.SENT


def test_only_this_link_is_redeemed_here(site: Site) -> None:
    """Another one that is open is unknown here, to the offer too, and stays good where it belongs."""
    (other,) = links.invite(site, [Wanted("other")], trust_lan=True)
    with sent(site, "mine", receipt_wait=0.2) as at:
        assert at.post("/offer", token=other.token).json()["error"] == "wrong-token"
        assert at.redeem(other.token).json()["error"] == "wrong-token"
        assert other.link in links.open_links(site)
        assert at.redeem().status == 200
    links.withdraw(site, other.link.id)


def test_the_service_does_not_redeem_it(site: Site) -> None:
    """Nobody compares a fingerprint there: even with the right token it is unknown, and stays good here."""
    with serving(site) as service, sent(site, "compared", receipt_wait=0.2) as at:
        assert service.redeem(at.made.token).json()["error"] == "wrong-token"
        assert service.post("/offer", {"token": at.made.token}).json()["error"] == "wrong-token"
        assert at.redeem().status == 200


def test_what_is_presented_is_what_the_terminal_shows(site: Site) -> None:
    """The fingerprint and the pin are those on the wire, whatever the service presents; no browser knows it."""
    with sent(site, "shown") as at:
        with Connection(at.port) as connection:
            der = connection.socket.getpeercert(binary_form=True)
        pem = hosts.node_red_shows(site).pem
        assert hosts.fingerprint(pem).replace(":", "").lower() == hashlib.sha256(der or b"").hexdigest()
        offer = at.post("/offer", token=at.made.token).json()
        assert (offer["pin"], offer["public"]) == (hosts.pin(pem), False)


def test_a_profile_is_signed_without_a_service(site: Site) -> None:
    """`redlatch serve` never ran here, so that it has no certificate: what is presented signs."""
    with sent(site, "iphone", receipt_wait=0.2) as at:
        answer = at.post("/redeem", token=at.made.token, format="mobileconfig").json()
        assert request(at.port, "GET", answer["profile"]).status == 200


@pytest.mark.parametrize("end", ["expiry", "withdrawn", "interrupted", "error"])
def test_a_link_that_ends_without_a_device_is_not_left_open(site: Site, end: str) -> None:
    """Whatever ends it, link and port are closed, and no device was added."""
    lifetime = timedelta(seconds=0.3) if end == "expiry" else None
    with ExitStack() as stack:
        if end in ("interrupted", "error"):
            stack.enter_context(pytest.raises(KeyboardInterrupt if end == "interrupted" else ZeroDivisionError))
        at = stack.enter_context(sent(site, f"nobody {end}", lifetime=lifetime))
        assert request(at.port, "GET", "/").status == 200
        if end == "withdrawn":
            links.withdraw(site, at.made.link.id)
        if end == "interrupted":
            raise KeyboardInterrupt
        if end == "error":
            raise ZeroDivisionError
        outcome = at.sending.wait()
        assert outcome.state == {"expiry": "expired"}.get(end, end)
        assert outcome.issued is None
    assert at.made.link.id not in {one.id for one in links.open_links(site)}
    assert at.state == "withdrawn"
    with site.store.read() as view:
        assert f"nobody {end}" not in {one.name for one in view.devices()}


def test_a_client_that_is_gone_before_its_answer_lost_it(site: Site) -> None:
    """The link was used, the key reached nobody: that is said, and not that it was sent."""
    with sent(site, "gone") as at:
        body = json.dumps({"token": at.made.token, "format": "p12"})
        messages = [{"type": "http.request", "body": body.encode()}]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(_message: Any) -> None:
            pass

        scope = {
            "type": "http", "method": "POST", "path": "/redeem", "query_string": b"", "client": ("127.0.0.1", 1),
            "headers": [(b"content-type", b"application/json")],
        }  # fmt: skip
        running = at.sending._running.result()
        asyncio.run_coroutine_threadsafe(at.sending.app(scope, receive, send), running).result(20)
        outcome = at.sending.wait()
        assert outcome.state is State.LOST
        assert outcome.issued is not None
        assert devices.show(site, "gone").certificates[0].fingerprint == outcome.issued.fingerprint


def test_a_public_peer_is_refused(site: Site) -> None:
    """From a public address not one byte comes back, from a private one the page does."""
    with (
        own_network("192.168.77.1", "8.8.8.8"),
        sent(site, "public peer", address="0.0.0.0") as at,
    ):
        assert request(at.port, "GET", "/", source="192.168.77.1").status == 200
        with pytest.raises(Refused):
            request(at.port, "GET", "/", source="8.8.8.8")


def test_nobody_holds_the_port_up(site: Site) -> None:
    """Half a request and a silent connection do not keep it open when the link ends."""
    with sent(site, "held") as at:
        slow = Connection(at.port)
        slow.send(b"POST /redeem HTTP/1.1\r\n")
        silent = socket.create_connection(("127.0.0.1", at.port), timeout=10)
    slow.close()
    silent.close()
