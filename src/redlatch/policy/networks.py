"""Networks: named sets of addresses, compiled to sorted intervals: a million subnets cost one binary search.

Addresses are taken strictly. `010.0.0.1` is ten to some programs and eight to others, `1.2.3` is `1.2.0.3` to
inet_aton and nothing to inet_pton (attack class 13): both are refused with what would be right. IPv4 addresses in
IPv6 dress (`::ffff:1.2.3.4`) are the IPv4 ones.
"""

from __future__ import annotations

import ipaddress
import re
import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from redlatch.errors import InvalidInput

Interval = tuple[int, int]  # first and last address, both inclusive

_V4_ALL: Final = (1 << 32) - 1
_V6_ALL: Final = (1 << 128) - 1
_MAPPED: Final = 0xFFFF << 32
_MAGIC: Final = b"RLNET1\n\0"
_SHORT: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){0,2}", re.ASCII)
_LABEL: Final = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z]){_LABEL}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Network:
    """Sorted intervals that do not touch, IPv4 and IPv6 apart."""

    v4: tuple[Interval, ...] = ()
    v6: tuple[Interval, ...] = ()

    def contains(self, address: str) -> bool:
        """Whether `address` (as a socket names its peer: perhaps mapped, perhaps with a zone id) is in it."""
        number = peer_number(address)
        if number is None:
            return False
        version, value = number
        intervals = self.v4 if version == 4 else self.v6
        at = bisect_right(intervals, (value, _V6_ALL))
        return at > 0 and value <= intervals[at - 1][1]

    def overlaps(self, other: Network) -> bool:
        """Whether some address is in both."""
        return _overlap(self.v4, other.v4) or _overlap(self.v6, other.v6)

    @property
    def is_everywhere(self) -> bool:
        """Whether it holds every address of IPv4 or of IPv6: then it stands for the internet."""
        return self.v4 == ((0, _V4_ALL),) or self.v6 == ((0, _V6_ALL),)

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return sum(last - first + 1 for first, last in (*self.v4, *self.v6))


def peer_number(address: str) -> tuple[int, int] | None:
    """(version, number) of a peer's address, None for what is none; a zone id is the receiver's business."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return None
    return _unmapped(found.version, int(found))


def compiled(intervals: Iterable[tuple[int, int, int]]) -> Network:
    """The network of (version, first, last) triples, sorted and merged."""
    found: dict[int, list[Interval]] = {4: [], 6: []}
    for version, first, last in intervals:
        found[version].append((first, last))
    return Network(_merged(found[4]), _merged(found[6]))


def parse(text: str) -> tuple[int, int, int]:
    """(version, first, last) of an address, a range `a-b` or a subnet; InvalidInput with what would be right."""
    text = text.strip()
    if "%" in text:
        raise InvalidInput(
            f"{text!r} has a zone id, which names an interface of this machine and no address",
            hint=f"leave it out: {text.partition('%')[0]}",
        )
    if "/" in text:
        return _subnet(text)
    if "-" in text:
        return _range(text)
    version, value = _address(text)
    return version, value, value


def is_host_name(text: str) -> bool:
    """Whether `text` is a DNS name (of at least two labels) rather than an attempt at an address."""
    return len(text) <= 253 and _NAME.fullmatch(text.lower()) is not None


def shown(version: int, first: int, last: int) -> str:
    """The interval as people write it: an address, a subnet where it is one, a range otherwise."""
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    if first == last:
        return str(make(first))
    size = last - first + 1
    bits = 32 if version == 4 else 128
    if size & (size - 1) == 0 and first % size == 0:
        return f"{make(first)}/{bits - size.bit_length() + 1}"
    return f"{make(first)}-{make(last)}"


def subnets_of(version: int, first: int, last: int) -> Iterator[str]:
    """The fewest subnets that make up an interval. For a million of them ipaddress takes far longer."""
    bits = 32 if version == 4 else 128
    while first <= last:
        size = (last - first + 1).bit_length() - 1
        if first:
            size = min(size, (first & -first).bit_length() - 1)
        yield f"{_quad(first) if version == 4 else ipaddress.IPv6Address(first)}/{bits - size}"
        first += 1 << size


def _quad(number: int) -> str:
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def encode(network: Network) -> bytes:
    """The table that engines search: magic, count of IPv4 and of IPv6 intervals, then all first and all last
    addresses of each. All are 32-bit little-endian words, an IPv6 address four of them, the highest first.
    """
    words = array("I", [len(network.v4), len(network.v6)])
    for which in (0, 1):
        words.extend(interval[which] for interval in network.v4)
    for which in (0, 1):
        for interval in network.v6:
            words.extend((interval[which] >> shift) & _V4_ALL for shift in (96, 64, 32, 0))
    return _MAGIC + _little_endian(words).tobytes()


def decode(data: bytes) -> Network:
    """Reads what `encode` wrote; InvalidInput for anything else."""
    words = array("I")
    if not data.startswith(_MAGIC) or len(data) % 4 or len(data) < 16:
        raise InvalidInput("the list of addresses is torn or garbled")
    words.frombytes(data[len(_MAGIC) :])
    words = _little_endian(words)
    n4, n6 = words[0], words[1]
    if len(words) != 2 + 2 * n4 + 8 * n6:
        raise InvalidInput("the list of addresses is torn or garbled")
    v4 = tuple(zip(words[2 : 2 + n4], words[2 + n4 : 2 + 2 * n4], strict=True))
    numbers = [
        words[at] << 96 | words[at + 1] << 64 | words[at + 2] << 32 | words[at + 3]
        for at in range(2 + 2 * n4, len(words), 4)
    ]
    v6 = tuple(zip(numbers[:n6], numbers[n6:], strict=True))
    if not (_is_sorted(v4) and _is_sorted(v6)):
        raise InvalidInput("the list of addresses is not sorted")
    return Network(v4, v6)


def _is_sorted(intervals: Sequence[Interval]) -> bool:
    """Whether each ends behind its beginning, and before the next one's: as networks.js sees it."""
    return all(first <= last for first, last in intervals) and all(
        one[1] < other[0] for one, other in pairwise(intervals)
    )


