"""A site put back from a backup, on a new machine or after a loss: built beside, and given its name at the end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from redlatch.engines.nodered import publish
from redlatch.errors import Busy, Conflict, RedlatchError
from redlatch.files import Owner, explained, make_dir, own_user, sync_dir, write_all, write_atomic
from redlatch.operations import machine, notices
from redlatch.operations.archive import BadBackup
from redlatch.operations.backup import Proved
from redlatch.operations.site import LAN, LOOPBACK, Config, Notify, check_clock, exclusive
from redlatch.settings import Settings
from redlatch.store import Certificate, Device, Reader, Store, Transaction
from redlatch.store.database import copy_of

_BUILDING = ".restoring-"
_AGAIN = "nothing was changed; run the same command again, and look at what it says"
_KEPT = ".before-"


@dataclass(frozen=True, slots=True)
class Present:
    """The site that is here already. `problem` says why it cannot be read, else it is of `site` and ends with
    event `seq`; if that is the backup's site, `back` are devices that it has revoked and the backup has not,
    `certificates` likewise single ones, and `lost` the devices (by name) of which only it knows a key.
    """

    site: str = ""
    seq: int = 0
    revision: int = 0
    back: tuple[Device, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    lost: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What `restore` will do; making it changed nothing. `present` is None where there is no site yet, `config`
    what the site will be told, `remarks` what of the old machine does not fit this one, in words.
    """

    settings: Settings
    proved: Proved
    present: Present | None
    config: Config
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done: the devices revoked again, how many links were withdrawn, and where the site of before is."""

    again: tuple[str, ...]
    links: int
    kept: Path | None


def plan(settings: Settings, proved: Proved, *, now: datetime, replace_present: bool) -> Plan:
    """Looks at this machine and says what would happen. Conflict where there is a site and it may not be replaced,
    where its store is in use, and where the clock cannot be right.
    """
    check_clock(now)
    if now < proved.manifest.at - timedelta(hours=1):
        raise Conflict(
            f"the clock of this machine says {now:%Y-%m-%d}, which is before this backup was made",
            hint="set the clock (timedatectl shows whether it is synchronised), then run the command again",
        )
    present = None
    if os.path.lexists(settings.database):
        if not replace_present:
            raise Conflict(
                f"there is a site in {settings.home} already",
                hint="--replace puts the backup in its place and keeps what is there beside it; or --home DIR",
            )
        _refuse_in_use(settings.database)
        present = _look(settings.database, proved)
    with proved.store.read() as view:
        before = Config.of(view.site().config)
    try:
        config, remarks = _fitted(before)
    except (TypeError, ValueError, AttributeError) as error:  # of types that no redlatch wrote, or with a NUL
        raise BadBackup("the configuration in the backup is garbled") from error
    return Plan(settings, proved, present, config, tuple(remarks))


def restore(plan: Plan, *, actor: str, clock: Callable[[], datetime]) -> Restored:
    """Carries out a plan. Killed at any moment, the site of before is there, or the whole of the restored one.

    The restored chain goes on with `site.restored`, which names the backup's end. What the site of before had
    revoked is revoked again; links that were open are withdrawn, for they may have been used since.
    Errors: FileProblem, StoreError, NotPermitted, Busy.
    """
    settings = plan.settings
    owner = own_user(settings)
    make_dir(
        settings.home, mode=0o755 if settings.system else 0o700, owner=Owner(0, 0) if owner is not None else None
    )
    with _alone(settings.home):
        _remove_left(settings.home)
        building = settings.home / f"{_BUILDING}{secrets.token_hex(6)}"
        places = replace(settings, home=building)
        try:
            make_dir(building, mode=0o700)
            make_dir(places.authority, mode=0o700, owner=owner)
            make_dir(places.keys, mode=0o700, owner=owner)
            write_all(places.keys, plan.proved.keys, mode=0o600, owner=owner)
            write_atomic(places.database, plan.proved.store.copy(), mode=0o600, owner=owner)
            with contextlib.closing(Store.open(places.database)) as store, store.write(actor, clock()) as tx:
                again, links = _change(tx, plan, clock())
            sync_dir(places.authority)
            with _held(plan):
                kept = _take_place(settings, places.authority, clock())
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return Restored(again, links, kept)


@contextlib.contextmanager
def _held(plan: Plan) -> Iterator[None]:
    """The present site's own lock: no command changes it while it is moved away, and none waits to. Conflict when
    it is not as it was when the plan was made, and somebody said yes to that.
    """
    database = plan.settings.database
    if plan.present is None:
        if os.path.lexists(database):
            raise Conflict(f"a site was made in {plan.settings.home} meanwhile", hint=_AGAIN)
        yield
        return
    with exclusive(plan.settings):
        _refuse_in_use(database)
        if _look(database, plan.proved) != plan.present:
            raise Conflict("the site that is here has changed meanwhile", hint=_AGAIN)
        yield


def _change(tx: Transaction, plan: Plan, now: datetime) -> tuple[tuple[str, ...], int]:
    """What is changed in the restored store before it gets its place; devices revoked again, links withdrawn."""
    said, present = plan.proved.manifest, plan.present
    same = present is not None and present.site == said.site
    # Engines believe what is newer only, and may have been told of more than either store knows.
    told = [_published(places, said.site) for places in (plan.settings, plan.settings.gateway)]
    known = present.revision if present is not None and same else 0
    tx.raise_revision(max(known, tx.site().revision, *told))
    tx.set_config(replace(plan.config, restored=tx.revision).stored())
    open_links = [
        link
        for link in tx.links(now)
        if link.used_at is None and link.withdrawn_at is None and link.expires_at > now
    ]
    for link in open_links:
        tx.withdraw_link(link.id, now)
    tx.record(
        "site.restored",
        head=said.head.hash.hex(),
        event=said.head.seq,
        made=int(said.at.timestamp()),
        machine=said.machine,
        links=len(open_links),
        replaced=present.seq if present is not None and same else None,
    )
    again = []
    for device in present.back if present is not None else ():
        certificates = [one.fingerprint for one in tx.certificates(device.id) if one.revoked_at is None]
        tx.revoke_device(device.id, now, device.reason)
        tx.record(
            "device.revoked", device=device.id, name=device.name, reason=device.reason, certificates=certificates
        )
        again.append(device.name)
    for one in present.certificates if present is not None else ():
        tx.revoke_certificate(one.fingerprint, now, one.reason)
        tx.record("certificate.revoked", device=one.device_id, fingerprint=one.fingerprint, reason=one.reason)
    return tuple(again), len(open_links)


def _published(settings: Settings, site: str) -> int:
    """The version that this site's engine was told of last; 0 where it was told of none."""
    head = publish.published_head(settings)
    return int(head["version"]) if head is not None and head["site"] == site else 0


