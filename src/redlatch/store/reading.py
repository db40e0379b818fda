"""Reading the store: one consistent view for as long as the reader is open."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from redlatch import audit
from redlatch.audit import Event, Head, Verification
from redlatch.policy import model
from redlatch.store import statements as sql
from redlatch.store.problems import damaged
from redlatch.store.records import (
    ActiveCertificate,
    AuthorityRow,
    Certificate,
    Device,
    Ending,
    LinkRow,
    Listed,
    NetworkRow,
    Remaining,
    SidebarRow,
    Site,
    TrialRow,
)

T = TypeVar("T")

_EVERYTHING = 2**62  # LIMIT: PostgreSQL knows no -1, SQLite no NULL


class Rows(Protocol):
    """What a driver gives back; rows are tuples."""

    @property
    def rowcount(self) -> int: ...
    def fetchone(self) -> Any: ...
    def fetchall(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What the store asks of a driver: sqlite3's own connection, or SQLAlchemy's with text() around the SQL."""

    def execute(self, sql: str, parameters: Mapping[str, object], /) -> Rows: ...


def when(seconds: int) -> datetime:
    """Unix seconds as an aware UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def maybe_when(seconds: int | None) -> datetime | None:
    """As `when`, for what may not have happened yet."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


class Reader:
    """The store as it was when the first read was made, whatever others commit meanwhile."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def site(self) -> Site:
        """The one site of this store."""
        return self._only(sql.SITE, _site)

    def authorities(self, kind: str) -> tuple[AuthorityRow, ...]:
        """All authorities of `kind` ("server" or "device"), oldest first, retired ones too."""
        return self._all(sql.AUTHORITIES, {"kind": kind}, _authority)

    def devices_by_authority(self, at: datetime) -> dict[int, int]:
        """How many devices in use have a certificate of each authority that ends after `at`; never 0."""
        return dict(self._all(sql.DEVICES_BY_AUTHORITY, {"at": int(at.timestamp())}, _numbers))

    def devices_with_certificates(self, at: datetime) -> int:
        """How many devices in use have a certificate that ends after `at`."""
        return int(
            self._connection.execute(sql.DEVICES_WITH_CERTIFICATES, {"at": int(at.timestamp())}).fetchone()[0]
        )

    def issued_by_authority(self, authority_id: int) -> int:
        """How many certificates of devices an authority has issued, ever."""
        return int(self._connection.execute(sql.ISSUED_BY_AUTHORITY, {"id": authority_id}).fetchone()[0])

    def only_of_authority(self, authority_id: int, at: datetime) -> tuple[Remaining, ...]:
        """Devices in use, by name, whose certificates that end after `at` are all of this authority."""
        return self._all(sql.ONLY_OF_AUTHORITY, {"id": authority_id, "at": int(at.timestamp())}, _remaining)

    def nothing_since(self, since: datetime, at: datetime) -> tuple[Remaining, ...]:
        """Devices in use, by name, with certificates that end after `at`, none of them made here after `since`."""
        times = {"since": int(since.timestamp()), "at": int(at.timestamp())}
        return self._all(sql.NOTHING_SINCE, times, _remaining)

    def device_by_name(self, name_key: str) -> Device | None:
        """The device in use under this name (as `pki.names.name_key` makes it); revoked ones have none."""
        return self._one(sql.DEVICE_BY_NAME, {"name_key": name_key}, _device)

    def device_by_id(self, device_id: str) -> Device | None:
        """The device, revoked or not."""
        return self._one(sql.DEVICE_BY_ID, {"id": device_id}, _device)

    def devices_by_slug(self, user_slug: str) -> tuple[Device, ...]:
        """Devices, revoked ones too, that are this Node-RED user (at most 100: whose it is shows after one)."""
        return self._all(sql.DEVICES_BY_SLUG, {"user_slug": user_slug}, _device)

    def devices(self, *, after: str | None = None, limit: int | None = None) -> tuple[Device, ...]:
        """Devices by name, revoked ones too; for pages, `after` is the id of the last one seen."""
        number = _EVERYTHING if limit is None else limit
        if after is None:
            return self._all(sql.DEVICES, {"limit": number}, _device)
        return self._all(sql.DEVICES_AFTER, {"after": after, "limit": number}, _device)

    def certificates(self, device_id: str) -> tuple[Certificate, ...]:
        """All certificates of a device, oldest first."""
        return self._all(sql.CERTIFICATES, {"device_id": device_id}, _certificate)

    def certificate(self, fingerprint: str) -> Certificate | None:
        """The certificate with this SHA-256 of its DER (64 hex digits)."""
        return self._one(sql.CERTIFICATE, {"fingerprint": fingerprint}, _certificate)

    def active_certificates(self) -> Iterator[ActiveCertificate]:
        """What the snapshot lists, by fingerprint; expired ones too: the engine then says so."""
        for row in self._connection.execute(sql.ACTIVE_CERTIFICATES, {}):
            yield _made(_active, row)

    def entries_below(self, prefix: str, limit: int) -> dict[str, model.Entry]:
        """The first `limit` entries of the snapshot whose fingerprints begin with `prefix`, in their order.

        Costs as much as it gives back, however many devices there are or were.
        """
        between = {"first": prefix, "beyond": prefix + "g", "limit": limit}  # g: the digit after f
        return dict(self._all(sql.ENTRIES_BETWEEN, between, _entry))

    def changed_since(self, revision: int) -> tuple[str, ...]:
        """Fingerprints whose entries came, went or changed after this revision of the site."""
        return self._all(sql.CHANGED_SINCE, {"revision": revision}, _text)

    def device_count_by_role(self) -> dict[str, int]:
        """How many devices in use have each role; a role that none has is missing."""
        return dict(self._all(sql.COUNT_BY_ROLE, {}, _count))

    def somebody_has(self, role: str, at: datetime) -> bool:
        """Whether a device in use with this very role has a certificate that ends after `at`."""
        return (
            self._connection.execute(sql.SOMEBODY, {"role": role, "at": int(at.timestamp())}).fetchone()
            is not None
        )

    def ending(self, before: datetime) -> tuple[tuple[str, datetime], ...]:
        """(name, end) of the devices in use whose last certificate ends before then, by name."""
        return self._all(sql.ENDING, {"before": int(before.timestamp())}, _end)

    def ending_between(self, first: datetime, before: datetime, limit: int) -> tuple[Ending, ...]:
        """Devices in use whose last certificate ends in that time, the earliest first."""
        between = {"first": int(first.timestamp()), "before": int(before.timestamp()), "limit": limit}
        return self._all(sql.ENDING_BETWEEN, between, _ending)

    def device_page(self, *, matching: str = "", after: str = "", limit: int) -> tuple[Listed, ...]:
        """Devices in use by name, from beyond the name key `after`; `matching` is part of a name or owner in the
        form of `pki.names.name_key`, or a role.
        """
        if not matching:
            return self._all(sql.DEVICE_PAGE, {"after": after, "limit": limit}, _listed)
        return self._all(sql.DEVICE_PAGE_MATCHING, {"after": after, "limit": limit} | _pattern(matching), _listed)

    def revoked_page(
        self, *, matching: str = "", after: tuple[str, str] = ("", ""), limit: int
    ) -> tuple[Listed, ...]:
        """As `device_page`, of revoked devices; their names may repeat, so `after` is (name key, id)."""
        place = {"after": after[0], "after_id": after[1], "limit": limit}
        return self._all(sql.REVOKED_PAGE, place | _pattern(matching), _listed)

    def sighting(self, device_id: str) -> tuple[datetime, str] | None:
        """When and from which address a device came last, by Node-RED's word."""
        return self._one(sql.SIGHTING, {"device_id": device_id}, _sighting)

    def link(self, link_id: int) -> LinkRow | None:
        return self._one(sql.LINK_BY_ID, {"id": link_id}, _link)

    def link_by_digest(self, digest: bytes) -> LinkRow | None:
        return self._one(sql.LINK_BY_DIGEST, {"digest": digest}, _link)

    def links(self, since: datetime, *, limit: int = _EVERYTHING) -> tuple[LinkRow, ...]:
        """Links that end or ended after then, the newest first."""
        return self._all(sql.LINKS, {"since": int(since.timestamp()), "limit": limit}, _link)

    def noticed(self, fingerprint: str) -> set[int]:
        """The numbers of days before a certificate's end for which something was said already."""
        return set(self._all(sql.NOTICED, {"fingerprint": fingerprint}, _number))

    def roles(self) -> dict[str, str]:
        """The operator's own roles, each with the built-in one that it is like, by name."""
        return dict(sorted(self._all(sql.ROLES, {}, _pair)))

    def rules(self) -> tuple[model.Rule, ...]:
        """All rules, by their numbers."""
        return self._all(sql.RULES, {}, _rule)

    def networks(self) -> tuple[NetworkRow, ...]:
        """The operator's own networks, by name; see `network_digests` for when their entries do not matter."""
        return tuple(sorted(self._all(sql.NETWORKS, {}, _network), key=lambda one: one.name))

    def network(self, name: str) -> NetworkRow | None:
        """One network of the operator's own."""
        return self._one(sql.NETWORK, {"name": name}, _network)

    def network_digests(self) -> dict[str, str]:
        """Name -> digest of the operator's networks, without reading their entries, which may be a million."""
        return dict(sorted(self._all(sql.NETWORK_DIGESTS, {}, _pair)))

    def network_table(self, name: str) -> bytes | None:
        """A network's table of addresses, as `policy.networks.encode` made it."""
        return self._one(sql.NETWORK_TABLE, {"name": name}, _blob)

    def trial(self) -> TrialRow | None:
        """The change on trial."""
        return self._one(sql.TRIAL, {}, _trial)

    def devices_in_use(self) -> int:
        return self._only(sql.DEVICES_IN_USE, _number)

    def sidebar_devices(self, limit: int) -> tuple[SidebarRow, ...]:
        """The first devices in use by name."""
        return self._all(sql.SIDEBAR_DEVICES, {"limit": limit}, _sidebar)

    def sidebar_ending(self, first: datetime, before: datetime, limit: int) -> tuple[SidebarRow, ...]:
        """As `ending_between`, looking at no more than `limit` times 4 certificates."""
        between = {"first": int(first.timestamp()), "before": int(before.timestamp())}
        return self._all(sql.SIDEBAR_ENDING, between | {"look": limit * 4, "limit": limit}, _sidebar)

    def audit_events(self, after: int = 0) -> Iterator[audit.Entry]:
        """The events with a number above `after`, each with the hash stored beside it."""
        for row in self._connection.execute(sql.EVENTS, {"after": after}):
            yield _event(row)

    def audit_before(self, before: int | None, limit: int) -> tuple[audit.Entry, ...]:
        """The last `limit` events with a number below `before` (None: all), the newest first."""
        return self._all(
            sql.EVENTS_BEFORE, {"before": _EVERYTHING if before is None else before, "limit": limit}, _event
        )

    def audit_head(self) -> Head:
        """The recorded end of the chain."""
        return self._only(sql.HEAD, _head)[1]

    def verify_audit(self) -> Verification:
        """Whether the audit events are whole, from the site's genesis to the recorded end."""
        uuid, head = self._only(sql.HEAD, _head)
        return audit.verify(self.audit_events(), start=audit.genesis(uuid), head=head)

    def _only(self, statement: str, make: Callable[[Any], T]) -> T:
        """The one row that every store has."""
        found = self._one(statement, {}, make)
        if found is None:
            raise damaged("it has no site")
        return found

    def _one(self, statement: str, parameters: Mapping[str, object], make: Callable[[Any], T]) -> T | None:
        row = self._connection.execute(statement, parameters).fetchone()
        return None if row is None else _made(make, row)

    def _all(self, statement: str, parameters: Mapping[str, object], make: Callable[[Any], T]) -> tuple[T, ...]:
        return tuple(_made(make, row) for row in self._connection.execute(statement, parameters))


