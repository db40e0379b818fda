"""Audit events: what can happen, and the hash chain that shows when somebody changed the record. Pure: no I/O.

Each event's hash covers the hash before it, so that a changed, removed, reordered or inserted event breaks the
chain from there on. The first event continues `genesis(site)`: a chain cannot be passed off as another site's.
The chain shows tampering to whoever knows its head; who may rewrite the whole store may also rewrite the whole
chain, and only a head noted elsewhere (`redlatch audit --head` prints it, `check_head` compares) shows that.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from redlatch.errors import InvalidInput

# kind -> sentence. Every kind is documented, and a test says so.
KINDS: Mapping[str, str] = {
    "site.created": "the site was set up",
    "site.changed": "settings of the site were changed",
    "site.restored": "the site was put back from a backup: what was changed after that backup is lost",
    "backup.made": "a backup of the store and the CA keys was made",
    "ca.created": "a certificate authority was created",
    "ca.imported": "a certificate authority from elsewhere was taken into use, with its key",
    "ca.locked": "the keys of the certificate authorities were put under a passphrase, or under another one",
    "ca.requested": "a key was made for a certificate authority that is signed elsewhere, or removed again",
    "ca.retired": "a certificate authority was taken out of use, with all certificates of it, and its key removed",
    "ca.switched": "the server's certificates come from another certificate authority",
    "ca.unlocked": "the passphrase was taken off the keys of the certificate authorities",
    "device.added": "a device was added",
    "device.renamed": "a device got another name",
    "device.role-changed": "a device got another role",
    "device.revoked": "a device was shut out, with all of its certificates",
    "link.made": "a link was made by which one device gets its key",
    "link.redeemed": "a device took its key by a link",
    "link.confirmed": "the page of a redeemed link said that it holds the key",
    "link.withdrawn": "a link was withdrawn before anybody used it",
    "certificate.adopted": "a certificate from elsewhere was taken for a device's",
    "certificate.issued": "a certificate was issued to a device",
    "certificate.revoked": "one certificate of a device was shut out",
    "server-certificate.issued": "a certificate for the server was issued by the site's own authority",
    "server-certificate.adopted": "a certificate from elsewhere was taken into use for the server",
    "name.added": "the server got another name",
    "name.removed": "a name of the server was removed",
    "role.added": "a role was added",
    "role.removed": "a role was removed",
    "rule.added": "a rule was added",
    "rule.removed": "a rule was removed",
    "rules.applied": "the rules were replaced by those of a file",
    "network.changed": "a network was added, or got other entries",
    "network.removed": "a network was removed",
    "network.resolved": "host names of a network turned out to have other addresses",
    "origin.added": "pages of another web origin were allowed to call and to embed",
    "origin.removed": "pages of another web origin are no longer allowed to call and to embed",
    "trial.begun": "a change was made on trial: it is taken back by itself unless somebody keeps it",
    "trial.kept": "a change on trial was kept",
    "trial.undone": "a change on trial was taken back",
    "emergency.opened": "on the machine itself, a way back in was opened for at most seven days",
    "open-port.changed": "the port that asks nobody for a certificate was changed",
    "service.changed": "where console and enrolment listen, or their certificate, was changed",
    "node-red.adopted": "the lock was put on a Node-RED",
    "node-red.released": "the lock was taken off a Node-RED",
    "gateway.put-up": "the gateway was put in front of Node-RED, or told something else",
    "gateway.taken-down": "the gateway in front of Node-RED was taken away",
}

_DOMAIN = b"redlatch audit event 1\0"
_GENESIS = b"redlatch audit genesis 1\0"
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Event:
    """One change by somebody. `seq` counts from 1 without gaps; `at` is UTC in whole seconds."""

    seq: int
    at: datetime
    actor: str
    kind: str
    data: Mapping[str, object]


class Entry(NamedTuple):
    """An event as it stands in the store, with the hash (32 bytes) that was stored beside it."""

    event: Event
    hash: bytes


class Head(NamedTuple):
    """The end of a chain: the last event's number (0: no event yet) and hash (then: the genesis)."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found.

    `count` events from the first on are whole, the last of them with the hash `head`. `first_bad` is the number
    of the first event that is changed, missing or too many (None when `ok`), and `problem` says which it is.
    """

    ok: bool
    count: int
    head: bytes
    first_bad: int | None = None
    problem: str = ""


def canonical_json(value: object) -> str:
    """The one JSON text of `value`: sorted keys, no spaces, ASCII. TypeError for what JSON cannot say."""
    return _encode(value)


def genesis(site_uuid: str) -> bytes:
    """What the first event of a site continues (32 bytes)."""
    return hashlib.sha256(_GENESIS + site_uuid.encode()).digest()


def chain_hash(previous: bytes, event: Event) -> bytes:
    """SHA-256 (32 bytes) over a domain, the hash before and the event's canonical JSON.

    `previous` has a fixed length and stands before the text, so no two (previous, event) share an input.
    """
    text = canonical_json([event.seq, int(event.at.timestamp()), event.actor, event.kind, event.data])
    return hashlib.sha256(_DOMAIN + previous + text.encode()).digest()


def verify(entries: Iterable[Entry], *, start: bytes, head: Head) -> Verification:
    """Whether `entries`, in the order of their numbers, are the whole chain from `start` (the genesis) to `head`.

    Returns a verdict and never raises for what it reads: a broken chain is a finding to show, not an accident.
    """
    count, last = 0, start

    def bad(problem: str) -> Verification:
        return Verification(ok=False, count=count, head=last, first_bad=count + 1, problem=problem)

    for event, stored in entries:
        if event.seq != count + 1:
            return bad(f"event {count + 1} is missing or out of order: event {event.seq} stands in its place")
        if not _fits(last, event, stored):
            return bad(f"event {event.seq} is not what was recorded")
        if event.seq > head.seq:
            return bad(f"event {event.seq} stands after the recorded end of the chain")
        count, last = event.seq, stored
    if count < head.seq:
        return bad(f"the last {head.seq - count} of {head.seq} events are missing")
    if last != head.hash:
        return bad("the recorded end of the chain does not belong to these events")
    return Verification(ok=True, count=count, head=last)


def _fits(previous: bytes, event: Event, stored: bytes) -> bool:
    try:
        return chain_hash(previous, event) == stored
    except (AttributeError, TypeError, ValueError, OverflowError):  # of types that no redlatch wrote
        return False


#: Outcomes of `check_head`, the good one first.
CONTAINED: Final = "contained"
BROKEN: Final = "broken"
REWRITTEN: Final = "rewritten"
SHORTER: Final = "shorter"
OTHER_SITE: Final = "other-site"

_HEAD = "redlatch-head/1"
_STATEMENT = b"redlatch audit head 1\0"
_LONGEST_HEAD = 4096
_TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class Noted:
    """The end of a site's chain as it was noted elsewhere: the last event's number, time and hash (32 bytes).

    `signature` is the device CA's over `statement` (empty: nobody signed it).
    """

    site: str
    seq: int
    at: datetime
    hash: bytes
    signature: bytes = b""

    @property
    def statement(self) -> bytes:
        """What is signed. Its first bytes are no DER, so that no signature of a certificate can stand for one."""
        said = [self.site, self.seq, int(self.at.timestamp()), self.hash.hex()]
        return _STATEMENT + canonical_json(said).encode()

    @property
    def text(self) -> str:
        """One line to print, to send or to copy by hand: site, number, time, hash in groups, signature."""
        digits = self.hash.hex()
        groups = "-".join(digits[place : place + 8] for place in range(0, len(digits), 8))
        line = f"{_HEAD} {self.site} {self.seq} {self.at.astimezone(UTC):{_TIME}} {groups}"
        return f"{line} signed:{self.signature.hex()}" if self.signature else line


def parse_head(text: str) -> Noted:
    """Reads `Noted.text` again, out of whatever stands around it: a line of a mail, a JSON document, a note by
    hand with other spacing. InvalidInput for what holds no head, or more than one.
    """
    if len(text) > _LONGEST_HEAD:
        raise InvalidInput("this is no head of an audit trail: it is too long")
    found = _HEADS.findall(text)
    if len(found) != 1:
        raise InvalidInput(
            "this holds no head of an audit trail" if not found else "this holds more than one head",
            hint=f"it is the line that redlatch audit --head prints: {_HEAD} ...",
        )
    site, seq, at, groups, signature = found[0]
    try:
        time = datetime.strptime(at.upper(), _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise InvalidInput(f"{at} is no time", hint="compare the head with the note, digit by digit") from None
    if time.year < 1970:  # strftime writes 999 where four digits were read
        raise InvalidInput(f"{at} is no time", hint="compare the head with the note, digit by digit")
    digest = bytes.fromhex(re.sub(r"[\s-]", "", groups))
    if len(digest) != 32 or len(signature) % 2:
        raise InvalidInput(
            "the head is not whole: its hash has 8 groups of 8 digits",
            hint="compare the head with the note, digit by digit",
        )
    return Noted(site.lower(), int(seq), time, digest, bytes.fromhex(signature))


_HEADS: Final = re.compile(
    re.escape(_HEAD)
    + r"\s+([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\s+([0-9]{1,15})\s+([0-9T:-]{19}Z)"
    + r"\s+([0-9a-f]{8}(?:[\s-]+[0-9a-f]{8}){0,15})(?:\s+signed:([0-9a-f]*))?(?![0-9a-f-])",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class HeadCheck:
    """What `check_head` found: one of its outcomes, what `verify` says of the chain itself, and the number of the
    last `site.restored` up to the noted event (None: there is none), which may explain what differs.
    """

    outcome: str
    chain: Verification
    restored: int | None = None


def check_head(entries: Iterable[Entry], *, site: str, head: Head, noted: Noted) -> HeadCheck:
    """Whether the chain `entries` of `site`, which ends in `head`, still holds the noted event, and is whole
    before and after it.

    CONTAINED: nothing up to there was changed, for each hash covers all before it. REWRITTEN: another event
    stands in its place. SHORTER: the chain ends before it. BROKEN: the chain is not whole in itself. OTHER_SITE.
    """
    start = genesis(site)
    held = start if noted.seq == 0 else None
    restored: int | None = None
    later: datetime | None = None

    def watched() -> Iterator[Entry]:
        nonlocal held, restored, later
        for entry in entries:
            if entry.event.seq == noted.seq:
                held, later = entry.hash, entry.event.at
            # one that was there when the head was noted explains nothing
            if entry.event.kind == "site.restored" and entry.event.seq <= noted.seq and entry.event.at >= noted.at:
                restored = entry.event.seq
            yield entry

    chain = verify(watched(), start=start, head=head)
    if noted.site != site:
        return HeadCheck(OTHER_SITE, chain)
    if not chain.ok:
        return HeadCheck(BROKEN, chain, restored)
    if chain.count < noted.seq:
        return HeadCheck(SHORTER, chain, restored)
    same = held == noted.hash and later in (None, noted.at)
    return HeadCheck(CONTAINED if same else REWRITTEN, chain, restored)
