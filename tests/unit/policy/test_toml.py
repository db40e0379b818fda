"""Rules as TOML: what is written is read back, and what cannot be meant is named."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput
from redlatch.policy import toml
from redlatch.policy.model import Rule

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
TEXTS = st.lists(TEXT, max_size=3).map(tuple)
RULE = st.builds(
    Rule, st.just(0), roles=TEXTS, devices=TEXTS, any_device=st.booleans(), anyone=st.booleans(), networks=TEXTS,
    area=st.none() | TEXT, path=st.none() | TEXT, methods=TEXTS,
)  # fmt: skip
SOURCE = (
    TEXTS.map(lambda texts: toml.Source(entries=texts))
    | TEXT.map(lambda text: toml.Source(file=text))
    | TEXT.map(lambda text: toml.Source(stored=text))
)
WANTED = st.builds(
    toml.Wanted, open_port=st.none() | st.integers(1, 65535), origins=TEXTS, roles=st.dictionaries(TEXT, TEXT),
    networks=st.dictionaries(TEXT, SOURCE, max_size=3), rules=st.lists(RULE, max_size=3).map(tuple),
)  # fmt: skip


@given(WANTED)
def test_what_is_written_is_read_back(wanted: toml.Wanted) -> None:
    """Whatever is in names and paths: quotes, escapes, controls, other scripts; and it steers no terminal."""
    text = toml.write(wanted, heading="A heading.\nIn two lines.")
    assert toml.read(text.encode(), source="x") == wanted
    assert all(one == "\n" or one.isprintable() for one in text)


def test_a_lone_surrogate_is_replaced() -> None:
    """TOML has no way to say one."""
    assert tomllib.loads(f"a = {toml.text(chr(0xD800))}") == {"a": "\N{REPLACEMENT CHARACTER}"}


def test_nothing_is_an_empty_state() -> None:
    """An empty file asks for nothing at all; one with a byte order mark is read."""
    assert toml.read(b"", source="x") == toml.Wanted()
    assert toml.read(b"\xef\xbb\xbfopen_port = 1890\r\n", source="x") == toml.Wanted(open_port=1890)
    assert toml.write(toml.Wanted()) == "\n"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("rules = []", "x has the unknown key 'rules'", "did you mean 'rule'"),
        ("[[rule]]\nform = ['home']", "rule 1 in x has the unknown key 'form'", "did you mean 'from'"),
        ("[[rule]]\nzzz = 1", "unknown key 'zzz'", "known are: anyone"),
        ("[networks]\na = {fiel = 'x'}", "unknown key 'fiel'", "did you mean 'file'"),
        ("[[rule]]\narea = 3", "area of rule 1 in x is a number", "text, in quotes"),
        ("[[rule]]\nroles = 'admin'", "roles of rule 1 in x is text", "a list, as in roles"),
        ("[[rule]]\nroles = [1]", "roles of rule 1 in x is a number", "text"),
        ("[[rule]]\nanyone = 'yes'", "anyone of rule 1 in x is text", "true or false"),
        ("[rule]\narea = 'all'", "rule in x is a table", "[[rule]]"),
        ("rule = [1]", "rule in x is a list", "[[rule]]"),
        ("open_port = true", "open_port in x is true or false", "a number"),
        ("open_port = '1890'", "open_port in x is text", "a number"),
        ("origins = 1979-05-27", "origins of x is a date", "a list"),
        ("roles = ['a']", "roles in x is a list", "a table, as in [roles]"),
        ("[roles]\na = 1", "role 'a' in x is a number", "text"),
        ("[networks]\na = 1", "network 'a' in x is a number", "a list of addresses"),
        ("[networks]\na = {}", "network 'a' in x is a table", "file"),
        ("[networks]\na = {file = 'a', stored = 'b'}", "network 'a' in x is a table", "stored"),
        ("a = ", "x is no TOML", "nothing was changed"),
        ("a = 1\na = 2", "x is no TOML", "nothing was changed"),
        ("a = " + "[" * 5000, "x is no TOML", "nothing was changed"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, message: str, hint: str) -> None:
    """With its place, and what would be right."""
    with pytest.raises(InvalidInput) as caught:
        toml.read(text.encode(), source="x")
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_the_line_of_a_mistake_is_named() -> None:
    """As the standard library's reader says it."""
    with pytest.raises(InvalidInput, match="line 3, column 8"):
        toml.read(b"[[rule]]\n\narea = all\n", source="x")


def test_other_encodings_are_named() -> None:
    """The byte at which it is no UTF-8."""
    with pytest.raises(InvalidInput, match="byte 5"):
        toml.read(b"# a \xe9", source="x")
