"""What is inside a backup."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from redlatch.audit import Head
from redlatch.operations.archive import Archive, BadBackup, Manifest, pack, unpack

LAST = datetime.fromtimestamp((1 << 33) - 1, UTC)
SAID = Manifest("0.1.0", "11111111-2222-4333-8444-555555555555", "4", LAST, "pi", Head(3, b"x" * 32))


def test_a_backup_is_of_a_time_that_a_tar_can_say() -> None:
    """Its header has eleven octal digits for it (found by fuzzing: a later one raised an error without words)."""
    archive = Archive(SAID, b"store", {"device.pem": b"key"})
    data = pack(archive)
    assert unpack(data) == archive
    with pytest.raises(BadBackup, match="2242"):
        pack(replace(archive, manifest=replace(SAID, at=LAST + timedelta(seconds=1))))
    number = str(int(LAST.timestamp())).encode()
    with pytest.raises(BadBackup):
        unpack(data.replace(number, b"9" * len(number)))
