"""This machine as its network knows it: names and private addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from redlatch.pki.profiles import PRIVATE_NETWORKS

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOOPBACK: tuple[Address, ...] = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))

#: Where a check of ours comes from when it knocks at a door on loopback: nobody else does, so that its knocks are
#: not taken for traffic.
CHECKS_FROM = "127.114.108.1"


def machine_name() -> str:
    """The first label of this machine's host name, usable in certificates; "node-red" where it has none."""
    label = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().split(".")[0].lower()).strip("-")
    return label[:63] or "node-red"


def names(machine: str) -> tuple[str, ...]:
    """The names under which a machine is found at home: its own, by mDNS, and on itself."""
    return tuple(dict.fromkeys((machine, f"{machine}.local", "localhost")))


def is_private(address: Address) -> bool:
    """Whether an address is of the networks that the server CA may name without being asked: nobody on the
    internet has it. (Python's `is_private` counts documentation and benchmark networks too.)
    """
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return any((mapped or address) in network for network in PRIVATE_NETWORKS)


def is_inside(address: str) -> bool:
    """The same for an address as a socket reports it (IPv4-mapped, with a zone id); False for what is none."""
    try:
        return is_private(ipaddress.ip_address(address))
    except ValueError:
        return False


def private_addresses() -> tuple[Address, ...]:
    """This machine's private addresses without loopback and link-local ones, sorted; from the kernel's tables."""
    found = {*_ipv4(_text("/proc/self/net/fib_trie")), *_ipv6(_text("/proc/self/net/if_inet6"))}
    usable = (one for one in found if is_private(one) and not one.is_loopback and not one.is_link_local)
    return tuple(sorted(usable, key=lambda one: (one.version, int(one))))


def own_addresses() -> tuple[Address, ...]:
    """Every address of this machine that somebody can be told to use: loopback and public ones too."""
    found = {*LOOPBACK[:1], *_ipv4(_text("/proc/self/net/fib_trie")), *_ipv6(_text("/proc/self/net/if_inet6"))}
    usable = (one for one in found if not one.is_link_local)
    return tuple(sorted(usable, key=lambda one: (one.version, int(one))))


def has_ipv6() -> bool:
    """Whether this machine has IPv6 on its loopback interface."""
    return LOOPBACK[1] in set(_ipv6(_text("/proc/self/net/if_inet6")))


def gateways() -> tuple[Address, ...]:
    """The routers this machine sends to, from the kernel's table: behind one, everybody may have its address."""
    found = set()
    for line in _text("/proc/self/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 2 and fields[2] != "00000000":  # as the processor keeps it: little-endian
            found.add(ipaddress.IPv4Address(int.from_bytes(bytes.fromhex(fields[2]), sys.byteorder)))
    return tuple(sorted(found))


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except OSError:  # a kernel without IPv6, a container without /proc
        return ""


def _ipv4(fib_trie: str) -> Iterable[Address]:
    """Local addresses are the leaves followed by a line "/32 host LOCAL"."""
    leaf = ""
    for line in fib_trie.splitlines():
        match = re.search(r"\|-- ([0-9.]+)", line)
        if match:
            leaf = match[1]
        elif "/32 host LOCAL" in line and leaf:
            yield ipaddress.IPv4Address(leaf)


def _ipv6(if_inet6: str) -> Iterable[Address]:
    for line in if_inet6.splitlines():
        yield ipaddress.IPv6Address(int(line.split()[0], 16))
