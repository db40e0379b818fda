"""The snapshot's file form."""

from __future__ import annotations

import dataclasses

import pytest

from redlatch.errors import InvalidInput
from redlatch.policy.model import Entry, Snapshot
from redlatch.policy.snapshot import decode, digest, encode

SNAPSHOT = Snapshot(
    site="11111111-2222-4333-8444-555555555555", version=3, time=1_700_000_000, mode="strict", port=1880,
    keep_auth=False, names=("pi.local", "xn--mhle-0ra.lan"), admin_root="/", dashboards=("/dashboard",),
    spool="/var/lib/redlatch/spool",
    devices={"a" * 64: Entry(id="d1", role="owner", user="ann", not_before=1, not_after=2)},
)  # fmt: skip


def test_round_trip() -> None:
    """What is encoded is decoded, and the digest is the one on its second line."""
    data = encode(SNAPSHOT)
    assert decode(data) == SNAPSHOT
    assert data.splitlines()[1].decode() == digest(data)


@pytest.mark.parametrize("cut", [0, 1, 50, -1, -2, -66])
def test_truncated_is_refused(cut: int) -> None:
    """A file that ends early is never believed."""
    with pytest.raises(InvalidInput):
        decode(encode(SNAPSHOT)[:cut])


def test_changed_byte_is_refused() -> None:
    """One flipped byte anywhere is found."""
    data = encode(SNAPSHOT)
    for position in range(len(data)):
        garbled = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(InvalidInput):
            decode(garbled)


def test_unknown_format_is_refused() -> None:
    """A well-formed file of another format or with other fields is refused, not guessed at."""
    import hashlib

    for line in (b'{"format":2}', b'{"format":1}', b"[]", b'{"format":1,"devices":3}', b"null"):
        with pytest.raises(InvalidInput):
            decode(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")


def test_devices_make_no_other_difference() -> None:
    """Two snapshots with different devices have different digests."""
    other = dataclasses.replace(SNAPSHOT, devices={})
    assert digest(encode(other)) != digest(encode(SNAPSHOT))
