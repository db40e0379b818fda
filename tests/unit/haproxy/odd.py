"""Snapshots with words in them that mean something to HAProxy, or that nobody can type."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st
from tests.support.requests import network

from redlatch.policy.model import AREAS, METHODS, Areas, Entry, Rule, Snapshot

# Of which words are made: what ends a line, a word, a string; comments, formats, variables, regular expressions
_PIECES: Final = (
    "\n", "\r\n", "\t", " ", "\0", "\x0b", "\u2028", '"', "'", "\\", "#", "%", "%[src]", "$HOME", "|", ",", "-",
    "*", "/",
    "//", "/a", "/ui", ":x", "{", "}", "(", "a", "owner", "localhost", "acl", " acl all always_true",
    "\nhttp-request allow",
    "http-request set-var(txn.reason) str(ok)\n", "\n/ 0", "\u00fc", "\U0001f511", "..", "%2f", "0", "ok",
    "ANY", "@/", "SECRET",
    "HEADERS", "SILENCE", "OTHER", "https://", "https://panel.example", ".", "]", "[",
)  # fmt: skip
words: Final = st.one_of(
    st.lists(st.sampled_from(_PIECES), min_size=1, max_size=4).map("".join),
    st.text(min_size=1, max_size=6),
    st.sampled_from(("x\n acl", "-", "*", "open", "#", "a b", "-|-", "0|-", "r:owner")),
)
paths: Final = st.one_of(
    words, words.map(lambda one: f"/{one}"), st.sampled_from(("/", "/a", "/a/", "/ui", "/in/:x"))
)


def _tuples(of: st.SearchStrategy[str], most: int = 3) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(of, max_size=most).map(tuple)


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any mode and any words; the first rule is the owner's."""
    names = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    devices = {
        f"{number:064x}": Entry(
            draw(words), draw(st.one_of(words, st.just("owner"))), draw(words), 0, 4_000_000_000
        )
        for number in range(draw(st.integers(0, 3)))
    }
    rules = [Rule(1, roles=("owner",), area="all")]
    for number in range(draw(st.integers(0, 4))):
        what: dict[str, Any] = (
            {"path": draw(paths)} if draw(st.booleans()) else {"area": draw(st.sampled_from([*AREAS]))}
        )
        rules.append(
            Rule(
                number + 2,
                roles=draw(_tuples(words)),
                devices=draw(_tuples(words)),
                anyone=draw(st.booleans()),
                networks=draw(_tuples(st.sampled_from(names))),
                methods=draw(_tuples(st.sampled_from(METHODS))),
                **what,
            )
        )
    return Snapshot(
        site="s", version=7, time=1_700_000_000, mode=draw(st.sampled_from(("strict", "explain",
        "auto"))), port=None,
        keep_auth=False, spool="/spool", devices=devices, rules=tuple(rules),
        names=draw(_tuples(st.one_of(words, st.just("localhost")))),
        admin_root=draw(st.one_of(st.none(), st.sampled_from(("/", "/admin", "/A/b")), paths)),
        areas=Areas(draw(_tuples(paths)), draw(_tuples(paths)), draw(_tuples(paths)), draw(_tuples(paths))),
        networks={name: network("127.1.0.0/16", "2001:db8::/32") for name in names},
        roles=draw(st.dictionaries(words, st.sampled_from(("user", "admin")), max_size=2)),
        origins=draw(_tuples(st.one_of(words, st.just("https://panel.example")))),
        open_port=draw(st.one_of(st.none(), st.just(8444))),
    )  # fmt: skip
