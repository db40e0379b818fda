"""Addresses, taken strictly; networks, and the tables that engines search."""

from __future__ import annotations

import ipaddress
import itertools
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput
from redlatch.policy import builtin
from redlatch.policy.networks import Network, compiled, decode, encode, is_host_name, parse, shown, subnets_of

V4 = st.integers(0, 2**32 - 1)
V6 = st.integers(0, 2**128 - 1)


def network(*entries: str) -> Network:
    return compiled(parse(entry) for entry in entries)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.168.1.20", "192.168.1.20"),
        (" 192.168.1.20 ", "192.168.1.20"),
        ("192.168.1.0/24", "192.168.1.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.0.0.1-10.0.0.9", "10.0.0.1-10.0.0.9"),
        ("10.0.0.0 - 10.0.0.255", "10.0.0.0/24"),
        ("2001:DB8::1", "2001:db8::1"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:db8::1-2001:db8::3", "2001:db8::1-2001:db8::3"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:10.0.0.1-::ffff:10.0.0.2", "10.0.0.1-10.0.0.2"),
    ],
)
def test_an_entry_means_what_it_says(written: str, meant: str) -> None:
    """Addresses, ranges and subnets of both versions; IPv4 in IPv6 dress is IPv4."""
    assert shown(*parse(written)) == meant


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("010.0.0.1", "octal", "write 10.0.0.1"),
        ("300.1.1.1", "larger than 255", "0 to 255"),
        ("1.2.3", "no whole IPv4 address", "1.2.3.0/24"),
        ("10", "no whole IPv4 address", "10.0.0.0/8"),
        ("fe80::1%eth0", "zone id", "leave it out: fe80::1"),
        ("10.0.0.9-10.0.0.1", "backwards", "write 10.0.0.1-10.0.0.9"),
        ("::1-10.0.0.1", "begins in IPv6 and ends in IPv4", "two ranges"),
        ("10.0.0.1-x", "no address, range or subnet", "192.168.1.0/24"),
        ("10.0.0.1/8", "not a subnet", "write 10.0.0.0/8"),
        ("2001:db8::1/32", "not a subnet", "write 2001:db8::/32"),
        ("10.0.0.0/33", "no prefix length that IPv4 knows", "0 to 32"),
        ("10.0.0.0/x", "no prefix length", "10.0.0.0/24"),
        ("10.0.0.0/255.0.0.0", "no prefix length", "10.0.0.0/24"),
        ("2001:db8::/129", "no prefix length that IPv6 knows", "2001:db8::/64"),
        ("10.0.0/8", "no whole IPv4 address", "10.0.0.0/24"),
        ("", "no address", "192.168.1.20"),
        ("1.2.3.4.5", "no address", "192.168.1.20"),
        ("\u0661.2.3.4", "no address", "192.168.1.20"),
    ],
)
def test_what_is_no_address_is_said_with_what_would_be_right(written: str, message: str, hint: str) -> None:
    """Nothing is guessed at: what other programs read in different ways is refused."""
    with pytest.raises(InvalidInput) as caught:
        parse(written)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["home.example.org", "Home.Example.ORG", "a-b.c1.de", "xn--mhle-0ra.lan"])
def test_a_host_name_is_one(name: str) -> None:
    """DNS names of at least two labels."""
    assert is_host_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "home", "1.2.3.4", "1.2.3", "a..b", "-a.de", "a-.de", "a.1", "m\u00fchle.de", "a_b.de", "a" * 254,
        "x." + "a" * 64,
    ],
)  # fmt: skip
def test_what_is_no_host_name_is_none(name: str) -> None:
    """An attempt at an address is not looked up."""
    assert not is_host_name(name)


@given(
    st.lists(st.tuples(V4, V4).map(sorted), max_size=20),
    st.lists(st.tuples(V6, V6).map(sorted), max_size=20),
    V4,
    V6,
)
def test_merged_is_the_same_set(v4: list[list[int]], v6: list[list[int]], one: int, other: int) -> None:
    """Merging changes no membership, leaves nothing that touches, and the table is read back as it was written."""
    made = compiled([*((4, *pair) for pair in v4), *((6, *pair) for pair in v6)])
    edges = [edge for pair in v4 for bound in pair for edge in (bound - 1, bound, bound + 1)]
    for value in {one, *(edge for edge in edges if 0 <= edge < 2**32)}:
        assert made.contains(str(ipaddress.IPv4Address(value))) == any(a <= value <= b for a, b in v4)
    edges = [edge for pair in v6 for bound in pair for edge in (bound - 1, bound, bound + 1)]
    for value in {other, *(edge for edge in edges if 0 <= edge < 2**128 and edge >> 32 != 0xFFFF)}:
        assert made.contains(str(ipaddress.IPv6Address(value))) == any(a <= value <= b for a, b in v6)
    for intervals in (made.v4, made.v6):
        assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(intervals))
    assert decode(encode(made)) == made
    assert made.size == sum(b - a + 1 for a, b in (*made.v4, *made.v6))


