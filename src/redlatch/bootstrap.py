"""Settings to a wired site: the one place where adapters are chosen."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from redlatch.errors import NotPermitted, NotSetUp, RedlatchError, StoreError
from redlatch.files import own_user
from redlatch.operations import publishing
from redlatch.operations.site import Config, Site
from redlatch.settings import Settings
from redlatch.store import Shut, Store

if TYPE_CHECKING:
    from redlatch.operations import gateway, gateway_plan
    from redlatch.operations.setup import Plan

LOOK_UP_SECONDS = 20.0


def now() -> datetime:
    """The clock of this machine, in UTC."""
    return datetime.now(UTC)


def no_passphrase() -> bytes:
    """Where nobody can be asked."""
    return b""


def open_site(
    settings: Settings,
    *,
    actor: str,
    clock: Callable[[], datetime] = now,
    passphrase: Callable[[], bytes] = no_passphrase,
) -> Site:
    """The site in this home, with whatever a killed command left unpublished published, and a change on trial
    whose time is over taken back.

    Errors: NotSetUp, NotPermitted, StoreError, StoreTooNew.
    """
    _refuse_nothing(settings)
    site = Site(settings, Store.open(settings.database), actor, clock, passphrase)
    with site.store.read() as view:
        if not view.site().config:
            raise NotSetUp(f"the site in {settings.home} was never finished", hint="run redlatch up again")
    publishing.repair(site)
    _take_back(site)
    return site


def site_to_check(settings: Settings, *, actor: str, clock: Callable[[], datetime] = now) -> Site:
    """The site as it is, for checks: nothing is put right on the way, and a store that cannot be opened raises
    why whenever it is read. Nobody is asked for a passphrase. Errors: NotSetUp, NotPermitted.
    """
    _refuse_nothing(settings)
    store: Store
    try:
        store = Store.open(settings.database)
    except StoreError as error:
        store = Shut(settings.database, error)
    return Site(settings, store, actor, clock, no_passphrase)


def _refuse_nothing(settings: Settings) -> None:
    """NotSetUp where there is no site, NotPermitted where that cannot be seen."""
    try:
        exists = settings.database.exists() or settings.database.is_symlink()
    except PermissionError:
        raise NotPermitted(
            f"{settings.authority} may not be read",
            hint="run the command with sudo, or as the user who ran redlatch up",
        ) from None
    if not exists:
        raise NotSetUp(f"there is no site in {settings.home} yet", hint="run: redlatch up")


def _take_back(site: Site) -> None:
    """Takes back a change on trial whose time is over, when whatever should have done it was killed."""
    with site.store.read() as view:
        row = view.trial()
    if row is not None:
        from redlatch.operations import trials

        with contextlib.suppress(RedlatchError):  # another command is at work: the next one does it
            trials.settle(site)


def look_up(names: Sequence[str]) -> Mapping[str, tuple[str, ...] | str]:
    """What each DNS name stands for, or why that is not known, in words: asks this machine's own resolver.

    All at once and for at most LOOK_UP_SECONDS, whatever name servers do; a thread that still waits then is left
    behind, which a daemon thread allows.
    """
    answers: dict[str, tuple[str, ...] | str] = {}

    def ask(name: str) -> None:
        try:
            found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            answers[name] = tuple(str(one[4][0]) for one in found)
        except (OSError, UnicodeError) as error:
            answers[name] = str(getattr(error, "strerror", None) or error).lower()

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + LOOK_UP_SECONDS
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {LOOK_UP_SECONDS:.0f} seconds"
    return {name: answers.get(name, late) for name in names}


def present_config(settings: Settings) -> Config | None:
    """The configuration of the site in this home, None where there is none yet."""
    try:
        return open_site(settings, actor="").config()
    except NotSetUp:
        return None


def prepare_site(
    plan: Plan,
    *,
    actor: str,
    clock: Callable[[], datetime] = now,
    passphrase: Callable[[], bytes] = no_passphrase,
    protect: bool = False,
) -> Site:
    """Carries out a plan but for the lock itself; see operations.setup.prepare."""
    import uuid

    from redlatch.operations import setup

    settings = plan.settings
    return setup.prepare(
        plan,
        actor=actor,
        clock=clock,
        passphrase=passphrase,
        protect=protect,
        create=lambda: Store.create(
            settings.database, site_uuid=str(uuid.uuid4()), now=clock(), owner=own_user(settings)
        ),
        open_=lambda: Store.open(settings.database),
    )


def put_gateway_up(
    plan: gateway_plan.Plan,
    *,
    actor: str,
    clock: Callable[[], datetime] = now,
    passphrase: Callable[[], bytes] = no_passphrase,
    protect: bool = False,
) -> tuple[Site, gateway.Up]:
    """Carries out a plan of `redlatch gateway up`; see operations.gateway.put_up."""
    import uuid

    from redlatch.operations import gateway

    settings = plan.settings
    return gateway.put_up(
        plan,
        actor=actor,
        clock=clock,
        passphrase=passphrase,
        protect=protect,
        create=lambda: Store.create(
            settings.database, site_uuid=str(uuid.uuid4()), now=clock(), owner=own_user(settings)
        ),
        open_=lambda: Store.open(settings.database),
    )
