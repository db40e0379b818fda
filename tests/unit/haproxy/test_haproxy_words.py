"""Whatever words a snapshot holds: none of them ends a key, a value, a pattern or a line of what HAProxy loads."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from tests.unit.haproxy.odd import snapshots, words

from redlatch.engines.haproxy.compile import Tables, compile_tables, text
from redlatch.engines.haproxy.model import Gateway, Upstream
from redlatch.engines.haproxy.render import Places, render
from redlatch.errors import InvalidInput
from redlatch.policy.model import Areas, Entry, Rule, Snapshot
from redlatch.policy.networks import Network

GATEWAY = Gateway(
    ("127.0.0.1:8443",), (Upstream("http://127.0.0.1:1880"),), trusted_proxies=("10.0.0.1-10.0.0.3",)
)
PLACES = Places(Path("/run/here"), Path("/run/pems"))
SECRET = "ab" * 32


def loaded(table: bytes) -> dict[str, str]:
    """A map as HAProxy reads it: of each line up to a blank the key, behind it the value; # begins a comment."""
    found = {}
    for line in table.decode("ascii").split("\n"):
        words = line.lstrip(" \t")
        if words and not words.startswith("#"):
            key, _, value = words.partition(" ")
            found[key] = value
    return found


@given(snapshots())
def test_tables_are_loaded_as_they_were_meant(snapshot: Snapshot) -> None:
    """Each key and value is one word of printable ASCII, and comes back as it is."""
    tables = compile_tables(snapshot)
    for name, table in tables.items():
        for word in (*table, *table.values()):
            assert word.isascii()
            assert word.isprintable()
            assert word
            assert " " not in word
        assert not [key for key in table if key.startswith("#")]
        assert loaded(text(table)) == table, name
    assert len(tables["devices"]) == len(snapshot.devices)
    assert all(row.count("|") == 4 for row in tables["devices"].values())


@given(snapshots())
def test_what_is_rendered_does_not_depend_on_words(snapshot: Snapshot) -> None:
    """The configuration is the one of a snapshot with plain words; lists hold one pattern a line, and no other
    than
    the words that can match at all.
    """
    files = render(snapshot, GATEWAY, SECRET, PLACES)
    origins = tuple(one for one in snapshot.origins if re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", one))
    origins = origins or ("nowhere",) * bool(snapshot.origins)
    plain = replace(
        snapshot, devices={}, rules=(), networks={}, roles={}, names=("localhost",), areas=Areas(), origins=origins
    )
    assert files["haproxy.cfg"] == render(plain, GATEWAY, SECRET, PLACES)["haproxy.cfg"]
    for name, data in files.items():
        if name.endswith((".lst", ".map")):
            lines = data.decode("ascii").split("\n")[:-1]
            assert all(line.isprintable() and line == line.strip() and line[0] not in "#" for line in lines), name
    areas, named = snapshot.areas, files["dashboards.lst"] + files["static.lst"]
    assert named.count(b"\n") <= len(areas.dashboards) + len(areas.static)
    assert files["endpoints.lst"].count(b"\n") + files["endpoints-free.lst"].count(b"\n") <= len(areas.http_in)
    assert files["websockets.lst"].count(b"\n") <= len(areas.websockets)
    assert files["hosts.lst"].count(b"\n") <= 2 * len(snapshot.names)
    assert files["origins.lst"].count(b"\n") <= len(snapshot.origins)


@given(words, words)
@example("-", "a")
@example("*", "-")
def test_a_network_is_itself_whatever_it_is_called(name: str, other: str) -> None:
    """Who is nowhere is in none, and two networks are not taken for one."""
    networks = {name: Network(v4=((1, 1),)), other: Network(v4=((2, 2),))}
    rules = (Rule(1, anyone=True, networks=(name,), path="/a"), Rule(2, anyone=True, networks=(other,), path="/b"))
    tables = compile_tables(_plain(networks=networks, rules=rules))
    places = tables["networks"]
    assert "-" not in (places.get("0.0.0.1/32", "there"), places["0.0.0.2/32"])
    assert _grants(tables, "-") == "0|-"
    if name != other:
        assert places["0.0.0.1/32"] != places["0.0.0.2/32"]
        assert _grants(tables, places["0.0.0.1/32"]) != _grants(tables, places["0.0.0.2/32"])


def test_addresses_of_the_other_family() -> None:
    """HAProxy is not left to look for an IPv6 address among IPv4's, nor for a mapped one among IPv6's."""
    networks = {"six": Network(v6=((0, (1 << 128) - 1),)), "four": Network(v4=((0, (1 << 32) - 1),))}
    rules = tuple(Rule(at, anyone=True, networks=(name,), path="/x") for at, name in enumerate(networks))
    held = compile_tables(_plain(networks=networks, rules=rules))["networks"]
    assert "::ffff:0:0/96" not in held
    assert sum(1 << 128 - int(key.partition("/")[2]) for key in held if ":" in key) == (1 << 128) - (1 << 32)
    held = compile_tables(_plain(networks={"four": networks["four"]}, rules=rules[1:]))["networks"]
    assert held == {"0.0.0.0/0": "four", "::/96": "-", "2002::/16": "-"}


@given(words)
def test_a_place_that_means_something_is_refused(word: str) -> None:
    """A folder stands in the configuration itself, so its name has to be a plain one; and so has the secret."""
    folder = Path("/run") / word.replace("\0", "%")
    if all(one.isascii() and (one.isalnum() or one in "/._-") for one in str(folder)):
        return
    with pytest.raises(InvalidInput, match="characters that HAProxy"):
        render(None, GATEWAY, SECRET, replace(PLACES, folder=folder))
    with pytest.raises(InvalidInput, match="64 hex digits"):
        render(None, GATEWAY, word, PLACES)


def _plain(**fields: object) -> Snapshot:
    words: dict[str, object] = {
        "site": "s", "version": 1, "time": 1, "mode": "strict", "port": None, "keep_auth": False, "spool": "/s",
        "names": ("localhost",), "admin_root": "/", "devices": {"0" * 64: Entry("d", "owner", "u", 0, 1)},
    }  # fmt: skip
    return Snapshot(**{**words, **fields})  # type: ignore[arg-type]


def _grants(tables: Tables, place: str) -> str:
    return tables["grants"][f"-|{place}"]
