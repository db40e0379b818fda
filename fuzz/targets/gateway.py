"""What HAProxy loads: any word of a snapshot stays a word of a table or a line of a list; gateway.json is checked.

Input: lines `kind text`: device, role, network, path, area, origin, host go into one snapshot; upstream, listen,
proxy into one gateway.json. The input is read as such a file, too.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from tests.support.requests import network

from fuzz.harness import Refused, attempt
from redlatch.engines.haproxy.compile import compile_tables, text
from redlatch.engines.haproxy.model import Gateway, Upstream, gateway_json, parse_gateway
from redlatch.engines.haproxy.render import Places, render
from redlatch.policy.model import Areas, Entry, Rule, Snapshot

GATEWAY = Gateway(("127.0.0.1:8443",), (Upstream("http://127.0.0.1:1880"),), trusted_proxies=("10.0.0.1",))
PLACES = Places(Path("/run/here"), Path("/run/pems"))
SECRET = "ab" * 32


def snapshot_of(data: bytes) -> tuple[Snapshot, dict[str, list[str]]]:
    """The snapshot that the lines make, and the lines by kind."""
    said: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n")[:40]:
        kind, _, word = line.partition(" ")
        # JSON cannot say half characters, and a snapshot comes out of JSON
        said.setdefault(kind, []).append(word.encode("utf-8", "replace").decode().replace("\\n", "\n"))

    def of(kind: str) -> tuple[str, ...]:
        return tuple(said.get(kind, ()))

    devices = {
        f"{number:064x}": Entry(one, (of("role") or ("owner",))[0], one, 0, 4_000_000_000)
        for number, one in enumerate(of("device"))
    }
    rules = [Rule(1, roles=("owner",), area="all"), Rule(2, roles=of("role"), devices=of("device"), area="editor")]
    rules += [Rule(3 + at, anyone=True, networks=of("network"), path=one) for at, one in enumerate(of("path"))]
    return Snapshot(
        site="s", version=7, time=1_700_000_000, mode="auto", port=None, keep_auth=False, spool="/spool",
        names=of("host"), admin_root="/", devices=devices, rules=tuple(rules),
        areas=Areas(of("area"), of("area"), of("area"), of("area")),
        networks={one: network("127.1.0.0/16", "2001:db8::/32") for one in of("network")},
        roles=dict.fromkeys(of("role"), "user"), origins=of("origin"),
    ), said  # fmt: skip


def TestOneInput(data: bytes) -> None:
    snapshot, said = snapshot_of(data)
    for name, table in compile_tables(snapshot).items():
        loaded = text(table).decode("ascii").split("\n")
        assert len(loaded) == len(table) + 1, name
        for line in loaded[:-1]:
            assert line.isprintable(), (name, line)
            assert len(line.split(" ")) == 2, (name, line)
            assert not line.startswith("#"), (name, line)
    files = render(snapshot, GATEWAY, SECRET, PLACES)
    origins = tuple(one for one in snapshot.origins if re.fullmatch(r"https?://[a-z0-9.:\[\]-]+", one))
    plain = replace(
        snapshot, devices={}, rules=(), networks={}, roles={}, names=("localhost",), areas=Areas(),
        origins=origins or ("nowhere",) * bool(snapshot.origins),
    )  # fmt: skip
    assert files["haproxy.cfg"] == render(plain, GATEWAY, SECRET, PLACES)["haproxy.cfg"], (
        "a word is in haproxy.cfg"
    )
    for name, content in files.items():
        if name.endswith((".lst", ".map")):
            for line in content.decode("ascii").split("\n")[:-1]:
                assert line.isprintable(), (name, line)
                assert line, name
                assert line == line.strip(), (name, line)
                assert line[0] != "#", (name, line)
    _gateway_json(said, data)


def _gateway_json(said: dict[str, list[str]], data: bytes) -> None:
    body = {
        "format": 1,
        "listen": said.get("listen", [":443"]),
        "upstreams": [{"url": one, "host": None, "path": None} for one in said.get("upstream", ["http://n:1"])],
        "accept_proxy": False,
        "trusted_proxies": said.get("proxy", []),
        "metrics": None,
    }
    attempt(parse_gateway, data)
    found = attempt(parse_gateway, json.dumps(body).encode())
    if isinstance(found, Refused):
        return
    assert parse_gateway(gateway_json(found)) == found
    config = attempt(render, None, found, SECRET, PLACES)
    if not isinstance(config, Refused):
        lines = config["haproxy.cfg"].decode("ascii").split("\n")
        words = sum(line.lstrip().startswith(("server ", "bind ")) for line in lines)
        assert words >= len(found.upstreams)
        assert all(line.isprintable() for line in lines)
