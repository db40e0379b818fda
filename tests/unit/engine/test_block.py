"""The block in settings.js: added last, found again, taken away byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.engines.nodered.adopt import (
    Entry,
    add_block,
    block,
    block_entry,
    block_path,
    has_block,
    newline,
    remove_block,
)
from redlatch.errors import InvalidInput

ENTRIES: tuple[Entry, ...] = ("guard.js", "behind.js")
PUBLISHED = Path("/var/lib/redlatch/published")
PIECES = st.sampled_from(
    [
        b"",
        b"\n",
        b"\r\n",
        b"\r",
        b"module.exports = {};",
        b"// end",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"`",
        b"\\",
        b"/*",
        b" ",
    ]
)
FILES = (
    st.lists(PIECES | st.binary(max_size=20), max_size=12)
    .map(b"".join)
    .filter(lambda data: b"redlatch" not in data)
)


@given(FILES)
def test_removing_gives_back_every_byte(data: bytes) -> None:
    """Whatever the file ends with, adding and removing leaves no trace."""
    assert remove_block(add_block(data, PUBLISHED)) == data


@given(FILES)
def test_adding_twice_is_adding_once(data: bytes) -> None:
    """The same block is not added again, and it is found."""
    once = add_block(data, PUBLISHED)
    assert add_block(once, PUBLISHED) == once
    assert block_path(once) == PUBLISHED
    assert once.endswith(block(PUBLISHED, newline(data)))


@given(FILES, st.sampled_from(ENTRIES), st.sampled_from(ENTRIES))
def test_one_block_takes_the_place_of_the_other(data: bytes, first: Entry, then: Entry) -> None:
    """Guard and gateway have a block each, never both, and neither leaves a trace."""
    changed = add_block(add_block(data, PUBLISHED, entry=first), PUBLISHED, entry=then)
    assert changed == add_block(data, PUBLISHED, entry=then)
    assert (block_path(changed), block_entry(changed)) == (PUBLISHED, then)
    assert changed.count(b"// >>> redlatch") == 1
    assert remove_block(changed) == data


@given(FILES)
def test_file_without_block_is_untouched(data: bytes) -> None:
    """Nothing is found and nothing removed where nothing was added."""
    assert not has_block(data)
    assert remove_block(data) == data


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_block_has_the_files_newlines(end: bytes) -> None:
    """A file with Windows line ends gets a block with Windows line ends."""
    added = add_block(b"a;" + end + b"b;" + end, PUBLISHED)[len(b"a;b;") + 2 * len(end) :]
    assert added.count(b"\n") == 4
    assert added.count(b"\r\n") == (4 if end == b"\r\n" else 0)


@pytest.mark.parametrize("path", ["/a b/p", '/say "hi"/p', "/back\\slash/p", "/ünïcode \u2028/p", "/new\nline/p"])
def test_any_path_is_one_safe_line(path: str) -> None:
    """Quotes, newlines and foreign letters in the path stay inside of one JavaScript string, and come back."""
    added = add_block(b"", Path(path))
    assert added.isascii()
    assert added.count(b"\n") == 4
    assert block_path(added) == Path(path)
    assert remove_block(added) == b""


def test_path_that_is_no_text_is_refused() -> None:
    """A path with bytes that are not UTF-8 cannot be written into a JavaScript file."""
    with pytest.raises(InvalidInput, match="UTF-8"):
        block(Path("/x\udcff"))


def test_moved_or_other_block_is_renewed() -> None:
    """A block that is no longer last, or of another home, is replaced by one at the end."""
    once = add_block(b"a;\n", Path("/old/published"))
    again = add_block(once + b"b;\n", PUBLISHED)
    assert again == add_block(b"a;\nb;\n", PUBLISHED)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_what_an_editor_left_of_it_goes_too(gone: int) -> None:
    """With one of its three lines deleted, the other two are still taken away."""
    lines = add_block(b"a;\n", PUBLISHED).split(b"\n")
    del lines[2 + gone]
    assert remove_block(b"\n".join(lines)).strip() == b"a;"
    assert not has_block(remove_block(b"\n".join(lines)))


def test_code_after_the_block_is_not_glued_to_the_code_before() -> None:
    """Where the file had no newline at its end, one stays between what was before and what came after."""
    assert remove_block(add_block(b"a // note", PUBLISHED) + b"b;\n") == b"a // note\nb;\n"


def test_similar_lines_of_a_person_stay() -> None:
    """Only redlatch's own lines are its own."""
    mine = (
        b'module.exports = require("./guard.js").guard(module.exports);\n// > redlatch\nx = 1; // <<< redlatch\n'
    )
    assert remove_block(mine) == mine
