"""The snapshot's files: policy, gateway and guard take the same ones, and refuse all others.

Input: blocks with a line `--` between them: the head's JSON, then parts. `@1@` in a block stands for the digest of
part 1, `@2@` for that of part 2 and so on (a part may name later ones); the head gets the digest that belongs to
it. A part that begins with `words ` is a table of addresses. What begins with `raw` is the head as it is.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
import tempfile
from functools import cache
from pathlib import Path

from fuzz.harness import Refused, attempt, javascript
from redlatch.engines.haproxy.published import Published
from redlatch.policy.snapshot import decode
from redlatch.settings import Settings

_FLOAT = re.compile(rb"[0-9][.eE]")


@cache
def _home() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="redlatch-fuzz-")


def files(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """The head and the parts by their digests."""
    if data.startswith(b"raw"):
        return data[3:], {}
    head, *parts = data.split(b"\n--\n")[:12]
    made: dict[str, bytes] = {}
    for number in reversed(range(len(parts))):
        part = parts[number]
        if part.startswith(b"words "):
            numbers = [int(one) & 0xFFFFFFFF for one in part[6:].split() if one.isdigit() and len(one) < 12]
            part = b"RLNET1\n\0" + struct.pack(f"<{len(numbers)}I", *numbers)
        digest = hashlib.sha256(part).hexdigest()
        made[digest] = part
        mark = b"@%d@" % (number + 1)
        parts[:number] = [one.replace(mark, digest.encode()) for one in parts[:number]]
        head = head.replace(mark, digest.encode())
    head = head.replace(b"\n", b" ").strip()
    return head + b"\n" + hashlib.sha256(head).hexdigest().encode() + b"\n", made


def TestOneInput(data: bytes) -> None:
    if data.count(b"[") + data.count(b"{") > 300:
        return  # Python's reader of JSON gives up on what is nested deep, JavaScript's goes on
    head, parts = files(data)
    snapshot = attempt(decode, head, parts.get)
    said = javascript(
        "snapshot", head=head, parts={name: base64.b64encode(part).decode() for name, part in parts.items()}
    )
    settings = Settings(Path(_home().name), system=False)
    folder = settings.published / "snapshot"
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        (folder / name).write_bytes(part)
    (settings.published / "snapshot.json").write_bytes(head)
    try:
        gateway = attempt(Published(settings).snapshot)
    finally:
        for name in parts:
            (folder / name).unlink()
    if isinstance(snapshot, Refused):
        # JavaScript has one kind of number: 3.0 and 3e0 are 3
        odd = any(_FLOAT.search(one) for one in (head, *parts.values()))
        assert "refused" in said or odd, "the guard takes what Python refuses"
        assert isinstance(gateway, Refused), "the gateway takes what Python refuses"
        return
    assert "ok" in said, ("the guard refuses what Python takes", said)
    assert not isinstance(gateway, Refused), "the gateway refuses what Python takes"
    assert dict(gateway[0].devices) == dict(snapshot.devices)
    assert (gateway[0].rules, gateway[0].networks) == (snapshot.rules, snapshot.networks)
    assert said["ok"] == {
        "version": snapshot.version,
        "devices": sorted(snapshot.devices),
        "rules": len(snapshot.rules),
        "names": list(snapshot.names),
    }, said
