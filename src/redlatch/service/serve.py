"""The service: two origins and what keeps them true, in one process and one event loop.

It reads its orders from the store: the enrolment port is open only while some link is, or a page waits to see its
device come in; a changed certificate, CA or name counts from the next connection on. It carries out changes for
the console. When it is down, engines go on enforcing the last snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import os
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from redlatch.errors import Conflict, EngineError, RedlatchError
from redlatch.files import explained
from redlatch.operations import authorities, hosts, links, machine, notices, service, trial_watch, trials
from redlatch.operations.site import Site
from redlatch.service import enrolment, log, sockets
from redlatch.service.console.app import create as console
from redlatch.service.context import Context
from redlatch.service.holding import Hold, notify
from redlatch.service.origin import Origin, server_context
from redlatch.service.security import Guarded
from redlatch.service.watch import Watch

if TYPE_CHECKING:
    from datetime import timedelta

    from redlatch.operations.site import Service
    from redlatch.settings import Settings
    from redlatch.store import LinkRow

T = TypeVar("T")

#: Seconds between two looks at links, certificates and Node-RED's claims.
TICK = 0.25
_TICKS_PER_LOOK = 4
#: Seconds between two looks at what ends soon, and at the service's own certificate.
_REMIND = 600.0
#: Threads for what blocks; and for changes, which the store takes one at a time anyway.
_THREADS = 4
_CHANGING = 2


class Tls:
    """The TLS context of one origin, made anew when its file or the device CA has changed."""

    def __init__(self, pem: Callable[[], Path], device_ca: Callable[[], str] | None = None) -> None:
        self._pem = pem
        self._device_ca = device_ca
        self._made: tuple[object, ssl.SSLContext] | None = None

    def refresh(self) -> None:
        """Looks whether something has changed. What cannot be served with leaves the last good one in place.

        Raises RedlatchError when there is none yet.
        """
        try:
            path = self._pem()
            with explained("read", path):
                state = path.stat()
            ca = self._device_ca() if self._device_ca is not None else None
            seen = (path, state.st_ino, state.st_mtime_ns, ca)
            if self._made is None or self._made[0] != seen:
                # A new context: a mismatched pair loaded into the live one would break it (measured).
                self._made = seen, server_context(path, device_ca=ca)
        except RedlatchError as error:
            if self._made is None:
                raise
            log.warning("tls kept as it was", why=error.message)

    def context(self) -> ssl.SSLContext:
        """What the next handshake is done with."""
        if self._made is None:
            raise EngineError("there is no certificate to serve with")
        return self._made[1]


class Serve:
    """One running service. `run` returns after `stop` was set, with all ports closed."""

    def __init__(self, site: Site, *, told: Callable[[str], None] = lambda _: None) -> None:
        """`told(text)` hears once, in words, where it listens."""
        self._site = site
        self._told = told
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="work")
        self._changing = ThreadPoolExecutor(_CHANGING, thread_name_prefix="change")
        self._config = site.config()
        self._console_tls = Tls(lambda: site.settings.service_pem, self._device_cas)
        self._enrolment_tls = Tls(lambda: hosts.enrolment_shows(site).pem)
        self.context = Context(
            site=site,
            watch=Watch(site),
            work=self._work,
            change=self._change,
            enrolment_url=lambda host: hosts.enrolment_url(site, host),
            console_url=lambda host: hosts.console_url(site, host),
            shown=lambda: hosts.enrolment_shows(site),
            renew_connections=self._renew_connections,
            # systemd starts this service again, which then takes it back; what was started here would end with it
            watch_trial=_no_watch if "INVOCATION_ID" in os.environ else trial_watch.watch,
        )
        renewal, invitations = enrolment.create(self.context)
        self._console = Origin(
            Guarded(console(self.context, renewal), names=self._names, ports=lambda: self._console.ports),
            self._console_tls.context,
            refused=partial(self._refused, "console"),
        )
        self._enrolment = Origin(
            Guarded(invitations, names=self._names, ports=lambda: self._enrolment.ports),
            self._enrolment_tls.context,
            admit=self._admit,
            refused=partial(self._refused, "enrolment"),
        )
        self._hold = Hold()
        self._not_held: list[int] = []
        self._remote = False
        self._taken = ""
        self._opened: dict[Origin, Service] = {}  # where each was told to listen when it was opened
        self._unreached: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Serves until `stop`. Raises EngineError when a port cannot be had or there is no certificate."""
        self._loop = asyncio.get_running_loop()
        self._keep_ports()
        await self._work(lambda: service.server_pem(self._site))
        await self._work(self._console_tls.refresh)
        chosen = self._config.service
        self._console.open(self._bind(chosen.console, chosen.console_port, "--port"))
        self._opened[self._console] = chosen
        self._told(hosts.console_url(self._site))
        log.info("console is open", addresses=self._console.addresses, port=chosen.console_port)
        try:
            await asyncio.gather(self._tick(stop), self._watch(stop), self._remind(stop))
        finally:
            await asyncio.gather(self._console.shut(), self._enrolment.shut())
            self._hold.close()
            await asyncio.gather(self._console.close(), self._enrolment.close())
            with contextlib.suppress(RedlatchError):
                await self._work(self.context.watch.note)
            self._changing.shutdown(wait=True)
            self._threads.shutdown(wait=True)

    async def _tick(self, stop: asyncio.Event) -> None:
        """Follows links, certificates and configuration."""
        notify("READY=1")
        while not stop.is_set():
            try:
                self._config = await self._work(self._site.config)
                await self._work(self._console_tls.refresh)
                await self._settle()
                await self._follow_links()
                await self._follow_addresses()
            except RedlatchError as error:
                log.error("cannot follow the store", why=error.message)
            await _pause(stop, TICK)

    async def _settle(self) -> None:
        """Takes back a change on trial that nobody kept in time."""
        ended = await self._change(lambda: trials.settle(self._site))
        if ended is not None:
            log.warning("a change on trial was taken back: nobody kept it", what=ended.what)

    async def _follow_links(self) -> None:
        # Those that are compared are served where they were made.
        found = [one for one in await self._work(lambda: links.open_links(self._site)) if not one.compared]
        self._remote = any(one.remote for one in found)
        wanted = bool(found) or self.context.enrolment_held
        chosen = self._config.service
        self._keep_ports()
        if wanted and not self._enrolment.ports:
            try:
                await self._work(self._enrolment_tls.refresh)
                self._enrolment.open(self._bind(chosen.enrolment, chosen.enrolment_port, "--enrol-port"))
                self._opened[self._enrolment] = chosen
            except RedlatchError as error:
                if self._taken != error.message:
                    log.error("enrolment cannot be opened", why=error.message, hint=error.hint)
                self._taken = error.message
                if _somebody_listens(error):
                    await self._work(lambda: self._end(found))
                return
            self._taken = ""
            log.info("enrolment is open", links=len(found), port=chosen.enrolment_port)
        elif wanted:
            await self._work(self._enrolment_tls.refresh)
        elif self._enrolment.ports:
            await self._enrolment.close(patience=1)  # no answer with a key is under way, and a link may come next
            log.info("enrolment is closed")
            _give_back()

    def _keep_ports(self) -> None:
        """Has both ports on every address, whatever is listened on: a browser may find this machine by any."""
        chosen = self._config.service
        missing = self._hold.keep(chosen.console_port, chosen.enrolment_port)
        if missing and missing != self._not_held:
            log.warning("somebody else listens on a port of ours, at some address of this machine", ports=missing)
        self._not_held = missing

    def _bind(self, choice: Sequence[str], port: int, option: str) -> list[socket.socket]:
        try:
            return sockets.bind(service.addresses(choice), port, told=True, held=self._hold.has(port))
        except EngineError as error:
            raise EngineError(error.message, hint=f"redlatch console {option} PORT names another one") from error

    async def _follow_addresses(self) -> None:
        """Listens on addresses that the machine got meanwhile: after a start before there was a network, and so
        that nobody else listens there in our place. (Those that went away lead nowhere.)
        """
        for origin, which in ((self._console, "console"), (self._enrolment, "enrolment")):
            if not origin.ports:
                continue
            choice, port = service.of(self._opened[origin], which)
            present = await self._work(partial(service.addresses, choice))
            for address in set(present) - set(origin.addresses):
                try:
                    origin.open(sockets.bind([address], port, told=True, held=self._hold.has(port)))
                except EngineError as error:  # an IPv6 address is not ours before the kernel has checked it
                    if error.message not in self._unreached:
                        log.warning("an address is not listened on", address=address, why=error.message)
                    self._unreached.add(error.message)
                else:
                    log.info("listens on a new address", origin=which, address=address, port=port)

    def _end(self, found: Sequence[LinkRow]) -> None:
        """Ends links whose address leads to somebody else: a flow that listens there could show a page like ours,
        under Node-RED's own certificate, and take the link of whoever opens it.
        """
        for one in found:
            with contextlib.suppress(Conflict):  # used, or withdrawn, meanwhile
                links.withdraw(self._site, one.id)
                log.warning("a link was withdrawn: its port is somebody else's", link=one.id)

    async def _watch(self, stop: asyncio.Event) -> None:
        """Reads what Node-RED says."""
        while not stop.is_set():
            try:
                await self._work(self.context.watch.look)
            except RedlatchError as error:
                log.warning("cannot read what node-red says", why=error.message)
            await _pause(stop, TICK * _TICKS_PER_LOOK)

    async def _remind(self, stop: asyncio.Event) -> None:
        """Says what ends soon, and renews the service's own certificate."""
        while not stop.is_set():
            try:
                await self._work(lambda: service.server_pem(self._site))
                for one in await self._work(lambda: notices.send(self._site)):
                    log.warning("a certificate ends", **one)
            except RedlatchError as error:
                log.error("cannot say what ends soon", why=error.message)
            await _pause(stop, _REMIND)

    async def _work(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _change(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._changing, work)

    def _refused(self, origin: str, address: str, why: str) -> None:
        log.info("handshake refused", origin=origin, address=address, why=why)

    def _renew_connections(self) -> None:
        self._loop.call_soon_threadsafe(self._console.renew)

    def _admit(self, address: str) -> bool:
        """Enrolment is for the network, unless a link for elsewhere is open."""
        return self._remote or machine.is_inside(address)

    def _names(self) -> frozenset[str]:
        return frozenset(name.lower() for name in (*self._config.hosts, "localhost"))

    def _device_cas(self) -> str:
        with self._site.store.read() as view:
            return authorities.device_cas(view).decode("ascii")


def _somebody_listens(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error is not None and error.errno == errno.EADDRINUSE


def _no_watch(_settings: Settings, _length: timedelta) -> None:
    """Nothing to start."""


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _give_back() -> None:
    """What many keys at once took is the system's again (malloc_trim(3)): 4 MB after 200 of them."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def one_heap() -> None:
    """Has all threads share one heap (mallopt(3), M_ARENA_MAX): of glibc's heaps, one a thread, each keeps what it
    once needed, 6 MB after 200 enrolments. Other C libraries have no such thing.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(-8, 1)


def run(site: Site, *, told: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or ctrl-c. Errors: EngineError (port, certificate)."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Serve(site, told=told).run(stop)

    one_heap()

    sockets.run(main())