def _look(database: Path, proved: Proved) -> Present:
    """The present store, which stays as it is, beside the one of the backup."""
    try:
        with contextlib.closing(Store.loaded(copy_of(database), database)) as store, store.read() as here:
            return _compared(here, proved)
    except RedlatchError as error:  # a garbled row too: it is why a backup is put in its place
        return Present(problem=error.message)


def _compared(here: Reader, proved: Proved) -> Present:
    row, head = here.site(), here.audit_head()
    if row.uuid != proved.manifest.site:
        return Present(row.uuid, head.seq, row.revision)
    back, certificates, lost = [], [], []
    with proved.store.read() as backup:
        for device in here.devices():
            then = backup.device_by_id(device.id)
            held = here.certificates(device.id)
            known = backup.certificates(device.id)
            if device.revoked_at is None:
                present = {one.fingerprint for one in held if one.revoked_at is None}
                lost += [device.name] if then is None or present - {one.fingerprint for one in known} else []
            if then is None or then.revoked_at is not None:
                continue
            if device.revoked_at is not None:
                back.append(device)
                continue
            in_use = {one.fingerprint for one in known if one.revoked_at is None}
            certificates += [one for one in held if one.revoked_at is not None and one.fingerprint in in_use]
    return Present(row.uuid, head.seq, row.revision, tuple(back), tuple(certificates), tuple(lost))


