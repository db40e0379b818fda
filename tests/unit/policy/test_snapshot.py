"""The snapshot's file form: one head, and a tree of devices of which a change touches one path."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redlatch.errors import InvalidInput
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import DEFAULT_RULES, Areas, Entry, Rule, Snapshot
from redlatch.policy.snapshot import (
    LEAF,
    Files,
    decode,
    decode_head,
    digest,
    encode,
    grow,
    node,
    reachable,
    replaced,
)


def fingerprint(number: int) -> str:
    return hashlib.sha256(number.to_bytes(4)).hexdigest()


def entry(number: int) -> Entry:
    return Entry(id=f"d{number}", role="owner", user="ann", not_before=number, not_after=number + 2)


def devices(count: int) -> dict[str, Entry]:
    return {fingerprint(number): entry(number) for number in range(count)}


SNAPSHOT = Snapshot(
    site="11111111-2222-4333-8444-555555555555", version=3, time=1_700_000_000, mode="auto", port=1880,
    open_port=1890, keep_auth=False, names=("pi.local", "xn--mhle-0ra.lan"), admin_root="/",
    areas=Areas(("/dashboard",), ("/hook/:id",), ("/pictures",), ("/ws",)), origins=("https://ha.lan:8123",),
    rules=(*DEFAULT_RULES, Rule(5, devices=("d1",), networks=("private",), path="/x", methods=("GET",))),
    roles={"family": "user"}, networks={"private": BUILTIN["private"]}, spool="/var/lib/redlatch/spool",
    devices=devices(200),
)  # fmt: skip


def forged(line: bytes) -> bytes:
    """A head that says this, with the digest that belongs to it."""
    return line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n"


def test_round_trip() -> None:
    """What is encoded is decoded, and the digest is the one on its second line."""
    data, files = encode(SNAPSHOT)
    assert decode(data, files.get) == SNAPSHOT
    assert data.splitlines()[1].decode() == digest(data)
    assert all(hashlib.sha256(content).hexdigest() == key for key, content in files.items())
    assert decode_head(data)["version"] == 3
    assert decode(*_read(replace(SNAPSHOT, devices={}, networks={}))).devices == {}


def _read(snapshot: Snapshot) -> tuple[bytes, object]:
    data, files = encode(snapshot)
    return data, files.get


@pytest.mark.parametrize("cut", [0, 1, 50, -1, -2, -66])
def test_truncated_is_refused(cut: int) -> None:
    """A head that ends early is never believed."""
    data, files = encode(SNAPSHOT)
    with pytest.raises(InvalidInput):
        decode(data[:cut], files.get)


def test_changed_byte_is_refused() -> None:
    """One flipped byte anywhere in the head is found."""
    data, files = encode(SNAPSHOT)
    for position in range(len(data)):
        garbled = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
        with pytest.raises(InvalidInput):
            decode(garbled, files.get)


def test_a_part_that_is_missing_torn_or_another_is_refused() -> None:
    """Each of the parts in turn, devices and networks alike: nothing is believed without all of them."""
    data, files = encode(SNAPSHOT)
    other = next(iter(encode(replace(SNAPSHOT, devices=devices(3)))[1].values()))
    for key, content in files.items():
        for wrong in (None, b"", content[:-1], content + b" ", content.replace(b"owner", b"admin"), other):
            if wrong != content:
                with pytest.raises(InvalidInput):
                    decode(data, {**files, key: wrong}.get)


@pytest.mark.parametrize(
    "node",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"leaf":3}',
        b'{"leaf":{"ab":[1]}}',
        b'{"branch":[3]}',
        b'{"branch":null}',
        b"\xff",
    ],
)
def test_a_part_of_another_form_is_refused(node: bytes) -> None:
    """Named by its right digest and yet nothing that redlatch writes."""
    key = hashlib.sha256(node).hexdigest()
    body = decode_head(encode(SNAPSHOT)[0]) | {"devices": key, "networks": {}}
    with pytest.raises(InvalidInput):
        decode(forged(json.dumps(body).encode()), {key: node}.get)
    with pytest.raises(InvalidInput):
        decode(forged(json.dumps(body | {"devices": None, "networks": {"x": key}}).encode()), {key: node}.get)


@pytest.mark.parametrize(
    "line", [b'{"format":2}', b'{"format":1}', b"[]", b'{"format":2,"devices":3}', b"null", b"{", b"[" * 100_000]
)
def test_an_unknown_format_is_refused(line: bytes) -> None:
    """A well-formed file of another format or with other fields is refused, not guessed at."""
    with pytest.raises(InvalidInput):
        decode(forged(line), {}.get)


@pytest.mark.parametrize("field", ["areas", "rules", "networks", "devices", "names", "origins", "spool"])
def test_a_field_that_is_missing_or_of_another_type_is_refused(field: str) -> None:
    """Each field is needed, and a number in its place is none."""
    data, files = encode(SNAPSHOT)
    body = decode_head(data)
    with pytest.raises(InvalidInput):
        decode(forged(json.dumps({key: value for key, value in body.items() if key != field}).encode()), files.get)
    if field != "spool":
        with pytest.raises(InvalidInput):
            decode(forged(json.dumps(body | {field: 3}).encode()), files.get)


WRONG: tuple[Any, ...] = (None, -1, 1.0, 1 << 53, True, "", "x", [1], ["x"], [{}], {}, {"a": 1}, {"a": "x"})
# What of these is right, whatever the snapshot says otherwise
RIGHT: dict[str, tuple[Any, ...]] = {
    "site": ("x",),
    "names": (["x"],),
    "origins": (["x"],),
    "keep_auth": (True,),
    "port": (None,),
    "open_port": (None,),
    "admin_root": (None,),
    "roles": ({}, {"a": "x"}),
    "networks": ({},),
    "devices": (None,),
}


@pytest.mark.parametrize("field", sorted(decode_head(encode(SNAPSHOT)[0]).keys() - {"format"}))
def test_a_field_of_another_kind_is_refused(field: str) -> None:
    """As the guard does: what one of the two takes, the other takes too (found by fuzzing)."""
    body = decode_head(encode(SNAPSHOT)[0])
    for wrong in WRONG:
        line = json.dumps(body | {field: wrong}).encode()
        if any(json.dumps(wrong) == json.dumps(right) for right in RIGHT.get(field, ())):
            decode_head(forged(line))
        else:
            with pytest.raises(InvalidInput):
                decode_head(forged(line))


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *[(name, 3) for name in ("roles", "devices", "any_device", "anyone", "networks", "area", "path")],
        ("methods", 3),
        ("id", "1"), ("id", True), ("area", "every"), ("area", "all"), ("path", None), ("path", "/"),
        ("path", "/x/../y"), ("methods", ["get"]), ("methods", [["GET"]]), ("devices", [1]),
    ],
)  # fmt: skip
def test_a_rule_of_another_kind_is_refused(field: str, wrong: object) -> None:
    """Rule 5 names the path /x and no area: each of its fields in turn is something else, then missing."""
    body = decode_head(encode(SNAPSHOT)[0])
    rule = body["rules"][-1]
    for other in (rule | {field: wrong}, {name: value for name, value in rule.items() if name != field}):
        with pytest.raises(InvalidInput):
            decode_head(forged(json.dumps(body | {"rules": [other]}).encode()))


def test_what_is_not_known_is_passed_over() -> None:
    """A later redlatch may say more without changing who gets in; the guard in force does the same."""
    data, files = encode(SNAPSHOT)
    body = decode_head(data)
    body["rules"] = [rule | {"note": "x"} for rule in body["rules"]]
    assert decode(forged(json.dumps(body | {"more": 1}).encode()), files.get) == SNAPSHOT


def test_what_javascript_does_not_read_is_refused() -> None:
    """Python's reader takes other encodings, a byte order mark and NaN."""
    line = encode(SNAPSHOT)[0].split(b"\n")[0]
    decode_head(forged(line))
    for odd in (
        b"\xef\xbb\xbf" + line,
        line.decode().encode("utf-16-le"),
        line[:-1] + b',"x":NaN}',
        line[:-1] + b',"x":"\xff"}',
    ):
        with pytest.raises(InvalidInput, match="form"):
            decode_head(forged(odd))