def _made(make: Callable[[Any], T], row: Any) -> T:
    """A record of a row; StoreError for content that no redlatch wrote (SQLite holds any type in any column)."""
    try:
        return make(row)
    except (TypeError, ValueError, OverflowError, OSError) as error:
        raise damaged(str(error)) from error


def _site(row: Any) -> Site:
    config = json.loads(row[3])
    if not isinstance(config, dict):
        raise TypeError("the configuration is no object")
    return Site(row[0], when(row[1]), row[2], config)


def _authority(row: Any) -> AuthorityRow:
    made, ended = when(row[4]), maybe_when(row[5])
    return AuthorityRow(row[0], row[1], row[2], row[3], made, ended, bytes(row[6] or b""), bool(row[7]))


def _device(row: Any) -> Device:
    return Device(row[0], row[1], row[2], row[3], row[4], when(row[5]), maybe_when(row[6]), row[7])


def _certificate(row: Any) -> Certificate:
    return Certificate(
        row[0],
        row[1],
        row[2],
        row[3],
        when(row[4]),
        when(row[5]),
        when(row[6]),
        maybe_when(row[7]),
        row[8],
        row[9],
    )


def _active(row: Any) -> ActiveCertificate:
    return ActiveCertificate(row[0], row[1], row[2], row[3], when(row[4]), when(row[5]))


