"""The devices of a snapshot in memory: what changed is found, whatever the shapes, and nothing else is read."""

from __future__ import annotations

import json
import random
import time
from bisect import bisect_left
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.engines.haproxy.tree import Tree, follow
from redlatch.errors import InvalidInput
from redlatch.policy.model import Entry
from redlatch.policy.snapshot import Files, grow


class Whole:
    def __init__(self, devices: dict[str, Entry]) -> None:
        self.devices = devices
        self.keys = sorted(devices)

    def entries(self, prefix: str, limit: int) -> dict[str, Entry]:
        begin = bisect_left(self.keys, prefix)
        inside = self.keys[begin : min(begin + limit, bisect_left(self.keys, prefix + "g"))]
        return {key: self.devices[key] for key in inside}


def entry(number: int, role: str = "admin") -> Entry:
    return Entry(f"id-{number}", role, f"user-{number}", 0, 2_000_000_000)


def fingerprint(number: int) -> str:
    return sha256(str(number).encode()).hexdigest()


def published(devices: dict[str, Entry]) -> tuple[str | None, Files]:
    files: Files = {}
    return grow(Whole(devices), files), files


many = st.dictionaries(st.integers(0, 400), st.sampled_from(["admin", "user"]), max_size=300)


@given(before=many, after=many)
def test_what_changed_is_what_differs(before: dict[int, str], after: dict[int, str]) -> None:
    one = {fingerprint(number): entry(number, role) for number, role in before.items()}
    other = {fingerprint(number): entry(number, role) for number, role in after.items()}
    root, files = published(one)
    first, came = follow(Tree(), root, files.get)
    assert dict(first) == one == came
    root, files = published(other)
    second, changed = follow(first, root, files.get)
    assert dict(second) == other
    assert len(second) == len(other)
    assert changed == {key: other.get(key) for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
    assert dict(first) == one  # the one before is as it was
    for key in one.keys() | other.keys():
        assert second.get(key) == other.get(key)


def test_one_change_reads_the_files_from_its_leaf_to_the_root() -> None:
    devices = {fingerprint(number): entry(number) for number in range(20_000)}
    root, files = published(devices)
    tree, _ = follow(Tree(), root, files.get)
    gone = fingerprint(77)
    root, files = published({key: one for key, one in devices.items() if key != gone})
    read = []

    def reading(key: str) -> bytes | None:
        read.append(key)
        return files.get(key)

    begin = time.perf_counter()
    after, changed = follow(tree, root, reading)
    assert time.perf_counter() - begin < 0.05
    assert changed == {gone: None}
    assert len(read) <= 5
    assert len(after) == 19_999
    assert gone not in after
    assert "no fingerprint" not in after


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _data: None,
        lambda data: data[:-3],
        lambda _data: b"[]",
        lambda _data: json.dumps({"branch": [None] * 15}).encode(),
        lambda _data: json.dumps({"leaf": {"x": ["a", "b", "c", 0, 1]}}).encode(),
        lambda _data: json.dumps({"leaf": {"0" * 64: ["a", "b", "c", 0, "1"]}}).encode(),
        lambda _data: json.dumps({"leaf": {"0" * 64: ["a", 5, "c", 0, 1]}}).encode(),
        lambda _data: json.dumps({"leaf": {"0" * 64: ["a", "b"]}}).encode(),
    ],
)
def test_a_file_that_is_missing_or_garbled_leaves_the_tree_as_it_was(spoil) -> None:
    devices = {fingerprint(number): entry(number) for number in range(10)}
    root, files = published(devices)
    tree, _ = follow(Tree(), root, files.get)
    data = spoil(next(iter(files.values())))
    key = sha256(data or b"").hexdigest()
    with pytest.raises(InvalidInput):
        follow(tree, key, {key: data}.get)
    with pytest.raises(InvalidInput):  # in the place of another
        follow(Tree(), root, {root: data}.get)
    assert dict(tree) == devices


def test_a_device_in_the_wrong_branch_is_refused() -> None:
    rng = random.Random(1)
    devices = {f"{rng.getrandbits(256):064x}": entry(number) for number in range(100)}
    root, files = published(devices)
    assert root is not None
    children = json.loads(files[root])["branch"]
    children[0], children[1] = children[1], children[0]
    data = json.dumps({"branch": children}).encode()
    with pytest.raises(InvalidInput):
        follow(Tree(), sha256(data).hexdigest(), {**files, sha256(data).hexdigest(): data}.get)
