"""Ports that stay ours while nothing listens on them.

While no link is open the enrolment port is closed. If a flow listened there then, with Node-RED's key, browsers
would take it for this host's: a service worker that it leaves behind takes the link of whoever opens one later.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Sequence


class Hold:
    """Sockets that are bound and do not listen: who connects is refused as by a closed port, and nobody else gets
    the port, on its address or on all of them.

    That is so on Linux (inet_csk_get_port) as long as the bound socket is without SO_REUSEADDR. While it listens
    it has it, for its connections inherit it, and one in TIME_WAIT would keep the port from us, too.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[str, int], socket.socket] = {}

    def keep(self, addresses: Sequence[str], port: int) -> None:
        """Holds this port on these addresses only; the next call tries again what cannot be had now."""
        wanted = {(address, port) for address in addresses}
        for place in self._held.keys() - wanted:
            self._held.pop(place).close()
        for place in wanted - self._held.keys():
            with contextlib.suppress(OSError):
                self._held[place] = _bound(*place)

    def listen(self, address: str, port: int) -> socket.socket | None:
        """A listening, non-blocking socket for the caller to close; None where the place is not held."""
        held = self._held.get((address, port))
        if held is None:
            return None
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.listen(64)
        return held.dup()

    def quiet(self) -> None:
        """Ends all listening, that of sockets which `listen` gave, too; the ports stay held."""
        for held in self._held.values():
            _quiet(held)

    def close(self) -> None:
        """Lets go of everything."""
        for held in self._held.values():
            held.close()
        self._held.clear()


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            made.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            # Connections of an earlier run of ours may be in TIME_WAIT. To have listened once makes it exclusive.
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((address, port))
            made.listen(0)
            _quiet(made)
    except BaseException:
        made.close()
        raise
    return made


def _quiet(held: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it does not listen
        held.shutdown(socket.SHUT_RDWR)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
