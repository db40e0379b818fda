"""The audit chain: pure, so every way to tamper with a list of events is tried on the list itself."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch import audit
from redlatch.audit import KINDS, Entry, Event, Head, canonical_json, chain_hash, genesis, verify

SITE = "6f6b2c1e-5a44-4f0c-9a52-7f3f3f0a1c11"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def chain(length: int = 5, site: str = SITE) -> list[Entry]:
    entries, last = [], genesis(site)
    for seq in range(1, length + 1):
        data = {"device": f"id {seq}", "name": "Bart's phone"}
        event = Event(seq, NOW + timedelta(seconds=seq), "bart", "device.added", data)
        last = chain_hash(last, event)
        entries.append(Entry(event, last))
    return entries


def head(entries: list[Entry]) -> Head:
    return Head(entries[-1].event.seq, entries[-1].hash) if entries else Head(0, genesis(SITE))


WHOLE = chain()


@pytest.mark.parametrize("length", [0, 1, 5])
def test_a_whole_chain_verifies_and_tells_its_head(length: int) -> None:
    """Nothing changed: verified, counted, and the head is the last hash (the genesis where nothing happened)."""
    entries = chain(length)
    found = verify(entries, start=genesis(SITE), head=head(entries))
    assert (found.ok, found.count, found.first_bad, found.problem) == (True, length, None, "")
    assert found.head == head(entries).hash


@pytest.mark.parametrize(
    "changed",
    [
        {"actor": "mallory"},
        {"kind": "device.revoked"},
        {"at": NOW},
        {"data": {"device": "id 3", "name": "Mallory's phone"}},
        {"data": {}},
    ],
)
def test_a_changed_event_is_named(changed: dict[str, object]) -> None:
    """Any field of an event changed after the fact: that event is the first bad one, those before count."""
    entries = list(WHOLE)
    entries[2] = Entry(replace(entries[2].event, **changed), entries[2].hash)
    found = verify(entries, start=genesis(SITE), head=head(WHOLE))
    assert (found.ok, found.first_bad, found.count) == (False, 3, 2)
    assert found.head == WHOLE[1].hash


def test_a_changed_event_with_a_hash_made_to_fit_breaks_the_next_one() -> None:
    """Who knows the recipe can forge one hash; then the next event no longer continues it."""
    forged = replace(WHOLE[2].event, actor="mallory")
    entries = [*WHOLE[:2], Entry(forged, chain_hash(WHOLE[1].hash, forged)), *WHOLE[3:]]
    assert verify(entries, start=genesis(SITE), head=head(WHOLE)).first_bad == 4


def test_a_chain_forged_to_its_end_does_not_reach_the_recorded_head() -> None:
    """The last event forged with a fitting hash: the recorded end of the chain still tells."""
    forged = replace(WHOLE[-1].event, actor="mallory")
    entries = [*WHOLE[:-1], Entry(forged, chain_hash(WHOLE[-2].hash, forged))]
    found = verify(entries, start=genesis(SITE), head=head(WHOLE))
    assert not found.ok
    assert "end of the chain" in found.problem


@pytest.mark.parametrize("gone", [0, 2])
def test_a_removed_event_is_missed(gone: int) -> None:
    """An event taken out from the start or the middle is named by its number."""
    entries = WHOLE[:gone] + WHOLE[gone + 1 :]
    found = verify(entries, start=genesis(SITE), head=head(WHOLE))
    assert (found.ok, found.first_bad) == (False, gone + 1)
    assert f"event {gone + 1} is missing" in found.problem


def test_a_removed_event_with_the_rest_renumbered_is_missed() -> None:
    """Closing the gap by renumbering does not help: the number is part of what is hashed."""
    entries = WHOLE[:2] + [Entry(replace(e.event, seq=e.event.seq - 1), e.hash) for e in WHOLE[3:]]
    assert verify(entries, start=genesis(SITE), head=Head(4, WHOLE[-1].hash)).first_bad == 3


def test_reordered_events_are_noticed() -> None:
    """Two events that change places, with their numbers or without."""
    swapped = [WHOLE[0], WHOLE[2], WHOLE[1], *WHOLE[3:]]
    assert verify(swapped, start=genesis(SITE), head=head(WHOLE)).first_bad == 2
    renumbered = [Entry(replace(e.event, seq=i), e.hash) for i, e in enumerate(swapped, 1)]
    assert verify(renumbered, start=genesis(SITE), head=head(WHOLE)).first_bad == 2


def test_an_inserted_event_is_noticed() -> None:
    """An event slipped in, even with a hash that continues the one before it."""
    extra = replace(WHOLE[2].event, actor="mallory")
    inserted = Entry(extra, chain_hash(WHOLE[1].hash, extra))
    moved = [Entry(replace(e.event, seq=e.event.seq + 1), e.hash) for e in WHOLE[2:]]
    found = verify([*WHOLE[:2], inserted, *moved], start=genesis(SITE), head=Head(6, WHOLE[-1].hash))
    assert (found.ok, found.first_bad) == (False, 4)


def test_an_appended_event_stands_after_the_recorded_end() -> None:
    """A well-formed event appended without the recorded head: somebody wrote past redlatch."""
    extra = replace(WHOLE[-1].event, seq=6)
    found = verify(
        [*WHOLE, Entry(extra, chain_hash(WHOLE[-1].hash, extra))], start=genesis(SITE), head=head(WHOLE)
    )
    assert (found.ok, found.first_bad, found.count) == (False, 6, 5)


@pytest.mark.parametrize("kept", [0, 4])
def test_a_truncated_tail_is_missed(kept: int) -> None:
    """Events cut off at the end, or all of them: the recorded head knows how many there were."""
    found = verify(WHOLE[:kept], start=genesis(SITE), head=head(WHOLE))
    assert (found.ok, found.first_bad, found.count) == (False, kept + 1, kept)
    assert "missing" in found.problem


def test_another_sites_chain_is_not_this_ones() -> None:
    """A whole chain of another site fails at its first event."""
    other = chain(site="00000000-0000-0000-0000-000000000000")
    assert verify(other, start=genesis(SITE), head=head(other)).first_bad == 1


def test_events_of_the_wrong_types_are_findings() -> None:
    """What somebody else wrote into the store is a bad event, never an exception."""
    odd = Entry(Event(1, NOW, "bart", "device.added", {"x": object()}), b"")
    with pytest.raises(TypeError):
        chain_hash(genesis(SITE), odd.event)
    assert verify([odd], start=genesis(SITE), head=Head(1, b"")).first_bad == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(data=st.dictionaries(st.text(), json_values, max_size=4))
def test_the_hash_survives_the_store(data: dict[str, object]) -> None:
    """What was stored as text and read again hashes as before, whatever text is in it, and in any key order."""
    event = Event(1, NOW, "bart", "site.changed", data)
    again = replace(event, data=json.loads(canonical_json(dict(reversed(data.items())))))
    assert chain_hash(genesis(SITE), again) == chain_hash(genesis(SITE), event)


def test_the_hash_is_pinned() -> None:
    """The chain's format: changing it would call every existing record forged."""
    assert (
        chain_hash(genesis(SITE), WHOLE[0].event).hex()
        == "1218c6818a3985c14dfcb9add0302f5e3d6d1b283cbf7d2d7d3af8ff18e4f7d2"
    )


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {"x": [b"bytes"]}, datetime(2026, 1, 1, tzinfo=UTC), {"x", "y"}]
)
def test_what_json_cannot_say_is_refused(value: object) -> None:
    """Bytes, times, sets and numbers that are none: a mistake in the program, told at once."""
    with pytest.raises((TypeError, ValueError)):
        canonical_json(value)


def test_every_kind_that_is_recorded_is_known_and_every_known_kind_is_a_sentence() -> None:
    """KINDS is what documentation, command line and console read."""
    for kind, sentence in KINDS.items():
        subject, _, verb = kind.partition(".")
        assert subject
        assert verb
        assert kind == kind.lower()
        assert sentence[0].islower()
        assert not sentence.endswith(".")
    source = Path(audit.__file__).parent
    recorded = {
        call.args[0].value
        for file in source.rglob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "record"
        and call.args
        and isinstance(call.args[0], ast.Constant)
    }
    assert recorded <= set(KINDS)
