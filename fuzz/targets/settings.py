"""settings.js: what adoption adds is found again, is one program with what was there, and goes without a trace.

Input: the file.
"""

from __future__ import annotations

import base64
from pathlib import Path

from fuzz.harness import javascript
from redlatch.engines.nodered.adopt import Entry, add_block, block_entry, block_path, has_block, remove_block

_PUBLISHED = Path('/srv/red "latch"\n\u2028/published')
_ENTRIES: tuple[Entry, ...] = ("guard.js", "behind.js")


def TestOneInput(data: bytes) -> None:
    own = remove_block(data)
    for entry in _ENTRIES:
        added = add_block(data, _PUBLISHED, entry=entry)
        assert (block_path(added), block_entry(added)) == (_PUBLISHED, entry)
        assert add_block(added, _PUBLISHED, entry=entry) == added, "adding twice is adding once"
        released = remove_block(added)
        assert released == own, "release gives the bytes back"
        assert not has_block(released)
        assert remove_block(released) == released
        if b"redlatch" not in data:
            assert released == data, "byte for byte"
    if data.isascii():
        texts = [base64.b64encode(one).decode() for one in (own, add_block(own, _PUBLISHED))]
        before, after = javascript("programs", texts=texts)["ok"]
        # A last word that declares (`let`) takes the next line for its name; adoption proves the file before it
        # counts, and refuses this one
        assert after or not before or own.rstrip().endswith((b"let", b"var", b"const")), "no program any more"