def _fitted(before: Config) -> tuple[Config, list[str]]:
    """The configuration on this machine: what belonged to the old one is left out, and said."""
    remarks = []
    name = machine.machine_name()
    if name != before.machine:
        remarks.append(
            f"the old machine was called {before.machine}, this one is {name}: devices that used the old name "
            f"reach this one when it takes that name over (hostnamectl set-hostname {before.machine})"
        )
    files = before.server_files if _readable(before.server_files) else None
    if before.server_files is not None and files is None:
        remarks.append(
            f"the server certificate {before.server_files[0]} is not on this machine: redlatch up makes one of "
            "the site's own, or name yours with --server-cert"
        )
    service = before.service
    if service.server_files is not None and not _readable(service.server_files):
        remarks.append(
            "the certificate of console and enrolment is not on this machine; they get one of the site's own"
        )
        service = replace(service, server_files=None)
    here = {LOOPBACK, LAN, "0.0.0.0", "::", *(str(one) for one in machine.own_addresses())}  # noqa: S104
    console = tuple(one for one in service.console if one in here) or (LOOPBACK,)
    enrolment = tuple(one for one in service.enrolment if one in here) or (LOOPBACK,)
    if (console, enrolment) != (service.console, service.enrolment):
        remarks.append("console and enrolment listened on addresses that this machine does not have")
        service = replace(service, console=console, enrolment=enrolment)
    notify = before.notify
    if notify.command is not None:
        # A program that root or the service runs is chosen on the machine where it runs.
        remarks.append(
            f"the notice command {notify.command} is off until you name it again: redlatch notify --command"
        )
        notify = Notify(None, notify.webhook, notify.audit_head)
    if notify.webhook is not None and not notices.is_webhook(notify.webhook):
        raise BadBackup("the web hook in the backup is no web address")
    if notify.webhook is not None:
        remarks.append(f"notices go to the web hook at {urlsplit(notify.webhook).hostname}, as before")
    elif notify.audit_head:
        remarks.append("the head of the audit chain goes to nobody until you name somebody: redlatch notify")
    config = replace(
        before,
        machine=name,
        server_files=files,
        service=service,
        notify=notify,
        target=None,
        adopted=False,
        behind=False,
    )
    if before.gateway is not None:
        remarks.append("the gateway has to be put in front again: redlatch gateway up")
    return config, remarks


def _readable(files: tuple[str, str] | None) -> bool:
    return files is not None and all(os.access(one, os.R_OK) for one in files)


def _refuse_in_use(database: Path) -> None:
    """A service that goes on writing into the store of before would lose what it writes."""
    for process in Path("/proc").glob("[0-9]*"):
        if process.name == str(os.getpid()):
            continue
        with contextlib.suppress(OSError):
            for one in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if one.samefile(database):
                        raise Conflict(
                            f"the process {process.name} has the present store open",
                            hint="stop the service first: systemctl stop redlatch",
                        )


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Of two restores into one home the second is told so; a home without a site has no other lock."""
    with explained("open", home):
        folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("another redlatch restores into this home", hint="wait until it has ended") from None
        yield
    finally:
        os.close(folder)


def _remove_left(home: Path) -> None:
    """What restores that were killed have left; CA keys are in there."""
    for folder in home.glob(f"{_BUILDING}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _take_place(settings: Settings, built: Path, now: datetime) -> Path | None:
    """Gives the new authority folder its name in one step; where what was there before is now."""
    home, present = settings.home, settings.authority
    with explained("put the restored site into", home):
        if not os.path.lexists(present):
            built.rename(present)
            sync_dir(home)
            return None
        # Under this name from the start: with the exchange the site of before lies there, and nothing that clears
        # up after a failure or a kill takes it away.
        kept = home / f"{present.name}{_KEPT}{now:%Y%m%dT%H%M%SZ}"
        built.rename(kept)
        try:
            _exchange(kept, present)
        except OSError:  # nothing else: it may have happened
            shutil.rmtree(kept, ignore_errors=True)
            raise
        sync_dir(home)
        if _holds_something(kept):
            return kept
        shutil.rmtree(kept, ignore_errors=True)
    return None


def _holds_something(folder: Path) -> bool:
    """Whether there is more in it than what any command makes: its lock, and no keys."""
    return any(path.name != "lock" and not path.is_dir() for path in folder.rglob("*"))


def _exchange(one: Path, other: Path) -> None:
    """Swaps two folders of one file system in one step (renameat2(2), Linux from 3.15). OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    at, flag = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if libc.renameat2(at, os.fsencode(one), at, os.fsencode(other), flag) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(other))