@pytest.mark.parametrize(
    "body",
    [
        {"branch": [None] * 15},
        {"branch": ["x"] * 16},
        {"leaf": {"AB" * 32: ["d", "owner", "ann", 1, 2]}},
        {"leaf": {"ab" * 32: ["d", "owner", "ann", 1]}},
        {"leaf": {"ab" * 32: ["d", "owner", "ann", 1, 2, 3]}},
        {"leaf": {"ab" * 32: ["d", "owner", 3, 1, 2]}},
        {"leaf": {"ab" * 32: ["d", "owner", "ann", True, 2]}},
        {"leaf": {"ab" * 32: "downe"}},
    ],
)
def test_a_node_of_another_form_is_refused(body: object) -> None:
    """Too few children, what is no digest, no fingerprint, no entry."""
    with pytest.raises(InvalidInput):
        node(json.dumps(body).encode(), "")


def test_a_device_stands_where_its_fingerprint_leads() -> None:
    """The tree is looked up by digits: elsewhere it would be found by some readers and not by others."""
    leaf = json.dumps({"leaf": {"ab" * 32: ["d", "owner", "ann", 1, 2]}}).encode()
    assert isinstance(node(leaf, "ab"), dict)
    with pytest.raises(InvalidInput):
        node(leaf, "ac")
    branch = json.dumps({"branch": [None] * 16}).encode()
    assert isinstance(node(branch, "a" * 63), list)
    with pytest.raises(InvalidInput):
        node(branch, "a" * 64)


