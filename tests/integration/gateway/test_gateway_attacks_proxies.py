"""What attackers say about their address, at live HAProxy: class 13 (test_gateway_attacks.py has the list)."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from tests.integration.gateway.house import House, fields, reason
from tests.integration.guard.rules import AWAY, HOME, OFFICE
from tests.support.clients import Connection, Refused, Response, context, request
from tests.support.haproxy import PROGRAMS
from tests.support.http2 import Http2
from tests.support.netns import own_network
from tests.support.requests import network
from tests.support.site import Device

from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import Rule

PROXY, OTHER_PROXY = "127.9.0.1", "127.9.1.1"
TRUSTED = ("127.9.0.0/24", "127.9.1.1-127.9.1.3", "2001:db8:9::/48")
NETWORKS = {
    "home": network("127.1.0.0/16"), "office": network("127.2.0.0/16"), "six": network("2001:db8:1::/48"),
    "all-six": network("::/0"), "all-four": network("0.0.0.0/0"), "lan": network("192.168.1.0/24"),
    "proxies": network("127.9.0.0/16"),
}  # fmt: skip
WHERE = tuple(Rule(2 + at, anyone=True, networks=(name,), path=f"/{name}") for at, name in enumerate(NETWORKS))


def door(name: str, root: Path, **extra: object) -> Iterator[House]:
    made = House(name, root, trusted_proxies=TRUSTED, **extra)
    made.ruled(*WHERE, networks=NETWORKS)
    yield made
    made.close()


@pytest.fixture(scope="module", params=PROGRAMS)
def forwarding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Behind a proxy that hands requests on."""
    yield from door(request.param, tmp_path_factory.mktemp(f"forwarding-{request.param}"))


