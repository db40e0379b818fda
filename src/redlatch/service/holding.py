"""Ports that stay ours while nothing listens on them, on every address of this machine.

If a flow listened there with Node-RED's key, browsers would take it for this host's: a service worker that it
leaves behind acts for whoever opens the console, or a link, later. So a port is held before anything else, its
enrolment half while no link is open, and all of it across a restart of the service: systemd keeps the socket.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket

_FIRST_FD = 3  # sd_listen_fds(3)


class Hold:
    """A socket for each port: bound to every address, and not listening. Who connects is refused as by a closed
    port.

    With SO_REUSEPORT on both, sockets of ours listen beside it; Linux gives the port to nobody of another user,
    nor to who does not ask for it so (inet_csk_bind_conflict).
    """

    def __init__(self) -> None:
        self._held: dict[int, socket.socket] = _handed_over()

    def keep(self, *ports: int) -> list[int]:
        """Holds these ports and no other; those that somebody else has, which the next call tries again."""
        for port in self._held.keys() - set(ports):
            self._held.pop(port).close()
            notify(f"FDSTOREREMOVE=1\nFDNAME={_name(port)}")
        missing = []
        for port in ports:
            if port in self._held:
                continue
            try:
                self._held[port] = _bound(port)
            except OSError:
                missing.append(port)
            else:
                # Not polled: it never connects, which looks like the end of a connection.
                notify(f"FDSTORE=1\nFDPOLL=0\nFDNAME={_name(port)}", self._held[port])
        return missing

    def has(self, port: int) -> bool:
        """Whether this port is held, so that what listens on it has to say SO_REUSEPORT."""
        return port in self._held

    def close(self) -> None:
        """Lets go; what systemd keeps stays held until the service is stopped for good."""
        for held in self._held.values():
            held.close()
        self._held.clear()


def notify(state: str, *handed: socket.socket) -> None:
    """Tells systemd, where it listens, and hands sockets to it (sd_notify(3), sd_pid_notify_with_fds(3))."""
    place = os.environ.get("NOTIFY_SOCKET")
    if not place:
        return
    rights = array.array("i", [one.fileno() for one in handed])
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if handed else []
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.connect("\0" + place[1:] if place.startswith("@") else place)
        sock.sendmsg([state.encode()], extra)


def _handed_over() -> dict[int, socket.socket]:
    """The sockets that systemd kept from an earlier run of this service, by port."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    found = {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for number in range(int(os.environ.get("LISTEN_FDS") or 0)):
        kept = socket.socket(fileno=_FIRST_FD + number)
        kept.set_inheritable(False)
        port = kept.getsockname()[1] if number < len(names) else 0
        if number < len(names) and names[number] == _name(port):
            found[port] = kept
        else:
            kept.close()
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)  # they are not for what this process starts
    return found


def _name(port: int) -> str:
    return f"held-{port}"


def _bound(port: int) -> socket.socket:
    """Of both families where there is IPv6, else of the one there is."""
    # First without SO_REUSEPORT: a second service of the same user, which would share the port, is found so.
    _everywhere(port, socket.SO_REUSEADDR).close()
    return _everywhere(port, socket.SO_REUSEPORT)


def _everywhere(port: int, option: int) -> socket.socket:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("::" if family == socket.AF_INET6 else "0.0.0.0", port))  # noqa: S104 - it never listens
    except BaseException:
        made.close()
        raise
    return made
