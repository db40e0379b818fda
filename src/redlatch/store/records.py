"""What the store holds, as frozen records. Times are aware UTC datetimes in whole seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple


@dataclass(frozen=True, slots=True)
class Site:
    """One installation. `revision` grows by one with every change of what engines enforce."""

    uuid: str
    created_at: datetime
    revision: int
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuthorityRow:
    """A certificate authority: `kind` is "server" or "device", `certificate` its DER, `key_file` the key's name
    (empty: the key is not here). `chain` is the PEM of what stands above it, its issuer first, its root last
    (empty: it is its own root). Of those that may sign (`signing`) the newest one does.
    """

    id: int
    kind: str
    certificate: bytes
    key_file: str
    created_at: datetime
    retired_at: datetime | None
    chain: bytes = b""
    signing: bool = True


@dataclass(frozen=True, slots=True)
class Device:
    """A phone, laptop, script or sensor. A revoked one keeps its row; its name is free again."""

    id: str
    name: str
    role: str
    owner: str | None
    user_slug: str
    created_at: datetime
    revoked_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Certificate:
    """One certificate of a device. `fingerprint` is the SHA-256 of `der` in 64 hex digits, `serial` is hex."""

    fingerprint: str
    device_id: str
    authority_id: int
    serial: str
    not_before: datetime
    not_after: datetime
    issued_at: datetime
    revoked_at: datetime | None
    reason: str | None
    der: bytes


class ActiveCertificate(NamedTuple):
    """What the snapshot needs to know about a certificate that is not revoked, of a device that is not revoked."""

    fingerprint: str
    device_id: str
    role: str
    user_slug: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network of the operator's own.

    `entries` has one a line, as `ENTRY` or `ENTRY # comment`; `resolved` says what its host names stood for: name
    -> {"addresses": [...], "at": Unix seconds}; `intervals` is how many its table has, and `digest` the SHA-256 of
    that table (64 hex digits), which is the name of the published file.
    """

    name: str
    entries: str
    resolved: Mapping[str, Any]
    intervals: int
    digest: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A device as a list shows it: the end of its last certificate in use, and when and from where Node-RED says
    that it came last. `name_key` and `device.id` are where the next page begins.
    """

    device: Device
    name_key: str
    not_after: datetime | None
    seen_at: datetime | None
    seen_from: str | None


@dataclass(frozen=True, slots=True)
class Ending:
    """The last certificate of a device in use, and when it ends."""

    device_id: str
    name: str
    fingerprint: str
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Remaining:
    """A device in use that has not moved to another authority yet: when its last certificate in use ends, and when
    Node-RED says that it came last.
    """

    device_id: str
    name: str
    not_after: datetime
    seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class LinkRow:
    """An enrolment link. `device_id` is set for a further key of a device, and for all once redeemed."""

    id: int
    device_id: str | None
    name: str
    role: str
    owner: str | None
    days: int
    remote: bool
    pinned: bool
    compared: bool
    created_at: datetime
    created_by: str
    expires_at: datetime
    withdrawn_at: datetime | None
    used_at: datetime | None
    used_from: str | None
    fingerprint: str | None
    confirmed_at: datetime | None


@dataclass(frozen=True, slots=True)
class TrialRow:
    """The change on trial: the state `before` it (JSON of operations.trials), `what` it was in words, who made it
    and over which connection. It is taken back at `until` unless it is kept.
    """

    before: str
    what: str
    begun_at: datetime
    until: datetime
    actor: str
    connection: str


class SidebarRow(NamedTuple):
    """A device in use as the sidebar lists it; `not_after` in Unix seconds, None without a certificate in use."""

    id: str
    name: str
    role: str
    owner: str | None
    not_after: int | None
