"""The console as an ASGI application: who asks, whether they may, which page answers."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route

from redlatch.errors import (
    Busy,
    Conflict,
    InvalidInput,
    NotFound,
    NotPermitted,
    NotSetUp,
    RedlatchError,
    UsageError,
)
from redlatch.operations import trials
from redlatch.service import log as service_log
from redlatch.service.console import (
    access,
    audit,
    changes,
    devices,
    log,
    networks,
    overview,
    reach,
    roles,
    rules,
    tokens,
    views,
    weighing,
)
from redlatch.service.console.access import Need
from redlatch.service.console.asking import Ask, Begin, Fields, Outcome, Page, Way, unforeseen
from redlatch.service.console.memory import Memory
from redlatch.service.origin import App
from redlatch.service.visitor import Visitor, visitor

if TYPE_CHECKING:
    from redlatch.operations.site import Site
    from redlatch.service.context import Context

WAYS: tuple[Way, ...] = (
    *overview.WAYS,
    *devices.WAYS,
    *tokens.WAYS,
    *changes.WAYS,
    *rules.WAYS,
    *reach.WAYS,
    *networks.WAYS,
    *roles.WAYS,
    *weighing.WAYS,
    *log.WAYS,
    *audit.WAYS,
)
#: Seconds for which a browser without script waits for a change: store and guard together take at most 13.
PATIENCE = 20.0
_FORM = "application/x-www-form-urlencoded"
_STATUS: tuple[tuple[type[RedlatchError], int], ...] = (
    (NotFound, 404),
    (InvalidInput, 400),
    (UsageError, 400),
    (Conflict, 409),
    (Busy, 503),
    (NotSetUp, 503),
)
_STRANGER = (
    403,
    "This certificate opens nothing here",
    "It was revoked or has expired, or no device in use has it.",
    "Ask whoever runs this Node-RED for a new key. That is you? On the machine itself: redlatch device list",
)
_KEY_ONLY = (
    403,
    "Your key may renew itself here, nothing else",
    "The console is for owners and admins of this Node-RED; this device has another role.",
    "For another role, ask an owner.",
)
_UNABLE = (
    500,
    "The console cannot answer now",
    "Something went wrong that redlatch did not foresee.",
    "Try again. The service's log says what it was: journalctl -u redlatch",
)
_LOOK_ONLY = NotPermitted(
    "your role may look at everything here and change nothing", hint="ask an owner, or come with an owner's device"
)


def create(context: Context, renew: App | None = None) -> App:
    """The console. `renew` answers /renew and what lies below it, for every device in use; it finds the visitor in
    `scope["redlatch.visitor"]`.
    """
    return _Console(context, renew, WAYS)


class _Console:
    def __init__(self, context: Context, renew: App | None, ways: Sequence[Way]) -> None:
        self._context = context
        self._renew = renew
        self._memory = Memory()
        self._routes = [(Route(way.path, _never, methods=["GET", "POST"]), way) for way in ways]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            answer = await self._admitted(request)
            await answer(scope, receive, send)

    async def _admitted(self, request: Request) -> App:
        """Whatever is to answer this visitor: the one way in, for every address."""
        path = request.url.path
        try:
            # In a thread: reading the store takes microseconds, but waits while another thread's change commits,
            # and the loop serves everybody.
            who = await self._context.work(functools.partial(self._who, request))
        except Exception as error:  # noqa: BLE001 - whoever cannot be told apart gets nothing
            self._fault(request, error)
            return views.plain(*_UNABLE)
        if who is None:
            return views.plain(*_STRANGER)
        way, values = self._find(request.scope)
        what = access.need(request.method, path, way)
        if not access.may(who, what):
            return await self._refuse(request, who)
        if what is not Need.DEVICE:
            return await self._answer(request, who, way, values)
        if path.startswith("/static/") or self._renew is None:
            return views.static(request) or await self._nothing(request, who)
        request.scope["redlatch.visitor"] = who
        return self._renew

    def _who(self, request: Request) -> Visitor | None:
        told = request.scope.get("extensions", {})
        found = visitor(self._context.site, told.get("tls", {}).get("certificate"))
        if found is None:
            return None
        connected = told.get("redlatch.connection", {}).get("since", 0.0)
        return replace(found, address=request.client.host if request.client else "", connected=connected)

    def _find(self, scope: Any) -> tuple[Way | None, dict[str, str]]:
        for route, way in self._routes:
            match, found = route.matches(scope)
            if match is not Match.NONE:
                return way, {key: str(value) for key, value in found.get("path_params", {}).items()}
        return None, {}

    async def _answer(self, request: Request, who: Visitor, way: Way | None, values: dict[str, str]) -> Response:
        if way is None:
            return await self._nothing(request, who)
        handler = way.post if request.method == "POST" else way.get
        if handler is None:
            error = UsageError("this address does not take that", hint="go back and use the page's buttons")
            return await self._page(request, who, views.problem(error, 405))
        body = b""
        if request.method == "POST":
            if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
                error = UsageError("the console takes forms only", hint="scripts use the redlatch command")
                return await self._page(request, who, views.problem(error, 415))
            body = await request.body()

        def answered() -> Page | Begin:
            try:
                query = Fields(request.scope["query_string"])
                return handler(
                    Ask(
                        self._context,
                        self._memory,
                        who,
                        request.url.path,
                        values,
                        query,
                        Fields(body),
                        _host(request),
                        request.headers.get("hx-target", "") if _by_htmx(request) else "",
                    )
                )
            except RedlatchError as error:
                status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
                return views.problem(error, status)
            except Exception as error:  # noqa: BLE001 - nobody gets to see a traceback
                self._fault(request, error)
                return views.problem(unforeseen(), 500)

        found = await self._context.work(answered)
        if isinstance(found, Begin):
            return await self._begin(request, who, found)
        return await self._page(request, who, found)

    async def _begin(self, request: Request, who: Visitor, begin: Begin) -> Response:
        """Starts a change. htmx gets its page at once; without script the answer waits until it is done."""
        operation = functools.partial(self._operate, begin, request)
        change = self._context.begin(who, begin.title, operation)
        self._memory.goes_back(change.id, begin.back)
        if _by_htmx(request):
            return await self._page(request, who, changes.page(change, begin.back))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await change.done.wait()
        return RedirectResponse(f"/changes/{change.id}", 303)

    def _operate(self, begin: Begin, request: Request, site: Site) -> Outcome:
        site = replace(site, insist=begin.insist)
        if begin.trial is not None:
            asked = trials.Asked(begin.trial, begin.title, "console", self._context.watch_trial)
            site = replace(site, trial=asked)
        try:
            outcome = begin.operation(site)
            return outcome if begin.trial is None else replace(outcome, trial=trials.show(site))
        except RedlatchError:
            raise
        except Exception as error:
            self._fault(request, error)
            raise unforeseen() from error
        finally:
            self._memory.forget_health()

    async def _page(self, request: Request, who: Visitor, page: Page) -> Response:
        def rendered() -> Response:
            try:
                return views.response(page, who, self._context, request.url.path)
            except Exception as error:  # noqa: BLE001 - nobody gets to see a traceback
                self._fault(request, error)
                return views.plain(*_UNABLE)

        return await self._context.work(rendered)

    async def _nothing(self, request: Request, who: Visitor) -> Response:
        if not who.may_see:
            return views.plain(*_KEY_ONLY, known=True, renew=self._renew is not None)
        error = NotFound("there is no such page", hint="the menu leads everywhere")
        return await self._page(request, who, views.problem(error, 404))

    async def _refuse(self, request: Request, who: Visitor) -> Response:
        if not who.may_see:
            return views.plain(*_KEY_ONLY, known=True, renew=self._renew is not None)
        return await self._page(request, who, views.problem(_LOOK_ONLY, 403))

    def _fault(self, request: Request, error: BaseException) -> None:
        """To the log, with what was asked for but for query and form: secrets may stand there."""
        last = traceback.extract_tb(error.__traceback__)[-3:]
        service_log.error(
            "the console failed",
            method=request.method,
            path=request.url.path[:200],
            error=type(error).__name__,
            where=[f"{Path(one.filename).name}:{one.lineno}" for one in last],
        )


def _host(request: Request) -> str | None:
    """The name or address by which the console was called, as a URL has it."""
    name = request.url.hostname
    return f"[{name}]" if name and ":" in name else name


def _by_htmx(request: Request) -> bool:
    return "hx-request" in request.headers


async def _never(_request: Request) -> Response:
    """What Starlette's routes want to call; here they only recognise addresses."""
    raise NotImplementedError
