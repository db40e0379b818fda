"""Enrolment links: an invitation for one device, kept as a digest, redeemed once.

Who may take a link's place matters more than how long it is: on a page whose TLS the device cannot check, somebody
in the same network could serve a page of their own and take the link. So before there is one it is said which
links that concerns, and links for owners and admins are made only where it cannot happen.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from redlatch.enrolment import LIFETIME, REMOTE_LIFETIME, TOKEN_BYTES, Refusal, digest, new_token, refusal
from redlatch.errors import Conflict, InvalidInput, NotFound, RedlatchError
from redlatch.operations import devices, hosts, roles
from redlatch.operations.machine import is_inside
from redlatch.operations.site import Site, changing, latest
from redlatch.pki import names as pki_names

if TYPE_CHECKING:
    from redlatch.operations.devices import Issued
    from redlatch.store import LinkRow, Reader, Transaction

#: How long what came of a link is still shown. The audit trail keeps it for good.
KEPT = timedelta(days=7)
#: The shortest and the longest that a link may be good for.
SHORTEST = timedelta(seconds=30)
LONGEST = timedelta(days=7)
_STRONG = ("owner", "admin")


class TrustNeeded(Conflict):
    """A link that somebody in the network could take: nobody said that the network is trusted."""

    code = "trust-needed"


class LinkRefused(RedlatchError):
    """A link was not redeemed; `refusal` says why."""

    code = "link-refused"

    def __init__(self, reason: Refusal) -> None:
        super().__init__(*_WORDS[reason][:1], hint=_WORDS[reason][1])
        self.refusal = reason


_WORDS = {
    Refusal.WRONG: ("this link is not valid", "take the whole link, as it was sent; or ask for a new one"),
    Refusal.EXPIRED: ("this link has expired", "ask for a new one"),
    Refusal.USED: ("this link was used already", "if that was not you, say so to whoever sent it"),
    Refusal.WITHDRAWN: ("this link was withdrawn", "ask for a new one"),
    Refusal.AWAY: (
        "this link works only inside the network of this Node-RED",
        "join that network, then try again",
    ),
    Refusal.PINNED: (
        "this link is for the command line only",
        "run the `redlatch enroll` or curl command that came with it: those check who answers",
    ),
}


@dataclass(frozen=True, slots=True)
class Invited:
    """A link that was just made. `token` is shown once and kept nowhere."""

    link: LinkRow
    token: str


def public(site: Site) -> bool:
    """Whether every device knows the certificate of the enrolment page already."""
    return bool(hosts.enrolment_shows(site).known_as)


def check(
    site: Site, name: str, role: str, *, remote: bool, trust_lan: bool, pinned: bool, compared: bool = False
) -> None:
    """Says before there is a link what could become of it.

    Raises TrustNeeded when the page could be another one's and nobody said that the network is trusted, Conflict
    when that would not be enough: links into the internet, and such as make an owner or admin. `pinned` and
    `compared` as for `invite`.
    """
    with site.store.read() as view:
        base = roles.base_of(view, _role(view, name, role))
    if pinned or compared or public(site):
        return
    if base in _STRONG:
        raise Conflict(
            f"a link that makes an {base} is not safe here: no device knows this server's certificate yet, and "
            "somebody in your network could take it",
            hint="say --pinned for a command line that checks the server (redlatch enroll, curl), carry a file "
            "over with redlatch device add, compare the fingerprint yourself with redlatch device send, or give "
            "the console a public certificate: redlatch console --server-cert FILE --server-key FILE",
        )
    if remote:
        raise Conflict(
            "a link for outside your network needs a certificate that every device knows",
            hint="redlatch console --server-cert FILE --server-key FILE, or --pinned for a command line",
        )
    if not trust_lan:
        raise TrustNeeded(
            "no device knows this server's certificate yet, so somebody in your network who can stand in between "
            "could take the link",
            hint="say --trust-lan if you trust everybody in your network; or --pinned for a command line that "
            "checks the server",
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who a link is for: a new device, or by its name one that there is (whose role and owner stay)."""

    name: str
    role: str = "user"
    owner: str | None = None


