"""The expressions of an export against the specification, without any proxy."""

from __future__ import annotations

import re
from dataclasses import replace
from random import Random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.support import requests

from redlatch.engines.export import tables
from redlatch.engines.export.nginx import _compared
from redlatch.policy.decide import _is_own_host, decide
from redlatch.policy.model import Area, Areas, Facts, Rule, Snapshot
from redlatch.policy.paths import classify, is_canonical, is_editors, path_of

SEEDS = range(150)
AREA = {"E": Area.EDITOR, "U": Area.EDITOR, **{letter: area for area, letter in tables._LETTERS.items()}}


def first(table: tables.Table, text: str, default: str) -> str:
    """What a map of nginx or Caddy answers."""
    for expression, value in table:
        match = re.search(expression, text)
        if match:
            return match[value] if value.startswith("redlatch_") else value
    return default


def path_in(target: str) -> str:
    return first(tables.CANONICAL, first(tables.BEFORE_QUERY, target, tables.NOWHERE), tables.NOWHERE)


@pytest.mark.parametrize("seed", SEEDS)
def test_paths_and_areas(seed: int) -> None:
    """Target -> canonical path -> area is that of `classify`, and the editor's own are told from the unknown."""
    random = Random(seed)
    snapshot = requests.any_snapshot(random)
    table = tables.area_table(snapshot)
    for _ in range(60):
        target = requests.target(random, snapshot)
        if not target.startswith("/"):
            continue
        path = path_of(target)
        assert path_in(target) == (path if is_canonical(path) else tables.NOWHERE), target
        for websocket in (False, True):
            kind = tables.WEBSOCKET if websocket else tables.PLAIN
            letter = first(table, f"{kind} {path_in(target)}", tables.UNKNOWN)
            wanted = classify(target, websocket=websocket, admin_root=snapshot.admin_root, areas=snapshot.areas)
            assert AREA[letter] == wanted, (target, websocket, snapshot)
            if is_canonical(path):
                assert (letter in "ER") == is_editors(path, snapshot.admin_root), (target, snapshot)


@pytest.mark.parametrize("seed", SEEDS)
def test_rules(seed: int) -> None:
    """A request that passes all but the rules is admitted by the expressions when decide does, and only then."""
    random = Random(1000 + seed)
    snapshot = requests.any_snapshot(random)
    of_device, _ = tables.classes(snapshot)
    rules = [(expression, "1") for _, expression in tables.rule_table(snapshot)]
    areas = tables.area_table(snapshot)
    for _ in range(60):
        facts = replace(
            requests.any_facts(random, snapshot),
            origin=None, fetch_site=None, host=snapshot.names[0], verified=True, by_open_port=False,
            now=2000, upgrade=random.choice((None, None, "websocket")),
        )  # fmt: skip
        if facts.upgrade:
            facts = replace(facts, method="GET")
        if not re.fullmatch(r"/[!-~]{0,8191}", facts.target) or facts.method in ("CONNECT", "", "GET "):
            continue
        entry = snapshot.devices.get(facts.certificate or "")
        comes = entry is not None and entry.not_before <= max(2000, snapshot.time) <= entry.not_after
        who = of_device[facts.certificate or ""] if comes else tables.STRANGER
        places = "".join(
            str(int(snapshot.networks[name].contains(facts.peer))) for name in tables.networks(snapshot)
        )
        kind = tables.WEBSOCKET if facts.upgrade else tables.PLAIN
        path = path_in(facts.target)
        area = first(areas, f"{kind} {path}", tables.UNKNOWN)
        found = first(rules, f"{who} {places or '-'} {facts.method} {area} {path}", "0") == "1"
        assert found == decide(facts, snapshot).allow, (facts, snapshot)


@pytest.mark.parametrize("seed", SEEDS)
def test_hosts(seed: int) -> None:
    """A Host that is taken is one that decide takes; but for IPv4 in IPv6 dress, also the other way round."""
    random = Random(2000 + seed)
    snapshot = requests.any_snapshot(random)
    expression = tables.host_expression(snapshot.names)
    for _ in range(60):
        host = requests.host(random, snapshot)
        taken = re.search(expression, host) is not None
        own = _is_own_host(host, snapshot.names)
        assert taken == own or (own and host.startswith("[") and "." in host), host


@given(st.text("0123456789abcdefABCDEF:", min_size=1, max_size=42))
@example("1:2:3:4:5:6:7::")
@example("::2:3:4:5:6:7:8")
@example("1::3:4:5:6:7:8")
@example("::")
@example("1:2:3:4:5:6:7:8:9")
@example("1::2::3")
@example("fe80::1")
@example(":::")
def test_ipv6_hosts(text: str) -> None:
    """The expression for IPv6 addresses is ipaddress's notion of one."""
    host = f"[{text}]:1880"
    assert (re.search(tables.host_expression(("pi",)), host) is not None) == _is_own_host(host, ("pi",))


@given(st.integers(0, tables.LAST), st.integers(0, tables.LAST))
@example(1790000000, 1790000000)
@example(1789999999, 1790000000)
@example(1790000000, 1789999999)
@example(0, tables.LAST)
def test_numbers_compared_by_an_expression(date: int, now: int) -> None:
    """nginx compares no numbers, so expressions do: both ends are inclusive, as in decide."""

    def says(table: list[tuple[str, str]], row: str) -> bool:
        return any(re.search(key.removeprefix("~"), row) for key, _ in table)

    assert says(_compared("[^ ]+ ", 4, later=True), f"c1 {date:010} 9999999999 id user role {now:010}.123") == (
        now >= date
    )
    assert says(
        _compared("[^ ]+ [0-9]{10} ", 3, later=False), f"c1 0000000000 {date:010} id user role {now:010}.9"
    ) == (now <= date)


@given(st.text())
def test_what_somebody_can_name_stands_in_an_alphabet_that_means_nothing(text: str) -> None:
    """No quote, brace, dollar, blank, backtick or line end of a name gets into an expression or ends a comment."""
    assert re.fullmatch(r"(?:[A-Za-z0-9/_-]|\\x[0-9a-f]{2})*", tables.literal(text), re.ASCII)
    assert re.fullmatch(r"[\x20-\x7e]*", tables.comment(text))
    assert not set(tables.comment(text)) & {"{", "}", "\n", "\r"}
    if text.isascii():
        assert re.fullmatch(tables.literal(text), text, re.DOTALL)
        assert not re.fullmatch(tables.literal(text), text + "x", re.DOTALL)


def test_who_had_ended_when_it_was_written_stays_out() -> None:
    """A clock that is set back later does not bring them back."""
    random = Random(1)
    snapshot = replace(requests.any_snapshot(random), time=3500)
    assert {entry.not_after for _, entry in tables.listed(snapshot)} == {9000}


def test_rules_that_mean_nothing_admit_nobody() -> None:
    """Of an unknown area, for a network that is gone, for nobody, or writing where only reading is spoken of."""
    base: Snapshot = replace(
        requests.any_snapshot(Random(2)), networks={}, roles={}, areas=Areas(), open_port=None
    )
    for rule in (
        Rule(1, any_device=True, area="moon"),
        Rule(1, any_device=True, area="all", networks=("gone",)),
        Rule(1, roles=("nobody",), area="all"),
        Rule(1, any_device=True, area="editor-read", methods=("POST",)),
    ):
        assert list(tables.rule_table(replace(base, rules=(rule,)))) == [], rule
    assert len(list(tables.rule_table(replace(base, rules=(Rule(1, any_device=True, area="all"),))))) == 1
    assert decide(Facts(), base).allow is False