def _entry(row: Any) -> tuple[str, model.Entry]:
    fingerprint, *fields = row
    if not all(isinstance(one, str) for one in row[:4]) or not all(isinstance(one, int) for one in row[4:]):
        raise TypeError("a certificate is no text and dates")
    return fingerprint, model.Entry(*fields)


def _text(row: Any) -> str:
    if not isinstance(row[0], str):
        raise TypeError("a fingerprint is no text")
    return row[0]


def _pair(row: Any) -> tuple[str, str]:
    if not all(isinstance(one, str) for one in row):
        raise TypeError("a name is no text")
    return row[0], row[1]


def _count(row: Any) -> tuple[str, int]:
    return str(row[0]), int(row[1])


def _end(row: Any) -> tuple[str, datetime]:
    return str(row[0]), when(row[1])


def _pattern(matching: str) -> dict[str, str]:
    """For LIKE: what stands for something there is taken literally."""
    literal = matching.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    return {"like": f"%{literal}%", "role": matching}


def _listed(row: Any) -> Listed:
    return Listed(_device(row[:8]), row[8], maybe_when(row[9]), maybe_when(row[10]), row[11])


def _ending(row: Any) -> Ending:
    return Ending(row[0], row[1], row[2], when(row[3]))


def _remaining(row: Any) -> Remaining:
    return Remaining(str(row[0]), str(row[1]), when(row[2]), maybe_when(row[3]))