def invite(
    site: Site,
    wanted: Sequence[Wanted],
    *,
    days: int = devices.DEFAULT_DAYS,
    valid: timedelta | None = None,
    remote: bool = False,
    trust_lan: bool = False,
    pinned: bool = False,
    compared: bool = False,
) -> list[Invited]:
    """Makes a link for each, or none at all.

    `days`: how long the keys are good. `valid`: how long the links are: by default 15 minutes; 24 hours with
    `remote`, else they work from private addresses only. `pinned`: for command lines that check the server's key,
    and refused to pages. `compared`: whoever opens the link has the terminal before them, and compares the
    fingerprint there with the one in the browser's warning. That shows who stands in between, so such a link may
    make owners and admins without further trust; and it is good only where that certificate is shown, on the port
    of the command that made it (`redeem` with `only`), never at the service. Errors: as `check`; InvalidInput
    (name, role, days, valid), Conflict (a name twice).
    """
    wanted = [
        Wanted(pki_names.device_name(one.name), one.role, pki_names.person_name(one.owner) if one.owner else None)
        for one in wanted
    ]
    keys = Counter(pki_names.name_key(one.name) for one in wanted)
    for one in wanted:
        if keys[pki_names.name_key(one.name)] > 1:
            raise Conflict(f"{one.name!r} is there twice", hint="each device has a name of its own")
        check(site, one.name, one.role, remote=remote, trust_lan=trust_lan, pinned=pinned, compared=compared)
    lifetime = valid or (REMOTE_LIFETIME if remote else LIFETIME)
    if not SHORTEST <= lifetime <= LONGEST:
        raise InvalidInput("a link cannot be good for that long", hint="from 30s to 7d, as in 15m or 24h")
    if not 1 <= days <= devices.DEFAULT_DAYS:
        raise InvalidInput(f"a key cannot be good for {days} days", hint=f"from 1 to {devices.DEFAULT_DAYS}")
    with changing(site, enforced=False) as tx:
        now = latest(site, tx)
        tx.forget_links(now - KEPT)
        return [
            _invited(tx, one, days=days, expires=now + lifetime, remote=remote, pinned=pinned, compared=compared)
            for one in wanted
        ]


def _invited(tx: Transaction, wanted: Wanted, *, days: int, expires: datetime, **told: bool) -> Invited:
    token = new_token(secrets.token_bytes(TOKEN_BYTES))
    known = tx.device_by_name(pki_names.name_key(wanted.name))
    if known is not None:
        wanted = Wanted(known.name, known.role, known.owner)
    roles.base_of(tx, wanted.role)
    number = tx.add_link(
        digest=digest(token),
        device_id=known.id if known else None,
        name=wanted.name,
        role=wanted.role,
        owner=wanted.owner,
        days=days,
        expires=expires,
        **told,
    )
    tx.record("link.made", link=number, name=wanted.name, role=wanted.role, **told)
    return Invited(_by_number(tx, number), token)


def list_links(site: Site) -> tuple[LinkRow, ...]:
    """All links of the last days, the newest first."""
    with site.store.read() as view:
        return view.links(latest(site, view) - KEPT)


def get(site: Site, number: int) -> LinkRow:
    """One link. NotFound."""
    with site.store.read() as view:
        return _by_number(view, number)


def open_links(site: Site) -> tuple[LinkRow, ...]:
    """Links that can still be redeemed."""
    with site.store.read() as view:
        now = latest(site, view)
        return tuple(one for one in view.links(now) if state(one, now) == "open")


def state(link: LinkRow, now: datetime) -> str:
    """open, used, confirmed (the page says that it holds the key), withdrawn or expired."""
    if link.withdrawn_at is not None:
        return "withdrawn"
    if link.used_at is not None:
        return "confirmed" if link.confirmed_at is not None else "used"
    return "open" if now < link.expires_at else "expired"


