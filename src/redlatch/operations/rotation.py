"""One CA takes over from another, with a time in between in which both are trusted.

Device CA: the new one signs at once, and the old one's certificates go on getting in until the old one is ended. A
device moves when it gets a further key, by whatever way. Server CA: the new root is handed out first, beside the
old one; when everybody has it the server's certificates come from it (`switch`); at the end the old one goes. What
was ended has no key any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from redlatch.errors import Conflict, NotFound, NotSetUp
from redlatch.operations import authorities, engines, server, service_key
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import FROM_BACKUP, Config, Site, changing, signer, signing_key

if TYPE_CHECKING:
    from redlatch.store import AuthorityRow, Reader, Transaction
    from redlatch.store.records import Remaining

Kind = Literal["device", "server"]
#: "none": one CA, no rotation; "overlap": both are trusted and the new one signs; "handing-out": the new server
#: root is handed out and does not sign yet.
Stage = Literal["none", "overlap", "handing-out"]
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a rotation is. `new` and `old` are fingerprints; `remaining` are the devices in use that have not
    moved, `moved` how many have.
    """

    kind: Kind
    stage: Stage
    new: str
    old: tuple[str, ...]
    moved: int
    remaining: tuple[Remaining, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """What a step did: how far it is now, how many certificates died with it, and how far that change got."""

    progress: Progress
    force: Force
    revoked: int = 0
    cut: tuple[str, ...] = ()


def progress(site: Site, kind: Kind) -> Progress:
    """How far a rotation is. NotSetUp before there is a site."""
    with site.store.read() as view:
        return _progress(site, view, kind)


def begin(site: Site, kind: Kind) -> Done:
    """Makes the new CA. Conflict while a rotation is under way; PassphraseNeeded where the keys are under one."""
    passphrase = authorities.passphrase_of_keys(site)
    with changing(site) as tx:
        authorities.refuse_under_way(tx, kind)
        authorities.refuse_changed_lock(site, passphrase)
        names = authorities.names_of(Config.of(tx.site().config))
        authorities.create(site, tx, kind, names, passphrase, signing=kind == "device")
    return settled(site, kind)


def switch(site: Site) -> Done:
    """Has the server's certificates come from the new root: Node-RED's, the gateway's, the console's.

    The console's keeps its key, so that who pinned that goes on knowing it. Conflict when no root waits.
    """
    with site.store.read() as view:
        waiting = _waiting(view)
    _prove(site, waiting)
    with changing(site) as tx:
        row = _waiting(tx)
        if row.id != waiting.id:
            raise Conflict("the rotation was changed meanwhile", hint="run the command again")
        tx.set_signing(row.id, True)
        tx.record("ca.switched", kind="server", fingerprint=authorities.fingerprint(row))
    return replace(settled(site, "server"), force=_follow(site))


def end(site: Site, kind: Kind, *, force: bool = False) -> Done:
    """Takes the old CA out: its certificates are revoked in the same transaction, its key is removed.

    Conflict when there is none, while the new server root does not sign, and while devices in use have nothing
    from the new device CA (they are named), but for `force`.
    """
    with changing(replace(site, insist=site.insist or force)) as tx:
        old = authorities.overtaken(tx, kind)
        if kind == "server" and authorities.waiting(tx) is not None:
            raise Conflict(
                "the server's certificates still come from the old root",
                hint="redlatch ca rotate server --switch first; --cancel gives the new root up",
            )
        if not old:
            raise _none_under_way(kind)
        done = [retire(site, tx, row, force=force) for row in old]
    return _ended(site, kind, old, done)


def now(site: Site) -> Done:
    """A new device CA, and the old ones out in the same transaction, with every certificate of them: for a key
    that somebody else has. Nobody gets in by them from then on.
    """
    passphrase = authorities.passphrase_of_keys(site)
    # a key that somebody else has is worse than nobody in: there is always a way back on the machine
    with changing(replace(site, insist=True)) as tx:
        old = [row for row in authorities.trusted(tx, "device") if row.signing]
        authorities.refuse_changed_lock(site, passphrase)
        names = authorities.names_of(Config.of(tx.site().config))
        authorities.create(site, tx, "device", names, passphrase)
        done = [retire(site, tx, row, force=True) for row in old]
    return _ended(site, "device", old, done)


def cancel(site: Site, kind: Kind) -> Done:
    """Gives the new CA up, and goes on with the old one. Conflict when there is nothing to give up, and when the
    new device CA has issued certificates already.
    """
    with site.store.read() as view:
        old = authorities.overtaken(view, kind)
    if old and kind == "server":
        _prove(site, old[-1])
    with changing(site) as tx:
        new = authorities.waiting(tx) if kind == "server" else None
        if new is None:
            if not authorities.overtaken(tx, kind):
                raise _none_under_way(kind)
            new = signer(tx, kind)
        if new is None:
            raise _none_under_way(kind)
        issued = tx.issued_by_authority(new.id)
        if issued:
            raise Conflict(
                f"the new device CA has issued {issued} certificate{'s' if issued > 1 else ''} already",
                hint="end the old one instead (--end), or rotate again afterwards",
            )
        tx.retire_authority(new.id, site.clock())
        tx.record("ca.retired", kind=kind, fingerprint=authorities.fingerprint(new), cancelled=True)
    authorities.remove_keys(site, [new.key_file])
    done = settled(site, kind)
    return replace(done, force=_follow(site)) if kind == "server" else done


def retire(site: Site, tx: Transaction, row: AuthorityRow, *, force: bool) -> tuple[int, tuple[str, ...]]:
    """Within a transaction: takes an authority out, with its certificates; how many these were, and the names of
    the devices that have nothing left. Conflict, naming them, unless `force`.
    """
    left = tx.only_of_authority(row.id, site.clock())
    if left and not force:
        raise Conflict(
            f"{_many(len(left))} would be shut out, with nothing but certificates of that CA: "
            f"{names([one.name for one in left])}",
            hint="give them new keys first (the console's /renew, redlatch device renew); --force shuts them out",
        )
    now = site.clock()
    revoked = tx.revoke_by_authority(row.id, now, "its authority was taken out of use")
    tx.retire_authority(row.id, now)
    tx.record(
        "ca.retired",
        kind=row.kind,
        fingerprint=authorities.fingerprint(row),
        certificates=revoked,
        devices=[one.device_id for one in left],
        key_file=row.key_file,
    )
    return revoked, tuple(one.name for one in left)


def names(found: Sequence[str]) -> str:
    """The first few of them, and how many more."""
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def _many(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _ended(
    site: Site, kind: Kind, old: Sequence[AuthorityRow], done: Sequence[tuple[int, tuple[str, ...]]]
) -> Done:
    authorities.remove_keys(site, [row.key_file for row in old])
    cut = tuple(name for _, left in done for name in left)
    return replace(settled(site, kind), revoked=sum(count for count, _ in done), cut=cut)


def settled(site: Site, kind: Kind) -> Done:
    force = enforce(site)
    return Done(progress(site, kind), force)


def _follow(site: Site) -> Force:
    """Brings every certificate of the server to the root that signs now."""
    known = engines.configured(site.settings, site.config())
    force = server.refresh(site, anew=False).force if known else enforce(site)
    if service_key.wanted(site) and service_key.renew(site):
        force = enforce(site)
    return force


def _progress(site: Site, view: Reader, kind: Kind) -> Progress:
    present = signer(view, kind)
    if present is None:
        raise NotSetUp(f"this site has no {kind} CA yet", hint="run: redlatch up")
    old = authorities.overtaken(view, kind)
    waiting = authorities.waiting(view) if kind == "server" else None
    new = waiting or present
    if waiting is not None:
        old = [present]
    remaining: tuple[Remaining, ...] = ()
    moved = 0
    if old:
        at = site.clock()
        if kind == "device":
            remaining = tuple(one for row in old for one in view.only_of_authority(row.id, at))
            moved = view.devices_by_authority(at).get(new.id, 0)
        else:
            remaining = view.nothing_since(new.created_at, at)
            moved = view.devices_with_certificates(at) - len(remaining)
    return Progress(
        kind=kind,
        stage="none" if not old else "handing-out" if waiting is not None else "overlap",
        new=authorities.fingerprint(new),
        old=tuple(map(authorities.fingerprint, old)),
        moved=moved,
        remaining=remaining,
    )


def _waiting(view: Any) -> AuthorityRow:
    found = authorities.waiting(view)
    if found is None:
        raise Conflict("no new server root waits to take over", hint="redlatch ca rotate server makes one")
    return found


def _prove(site: Site, row: AuthorityRow) -> None:
    """That the key of an authority is there and opens, before the server depends on it."""
    key = signing_key(site, site.settings.keys / row.key_file)
    if key.public_key() != authorities.made_of(row).certificate.public_key():
        raise NotFound(
            f"the key of the server CA in {site.settings.keys} is not the one its certificate names",
            hint=FROM_BACKUP,
        )


def _none_under_way(kind: Kind) -> Conflict:
    return Conflict(f"no new {kind} CA is taking over", hint=f"redlatch ca rotate {kind} makes one")
