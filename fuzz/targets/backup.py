"""Backups and noted heads of the audit chain: only what redlatch writes is taken, and written as the same again.

Input: `head` and a text that a head is looked for in; or blocks with a line `--` between them, name and content of
each member of the archive (`manifest.json` with `@1@` for the SHA-256, `#1#` for the size of member 1); or a tar.
"""

from __future__ import annotations

import hashlib
import io
import tarfile

from fuzz.harness import Refused, attempt
from redlatch.audit import parse_head
from redlatch.operations.archive import KEYS, pack, unpack


def archive(data: bytes) -> bytes:
    """The tar that the blocks say."""
    members = [block.partition(b"\n")[::2] for block in data.split(b"\n--\n")[:8]]
    made = io.BytesIO()
    (first, manifest), *rest = members
    for at, (_, content) in enumerate(members):
        manifest = manifest.replace(b"@%d@" % at, hashlib.sha256(content).hexdigest().encode())
        manifest = manifest.replace(b"#%d#" % at, b"%d" % len(content))
    for name, content in ((first, manifest), *rest):
        header = tarfile.TarInfo(name.decode("ascii", "ignore")[:90].replace("\0", "_"))
        header.size = len(content)
        made.write(header.tobuf(tarfile.USTAR_FORMAT, "ascii"))
        made.write(content + bytes(-len(content) % 512))
    return made.getvalue() + bytes(1024)


def TestOneInput(data: bytes) -> None:
    if data.startswith(b"head"):
        noted = attempt(parse_head, data[4:].decode("utf-8", "replace"))
        assert isinstance(noted, Refused) or parse_head(noted.text) == noted, "a head is read as the same"
        return
    for one in (data, archive(data)):
        found = attempt(unpack, one)
        if isinstance(found, Refused):
            continue
        assert unpack(pack(found)) == found, "a backup is read as the same"
        for name in found.keys:
            assert name.isascii(), name
            assert "/" not in name, name
            assert name not in (".", ".."), KEYS + name
        for text in (found.manifest.machine, found.manifest.redlatch, found.manifest.schema, found.manifest.site):
            assert text.isascii(), text
            assert text.isprintable(), text