def test_devices_make_no_other_difference() -> None:
    """Two snapshots with different devices have different digests."""
    assert digest(encode(replace(SNAPSHOT, devices={}))[0]) != digest(encode(SNAPSHOT)[0])


# The tree.


class Site:
    """Devices that change, with their tree as it lies on a disk."""

    def __init__(self, present: Mapping[str, Entry]) -> None:
        self.devices = dict(present)
        self.disk: Files = {}
        self.root = grow(self, self.disk)

    def entries(self, prefix: str, limit: int) -> Mapping[str, Entry]:
        return {key: self.devices[key] for key in sorted(self.devices) if key.startswith(prefix)}

    def change(self, changes: Mapping[str, Entry | None]) -> tuple[Files, set[str]]:
        """The new files, and the digests that went, which are then gone."""
        for key, value in changes.items():
            if value is None:
                self.devices.pop(key, None)
            else:
                self.devices[key] = value
        old, files = self.root, Files()
        self.root = grow(self, files, old=old, changed=list(changes), read=self.disk.get)
        self.disk |= files
        gone = replaced(old, self.root, self.disk.get)
        for key in gone:
            del self.disk[key]
        return files, gone

    def check(self) -> None:
        """The tree is the one that these devices make, and the disk holds it and nothing else."""
        files: Files = {}
        assert grow(self, files) == self.root
        assert files == self.disk
        assert reachable(self.root, self.disk.get) == set(self.disk)


@given(st.lists(st.dictionaries(st.integers(0, 120), st.none() | st.integers(1, 2), max_size=80), max_size=6))
def test_the_same_devices_make_the_same_tree_whatever_happened_before(steps: list[dict[int, int | None]]) -> None:
    """Added, changed and removed in any order: the tree and its files are those of the devices that are left."""
    site = Site(devices(60))
    for step in steps:
        site.change({fingerprint(key): value and entry(value) for key, value in step.items()})
        site.check()


