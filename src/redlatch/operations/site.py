"""One installation, opened: its places, its store, its configuration, its CA keys."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch import RELEASED
from redlatch.engines.haproxy import model as gateways
from redlatch.errors import Busy, Conflict, NotPermitted, NotSetUp, PassphraseNeeded, StoreError
from redlatch.files import explained, own_user, read_own
from redlatch.policy.model import Areas
from redlatch.settings import Settings

if TYPE_CHECKING:
    from redlatch.operations.publishing import Force
    from redlatch.operations.trials import Asked
    from redlatch.operations.weighing import Rehearsal
    from redlatch.pki.authority import Authority
    from redlatch.store import AuthorityRow, Reader, Store, Transaction

FROM_BACKUP = "redlatch restore FILE --replace puts a backup in its place"
LOCK_SECONDS = 10.0
CLOCK_TOLERANCE = timedelta(hours=1)
#: A site that lives has an event within this time: its server certificate lasts 397 days at most.
CLOCK_AHEAD = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Target:
    """The Node-RED that this site locks, as it was found by `redlatch up`."""

    user: str
    uid: int
    gid: int
    user_dir: str
    settings_file: str
    listen_port: int
    unit: str | None = None


LOOPBACK, LAN = "loopback", "lan"


@dataclass(frozen=True, slots=True)
class Service:
    """Where `redlatch serve` listens: LOOPBACK, LAN (every private address of this machine) or addresses.

    `server_files` are certificate and key, publicly trusted, of console and enrolment (None: the server CA's own);
    never Node-RED's, whose user can read that key.
    """

    console: tuple[str, ...] = (LOOPBACK,)
    console_port: int = 1881
    enrolment: tuple[str, ...] = (LOOPBACK,)
    enrolment_port: int = 1882
    server_files: tuple[str, str] | None = None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Service:
        """From JSON; unknown keys of a newer redlatch are left out."""
        known = {key: stored[key] for key in cls.__slots__ if key in stored}
        for key in ("console", "enrolment", "server_files"):
            if known.get(key) is not None:
                known[key] = tuple(known[key])
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told what ends soon: an executable file, and a URL to post to (None: neither); whether they get the
    end of the audit chain too, once a day.
    """

    command: str | None = None
    webhook: str | None = None
    audit_head: bool = False


@dataclass(frozen=True, slots=True)
class Emergency:
    """A way back in that was opened on the machine: the device, and until when (Unix seconds)."""

    device: str
    until: int


@dataclass(frozen=True, slots=True)
class Config:
    """What the operator chose and what was read from Node-RED's settings; kept in the store's site row.

    `names` are the operator's own host names, `hosts` all names by which this site may be called,
    `server_files` certificate and key of a server certificate of the operator's own (None: the server CA's).
    `mode` is one of policy.model.MODES; `areas` what flows and settings were known to serve; `origins` are the
    web origins that may call and embed, `open_port` is a second port that asks nobody for a certificate;
    `service` is where console and enrolment listen, `notify` who hears what ends soon. `gateway` is what HAProxy
    in front was told (None: there is none), `behind` whether `target` is a Node-RED that it stands in front of.
    `emergencies` are ways back in that may be open still.
    `restored` is the revision with which the site was put back from a backup (0: never): what was published before
    it may name devices that this store does not know.
    """

    machine: str
    names: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    mode: str = "strict"
    port: int | None = None
    keep_auth: bool = False
    admin_root: str | None = "/"
    areas: Areas = field(default_factory=Areas)
    origins: tuple[str, ...] = ()
    open_port: int | None = None
    server_files: tuple[str, str] | None = None
    target: Target | None = None
    adopted: bool = False
    service: Service = field(default_factory=Service)
    notify: Notify = field(default_factory=Notify)
    gateway: gateways.Gateway | None = None
    behind: bool = False
    emergencies: tuple[Emergency, ...] = ()
    restored: int = 0

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Config:
        """From the site row's JSON; unknown keys of a newer redlatch are left out."""
        known = {key: stored[key] for key in cls.__slots__ if key in stored}
        for key in ("names", "hosts", "origins"):
            known[key] = tuple(known.get(key, ()))
        areas = known.get("areas", {})
        known["areas"] = Areas(**{key: tuple(areas[key]) for key in Areas.__slots__ if key in areas})
        if known.get("server_files"):
            known["server_files"] = tuple(known["server_files"])
        if known.get("target"):
            known["target"] = Target(**known["target"])
        known["service"] = Service.of(known.get("service") or {})
        known["notify"] = Notify(**(known.get("notify") or {}))
        known["gateway"] = gateways.of(known["gateway"]) if known.get("gateway") else None
        known["emergencies"] = tuple(Emergency(**one) for one in known.get("emergencies") or ())
        return cls(**known)

    @property
    def address_port(self) -> int | None:
        """The port at which devices come in; None before anything is locked."""
        if self.gateway is not None and (self.behind or self.target is None or not self.adopted):
            return gateways.listener(self.gateway.listen[0])[1]
        return self.target.listen_port if self.target is not None else None

    def stored(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Maker:
    """The device by which a change is made, with the certificate (fingerprint) and the address that it has now:
    the console's visitor. On the command line there is none.
    """

    device_id: str
    certificate: str
    address: str


@dataclass(frozen=True, slots=True)
class Site:
    """What every operation is handed: places, store, who acts, what time it is, how to ask for a passphrase, and
    whom to tell how far a change has got (recorded, published) while it is under way.

    `maker` is the device that acts; `insist` makes a change although it locks somebody out (`--force`);
    `rehearsal` has it weighed and not made (`--dry-run`), `trial` has it taken back by itself unless kept.
    """

    settings: Settings
    store: Store
    actor: str
    clock: Callable[[], datetime]
    passphrase: Callable[[], bytes]
    tell: Callable[[Force], None] = lambda _: None
    maker: Maker | None = None
    insist: bool = False
    rehearsal: Rehearsal | None = None
    trial: Asked | None = None

    def config(self) -> Config:
        with self.store.read() as view:
            return Config.of(view.site().config)

    def target(self) -> Target:
        """The Node-RED of this site; NotSetUp before `redlatch up`."""
        target = self.config().target
        if target is None:
            raise NotSetUp("this site has no Node-RED yet", hint="run: redlatch up")
        return target


@contextlib.contextmanager
def exclusive(settings: Settings, *, patience: float = LOCK_SECONDS) -> Iterator[None]:
    """Held by the one command that changes this site; the next waits up to `patience` seconds, then Busy."""
    deadline = time.monotonic() + patience
    # Threads of one process queue up for each other, and only the first of them asks for the file: a service that
    # redeems 200 links at once would otherwise poll in 200 places (651 a second against 114-158, measured).
    turn = _turns.setdefault(settings.lock, threading.Lock())
    if not turn.acquire(timeout=max(0.0, patience)):
        raise _busy()
    try:
        with explained("open", settings.lock):
            descriptor = _open_lock(settings)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise _busy() from None
                    time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)
    finally:
        turn.release()


#: One for each home that this process opens.
_turns: dict[Path, threading.Lock] = {}


def _busy() -> Busy:
    return Busy("another redlatch command is changing this site", hint="wait until it has ended, then try again")


def _open_lock(settings: Settings) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            return os.open(settings.lock, flags)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(settings.lock, flags | os.O_CREAT | os.O_EXCL, 0o600)
            owner = own_user(settings)
            if owner is not None and os.geteuid() == 0:  # who else changes this site must be able to open it
                os.fchown(descriptor, owner.uid, owner.gid)
            return descriptor
    return os.open(settings.lock, flags)


@contextlib.contextmanager
def changing(
    site: Site,
    *,
    enforced: bool = True,
    weighed: bool = True,
    shuts_out: bool = False,
    clock_is_right: bool = False,
) -> Iterator[Transaction]:
    """One change: the exclusive lock and one transaction. `enforced`: whether engines have to hear of it.

    What engines hear of is weighed before it is committed (operations.weighing): LockOut, Conflict while another
    change is on trial. Not `weighed` is what must never be refused: taking a trial back, and the way back in.

    Conflict where the clock cannot be right: certificates dated 1970 would be refused by everybody, for ever, and
    one event years ahead makes everybody's certificate an ended one, for engines use the later of clock and newest
    event. `clock_is_right`: a person has looked. What only `shuts_out` is never refused for that, for a lost phone
    does not wait for a clock: its time is that of the newest event then.
    """
    with exclusive(site.settings), site.store.write(site.actor, _time(site, shuts_out, clock_is_right)) as tx:
        if not enforced:
            yield tx
            return
        from redlatch.operations import weighing  # which needs this module

        with weighing.weighed(site, tx) if weighed else contextlib.nullcontext():
            yield tx
            # the snapshot tells the time of the newest event, so every change is a new version of it
            tx.touch()


def _time(site: Site, shuts_out: bool, clock_is_right: bool) -> datetime:
    """The time of a change, under the exclusive lock. Conflict."""
    now = site.clock()
    with site.store.read() as view:
        newest = [one.event.at for one in view.audit_before(None, 1)]
        wrong = _before_release(now)
        if now < view.site().created_at - CLOCK_TOLERANCE:
            wrong = wrong or _wrong_clock(now, "before this site was made")
    if newest and now > newest[0] + CLOCK_AHEAD and not clock_is_right:
        wrong = Conflict(
            f"the clock of this machine says {now:%Y-%m-%d}, and nothing has happened here since"
            f" {newest[0]:%Y-%m-%d}: it may have jumped ahead",
            hint="look at it (timedatectl); if it is right, say so: redlatch refresh --clock-is-right",
        )
    if wrong is None:
        return now
    if shuts_out and newest:
        return newest[0]
    raise wrong


def check_clock(now: datetime) -> None:
    """Conflict where a clock says a day on which this redlatch did not exist: a Pi has no clock battery."""
    wrong = _before_release(now)
    if wrong is not None:
        raise wrong


def _before_release(now: datetime) -> Conflict | None:
    if now < datetime.fromisoformat(RELEASED).replace(tzinfo=UTC):
        return _wrong_clock(now, "before this redlatch was released")
    return None


def _wrong_clock(now: datetime, why: str) -> Conflict:
    return Conflict(
        f"the clock of this machine says {now:%Y-%m-%d}, which is {why}",
        hint="set the clock (timedatectl shows whether it is synchronised), then run the command again",
    )


def latest(site: Site, view: Reader) -> datetime:
    """The later of the clock and the newest audit event: a clock that falls back revives no link and no key."""
    newest = view.audit_before(None, 1)
    return max(site.clock(), newest[0].event.at) if newest else site.clock()


def set_config(tx: Transaction, **changes: Any) -> Config:
    """Changes the configuration within `tx`; the caller records the audit event."""
    config = replace(Config.of(tx.site().config), **changes)
    tx.set_config(config.stored())
    return config


def authority(site: Site, kind: str, *, signing: bool = True) -> Authority:
    """The site's CA of `kind` (server or device) that new certificates come from; with `signing` its key is loaded
    too. Others may be trusted beside it: operations.authorities.

    Errors: PassphraseNeeded when the key is under a passphrase that is missing or wrong, StoreError when the
    key is gone or is another one's.
    """
    from cryptography import x509

    from redlatch.pki.authority import Authority

    with site.store.read() as view:
        row = signer(view, kind)
    if row is None:
        raise NotSetUp(f"this site has no {kind} CA yet", hint="run: redlatch up")
    certificate = x509.load_der_x509_certificate(row.certificate)
    chain = tuple(x509.load_pem_x509_certificates(row.chain)) if row.chain else ()
    key = signing_key(site, site.settings.keys / row.key_file) if signing else None
    if key is not None and key.public_key() != certificate.public_key():
        raise StoreError(
            f"the key of the {kind} CA in {site.settings.keys} is not the one its certificate names",
            hint=FROM_BACKUP,
        )
    return Authority(certificate, key, chain)


def signer(view: Reader, kind: str) -> AuthorityRow | None:
    """The authority that new certificates of `kind` come from."""
    may = [row for row in view.authorities(kind) if row.retired_at is None and row.signing]
    return may[-1] if may else None


def signing_key(site: Site, path: Path) -> Any:
    """The private key of a CA, from its file. Errors: as `authority`."""
    from redlatch.pki.keys import load_private_key

    try:
        data = read_own(path)
    except FileNotFoundError:
        raise StoreError(
            f"the CA key {path} is missing",
            hint=f"{FROM_BACKUP}; nothing can be issued without it",
        ) from None
    except PermissionError:
        raise NotPermitted(
            f"the CA key {path} may not be read",
            hint="run the command with sudo, or as the user who ran redlatch up",
        ) from None
    if b"ENCRYPTED" not in data:
        return load_private_key(data, None)
    passphrase = site.passphrase()
    if not passphrase:
        raise PassphraseNeeded(
            "the CA keys are under a passphrase",
            hint="run the command on a terminal, or name a file that holds it in REDLATCH_PASSPHRASE_FILE",
        )
    return load_private_key(data, passphrase)
