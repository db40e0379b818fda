"""The devices of the published snapshot, held so that a change costs what changed, with ten of them or a million.

The same tree as the files' (policy/snapshot.py): a node remembers the digest of the file that it was read from,
and where the new tree has the same digest, what is held is kept. The old files need not be there any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from redlatch.errors import InvalidInput
from redlatch.policy.model import Entry
from redlatch.policy.snapshot import node as parsed

Read = Callable[[str], bytes | None]
Changed = dict[str, Entry | None]


@dataclass(frozen=True, slots=True)
class Leaf:
    """A file of the tree that holds devices."""

    digest: str
    entries: Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Branch:
    """A file of the tree that names 16 others, by the next digit of the fingerprints below them."""

    digest: str
    children: tuple[Leaf | Branch | None, ...]


Node = Leaf | Branch


class Tree(Mapping[str, Entry]):
    """Fingerprint -> entry; never changes. `follow` makes the next one of it."""

    __slots__ = ("_count", "root")

    def __init__(self, root: Node | None = None, count: int = 0) -> None:
        """`count`: how many entries are below `root`."""
        self.root = root
        self._count = count

    def __getitem__(self, key: str) -> Entry:
        node = self.root
        depth = 0
        while isinstance(node, Branch):
            if depth >= len(key) or key[depth] not in "0123456789abcdef":
                raise KeyError(key)
            node = node.children[int(key[depth], 16)]
            depth += 1
        if node is None:
            raise KeyError(key)
        return node.entries[key]

    def __iter__(self) -> Iterator[str]:
        for leaf in _leaves(self.root):
            yield from leaf.entries

    def __len__(self) -> int:
        return self._count

    @property
    def digest(self) -> str | None:
        """The digest of its root; None without devices."""
        return self.root.digest if self.root is not None else None


def follow(old: Tree, new_root: str | None, read: Read) -> tuple[Tree, Changed]:
    """The tree of that root, and what is another in it than in `old`: fingerprint -> entry, None where it went.

    `read` gives a file of the new tree by its digest. Cost: the files that differ. InvalidInput when one is
    missing or garbled.
    """
    changed: Changed = {}
    root = _followed(old.root, new_root, read, "", changed)
    came = sum(1 for key, entry in changed.items() if entry is not None and key not in old)
    went = sum(1 for entry in changed.values() if entry is None)
    return Tree(root, len(old) + came - went), changed


def _followed(old: Node | None, digest: str | None, read: Read, prefix: str, changed: Changed) -> Node | None:
    if digest == (old.digest if old is not None else None):
        return old
    node = _node(digest, read, prefix) if digest is not None else None
    if isinstance(node, list):
        if isinstance(old, Branch):
            before: tuple[Node | None, ...] = old.children
        else:  # its entries are looked for one digit further down, where they came to stand
            before = _split(old, len(prefix))
        children = tuple(
            _followed(one, child, read, prefix + f"{number:x}", changed)
            for number, (one, child) in enumerate(zip(before, node, strict=True))
        )
        return Branch(str(digest), children)
    new = node.entries if node is not None else {}
    held = {key: entry for leaf in _leaves(old) for key, entry in leaf.entries.items()}
    for key in held.keys() | new.keys():
        if held.get(key) != new.get(key):
            changed[key] = new.get(key)
    return node


def _split(old: Leaf | None, depth: int) -> tuple[Node | None, ...]:
    """A leaf's entries by their digit at `depth`; the digest "" is that of no file."""
    parts: list[dict[str, Entry]] = [{} for _ in range(16)]
    for key, entry in (old.entries if old is not None else {}).items():
        parts[int(key[depth], 16)][key] = entry
    return tuple(Leaf("", part) if part else None for part in parts)


def _leaves(node: Node | None) -> Iterator[Leaf]:
    if isinstance(node, Leaf):
        yield node
    elif node is not None:
        for child in node.children:
            yield from _leaves(child)


def _node(digest: str, read: Read, prefix: str) -> Leaf | list[str | None]:
    data = read(digest)
    if data is None or hashlib.sha256(data).hexdigest() != digest:
        raise InvalidInput("a part of the snapshot is missing or garbled")
    found = parsed(data, prefix)
    return Leaf(digest, found) if isinstance(found, dict) else found
