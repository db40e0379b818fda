"""The block in settings.js, as pure functions on bytes: added last, found again, taken away byte for byte.

The block begins with a newline of its own. So a file that ends without one gets its last bytes back exactly, and
nothing has to be remembered between `up` and `down`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from redlatch.errors import InvalidInput

DOCUMENTATION = "https://github.com/redlatch/redlatch"
_START = b"// >>> redlatch"
_END = b"// <<< redlatch"
_WRAP = re.compile(rb'module\.exports = require\(("(?:[^"\\\r\n]|\\.)*/guard\.js")\)\.wrap\(module\.exports\);')
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


def block(published: Path, line_end: bytes = b"\n") -> bytes:
    """The three lines that load the guard, with the newline before them. Raises InvalidInput for an
    unusable path.
    """
    try:
        # JSON with ASCII only is a JavaScript string in every encoding: quotes, controls and U+2028 are escaped.
        guard = json.dumps(str(published / "guard.js"))
        str(published).encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the path {published!r} is not valid UTF-8", hint="name another place with --home"
        ) from error
    purpose = f"only devices with a key reach this Node-RED ({DOCUMENTATION})"
    lines = (
        "",
        f"// >>> redlatch: {purpose}; remove with: redlatch down",
        f"module.exports = require({guard}).wrap(module.exports);",
        "// <<< redlatch",
        "",
    )
    return line_end.join(line.encode("ascii") for line in lines)


def has_block(data: bytes) -> bool:
    """Whether the line that loads the guard is there, wherever it stands."""
    return block_path(data) is not None


def block_path(data: bytes) -> Path | None:
    """The published folder that the block names, or None without a block."""
    for match in _LINE.finditer(data):
        if match[1]:
            try:
                return Path(json.loads(match[1])).parent
            except ValueError:
                continue
    return None


def add_block(data: bytes, published: Path) -> bytes:
    """`data` with the block as its last lines. The same block already last: unchanged; elsewhere or
    other: moved.
    """
    if data.endswith(block(published, newline(data))) and data.count(_START) == 1:
        return data
    rest = remove_block(data)
    return rest + block(published, newline(rest))


def remove_block(data: bytes) -> bytes:
    """`data` without the block (or what an editor left of it); everything else stays as it is, byte for byte."""

    def joined(match: re.Match[bytes]) -> bytes:
        if match["before"] == b"\r\n" and match["end"] == b"\n":
            return b"\r"  # the file's last byte, which the block's own newline followed
        # What somebody wrote after the block must not end up on the line before it.
        glued = match["before"] and data[: match.start()][-1:] not in (b"", b"\n") and data[match.end() :]
        return match["end"] if glued else b""

    return _LINE.sub(b"", _BLOCK.sub(joined, data))