def _little_endian(words: array[int]) -> array[int]:
    """The words as a little-endian machine keeps them: the same there, swapped elsewhere."""
    return words if sys.byteorder == "little" else array("I", struct.pack(f"<{len(words)}I", *words))


def _merged(intervals: list[Interval]) -> tuple[Interval, ...]:
    merged: list[Interval] = []
    for first, last in sorted(intervals):
        if merged and first <= merged[-1][1] + 1:
            if last > merged[-1][1]:
                merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return tuple(merged)


def _overlap(one: tuple[Interval, ...], other: tuple[Interval, ...]) -> bool:
    at = 0
    for first, last in one:
        while at < len(other) and other[at][1] < first:
            at += 1
        if at < len(other) and other[at][0] <= last:
            return True
    return False


def _unmapped(version: int, value: int) -> tuple[int, int]:
    return (4, value & _V4_ALL) if version == 6 and value >> 32 == 0xFFFF else (version, value)


def _address(text: str) -> tuple[int, int]:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise _no_address(text) from None
    return _unmapped(found.version, int(found))


def _range(text: str) -> tuple[int, int, int]:
    begin, _, end = text.partition("-")
    version, first = _address(begin.strip())
    other, last = _address(end.strip())
    if version != other:
        raise InvalidInput(f"{text!r} begins in IPv{version} and ends in IPv{other}", hint="write two ranges")
    if first > last:
        raise InvalidInput(f"the range {text!r} is backwards", hint=f"write {end.strip()}-{begin.strip()}")
    return version, first, last


def _subnet(text: str) -> tuple[int, int, int]:
    base, _, length = text.partition("/")
    try:
        written = ipaddress.ip_address(base.strip())
    except ValueError:
        raise _no_address(base.strip()) from None
    bits = 32 if written.version == 4 else 128
    if not (length.isascii() and length.isdecimal() and len(length) <= 3 and int(length) <= bits):
        raise InvalidInput(
            f"{text!r} has no prefix length that IPv{written.version} knows",
            hint=f"a number from 0 to {bits}, as in {base.strip()}/{'24' if bits == 32 else '64'}",
        )
    rest = (1 << bits - int(length)) - 1
    first = int(written) & ~rest
    if first != int(written):
        right = f"{type(written)(first)}/{length}"
        raise InvalidInput(
            f"{text!r} is an address with a prefix length, not a subnet",
            hint=f"write {right} for the whole subnet, or {base.strip()} for the one address",
        )
    if written.version == 6 and first >> 32 == 0xFFFF and int(length) >= 96:
        return 4, first & _V4_ALL, (first + rest) & _V4_ALL
    return written.version, first, first + rest


def _no_address(text: str) -> InvalidInput:
    parts = text.split(".")
    if len(parts) == 4 and all(part.isdecimal() and part.isascii() for part in parts):
        if any(len(part) > 1 and part.startswith("0") for part in parts):
            right = ".".join(str(int(part)) for part in parts)
            return InvalidInput(
                f"{text!r} has a part that begins with 0, which some programs read as an octal number",
                hint=f"write {right}, if that is what it means",
            )
        return InvalidInput(f"{text!r} is no address: a part is larger than 255", hint="each part is 0 to 255")
    if _SHORT.fullmatch(text):
        return InvalidInput(
            f"{text!r} is no whole IPv4 address",
            hint="four parts, as in 192.168.1.20; for a subnet write "
            f"{'.'.join([*parts, *'000'[: 4 - len(parts)]])}/{8 * len(parts)}",
        )
    return InvalidInput(
        f"{text[:100]!r} is no address, range or subnet",
        hint="as in 192.168.1.20, 192.168.1.20-192.168.1.40, 192.168.1.0/24, 2001:db8::/32 or home.example.org",
    )