def test_a_peer_as_sockets_name_it() -> None:
    """Mapped addresses are IPv4, zone ids are the receiver's business, and what is no address is in no network."""
    made = network("10.0.0.0/8", "fe80::/10")
    for peer in ("10.1.2.3", "::ffff:10.1.2.3", "::ffff:a01:203", "fe80::1", "fe80::1%eth0"):
        assert made.contains(peer), peer
    for peer in ("11.0.0.1", "::a01:203", "10.1.2", "010.1.2.3", "10.1.2.3%eth0", "", "home", "fec0::1"):
        assert not made.contains(peer), peer


def test_overlaps() -> None:
    """Whether two networks share an address, whichever begins first."""
    one = network("10.0.0.0/24", "10.0.2.0/24", "2001:db8::/32")
    for other, shared in (
        ("10.0.1.0/24", False), ("10.0.0.255", True), ("9.0.0.0-10.0.0.0", True), ("10.0.2.9", True),
        ("11.0.0.0/8", False), ("2001:db8::9", True), ("2001:db9::", False), ("::/0", True),
    ):  # fmt: skip
        assert one.overlaps(network(other)) == shared, other
        assert network(other).overlaps(one) == shared, other


def test_everywhere_is_all_of_ipv4_or_of_ipv6() -> None:
    """Also when it is written in two halves."""
    assert network("0.0.0.0/0").is_everywhere
    assert network("0.0.0.0/1", "128.0.0.0/1").is_everywhere
    assert network("::/0", "10.0.0.1").is_everywhere
    assert not network("0.0.0.0-255.255.255.254").is_everywhere


def test_a_garbled_table_is_refused() -> None:
    """Cut, lengthened, with another beginning, not sorted: nothing is read out of it."""
    whole = encode(network("10.0.0.1", "10.0.0.3", "2001:db8::/32"))
    for data in (b"", whole[:8], whole[:-1], whole[:-4], whole + b"\0\0\0\0", b"X" + whole[1:]):
        with pytest.raises(InvalidInput, match="torn or garbled"):
            decode(data)
    rng = random.Random(1)
    for _ in range(200):
        words = bytearray(whole)
        at = rng.randrange(16, len(words))
        words[at] ^= 1 << rng.randrange(8)
        try:
            assert decode(bytes(words)) != decode(whole)
        except InvalidInput as error:
            assert "not sorted" in error.message  # noqa: PT017 - either answer is right


def test_built_in_networks() -> None:
    """localhost is in private; Cloudflare's are neither, and dated."""
    private, localhost = builtin.BUILTIN["private"], builtin.BUILTIN["localhost"]
    for peer in ("127.0.0.1", "::1"):
        assert localhost.contains(peer)
        assert private.contains(peer)
    for peer in ("10.0.0.1", "172.31.255.255", "192.168.0.1", "169.254.1.1", "fd00::1", "fe80::1"):
        assert private.contains(peer), peer
    for peer in ("172.32.0.1", "100.64.0.1", "8.8.8.8", "2001:db8::1"):
        assert not private.contains(peer), peer
    assert builtin.BUILTIN["cloudflare"].contains("104.16.0.1")
    assert not builtin.BUILTIN["cloudflare"].overlaps(private)
    assert builtin.CLOUDFLARE_LIST in builtin.ABOUT["cloudflare"]
    for name, made in builtin.BUILTIN.items():
        assert compiled(map(parse, builtin.addresses(name))) == made


@given(st.sampled_from((4, 6)), st.integers(0, 2**128 - 1), st.integers(0, 2**128 - 1))
def test_an_interval_as_subnets(version: int, one: int, other: int) -> None:
    """The same subnets as the standard library finds, the whole of both families included."""
    most = 2 ** (32 if version == 4 else 128) - 1
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    for first, last in (sorted((one & most, other & most)), (0, most)):
        assert list(subnets_of(version, first, last)) == [
            str(subnet) for subnet in ipaddress.summarize_address_range(make(first), make(last))
        ]


def test_an_interval_that_ends_before_it_begins_is_none() -> None:
    """The guard refuses such a table, so Python does too; both take two that touch (found by fuzzing)."""
    for first, last in (((9,), (1,)), ((1, 3), (3, 4))):
        words = [len(first), 0, *first, *last]
        with pytest.raises(InvalidInput, match="not sorted"):
            decode(b"RLNET1\n\0" + struct.pack(f"<{len(words)}I", *words))
    words = [2, 0, 1, 6, 5, 20]
    assert decode(b"RLNET1\n\0" + struct.pack(f"<{len(words)}I", *words)).contains("0.0.0.6")
