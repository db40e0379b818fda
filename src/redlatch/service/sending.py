"""One link, served in the foreground on a port of its own: `device send`, and the first device of `up`.

The same page as at the service, for whoever has the terminal before them: it shows the fingerprint of the
certificate that is presented here, and the page's warning shows the one that a browser was given. This one link is
redeemed here and nowhere else, and it does not outlive its port.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from redlatch.errors import Conflict, RedlatchError
from redlatch.operations import hosts, links
from redlatch.operations.machine import is_inside
from redlatch.operations.site import Site
from redlatch.service.context import Context
from redlatch.service.enrolment.app import invitations
from redlatch.service.origin import Origin
from redlatch.service.security import Guarded
from redlatch.service.watch import Watch

if TYPE_CHECKING:
    from redlatch.operations.devices import Issued
    from redlatch.store import LinkRow

#: Seconds that whoever took the key has to say that it is there. After that the state is "sent", no more.
RECEIPT_WAIT = 15.0
#: Seconds without a word from the page after which it is gone, and the port is closed. It asks every two seconds.
PAGE_GONE = 20.0
_TICK = 0.25


class State(StrEnum):
    """How far it got; never reported further than it was seen."""

    EXPIRED = "expired"  # nobody redeemed it
    WITHDRAWN = "withdrawn"  # somebody ended it, from elsewhere
    LOST = "lost"  # redeemed, but the connection broke before its answer
    SENT = "sent"  # the answer went out, nothing confirmed it
    DELIVERED = "delivered"  # the page confirmed that it holds the key


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended, and what was issued to whom (None: nobody redeemed it)."""

    state: State
    link: LinkRow
    issued: Issued | None = None


class _Context(Context):
    """Nobody comes back to this port tomorrow: it is open no longer than its page."""

    def hold_enrolment(self, page: str, seconds: float) -> None:
        super().hold_enrolment(page, min(seconds, PAGE_GONE))


class Sending:
    """For `with`: serves the link inside, in a thread; at the end its port is closed and the link no longer open.

    `context` is what presents `hosts.node_red_shows`; the sockets are closed with it.
    """

    def __init__(
        self,
        site: Site,
        link: LinkRow,
        bound: Sequence[socket.socket],
        context: ssl.SSLContext,
        *,
        next_url: str | None = None,
        receipt_wait: float = RECEIPT_WAIT,
    ) -> None:
        """`next_url` is where the device tries its key (None: at Node-RED)."""
        self._site = site
        self._link = link
        self._bound = bound
        self._receipt_wait = receipt_wait
        self._names = frozenset(name.lower() for name in (*site.config().hosts, "localhost"))
        self._tls = context
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="work")
        self._context = _Context(
            site=site,
            watch=Watch(site),
            work=self._work,
            enrolment_url=lambda host: hosts.enrolment_url(site, host),
            console_url=lambda host: hosts.console_url(site, host),
            shown=lambda: hosts.node_red_shows(site),
            next_url=next_url,
        )
        self.app = invitations(self._context, only=link.id, taken=self._take)
        self._taken: tuple[Issued, bool, float] | None = None
        self._outcome: Future[Outcome] = Future()
        self._gone = threading.Event()
        self._stop = asyncio.Event()
        self._running: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, name="sending", daemon=True)

    def wait(self) -> Outcome:
        """Waits for the link's end. RedlatchError when the store cannot be read; KeyboardInterrupt on ctrl-c."""
        return self._outcome.result()

    def linger(self) -> None:
        """Waits until the page is gone or its device is in."""
        self._gone.wait()

    def close(self) -> None:
        """Closes the port, when an answer under way is out, and then ends the link where nobody has used it."""
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._running.result().call_soon_threadsafe(self._stop.set)
        self._thread.join()
        with contextlib.suppress(Conflict):  # it was used, or is over
            links.withdraw(self._site, self._link.id)

    def __enter__(self) -> Self:
        self._thread.start()
        self._running.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
            if not self._outcome.done():
                self._outcome.set_exception(error)
        finally:
            self._gone.set()
            self._threads.shutdown()

    async def _serve(self) -> None:
        self._running.set_result(asyncio.get_running_loop())
        guarded = Guarded(self.app, names=lambda: self._names, ports=lambda: origin.ports)
        origin = Origin(guarded, lambda: self._tls, admit=is_inside)
        origin.open(self._bound)
        try:
            outcome = await self._link_ends()
            if outcome is None:
                return
            self._outcome.set_result(outcome)
            while outcome.issued is not None and self._context.enrolment_held and not self._stop.is_set():
                with contextlib.suppress(RedlatchError):  # then there is no tick
                    await self._work(self._context.watch.look)
                await self._pause()
        finally:
            await origin.close(patience=2)

    async def _link_ends(self) -> Outcome | None:
        """How the link ended; None when told to stop before."""
        lifetime = self._link.expires_at - self._link.created_at
        until = time.monotonic() + lifetime.total_seconds()  # whatever is done to the clock meanwhile
        while not self._stop.is_set():
            link = await self._work(lambda: links.get(self._site, self._link.id))
            state = links.state(link, self._site.clock())
            if self._taken is not None:
                issued, answered, since = self._taken
                if not answered:
                    return Outcome(State.LOST, link, issued)
                if state == "confirmed":
                    return Outcome(State.DELIVERED, link, issued)
                if time.monotonic() >= since + self._receipt_wait:
                    return Outcome(State.SENT, link, issued)
            elif state == "withdrawn":
                return Outcome(State.WITHDRAWN, link)
            elif state == "expired" or (state == "open" and time.monotonic() >= until):
                return Outcome(State.EXPIRED, link)
            await self._pause()
        return None

    def _take(self, done: links.Redeemed, answered: bool) -> None:
        self._taken = done.issued, answered, time.monotonic()

    async def _work(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_TICK):
                await self._stop.wait()
