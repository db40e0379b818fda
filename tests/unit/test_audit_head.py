"""Heads noted elsewhere: written in a line, read again, and compared with a chain that somebody changed."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.test_audit import SITE, WHOLE, chain, head

from redlatch import audit
from redlatch.audit import BROKEN, CONTAINED, OTHER_SITE, REWRITTEN, SHORTER, Entry, Noted, check_head, genesis
from redlatch.errors import InvalidInput
from redlatch.pki.authority import Authority
from redlatch.pki.keys import generate_key
from redlatch.pki.statements import is_signed, sign

OTHER = "00000000-5a44-4f0c-9a52-7f3f3f0a1c11"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def noted(seq: int, entries: list[Entry] = WHOLE) -> Noted:
    if seq == 0:
        return Noted(SITE, 0, NOW, genesis(SITE))
    return Noted(SITE, seq, entries[seq - 1].event.at, entries[seq - 1].hash)


def outcome(entries: list[Entry], note: Noted, site: str = SITE) -> str:
    return check_head(entries, site=site, head=head(entries), noted=note).outcome


def rewritten(first: int, length: int = 5, **changed: object) -> list[Entry]:
    """A chain in which event `first` is another one, with all hashes made to fit."""
    entries: list[Entry] = []
    last = genesis(SITE)
    for entry in chain(length):
        event = replace(entry.event, **changed) if entry.event.seq == first else entry.event  # type: ignore[arg-type]
        last = audit.chain_hash(last, event)
        entries.append(Entry(event, last))
    return entries


@pytest.mark.parametrize("seq", range(6))
def test_a_chain_that_only_grew_contains_every_head_it_had(seq: int) -> None:
    assert outcome(WHOLE, noted(seq)) == CONTAINED
    assert outcome(chain(9), noted(seq)) == CONTAINED


@pytest.mark.parametrize("first", range(1, 6))
def test_a_chain_rewritten_with_all_its_hashes_is_found_from_there_on(first: int) -> None:
    """It verifies in itself; heads noted before the changed event still fit, those from it on do not."""
    forged = rewritten(first, actor="mallory")
    assert audit.verify(forged, start=genesis(SITE), head=head(forged)).ok
    assert [outcome(forged, noted(seq)) for seq in range(1, 6)] == [
        CONTAINED if seq < first else REWRITTEN for seq in range(1, 6)
    ]


def test_a_chain_that_was_cut_off_is_shorter() -> None:
    """The last events are gone, and the recorded end was moved to fit."""
    assert [outcome(WHOLE[:3], noted(seq)) for seq in (3, 4, 5)] == [CONTAINED, SHORTER, SHORTER]


def test_a_chain_that_is_broken_is_not_called_whole() -> None:
    """Before the head or after it: `check_head` proves both."""
    for place in (1, 4):
        entries = list(WHOLE)
        entries[place] = Entry(replace(entries[place].event, actor="mallory"), entries[place].hash)
        assert outcome(entries, noted(3)) == BROKEN


def test_a_head_of_another_site_is_named_as_such() -> None:
    assert outcome(WHOLE, replace(noted(3), site=OTHER)) == OTHER_SITE
    assert outcome(chain(5, OTHER), noted(3), OTHER) == OTHER_SITE


def test_a_time_that_is_not_the_events_is_no_head_of_it() -> None:
    """A line in which somebody changed the time, and nothing else."""
    assert outcome(WHOLE, replace(noted(3), at=NOW + timedelta(days=1))) == REWRITTEN


def test_a_restored_site_is_the_explanation_only() -> None:
    """Its number is told, and the outcome stays what it is; one that the head itself had seen explains nothing."""
    later = WHOLE[4].event.at + timedelta(minutes=1)
    forged = rewritten(3, kind="site.restored", at=later)
    found = check_head(forged, site=SITE, head=head(forged), noted=noted(5))
    assert (found.outcome, found.restored) == (REWRITTEN, 3)
    assert check_head(forged, site=SITE, head=head(forged), noted=noted(2)).restored is None
    before = rewritten(3, kind="site.restored", at=WHOLE[4].event.at - timedelta(minutes=1))
    assert check_head(before, site=SITE, head=head(before), noted=noted(5)).restored is None


@given(
    seq=st.integers(0, 10**15 - 1),
    at=st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),
    digest=st.binary(min_size=32, max_size=32),
    signature=st.binary(max_size=80),
)
def test_a_head_is_read_as_it_was_written(seq: int, at: datetime, digest: bytes, signature: bytes) -> None:
    """One line of printable ASCII; read again also out of JSON, out of a mail, broken over lines, in capitals."""
    note = Noted(SITE, seq, at.replace(tzinfo=UTC, microsecond=0), digest, signature)
    line = note.text
    assert line.isascii()
    assert line.isprintable()
    for written in (
        line,
        f"Dear me,\n> {line}\n-- \nThe Pi",
        json.dumps({"event": "audit-head", "head": {"text": line, "hash": digest.hex()}}),
        re.sub(r"(?<=[0-9a-f]{8})-(?=[0-9a-f]{8}(-|\s|$))", " - ", line),
    ):
        assert audit.parse_head(written) == note
    assert audit.parse_head(line.upper().replace("SIGNED:", "signed:")) == note


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "redlatch-head/1",
        noted(3).text[:-1],
        noted(3).text[:-9],
        noted(3).text + "-00000000",
        noted(3).text.replace("2026-", "2026-13", 1),
        noted(3).text.replace("2026-", "0999-", 1),  # found by fuzzing: it was not written as it was read
        noted(3).text + "\n" + noted(4).text,
        noted(3).text + " " * 5000,
        noted(3).text.replace("redlatch-head/1", "redlatch-head/2"),
        replace(noted(3), signature=b"ab").text[:-1],
    ],
)
def test_what_is_no_whole_head_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidInput):
        audit.parse_head(wrong)


@pytest.mark.parametrize("kind", ["p256", "rsa2048"])
def test_a_signature_is_good_for_one_statement_and_one_key(kind: str) -> None:
    """Another number, site, time or hash, another CA, a garbled signature: none of it passes."""
    key = generate_key(kind)  # type: ignore[arg-type]
    ca = Authority.create_device("attic", now=NOW, key=key)
    note = noted(3)
    made = sign(key, note.statement)
    assert is_signed(ca.certificate, note.statement, made)
    for other in (
        replace(note, seq=4),
        replace(note, site=OTHER),
        replace(note, at=NOW),
        replace(note, hash=bytes(32)),
    ):
        assert not is_signed(ca.certificate, other.statement, made)
    assert not is_signed(Authority.create_device("attic", now=NOW).certificate, note.statement, made)
    assert not is_signed(ca.certificate, note.statement, made[:-1])
    assert not is_signed(ca.certificate, note.statement, b"")


def test_a_statement_is_no_certificate() -> None:
    """What begins as DER does is not signed: a head must not become a certificate, nor the other way round."""
    key = generate_key("p256")
    certificate = Authority.create_device("attic", now=NOW, key=key).certificate
    assert certificate.tbs_certificate_bytes[0] == 0x30
    assert noted(3).statement[0] != 0x30
    with pytest.raises(InvalidInput):
        sign(key, certificate.tbs_certificate_bytes)