@pytest.fixture(scope="module", params=PROGRAMS)
def tunnelled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Behind a proxy that hands connections on, with a PROXY header."""
    yield from door(request.param, tmp_path_factory.mktemp(f"tunnelled-{request.param}"), accept_proxy=True)


def places(connection: Connection | Http2, headers: list[tuple[str, str]] = []) -> set[str]:  # noqa: B006
    """The networks that a request on this connection is taken to come from."""
    found = set()
    for name in NETWORKS:
        if isinstance(connection, Http2):
            answer = connection.request(
                "GET", f"/{name}", headers=[(one.lower(), value) for one, value in headers]
            )
        else:
            lines = "".join(f"{one}: {value}\r\n" for one, value in headers)
            connection.send(f"GET /{name} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode("latin-1"))
            answer = connection.response()
        if reason(answer) == "ok":
            found.add(name)
        else:
            assert reason(answer) == "no-certificate"
    return found


FOUR, SIX = {"all-four"}, {"all-six"}

# --- what a proxy says in a header -------------------------------------------------------------------------------

ADDRESSES = [
    (HOME, FOUR | {"home"}), (OFFICE, FOUR | {"office"}), (AWAY, FOUR), ("192.168.1.7", FOUR | {"lan"}),
    ("2001:db8:1::5", SIX | {"six"}), ("2001:DB8:1:0::5", SIX | {"six"}), ("2001:db8:2::5", SIX), ("::1", SIX),
    (f"::ffff:{HOME}", FOUR | {"home"}), ("::ffff:7f01:1", FOUR | {"home"}), (f"{AWAY}, {HOME}", FOUR | {"home"}),
    (f"{HOME}, {AWAY}", FOUR), (f"{HOME},{AWAY},{OFFICE}", FOUR | {"office"}),
    # IPv6 addresses with an IPv4 address in them that are nobody's but whose they are
    (f"::{HOME}", SIX), ("2002:7f01:1::1", SIX), ("2002:c0a8:107::1", SIX), (f"64:ff9b::{HOME}", SIX),
    (f"::ffff:0:{HOME}", SIX), ("2001:0:7f01:1::", SIX),
]  # fmt: skip
NO_ADDRESS = [
    "", " ", ",", f"{HOME},", f"{HOME}, ", "unknown", "_hidden", f"for={HOME}", f'"{HOME}"', f"[{HOME}]",
    f"{HOME}x", f"{HOME} x", f"{HOME}:80", f"{HOME}/8", f"{HOME};", f"{HOME}.", f".{HOME}", f"{HOME}%eth0",
    "0127.1.0.1", "127.01.0.1", "127.1.0.01", "0177.1.0.1", "0x7f.1.0.1", "0x7f010001", "2130771969", "127.1",
    "127.1.1", "127.1.0.256", "127.1.0.-1", "127.1.0.1.1", "127.1.0.1e0", "127.1.0.1\x0b", "127.1.0.1\xa0",
    "127..0.1", "2001:db8:1::5%eth0", "[2001:db8:1::5]", "2001:db8:1::5]:80", "2001:db8:1::5/48", "2001:db8:1::5:",
    "2001:db8:1:::5", "2001:db8:1::5::", "12001:db8:1::5", "2001:db8:1:0:0:0:0:0:5", f"::ffff:0{HOME}",
    f"::ffff:{HOME}.",
    f"::ffff:{HOME}%lo", f"{HOME}:", f"{HOME}::", f"{HOME}::1", "1" * 300, HOME + "0" * 60, "::g", "localhost",
]  # fmt: skip


@pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])
def test_13_what_a_trusted_proxy_says(forwarding: House, http2: bool) -> None:
    """The last address of X-Forwarded-For, which is the one that the proxy saw; mapped ones are IPv4's. All of
    it on
    one connection, as a proxy has it: nobody gets the place of whoever came before.
    """
    for source in (PROXY, OTHER_PROXY):
        with (
            Http2(forwarding.port, source=source) if http2 else Connection(forwarding.port, source=source) as asks
        ):
            for text, wanted in ADDRESSES:
                assert places(asks, [("X-Forwarded-For", text)]) == wanted, text
            assert places(asks, [("X-Forwarded-For", HOME), ("X-Forwarded-For", AWAY)]) == FOUR
            assert places(asks, [("X-Forwarded-For", AWAY), ("X-Forwarded-For", HOME)]) == FOUR | {"home"}
            assert places(asks) == FOUR | {"proxies"}  # the proxy's own request


@pytest.mark.parametrize("http2", [False, True], ids=["1.1", "2"])
def test_13_what_is_no_address_is_nowhere(forwarding: House, http2: bool) -> None:
    """Whatever is not written as an address gives no right that a network has: not that of an address inside
    of it,
    not the proxy's, not the last one's. Node-RED and the log are told
    `unknown`, or what could be an IPv6 address.
    """
    with Http2(forwarding.port, source=PROXY) if http2 else Connection(forwarding.port, source=PROXY) as asks:
        for text in NO_ADDRESS:
            assert places(asks, [("X-Forwarded-For", HOME)]) == FOUR | {"home"}
            try:
                assert places(asks, [("X-Forwarded-For", text)]) == set(), text
            except Refused:
                assert http2  # where some bytes are malformed
        assert places(asks, [("X-Forwarded-For", HOME), ("X-Forwarded-For", "")]) == set()
    told = {json.loads(line)["from"] for line in forwarding.log_file.read_text().splitlines()}
    assert "unknown" in told
    assert all(one == "unknown" or set(one) <= set("0123456789abcdefABCDEF:.") for one in told)


def test_13_a_device_behind_a_trusted_proxy(forwarding: House) -> None:
    """It is known by its certificate where it is at home, on every request anew, and Node-RED is told its
    address.
    """
    device = forwarding.device("thing")
    forwarding.ruled(*WHERE, Rule(20, roles=("thing",), networks=("home",), path="/thing"), networks=NETWORKS)
    with Connection(forwarding.port, device, source=PROXY) as asks:
        for text, wanted in (
            (HOME, "ok"),
            (AWAY, "wrong-network"),
            (HOME, "ok"),
            ("junk", "wrong-network"),
            (HOME, "ok"),
        ):
            assert (
                reason(asks.request("GET", "/thing", headers={"X-Forwarded-For": f"{OFFICE}, {text}"})) == wanted
            )
    assert [fields(head)["x-forwarded-for"] for head in forwarding.upstream.seen] == [[HOME]] * 3


def test_13_strangers_behind_a_proxy_in_silence(forwarding: House) -> None:
    """Strict: whom no rule speaks of where it is gets no answer, though its proxy got to ask; others do."""
    forwarding.ruled(Rule(2, anyone=True, networks=("home",), path="/home"), networks=NETWORKS, mode="strict")
    for said, wanted in ((HOME, "ok"), (AWAY, None), ("junk", None), (HOME, "ok")):
        with Connection(forwarding.port, source=PROXY) as asks:
            if wanted is None:
                with pytest.raises(Refused):
                    asks.request("GET", "/home", headers={"X-Forwarded-For": said})
            else:
                assert reason(asks.request("GET", "/home", headers={"X-Forwarded-For": said})) == wanted
    assert forwarding.reached == ["GET /home"] * 2
    forwarding.ruled(*WHERE, networks=NETWORKS)


SAID = (
    "X-Forwarded-For",
    "X-Real-IP",
    "CF-Connecting-IP",
    "Forwarded",
    "True-Client-IP",
    "X-Client-IP",
    "X-Forwarded",
)


@pytest.mark.parametrize("name", SAID)
def test_13_what_others_say_counts_for_nothing(forwarding: House, name: str) -> None:
    """From an address that is not a trusted proxy's, one beside them included; nor does a trusted one count
    with any
    other header: CF-Connecting-IP is Cloudflare's.
    """
    for source, wanted in (
        (HOME, FOUR | {"home"}),
        (AWAY, FOUR),
        ("127.9.1.4", FOUR | {"proxies"}),
        ("127.0.0.1", FOUR),
    ):
        for text in (HOME, OFFICE, f"for={HOME}", f"{AWAY}, {HOME}", f"::ffff:{HOME}", PROXY, "2001:db8:1::5"):
            with Connection(forwarding.port, source=source) as asks:
                assert places(asks, [(name, text)]) == wanted
    if name != "X-Forwarded-For":
        with Connection(forwarding.port, source=PROXY) as asks:
            assert places(asks, [(name, HOME)]) == FOUR | {"proxies"}
            assert places(asks, [(name, HOME), ("X-Forwarded-For", OFFICE)]) == FOUR | {"office"}
    # A header of a trusted proxy's in another spelling is none
    with Connection(forwarding.port, source=PROXY) as asks:
        assert places(asks, [("X_Forwarded_For", HOME)]) == FOUR | {"proxies"}


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own needs root; scripts/test in CI is root")
@pytest.mark.parametrize("program", PROGRAMS)
def test_13_cloudflare_says_it_in_its_own_header(program: str, tmp_path: Path) -> None:
    """From Cloudflare's addresses, where they are trusted, and from no other trusted proxy, nor from
    Cloudflare where
    nobody said that it is in front.
    """
    edge, neighbour = "173.245.48.5", "173.245.64.5"
    with own_network(edge, neighbour):
        for trusted, wanted in (((*TRUSTED, "173.245.48.0/20"), FOUR | {"home"}), (TRUSTED, FOUR)):
            root = tmp_path / str(len(trusted))
            root.mkdir()
            house = House(program, root, trusted_proxies=trusted)
            try:
                house.ruled(*WHERE, networks=NETWORKS)
                with Connection(house.port, source=edge) as asks:
                    assert places(asks, [("CF-Connecting-IP", HOME)]) == wanted
                    if wanted != FOUR:
                        assert places(asks, [("CF-Connecting-IP", HOME), ("X-Forwarded-For", AWAY)]) == wanted
                        assert places(asks, [("CF-Connecting-IP", f"{HOME}x")]) == set()
                        assert places(asks, [("CF-Connecting-IP", f"{AWAY}, {HOME}")]) == set()
                for source in (neighbour, PROXY):
                    with Connection(house.port, source=source) as asks:
                        assert "home" not in places(asks, [("CF-Connecting-IP", HOME)])
            finally:
                house.close()


# --- what a proxy says before the handshake ----------------------------------------------------------------------


def v1(source: str, family: str = "TCP4", to: str = "127.0.0.1") -> bytes:
    return f"PROXY {family} {source} {to} 1000 443\r\n".encode()


def v2(source: str, command: int = 0x21) -> bytes:
    address = ip_address(source)
    to = ip_address("127.0.0.1" if address.version == 4 else "::1")
    body = address.packed + to.packed + struct.pack("!HH", 1000, 443)
    family = 0x11 if address.version == 4 else 0x21
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, family, len(body)) + body


class Tunnelled(Connection):
    """A connection that begins with these bytes."""

    def __init__(self, port: int, first: bytes, device: Device | None = None, *, source: str = PROXY) -> None:
        self.port, self.buffer = port, b""
        self.context = context(device)
        raw = socket.create_connection(("127.0.0.1", port), 2, source_address=(source, 0))
        try:
            raw.sendall(first)
            self.socket = self.context.wrap_socket(raw, server_hostname="localhost")
        except OSError as error:
            raw.close()
            raise Refused(repr(error)) from error


@pytest.mark.parametrize("how", [v1, v2])
def test_13_a_trusted_proxys_header_counts(tunnelled: House, how: object) -> None:
    """The address that it names is the peer's, for rules, log and Node-RED."""
    for source, wanted in ((HOME, FOUR | {"home"}), (AWAY, FOUR), ("192.168.1.9", FOUR | {"lan"})):
        with Tunnelled(tunnelled.port, how(source)) as asks:  # type: ignore[operator]
            tunnelled.upstream.seen.clear()
            assert places(asks) == wanted
            assert fields(tunnelled.upstream.seen[0])["x-forwarded-for"] == [source]
            # What that client says itself counts for nothing
            assert places(asks, [("X-Forwarded-For", OFFICE)]) == wanted
    six = v1("2001:db8:1::5", "TCP6", "::1") if how is v1 else v2("2001:db8:1::5")
    with Tunnelled(tunnelled.port, six) as asks:
        assert places(asks) == SIX | {"six"}
    for text, wanted in ((f"::ffff:{HOME}", FOUR | {"home"}), ("2002:7f01:1::1", SIX), (f"::{HOME}", SIX)):
        header = v1(text, "TCP6", "::1") if how is v1 else v2(text)
        with Tunnelled(tunnelled.port, header) as asks:
            assert places(asks) == wanted, text
    with Tunnelled(tunnelled.port, how(HOME), tunnelled.admin) as asks:  # type: ignore[operator]
        assert reason(asks.request("GET", "/flows")) == "ok"
        assert reason(asks.request("GET", "/flows", headers={"X-Forwarded-For": AWAY})) == "ok"


