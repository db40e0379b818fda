"""Who listens on this machine, and where: from the kernel's tables, changing nothing."""

from __future__ import annotations

import errno
import ipaddress
import pwd
import re
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redlatch.operations import machine

_LISTENS: Final = "0A"
_UNCONNECTED: Final = "07"
_GIVEN: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that accepts connections at `address` and port."""

    address: machine.Address
    port: int
    inode: int

    @property
    def beyond_loopback(self) -> bool:
        """Whether somebody on another machine can knock at it."""
        mapped = self.address.ipv4_mapped if isinstance(self.address, ipaddress.IPv6Address) else None
        return not (mapped or self.address).is_loopback


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens; `pid` is None where that is somebody else's and cannot be seen without root."""

    pid: int | None
    name: str
    user: str
    uid: int | None
    unit: str | None

    def __str__(self) -> str:
        if self.pid is None:
            return "another process (run it with sudo to see which)"
        unit = f", unit {self.unit}" if self.unit else ""
        return f"{self.name} (process {self.pid} of the user {self.user}{unit})"


def listeners(port: int, net: Path = Path("/proc/self/net")) -> tuple[Listener, ...]:
    """All listening TCP sockets of this network namespace on that port."""
    return tuple(one for one in listening(net) if one.port == port)


def listening(net: Path = Path("/proc/self/net")) -> tuple[Listener, ...]:
    """All listening TCP sockets of this network namespace."""
    return tuple(_of_state(net, ("tcp", "tcp6"), _LISTENS))


def receiving(net: Path = Path("/proc/self/net")) -> tuple[Listener, ...]:
    """All UDP sockets that receive from anybody, at a port that was chosen: those that the kernel gave for an
    answer to come back are left out.
    """
    first, last = _range()
    return tuple(one for one in _of_state(net, ("udp", "udp6"), _UNCONNECTED) if not first <= one.port <= last)


def _of_state(net: Path, names: tuple[str, ...], state: str) -> Iterator[Listener]:
    for name in names:
        try:
            lines = (net / name).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            host, _, number = fields[1].partition(":")
            if fields[3] == state and int(number, 16):
                yield Listener(_address(host), int(number, 16), int(fields[9]))


def _range() -> tuple[int, int]:
    """First and last of the ports that the kernel gives to who asks for none."""
    try:
        first, last = map(int, _GIVEN.read_text("ascii").split())
    except (OSError, ValueError):
        return 32768, 60999
    return first, last


def held_by(pid: int) -> frozenset[int] | None:
    """Inodes of the sockets of a process and of those that it started; None where they may not be looked at."""
    found: set[int] = set()
    for process in _family(Path(f"/proc/{pid}")):
        try:
            found.update(_inodes(process))
        except PermissionError:
            return None
        except OSError:  # it ended while we looked
            continue
    return frozenset(found)


def _family(process: Path) -> Iterator[Path]:
    yield process
    children: set[str] = set()
    try:
        for task in (process / "task").iterdir():
            children.update((task / "children").read_text("ascii").split())
    except OSError:  # it ended while we looked
        pass
    for child in sorted(children):
        yield from _family(process.parent / child)


def _address(text: str) -> machine.Address:
    """As the kernel prints it: words of 32 bits, each in the processor's order."""
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return ipaddress.ip_address(b"".join(words))


def holder(port: int) -> Holder | None:
    """Who listens on that port; None when nobody does."""
    inodes = {one.inode for one in listeners(port)}
    if not inodes:
        return None
    for process in _processes():
        if inodes & set(_sockets(process)):
            return _described(process)
    return Holder(None, "", "", None, None)


def _processes(proc: Path = Path("/proc")) -> Iterator[Path]:
    return (one for one in proc.iterdir() if one.name.isdigit())


def _sockets(process: Path) -> Iterator[int]:
    try:
        yield from _inodes(process)
    except OSError:
        return


def _inodes(process: Path) -> Iterator[int]:
    for link in (process / "fd").iterdir():
        match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        if match:
            yield int(match[1])


def _described(process: Path) -> Holder:
    try:
        name = (process / "comm").read_text("utf-8", "replace").strip()
        uid = process.stat().st_uid
        control = (process / "cgroup").read_text("utf-8", "replace")
    except OSError:
        return Holder(None, "", "", None, None)
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    unit = re.search(r"/([^/\n]+\.service)(?:/|$)", control, re.MULTILINE)
    return Holder(int(process.name), name, user, uid, unit[1] if unit else None)


def trial(host: str, port: int) -> int:
    """Listens there for a moment; 0 when that works, else why not (errno). `host` "": everywhere."""
    if host:
        return _listen(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port)
    first = _listen(socket.AF_INET, "", port)
    return first or (_listen(socket.AF_INET6, "", port) if machine.has_ipv6() else 0)


def _listen(family: socket.AddressFamily, host: str, port: int) -> int:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((host, port))
            one.listen(1)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def first_unprivileged() -> int:
    """The first port that others than root may listen on."""
    try:
        return int(_FIRST.read_text("ascii"))
    except (OSError, ValueError):
        return 1024
