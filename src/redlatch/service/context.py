"""What the pages of the service are handed: the site, what Node-RED says, and the changes under way."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from redlatch.errors import RedlatchError
from redlatch.operations import hosts
from redlatch.operations.site import Maker, Site

if TYPE_CHECKING:
    from datetime import timedelta

    from redlatch.operations.hosts import Shown
    from redlatch.operations.publishing import Force
    from redlatch.service.visitor import Visitor
    from redlatch.service.watch import Watch
    from redlatch.settings import Settings

T = TypeVar("T")

#: Changes whose outcome is still told. Each is one click of a person.
_KEPT = 200


class Worker(Protocol):
    """Runs something that blocks (the store, a key, a disk) outside the event loop."""

    def __call__(self, work: Callable[[], T]) -> Awaitable[T]: ...


@dataclass(slots=True)
class Change:
    """One change under way. `force` is how far it has got (None: not recorded yet), `result` what the operation
    returned, `error` why it failed; `done` is set at its end.
    """

    id: str
    title: str
    by: str
    force: Force | None = None
    result: Any = None
    error: RedlatchError | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Context:
    """Shared by console and enrolment. `work(f)` runs f in a thread and returns its result.

    `enrolment_url()` is the origin (https://host:port) at which links are opened, for the host that a visitor used
    (None: the best there is); `console_url()` likewise. `shown()` is what the enrolment origin presents,
    `next_url` where a device tries its key (None: at Node-RED).
    """

    site: Site
    watch: Watch
    work: Worker
    enrolment_url: Callable[[str | None], str]
    console_url: Callable[[str | None], str]
    shown: Callable[[], Shown]
    next_url: str | None = None
    #: For changes, which wait for each other and for the guard, seconds if need be: readers shall not wait behind
    #: them. None: `work` does these too.
    change: Worker | None = None
    #: Ends the console's connections, each after the answer that is under way: what comes next is a new one.
    renew_connections: Callable[[], None] = lambda: None
    #: Starts what takes a trial back when this service is gone (operations.trials.Asked).
    watch_trial: Callable[[Settings, timedelta], None] = lambda _settings, _length: None
    changes: OrderedDict[str, Change] = field(default_factory=OrderedDict)
    _waiting: dict[str, float] = field(default_factory=dict)
    _answering: int = 0

    def pin(self) -> str:
        """sha256//... of the enrolment origin's key, as curl's --pinnedpubkey takes it."""
        return hosts.pin(self.shown().pem)

    def hold_enrolment(self, page: str, seconds: float) -> None:
        """Keeps the enrolment port open so long from now on, without an open link: this page (its receipt) waits
        for its device to come in. What was said of it before no longer counts.
        """
        self._waiting[page] = time.monotonic() + seconds

    @contextlib.contextmanager
    def holding_enrolment(self) -> Iterator[None]:
        """Keeps it open inside: a link is used up before the answer with its key is out."""
        self._answering += 1
        try:
            yield
        finally:
            self._answering -= 1

    @property
    def enrolment_held(self) -> bool:
        """Whether some page may still be waiting."""
        now = time.monotonic()
        self._waiting = {page: until for page, until in self._waiting.items() if now < until}
        return bool(self._answering or self._waiting)

    def carry_out(self, change: Callable[[], T]) -> Awaitable[T]:
        """As `work`, for a change."""
        return (self.change or self.work)(change)

    def as_visitor(self, visitor: Visitor) -> Site:
        """The site, with this visitor's name in the audit trail, and its device as the one that acts."""
        maker = Maker(visitor.device.id, visitor.certificate.fingerprint, visitor.address)
        return replace(self.site, actor=f"console: {visitor.device.name}", maker=maker)

    def begin(self, visitor: Visitor, title: str, operation: Callable[[Site], Any]) -> Change:
        """Starts an operation and returns at once; what becomes of it is read from the change.

        `operation(site)` runs in a thread with the visitor's name; `title` says what it does ("revoke Bart's
        phone"). It goes on when the browser is gone: a revocation is not undone by a closed lid.
        """
        change = Change(secrets.token_urlsafe(12), title, visitor.device.id)
        self.changes[change.id] = change
        while len(self.changes) > _KEPT:
            self.changes.popitem(last=False)
        loop = asyncio.get_running_loop()

        def tell(force: Force) -> None:
            loop.call_soon_threadsafe(partial(setattr, change, "force", force))

        async def run() -> None:
            site = replace(self.as_visitor(visitor), tell=tell)
            try:
                change.result = await self.carry_out(lambda: operation(site))
                change.force = getattr(change.result, "force", change.force)
                if getattr(change.result, "trial", None) is not None:
                    self.renew_connections()
            except RedlatchError as error:
                change.error = error
            finally:
                change.done.set()

        _running.add(task := loop.create_task(run()))
        task.add_done_callback(_running.discard)
        return change


#: The loop itself keeps tasks by weak references only.
_running: set[asyncio.Task[None]] = set()
