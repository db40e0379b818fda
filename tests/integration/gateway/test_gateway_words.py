"""Odd words in names, hosts, paths and origins: HAProxy takes the configuration, and it means the same."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from tests.integration.gateway.house import House, fields, reason
from tests.integration.guard.rules import AWAY, HOME, NETWORKS
from tests.support.clients import request
from tests.support.haproxy import SECRET
from tests.unit.haproxy.odd import snapshots

from redlatch.engines.haproxy.compile import compile_tables, text
from redlatch.engines.haproxy.model import Gateway, Upstream
from redlatch.engines.haproxy.render import Places, render
from redlatch.policy.model import Areas, Entry, Rule, Snapshot

ODD = (
    "x\n acl", "x\nhttp-request allow", "# x", "%[src]", "$HOME", '"', "'", "\\", "a b", "\t", "-", "|",
    "a|b|owner|c",
    "\u00fc \U0001f511", "r:owner", "*", "open", "ok", "%", "\r\nX-Redlatch-Role: owner", "x" * 200,
)  # fmt: skip


def test_haproxy_takes_whatever_is_rendered(house: House, tmp_path: Path) -> None:
    """A few dozens of generated snapshots, each through `haproxy -c` without a word of warning."""
    places = Places(tmp_path, house.site.published, log_fd=1)
    taken: list[str] = []

    @settings(
        max_examples=40, derandomize=True, database=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )  # fmt: skip
    @given(snapshots())
    def check(snapshot: Snapshot) -> None:
        gateway = Gateway(
            ("127.0.0.1:8443", ":8445"),
            (Upstream("http://127.0.0.1:1880", "a.example"), Upstream("https://[::1]:1881", path="/x")),
            accept_proxy=True, trusted_proxies=("10.0.0.1-10.0.0.9", "2001:db8::/32"),
        )  # fmt: skip
        tables = {f"{name}.map": text(table) for name, table in compile_tables(snapshot).items()}
        for name, data in {**render(snapshot, gateway, SECRET, places), **tables}.items():
            (tmp_path / name).write_bytes(data)
        done = subprocess.run(
            [house.program, "-c", "-f", tmp_path / "haproxy.cfg"], capture_output=True, text=True, check=False
        )
        said = done.stdout.replace("Configuration file is valid", "") + done.stderr
        taken.append(said)
        assert done.returncode == 0, (said, snapshot)
        assert said.strip() in ("", "Warnings were found."), (said, snapshot)

    check()
    assert len(taken) >= 30


@pytest.mark.parametrize("word", ODD)
def test_a_word_is_a_word(house: House, word: str) -> None:
    """As a device's id, user and role, as a network's and a role's name, beside odd hosts, paths and origins:
    who may
    is let in and told of as what it is, who may not is not.
    """
    device, other = house.site.device("odd", listed=False), house.site.device("other", listed=False)
    entries = {
        one.fingerprint: replace(one.entry, id=f"{word}{at}", user=word, role=word)
        for at, one in enumerate((device, other))
    }
    kept = {house.admin.fingerprint: Entry(house.admin.id, "owner", "admin", 0, 4_000_000_000)}
    house.ruled(
        Rule(2, devices=(f"{word}0",), networks=(word,), path="/mine"), Rule(3, roles=(word,), path="/ours"),
        Rule(4, roles=("thing",), path="/things"),
        Rule(5, anyone=True, path=f"/{word}"), Rule(6, anyone=True, path=word),
        devices={**kept, **entries}, networks={word: NETWORKS["home"]}, roles={word: "thing"},
        names=("localhost", word), origins=(word,), areas=Areas(*((f"/{word}", word),) * 4), admin_root="/",
    )  # fmt: skip
    for one, source, target, wanted in (
        (device, HOME, "/mine", "ok"), (device, AWAY, "/mine", "wrong-network"), (other, HOME, "/mine", "no-rule"),
        (other, AWAY, "/ours", "ok"), (other, AWAY, "/things", "ok"), (house.admin, AWAY, "/mine", "ok"),
        (None, HOME, "/mine", "no-certificate"), (None, HOME, "/flows", "no-certificate"),
        (device, HOME, "/flows", "no-rule"),
    ):  # fmt: skip
        assert reason(request(house.port, "GET", target, one, source=source)) == wanted, (target, wanted)
    told = fields(house.upstream.seen[0])
    assert told["x-redlatch-device"] == [quote(f"{word}0", safe="")]
    assert told["x-redlatch-user"] == told["x-redlatch-role"] == [quote(word, safe="")]
    assert reason(request(house.port, "GET", "/", house.admin, headers={"Host": "acl"})) == "foreign-host"
    assert (
        reason(request(house.port, "GET", "/", house.admin, headers={"Origin": "https://evil.example"}))
        == "cross-origin"
    )