@given(st.permutations(sorted(devices(70))), st.integers(0, 70))
def test_the_order_of_single_changes_makes_no_difference(order: Sequence[str], left: int) -> None:
    """One by one in, one by one out, across the size at which a leaf becomes a branch."""
    every = devices(70)
    site = Site({})
    for key in order:
        site.change({key: every[key]})
    assert site.root == Site(every).root
    for key in order[left:]:
        site.change({key: None})
    site.check()


def test_one_change_touches_one_path() -> None:
    """With 20,000 devices: the files from one leaf to the root, as many go as come, and the rest is not read."""
    site = Site({})
    site.devices = devices(20_000)
    keys = sorted(site.devices)
    site.entries = _fast(site, keys)  # type: ignore[method-assign]
    site.root = grow(site, site.disk)
    read: list[str] = []
    files: Files = {}
    changed = fingerprint(7)
    site.devices[changed] = replace(site.devices[changed], role="user")

    def noted(key: str) -> bytes | None:
        read.append(key)
        return site.disk.get(key) or files.get(key)

    root = grow(site, files, old=site.root, changed=[changed], read=noted)
    assert len(files) <= 5
    assert len(read) <= 5
    gone = replaced(site.root, root, noted)
    assert len(gone) == len(files)
    assert len(read) <= 25
    assert decode_tree(root, site.disk | files) == site.devices


def _fast(site: Site, keys: list[str]) -> object:
    from bisect import bisect_left

    def entries(prefix: str, limit: int) -> Mapping[str, Entry]:
        begin = bisect_left(keys, prefix)
        end = min(begin + limit, bisect_left(keys, prefix + "g"))
        return {key: site.devices[key] for key in keys[begin:end]}

    return entries


def decode_tree(root: str | None, files: Files) -> Mapping[str, Entry]:
    body = decode_head(encode(replace(SNAPSHOT, devices={}, networks={}))[0]) | {"devices": root}
    return decode(forged(json.dumps(body).encode()), files.get).devices


def test_a_leaf_splits_above_64_and_comes_together_again() -> None:
    """64 devices are one file, 65 a branch with leaves; one less, and it is the very file of before."""
    site = Site(devices(LEAF))
    before = dict(site.disk)
    assert len(before) == 1
    site.change({fingerprint(LEAF): entry(LEAF)})
    assert len(site.disk) > 2
    site.check()
    site.change({fingerprint(LEAF): None})
    assert site.disk == before


def test_a_leaf_that_only_moves_up_stays() -> None:
    """All devices but one below one digit: without that one the branch becomes the very leaf it had, and back."""
    below = {f"a{number:063x}": entry(number) for number in range(LEAF)}
    site = Site({**below, "b" * 64: entry(99)})
    files, gone = site.change({"b" * 64: None})
    assert (len(site.disk), len(gone)) == (1, 2)
    assert set(files) == set(site.disk)
    site.check()
    site.change({"b" * 64: entry(99)})
    site.check()


def test_no_device_is_no_tree() -> None:
    """The first device makes it, the last one takes it away."""
    site = Site({})
    assert site.root is None
    site.change({fingerprint(1): entry(1)})
    site.check()
    site.change({fingerprint(1): None})
    assert (site.root, site.disk) == (None, {})


@pytest.mark.parametrize("wrong", [None, b"", b"[]", b"{", b'{"branch":[]}', b'{"branch":3}', b"\xff"])
def test_an_old_part_that_is_gone_is_made_anew(wrong: bytes | None) -> None:
    """Growing from a tree whose path to the change is missing or garbled gives the right one all the same."""
    site = Site(devices(300))
    before = site.root
    assert before is not None
    files: Files = {}
    site.devices[fingerprint(300)] = entry(300)
    broken = {key: value for key, value in site.disk.items() if key != before}
    read = {**broken, **({before: wrong} if wrong is not None else {})}.get
    root = grow(site, files, old=before, changed=[fingerprint(300)], read=read)
    assert root == Site(site.devices).root
    assert decode_tree(root, files) == site.devices
    with pytest.raises(InvalidInput):
        reachable(before, read)
