"""The block in settings.js, as pure functions on bytes: added last, found again, taken away byte for byte.

The block begins with a newline of its own. So a file that ends without one gets its last bytes back exactly, and
nothing has to be remembered between `up` and `down`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final, Literal, cast

from redlatch.errors import InvalidInput

DOCUMENTATION = "https://github.com/redlatch/redlatch"
# Which program the block loads: the guard, or what has Node-RED stand behind redlatch's gateway.
Entry = Literal["guard.js", "behind.js"]
_SAID: Final[dict[Entry, tuple[str, str]]] = {
    "guard.js": ("only devices with a key reach this Node-RED", "redlatch down"),
    "behind.js": ("only redlatch's gateway reaches this Node-RED", "redlatch gateway down"),
}
_START = b"// >>> redlatch"
_END = b"// <<< redlatch"
_WRAP = re.compile(
    rb'module\.exports = require\(("(?:[^"\\\r\n]|\\.)*/(?:guard|behind)\.js")\)\.wrap\(module\.exports\);'
)
_BLOCK = re.compile(
    rb"(?P<before>\r\n|\n)?^%b[^\r\n]*(?P<end>\r\n|\n)%b(?:\r\n|\n)%b[^\r\n]*(?:\r\n|\n|\Z)"
    % (re.escape(_START), _WRAP.pattern, re.escape(_END)),
    re.MULTILINE,
)
_LINE = re.compile(
    rb"^(?:"
    + re.escape(_START)
    + rb"[^\r\n]*|"
    + _WRAP.pattern
    + rb"|"
    + re.escape(_END)
    + rb"[^\r\n]*)(?:\r\n|\n|\Z)",
    re.MULTILINE,
)


def newline(data: bytes) -> bytes:
    """The newline the file uses most; a line feed for one without any."""
    windows = data.count(b"\r\n")
    return b"\r\n" if windows > data.count(b"\n") - windows else b"\n"


def block(published: Path, line_end: bytes = b"\n", *, entry: Entry = "guard.js") -> bytes:
    """The three lines that load the guard, or what stands behind the gateway, with the newline before them. Raises
    InvalidInput for an unusable path.
    """
    try:
        # JSON with ASCII only is a JavaScript string in every encoding: quotes, controls and U+2028 are escaped.
        program = json.dumps(str(published / entry))
        str(published).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the path {published!r} is not valid UTF-8", hint="name another place with --home"
        ) from error
    purpose, down = _SAID[entry]
    lines = (
        "",
        f"// >>> redlatch: {purpose} ({DOCUMENTATION}); remove with: {down}",
        f"module.exports = require({program}).wrap(module.exports);",
        "// <<< redlatch",
        "",
    )
    return line_end.join(line.encode("ascii") for line in lines)


def has_block(data: bytes) -> bool:
    """Whether the line that loads the guard is there, wherever it stands."""
    return block_path(data) is not None


def block_path(data: bytes) -> Path | None:
    """The published folder that the block names, or None without a block."""
    program = _program(data)
    return program.parent if program is not None else None


def block_entry(data: bytes) -> Entry | None:
    """Which of the two programs the block loads, or None without a block."""
    program = _program(data)
    return cast(Entry, program.name) if program is not None else None


def _program(data: bytes) -> Path | None:
    for match in _LINE.finditer(data):
        if match[1]:
            try:
                return Path(json.loads(match[1]))
            except ValueError:
                continue
    return None


def add_block(data: bytes, published: Path, *, entry: Entry = "guard.js") -> bytes:
    """`data` with the block as its last lines. The same block already last: unchanged; elsewhere or
    other: moved.
    """
    if data.endswith(block(published, newline(data), entry=entry)) and data.count(_START) == 1:
        return data
    rest = remove_block(data)
    return rest + block(published, newline(rest), entry=entry)


def remove_block(data: bytes) -> bytes:
    """`data` without the block (or what an editor left of it); everything else stays as it is, byte for byte."""

    def joined(match: re.Match[bytes]) -> bytes:
        if match["before"] == b"\r\n" and match["end"] == b"\n":
            return b"\r"  # the file's last byte, which the block's own newline followed
        # What somebody wrote after the block must not end up on the line before it.
        glued = match["before"] and data[: match.start()][-1:] not in (b"", b"\n") and data[match.end() :]
        return match["end"] if glued else b""

    return _LINE.sub(b"", _BLOCK.sub(joined, data))