@pytest.mark.parametrize("how", [v1, v2])
def test_13_a_strangers_header_is_no_handshake(tunnelled: House, how: object) -> None:
    """From anywhere else it ends the connection; without one it is the peer that counts."""
    for source in (HOME, AWAY, "127.9.1.4", "127.0.0.1"):
        for claimed in (HOME, PROXY):
            with pytest.raises(Refused):
                Tunnelled(tunnelled.port, how(claimed), tunnelled.admin, source=source)  # type: ignore[operator]
    with Connection(tunnelled.port, source=HOME) as asks:
        assert places(asks) == FOUR | {"home"}
        assert places(asks, [("X-Forwarded-For", OFFICE)]) == FOUR | {"home"}
    assert reason(request(tunnelled.port, "GET", "/flows", tunnelled.admin, source=AWAY)) == "ok"


def test_13_a_trusted_proxy_has_to_say_it(tunnelled: House) -> None:
    """Without a header, with half a one, two of them or one of no address, nobody gets a network's right."""
    with pytest.raises(Refused):
        Tunnelled(tunnelled.port, b"", tunnelled.admin)
    for first in (
        b"PROXY TCP4\r\n", b"PROXY " + b"x" * 120, b"PROXY TCP4 127.1.0.1\r\n",
        b"PROXY TCP9 127.1.0.1 1.2.3.4 1 2\r\n",
        v1("x"), v1(f"{HOME}x"), v1(HOME, "TCP6"), v1(HOME, "TCP6", "::1"),
        v1("2001:db8:1::5%lo", "TCP6", "::1"), v1("2001:db8:1::5", "TCP4"), v1(HOME) + v1(OFFICE),
        v2(HOME) + v2(OFFICE),
        v1(HOME).replace(b"\r\n", b"\n"), v1(HOME).lower(), b" " + v1(HOME), v2(HOME)[:-4], v2(HOME, 0x31),
        v2(HOME, 0x22),
        v1(f"{AWAY} {HOME}"), v1(f"{AWAY},{HOME}"), b"PROXY UNKNOWN 127.1.0.1 127.0.0.1 1 2\r\n",
    ):  # fmt: skip
        with contextlib.suppress(Refused, TimeoutError), Tunnelled(tunnelled.port, first) as asks:
            assert places(asks) <= FOUR, first
    # HAProxy's own parser takes this one, as decimal. A trusted proxy that writes so means it so
    with Tunnelled(tunnelled.port, v1("0127.1.0.1")) as asks:
        assert places(asks) == FOUR | {"home"}
    # LOCAL and UNKNOWN: the proxy speaks for itself
    for first in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
        with Tunnelled(tunnelled.port, first) as asks:
            assert places(asks) == FOUR | {"proxies"}, first


