"""Reading the store: one consistent view for as long as the reader is open."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from redlatch import audit
from redlatch.audit import Entry, Event, Head, Verification
from redlatch.errors import StoreError
from redlatch.store import statements as sql
from redlatch.store.records import ActiveCertificate, AuthorityRow, Certificate, Device, Site

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
        row = self._one(sql.SITE)
        if row is None:
            raise StoreError(
                "the store has no site", hint="restore a backup, or remove the store and set up again"
            )
        return Site(row[0], when(row[1]), row[2], json.loads(row[3]))

    def authorities(self, kind: str) -> tuple[AuthorityRow, ...]:
        """All authorities of `kind` ("server" or "device"), oldest first, retired ones too."""
        return tuple(
            AuthorityRow(row[0], row[1], row[2], row[3], when(row[4]), maybe_when(row[5]))
            for row in self._all(sql.AUTHORITIES, {"kind": kind})
        )

    def device_by_name(self, name_key: str) -> Device | None:
        """The device in use under this name (as `pki.names.name_key` makes it); revoked ones have none."""
        return _device(self._one(sql.DEVICE_BY_NAME, {"name_key": name_key}))

    def devices_by_slug(self, user_slug: str) -> tuple[Device, ...]:
        """Devices whose owner is known to Node-RED by that user name, at most 100; revoked ones too."""
        return tuple(_known_device(row) for row in self._all(sql.DEVICES_BY_SLUG, {"user_slug": user_slug}))

    def device_by_id(self, device_id: str) -> Device | None:
        """The device, revoked or not."""
        return _device(self._one(sql.DEVICE_BY_ID, {"id": device_id}))

    def devices(self, *, after: str | None = None, limit: int | None = None) -> tuple[Device, ...]:
        """Devices by name, revoked ones too; for pages, `after` is the id of the last one seen."""
        number = _EVERYTHING if limit is None else limit
        if after is None:
            rows = self._all(sql.DEVICES, {"limit": number})
        else:
            rows = self._all(sql.DEVICES_AFTER, {"after": after, "limit": number})
        return tuple(_known_device(row) for row in rows)

    def certificates(self, device_id: str) -> tuple[Certificate, ...]:
        """All certificates of a device, oldest first."""
        return tuple(_certificate(row) for row in self._all(sql.CERTIFICATES, {"device_id": device_id}))

    def certificate(self, fingerprint: str) -> Certificate | None:
        """The certificate with this SHA-256 of its DER (64 hex digits)."""
        row = self._one(sql.CERTIFICATE, {"fingerprint": fingerprint})
        return None if row is None else _certificate(row)

    def active_certificates(self) -> Iterator[ActiveCertificate]:
        """What the snapshot lists, by fingerprint; expired ones too: the engine then says so."""
        for row in self._connection.execute(sql.ACTIVE_CERTIFICATES, {}):
            yield ActiveCertificate(row[0], row[1], row[2], row[3], when(row[4]), when(row[5]))

    def audit_events(self, after: int = 0) -> Iterator[Entry]:
        """The events with a number above `after`, each with the hash stored beside it."""
        for row in self._connection.execute(sql.EVENTS, {"after": after}):
            yield _entry(row)

    def audit_head(self) -> Head:
        """The recorded end of the chain."""
        row = self._one(sql.HEAD)
        return Head(row[1], row[2])

    def verify_audit(self) -> Verification:
        """Whether the audit events are whole, from the site's genesis to the recorded end."""
        uuid, seq, digest = self._one(sql.HEAD)
        return audit.verify(self.audit_events(), start=audit.genesis(uuid), head=Head(seq, digest))

    def _one(self, statement: str, parameters: Mapping[str, object] | None = None) -> Any:
        return self._connection.execute(statement, parameters or {}).fetchone()

    def _all(self, statement: str, parameters: Mapping[str, object]) -> Any:
        return self._connection.execute(statement, parameters).fetchall()


def _device(row: Any) -> Device | None:
    return None if row is None else _known_device(row)


def _known_device(row: Any) -> Device:
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


def _entry(row: Any) -> Entry:
    seq, at, actor, kind, data, digest = row
    try:
        return Entry(Event(seq, when(at), actor, kind, json.loads(data)), digest)
    except (TypeError, ValueError, OverflowError, OSError):
        # Somebody else wrote this. Its hash cannot fit, so that `verify` names it instead of stumbling over it.
        return Entry(Event(seq, when(0), str(actor), str(kind), {"unreadable": str(data)}), digest)
