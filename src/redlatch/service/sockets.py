"""The ports that are listened on, and the event loop that serves them."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from redlatch.errors import EngineError, InvalidInput
from redlatch.operations.machine import is_inside

_T = TypeVar("_T")


def bind(
    addresses: Sequence[str], port: int = 0, *, told: bool = False, held: bool = False
) -> list[socket.socket]:
    """Listening sockets on all `addresses`, the same port on each (0: a free one). `held`: `service.holding` has
    that port.

    Refuses public and unspecified addresses unless the operator named them (`told`): nothing of ours listens
    to the internet by default. InvalidInput for those, EngineError when an address or port cannot be had.
    """
    if not addresses:
        raise EngineError(
            "this machine has no address in a private network",
            hint="connect it to the network, or name an address with --listen",
        )
    for address in addresses:
        if not told and not is_inside(address):
            raise InvalidInput(
                f"{address} is not an address of a private network",
                hint="name it with --listen if it shall be reachable there",
            )
    for last_try in (False, False, True):
        sockets: list[socket.socket] = []
        chosen = port
        try:
            for address in addresses:
                sockets.append(_listen(address, chosen, held=held))
                chosen = sockets[0].getsockname()[1]
        except OSError as error:
            for sock in sockets:
                sock.close()
            # A free port on the first address may be taken on the second one: another one then.
            if port == 0 and len(sockets) > 0 and not last_try:
                continue
            raise EngineError(
                f"cannot listen on {address} port {chosen}: {(error.strerror or str(error)).lower()}",
                hint="name another address with --listen or another port with --listen-port",
            ) from error
        return sockets
    raise EngineError("no free port was found", hint="name one with --listen-port")


def _listen(address: str, port: int, *, held: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(64)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """asyncio.run, with ctrl-c held back until the loop can take it: before that it tears a half-made loop apart,
    which says so in a traceback.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})

    async def main() -> _T:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
        return await coroutine

    try:
        return asyncio.run(main())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