def _numbers(row: Any) -> tuple[int, int]:
    return int(row[0]), int(row[1])


def _sidebar(row: Any) -> SidebarRow:
    # Spelled out: there are 500 of them with every change
    identity, name, role, owner, not_after = row
    texts = isinstance(identity, str) and isinstance(name, str) and isinstance(role, str)
    if not (texts and isinstance(owner, str | None) and isinstance(not_after, int | None)):
        raise TypeError("a device is no text and date")
    return SidebarRow(identity, name, role, owner, not_after)


def _sighting(row: Any) -> tuple[datetime, str]:
    return when(row[0]), str(row[1])


def _link(row: Any) -> LinkRow:
    number, device_id, name, role, owner, days, remote, pinned, compared, created_at, created_by, *rest = row
    expires_at, withdrawn, used_at, used_from, fingerprint, confirmed = rest
    return LinkRow(
        number, device_id, name, role, owner, days, bool(remote), bool(pinned), bool(compared),
        when(created_at), created_by, when(expires_at), maybe_when(withdrawn), maybe_when(used_at), used_from,
        fingerprint, maybe_when(confirmed),
    )  # fmt: skip


def _number(row: Any) -> int:
    return int(row[0])


def _rule(row: Any) -> model.Rule:
    body = json.loads(row[1])
    if not isinstance(row[0], int) or not isinstance(body, dict):
        raise TypeError("a rule is no object")
    fields: dict[str, Any] = {key: tuple(one) if isinstance(one, list) else one for key, one in body.items()}
    return model.Rule(row[0], **fields)


def _trial(row: Any) -> TrialRow:
    return TrialRow(str(row[0]), str(row[1]), when(row[2]), when(row[3]), str(row[4]), str(row[5]))


def _network(row: Any) -> NetworkRow:
    name, entries, resolved, intervals, digest = row
    known = json.loads(resolved)
    texts = isinstance(name, str) and isinstance(entries, str) and isinstance(digest, str)
    if not (texts and isinstance(known, dict) and isinstance(intervals, int)):
        raise TypeError("a network is no list of addresses")
    return NetworkRow(name, entries, known, intervals, digest)


def _blob(row: Any) -> bytes:
    if not isinstance(row[0], bytes):
        raise TypeError("a table of addresses is no bytes")
    return row[0]


def _head(row: Any) -> tuple[str, Head]:
    uuid, seq, digest = row
    if not (isinstance(uuid, str) and isinstance(seq, int) and isinstance(digest, bytes)):
        raise TypeError("the end of the audit chain is no number and hash")
    return uuid, Head(seq, digest)


def _event(row: Any) -> audit.Entry:
    seq, at, actor, kind, data, digest = row
    try:
        return audit.Entry(Event(seq, when(at), actor, kind, json.loads(data)), digest)
    except (TypeError, ValueError, OverflowError, OSError):
        # Somebody else wrote this. Its hash cannot fit, so that `verify` names it instead of stumbling over it.
        return audit.Entry(Event(seq, when(0), str(actor), str(kind), {"unreadable": str(data)}), digest)