def withdraw(site: Site, number: int) -> LinkRow:
    """Ends a link before anybody uses it. Errors: NotFound, Conflict (used or over)."""
    with changing(site, enforced=False) as tx:
        tx.withdraw_link(number, latest(site, tx))
        link = _by_number(tx, number)
        tx.record("link.withdrawn", link=number, name=link.name)
    return link


def look(site: Site, token: str, *, peer: str, by_page: bool, only: int | None = None) -> LinkRow:
    """The link behind a token, without using it. LinkRefused when it would not be redeemed.

    `only` is the number of the one link that is served here; without it, all are but those that are compared.
    """
    with site.store.read() as view:
        link = view.link_by_digest(digest(token))
        if link is not None and (link.compared if only is None else link.id != only):
            link = None  # what is served elsewhere is unknown here
        reason = refusal(
            None if link is None else _link(link, latest(site, view)), inside=is_inside(peer), by_page=by_page
        )
    if reason is not None or link is None:
        raise LinkRefused(reason or Refusal.WRONG)
    return link


@dataclass(frozen=True, slots=True)
class Redeemed:
    """What a redeemed link was good for: its number, and the device with its certificate (and key)."""

    link: LinkRow
    issued: Issued


def redeem(
    site: Site,
    token: str,
    *,
    peer: str,
    by_page: bool,
    only: int | None = None,
    csr: bytes | None = None,
    key_kind: devices.KeyKind = "p256",
) -> Redeemed:
    """Uses a link up: the device is added (or gets a further key) in the same transaction, or nothing happens.

    `peer` is the address that asks, `by_page` whether a browser's page does, `only` as for `look`. Errors:
    LinkRefused; InvalidInput (CSR), Conflict (a device took that name meanwhile): the link stays good then.
    """
    look(
        site, token, peer=peer, by_page=by_page, only=only
    )  # whoever is refused waits for nobody and holds up nobody
    order = devices.order(site, key_kind=key_kind, csr=csr)
    with changing(site) as tx:
        number = tx.redeem_link(digest(token), latest(site, tx), used_from=peer)
        if number is None:
            link = tx.link_by_digest(digest(token))
            raise LinkRefused(
                refusal(None if link is None else _link(link, latest(site, tx)), inside=True, by_page=False)
                or Refusal.WRONG
            )
        link = _by_number(tx, number)
        if link.device_id is None:
            issued = devices.added(
                site, tx, order, name=link.name, role=link.role, owner=link.owner, days=link.days
            )
        else:
            issued = devices.renewed(site, tx, order, device_id=link.device_id, days=link.days)
        tx.issued_by_link(number, device_id=issued.device.id, fingerprint=issued.fingerprint)
        tx.record(
            "link.redeemed",
            link=number,
            device=issued.device.id,
            name=issued.device.name,
            fingerprint=issued.fingerprint,
            to=peer,
            own_key=csr is not None,
        )
        link = _by_number(tx, number)
    return Redeemed(link, devices.in_force(site, issued))


def confirmed(site: Site, number: int) -> None:
    """Records, once, that the page of a redeemed link said that it holds its key."""
    with changing(site, enforced=False) as tx:
        if tx.confirm_link(number, latest(site, tx)):
            link = _by_number(tx, number)
            tx.record("link.confirmed", link=number, name=link.name, fingerprint=link.fingerprint)


def _role(view: Reader, name: str, role: str) -> str:
    known = view.device_by_name(pki_names.name_key(pki_names.device_name(name)))
    return role if known is None else known.role


def _by_number(view: Reader, number: int) -> LinkRow:
    link = view.link(number)
    if link is None:
        raise NotFound(f"there is no link {number}", hint="redlatch device links shows all of them")
    return link


def _link(row: LinkRow, now: datetime) -> tuple[str, bool, bool]:
    return state(row, now), row.remote, row.pinned