# --- peers of IPv6 -----------------------------------------------------------------------------------------------


def from_ipv6(port: int, source: str, path: str, headers: dict[str, str] | None = None) -> Response:
    raw = socket.create_connection(("::1", port), 5, source_address=(source, 0))
    asks = Connection.__new__(Connection)
    asks.port, asks.buffer = port, b""
    asks.socket = context().wrap_socket(raw, server_hostname="localhost")
    with asks:
        return asks.request("GET", path, headers=headers)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own needs root; scripts/test in CI is root")
@pytest.mark.parametrize("program", PROGRAMS)
def test_13_peers_of_ipv6(program: str, tmp_path: Path) -> None:
    """In IPv6's networks alone: an address with that of a machine at home, or of a trusted proxy, inside of it, is
    neither; a trusted IPv6 proxy is one.
    """
    peers = {
        "2001:db8:1::5": SIX | {"six"}, "2001:db8:2::5": SIX, "2002:7f01:1::1": SIX, "2002:c0a8:107::1": SIX,
        "2002:7f09:1::1": SIX, "2001:db8:9::1": SIX, "::1": SIX,
    }  # fmt: skip
    with own_network():
        for one in peers:
            if one != "::1":
                os.spawnlp(os.P_WAIT, "ip", "ip", "address", "add", f"{one}/128", "dev", "lo", "nodad")
        house = House(program, tmp_path, trusted_proxies=TRUSTED)
        try:
            house.gateway = type(house.gateway)(
                (f"[::1]:{house.port}", f"127.0.0.1:{house.port}"),
                house.gateway.upstreams,
                trusted_proxies=TRUSTED,
            )
            house.ruled(*WHERE, networks=NETWORKS)
            for source, wanted in peers.items():
                assert {
                    name for name in NETWORKS if reason(from_ipv6(house.port, source, f"/{name}")) == "ok"
                } == wanted, source
                said = {"X-Forwarded-For": HOME}
                believed = reason(from_ipv6(house.port, source, "/home", said)) == "ok"
                assert believed == (source == "2001:db8:9::1"), source
            with Connection(house.port, source=HOME) as asks:
                assert places(asks) == FOUR | {"home"}
            # In mode auto the private networks are told why, and no address that only looks like one of theirs
            house.ruled(*WHERE, networks=NETWORKS, mode="auto")
            assert reason(from_ipv6(house.port, "::1", "/flows")) == "no-certificate"
            house.ruled(networks=NETWORKS, mode="auto")
            for source in ("2002:7f01:1::1", "2002:c0a8:107::1"):
                with pytest.raises((Refused, OSError)):
                    from_ipv6(house.port, source, "/flows")
        finally:
            house.close()
    assert not BUILTIN["private"].contains("2002:c0a8:107::1")
