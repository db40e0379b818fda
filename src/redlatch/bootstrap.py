"""Settings to a wired site: the one place where adapters are chosen."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from redlatch.errors import NotPermitted, NotSetUp
from redlatch.operations import publishing
from redlatch.operations.site import Config, Site, authority_owner
from redlatch.settings import Settings
from redlatch.store import Store

if TYPE_CHECKING:
    from redlatch.operations.setup import Plan


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
    """The site in this home, with whatever a killed command left unpublished published.

    Errors: NotSetUp, NotPermitted, StoreError, StoreTooNew.
    """
    try:
        exists = settings.database.exists()
    except PermissionError:
        raise NotPermitted(
            f"{settings.authority} may not be read",
            hint="run the command with sudo, or as the user who ran redlatch up",
        ) from None
    if not exists:
        raise NotSetUp(f"there is no site in {settings.home} yet", hint="run: redlatch up")
    site = Site(settings, Store.open(settings.database), actor, clock, passphrase)
    with site.store.read() as view:
        if not view.site().config:
            raise NotSetUp(f"the site in {settings.home} was never finished", hint="run redlatch up again")
    publishing.repair(site)
    return site


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
            settings.database, site_uuid=str(uuid.uuid4()), now=clock(), owner=authority_owner(settings)
        ),
        open_=lambda: Store.open(settings.database),
    )
