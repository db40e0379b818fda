"""Generated rules and requests: what `redlatch.policy.decide` and the guard have to agree on.

Everything comes from one `random.Random`, so that a seed is a test case. `snapshot_fields` makes rules, areas,
networks; `wire` the bytes of a request; `facts_of` reads such bytes as Node.js would hand them to the guard.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random
from typing import Any, Final

from redlatch.policy.model import AREAS, METHODS, ROLES, Areas, Entry, Facts, Rule, Snapshot
from redlatch.policy.networks import Network, compiled, parse

OWN_ROLES: Final = {"family": "user", "tech": "thing", "deputy": "admin"}
NAMES: Final = ("localhost", "pi.local", "pi", "xn--mhle-0ra.lan")
ORIGINS: Final = ("https://panel.example", "http://ha.local:8123")
ROOTS: Final = ("/", "/", "/", "/admin", "/Admin", "/a/b", None)

_EDITOR: Final = (
    "/", "/flows", "/flows/state", "/settings", "/settings/user", "/comms", "/red/about", "/nodes", "/icons",
    "/library/local/flows", "/auth/login", "/inject/x", "/plugins", "/theme", "/diagnostics", "/udp-ports/1",
    "/context/global", "/credentials/x/y", "/dashboard/chart/x/clear", "/favicon.ico", "/projects", "/vendor/x.js",
)  # fmt: skip
_OTHER: Final = (
    "/hello", "/hello/", "/hello/deep", "/helloworld", "/hell", "/light/kitchen/on", "/light/kitchen/off",
    "/light//on", "/light/a/b/on", "/files/note.txt", "/files", "/note.txt", "/ws/echo", "/ws/data", "/both",
    "/webhook", "/webhook/deep", "/webhooks", "/dashboard", "/dashboard/", "/dashboard/page", "/dashboards", "/ui",
    "/nowhere", "/b%20c", "/%C3%BC", "/.redlatch", "/admin", "/admin/flows", "/a/b/comms",
)  # fmt: skip
_DASHBOARDS: Final = ("/dashboard", "/ui", "/", "/flows", "/both", "/admin/ui")
_HTTP_IN: Final = ("/hello", "/light/:who/on", "/both", "/flows", "/dashboard/data", "/:any", "/ADMIN/x")
_STATIC: Final = ("/files", "/", "/ui", "/%C3%BC")
_WEBSOCKETS: Final = ("/ws/echo", "/both", "/comms", "/hello", "/admin/comms")
_RULE_PATHS: Final = (
    "/webhook", "/hello", "/light/kitchen", "/flows", "/admin", "/files", "/dashboard", "/b%20c", "/both", "/ws/",
)  # fmt: skip
_UPGRADES: Final = (
    "websocket",
    "WebSocket",
    "WEBSOCKET",
    "h2c",
    "websocket, h2c",
    "h2c, websocket",
    "TLS/1.0",
    "",
)
_METHODS: Final = (*METHODS, "TRACE", "PROPFIND", "PURGE", "M-SEARCH", "QUERY", "LINK", "SOURCE", "LOCK")


def some(random: Random, pool: Sequence[Any], most: int = 3, least: int = 0) -> tuple[Any, ...]:
    """Between `least` and `most` different ones."""
    return tuple(random.sample(pool, random.randint(least, min(most, len(pool)))))


def rules(random: Random, devices: Sequence[str], networks: Sequence[str], most: int = 8) -> tuple[Rule, ...]:
    """Up to `most` rules with every kind of who, from where, what and how; `networks` may hold unknown names."""
    made = []
    for number in range(1, random.randint(0, most) + 1):
        area = random.choice(list(AREAS)) if random.random() < 0.7 else None
        who = random.random()
        made.append(
            Rule(
                id=number * random.choice((1, 1, 1000)) + number,
                roles=some(random, [*ROLES, *OWN_ROLES], 4) if who < 0.6 else (),
                devices=some(random, devices, 3) if 0.4 < who < 0.75 else (),
                any_device=0.7 < who < 0.82,
                anyone=who > 0.78,
                networks=some(random, networks, 2) if random.random() < 0.55 else (),
                area=area,
                path=None if area else random.choice(_RULE_PATHS),
                methods=some(random, METHODS, 3) if random.random() < 0.35 else (),
            )
        )
    # Ids are the store's: no two alike
    return tuple({rule.id: rule for rule in made}.values())


def snapshot_fields(
    random: Random, devices: Sequence[str], networks: Mapping[str, Network], open_port: int | None = None
) -> dict[str, Any]:
    """The fields of a Snapshot that say who may do what; `devices` are ids."""
    return {
        "mode": random.choice(("strict", "explain", "explain", "auto")),
        "names": some(random, NAMES, 4, 2),
        "origins": some(random, ORIGINS, 2) if random.random() < 0.5 else (),
        "admin_root": random.choice(ROOTS),
        "areas": Areas(
            dashboards=some(random, _DASHBOARDS),
            http_in=some(random, _HTTP_IN, 4),
            static=some(random, _STATIC, 2),
            websockets=some(random, _WEBSOCKETS),
        ),
        "roles": dict(random.sample(list(OWN_ROLES.items()), random.randint(0, 3))),
        "networks": dict(networks),
        "rules": rules(random, devices, [*networks, "gone"]),
        "open_port": open_port if random.random() < 0.4 else None,
    }


def network(*entries: str) -> Network:
    return compiled(map(parse, entries))


# --- targets -----------------------------------------------------------------------------------------------------


def _encoded(character: str) -> Callable[[Random, str], str]:
    def insert(random: Random, path: str) -> str:
        at = random.randint(1, len(path))
        return path[:at] + character + path[at:]

    return insert


def _encode_one(random: Random, path: str) -> str:
    """One of its own characters percent-encoded."""
    at = random.randrange(len(path))
    code = f"%{ord(path[at]):02x}"
    return path[:at] + (code.upper() if random.random() < 0.5 else code) + path[at + 1 :]


def _swap_case(random: Random, path: str) -> str:
    return "".join(one.swapcase() if random.random() < 0.4 else one for one in path)


def _double_slash(random: Random, path: str) -> str:
    at = random.choice([match.start() for match in re.finditer("/", path)])
    return path[:at] + "/" * random.randint(1, 2) + path[at:]


def _dots(random: Random, path: str) -> str:
    dots = random.choice(("/.", "/..", "/x/..", "/%2e%2e", "/.%2e", "/...", "/x/../.."))
    at = random.choice([match.start() for match in re.finditer("/", path)])
    return path[:at] + dots + path[at:]


_CHANGES: Final[tuple[Callable[[Random, str], str], ...]] = (
    _swap_case,
    _swap_case,
    _double_slash,
    _dots,
    _encode_one,
    lambda random, path: path + "/",
    lambda random, path: path.rstrip("/") or "/",
    lambda random, path: path[: random.randint(1, len(path))],
    lambda random, path: path + random.choice(("x", "/x", ";x", "/;x=1", ".", "/..", "#x", "%", "%zz", "\\", "|")),
    *map(_encoded, ("%2f", "%2F", "%5c", "\\", "%00", "%20", "%c3%bc", "%ff", "%252e", ";a", "%0d%0a", "%2e")),
)  # fmt: skip


def path(random: Random, snapshot: Snapshot) -> str:
    """A path that means something here, or one that only looks so."""
    root = snapshot.admin_root if snapshot.admin_root not in (None, "/") and random.random() < 0.6 else ""
    pools: list[Sequence[str]] = [
        [f"{root}{one}" for one in _EDITOR],
        _OTHER,
        [rule.path for rule in snapshot.rules if rule.path] or ["/x"],
        [one.replace(":who", "kitchen").replace(":any", "thing") for one in snapshot.areas.http_in] or ["/x"],
        [*snapshot.areas.dashboards, *snapshot.areas.static, *snapshot.areas.websockets] or ["/x"],
    ]
    made = random.choice(random.choices(pools, weights=(3, 3, 1, 1, 1))[0])
    while random.random() < 0.4:
        made = random.choice(_CHANGES)(random, made)
        if not made.startswith("/"):
            made = "/" + made
    return made


def target(random: Random, snapshot: Snapshot) -> str:
    """What stands between method and version: paths with and without queries, and what is no path."""
    kind, made = random.random(), path(random, snapshot)
    if kind < 0.03:
        scheme = random.choice(("http", "https", "HTTP", "ftp"))
        return f"{scheme}://{random.choice(('localhost', 'evil.example', 'pi.local:1880'))}{made}"
    if kind < 0.04:
        return "*"
    if kind < 0.05:
        return "/" + "a" * random.choice((8190, 8191, 8192, 9000))
    if kind < 0.25:
        made += "?" + random.choice(("", "x=1", "a=//b", "?", "/../x", "%00", "x=%2e%2e", "a#b", ";", "EIO=4"))
    return made


# --- headers -----------------------------------------------------------------------------------------------------


def host(random: Random, snapshot: Snapshot) -> str:
    """Mostly an own name."""
    name = random.choice(snapshot.names)
    if random.random() < 0.85:
        name = random.choice((name, name, name.upper(), name + ".", "127.0.0.1", "[::1]", "192.168.1.9"))
        return name + random.choice(("", ":1880", ":1880", ":443", ":0"))
    return random.choice(
        (
            "", "evil.example", f"{name}.evil.example", f"evil{name}", f"{name}:1880:1", f"{name}:", f"{name}:x",
            "::1",
            f"user@{name}", f"{name}/", "[::1", "[1.2.3.4]", "1.2.3", "010.0.0.1", "256.1.1.1", f"{name}..",
            ":1880",
            f"{name}:123456", f"{name}, evil.example", "m\xfchle.lan", f"{name} {name}", "[fe80::1%25eth0]",
            "0x7f.1", "[::ffff:1.2.3.4]:1", "[1:2:3:4:5:6:7:8:9]", "[::1.2.3]", "2130706433", f"{name}\t.", *NAMES,
        )
    )  # fmt: skip


def origin(random: Random, snapshot: Snapshot, asked: str) -> str | None:
    kind = random.random()
    if kind < 0.62:
        return None
    if kind < 0.78:
        return f"https://{asked.lower()}"
    own = f"https://{asked}"
    return random.choice(
        (
            "null", "", "https://evil.example", own.upper(), own + "/", own + ".evil.example", f"http://{asked}",
            own.rpartition(":")[0], "file://", f"{own}, {own}", f"https://evil{asked}", *ORIGINS,
            *snapshot.origins,
            "https://panel.example.evil", "HTTPS://panel.example",
        )
    )  # fmt: skip


def fetch(random: Random) -> dict[str, str]:
    """Sec-Fetch-Site, -Mode and -Dest, any of them absent."""
    if random.random() < 0.6:
        return {}
    choices = {
        "site": ("same-origin", "same-origin", "none", "same-site", "cross-site", "cross-site", "Same-Origin", ""),
        "mode": ("navigate", "navigate", "cors", "no-cors", "websocket", "Navigate"),
        "dest": ("document", "document", "iframe", "image", "empty", "frame", ""),
    }
    return {key: random.choice(values) for key, values in choices.items() if random.random() < 0.9}


def method(random: Random) -> str:
    return random.choices(("GET", "POST", random.choice(_METHODS)), weights=(5, 2, 3))[0]


# --- bytes -------------------------------------------------------------------------------------------------------

_NOISE: Final = (
    "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.1.0.1", "CF-Connecting-IP: 127.1.0.1",
    "Forwarded: for=127.1.0.1",
    "X-Client-Cert: admin", "X_Client_Cert: admin", "Authorization: Bearer x", "Cookie: role=admin; a=b",
    "X-HTTP-Method-Override: GET", "X-Original-URL: /hello", "Redlatch-User: owner", "Referer: https://localhost/",
    "TE: trailers", "HTTP2-Settings: AA", "Accept: */*", "X-Forwarded-Host: localhost", "X-Forwarded-Proto: https",
)  # fmt: skip


def wire(random: Random, snapshot: Snapshot) -> bytes:
    """One request that Node.js's parser takes, as bytes; see `facts_of`."""
    verb, asked = method(random), host(random, snapshot)
    version = "1.0" if random.random() < 0.04 else "1.1"
    fields = [] if version == "1.0" and random.random() < 0.5 else [("Host", asked)]
    if random.random() < 0.03:
        fields.append(("Host", host(random, snapshot)))  # the first one counts, for Node.js and so for everybody
    if (value := origin(random, snapshot, asked)) is not None:
        fields.append(("Origin", value))
        if random.random() < 0.04:
            fields.append(("Origin", f"https://{asked.lower()}"))
    fields += [(f"Sec-Fetch-{key.title()}", value) for key, value in fetch(random).items()]
    connection = ["close"] if random.random() < 0.02 else []
    if random.random() < 0.14:
        if random.random() < 0.8:
            verb = "GET"
        fields.append(("Upgrade", random.choice(("websocket", *_UPGRADES))))
        if random.random() < 0.05:
            fields.append(("Upgrade", "websocket"))
        if random.random() < 0.85:
            connection.append(
                random.choice(("Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade, HTTP2-Settings"))
            )
        fields += [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")]
    if connection:
        fields.append(("Connection", ", ".join(connection)))
    body = b""
    if verb in ("POST", "PUT", "PATCH") or random.random() < 0.02:
        body = random.choice((b"", b"{}", b"x=1", b"GET /flows HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        fields.append(("Content-Length", str(len(body))))
    fields += [tuple(one.split(": ", 1)) for one in some(random, _NOISE, 3)]  # type: ignore[misc]
    random.shuffle(fields)
    lines = [f"{verb} {target(random, snapshot)} HTTP/{version}"]
    for name, value in fields:
        spelt = random.choice((name, name, name.lower(), name.upper()))
        before, after = random.choice((" ", " ", "", "  ", "\t ")), random.choice(("", "", "", " ", " \t"))
        if name in (
            "Content-Length",
            "Connection",
        ):  # a tab behind them has the parser refuse, or not understand, it
            before = after = ""
        lines.append(f"{spelt}:{before}{value}{after}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass(frozen=True)
class Seen:
    """A request as the guard gets it. `upgrades`: by an upgrade event. `last`: the connection ends after it."""

    facts: Facts
    upgrades: bool
    last: bool


def facts_of(raw: bytes) -> Seen:
    """What Node.js's parser makes of bytes from `wire` (observed with 22 and 24).

    Values lose the blanks around them; of Host the first counts, of others all, joined; an Upgrade header is an
    upgrade where Connection says so and it is not empty, and else one that the guard lets pass never ("").
    """
    head = raw.partition(b"\r\n\r\n")[0].decode("latin-1")
    first, *lines = head.split("\r\n")
    verb, asked, version = first.split(" ")
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name not in fields:
            fields[name] = value
        elif name != "host":
            fields[name] += f", {value}"
    connection = [one.strip().lower() for one in fields.get("connection", "").split(",")]
    upgrades = "upgrade" in connection and fields.get("upgrade", "") != ""
    upgrade = fields.get("upgrade")
    facts = Facts(
        method=verb,
        target=asked,
        host=fields.get("host"),
        origin=fields.get("origin"),
        fetch_site=fields.get("sec-fetch-site"),
        fetch_mode=fields.get("sec-fetch-mode"),
        fetch_dest=fields.get("sec-fetch-dest"),
        upgrade=upgrade if upgrades or upgrade is None else "",
    )
    return Seen(facts, upgrades, upgrades or "close" in connection or version == "HTTP/1.0")


def shorter(raw: bytes, differs: Callable[[bytes], bool]) -> bytes:
    """The request with every header line left out that does not matter to `differs`."""
    for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        without = raw.replace(b"\r\n" + line, b"", 1)
        if not line.lower().startswith(b"content-length") and differs(without):
            raw = without
    return raw


# --- facts without a network in between --------------------------------------------------------------------------

FINGERPRINTS: Final = tuple(digit * 64 for digit in "0123456789ab")
_ODD_FINGERPRINTS: Final = ("", "f" * 64, "A" * 64, "__proto__", "constructor", "toString", "0" * 63)
_ADDRESSES: Final = (
    "10.0.0.1", "10.0.0.255", "10.0.1.0", "192.168.1.7", "192.168.2.10", "192.168.2.20", "192.168.2.21", "0.0.0.0",
    "255.255.255.255", "203.0.113.7", "2001:db8::1", "2001:db8::", "2001:db8:0:1::", "fd00::5", "::", "::1",
    "fe80::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)  # fmt: skip
_ODD_ADDRESSES: Final = (
    "", "x", "10.0.0", "010.0.0.1", "10.0.0.1.", " 10.0.0.1", "::ffff:10.0.0.1", "::ffff:a00:1", "::FFFF:10.0.0.1",
    "fe80::1%eth0", "10.0.0.1%eth0", "::10.0.0.1", "1::2::3", "2001:DB8::1", "::ffff:0:10.0.0.1", "[::1]",
    "10.0.0.1/8",
)  # fmt: skip


def any_network(random: Random) -> Network:
    """Of IPv4 and IPv6, single addresses, ranges and subnets, perhaps overlapping, perhaps nothing at all."""
    entries = []
    for _ in range(random.choice((0, 1, 1, 2, 5, 40))):
        wide, bits = random.choice(((False, 32), (False, 32), (True, 128)))
        begin = IPv6Address(random.getrandbits(128)) if wide else IPv4Address(random.getrandbits(32))
        near = random.choice([one for one in _ADDRESSES if (":" in one) == wide])
        shape = random.random()
        if shape < 0.3:
            entries.append(near)
        elif shape < 0.6:
            # the subnet of that length that begins at or below it
            length = random.randint(0, bits)
            value = int(ip_address(near)) >> (bits - length) << (bits - length)
            entries.append(f"{(IPv6Address if wide else IPv4Address)(value)}/{length}")
        else:
            first, last = sorted((begin, ip_address(near)), key=int)
            entries.append(f"{first}-{last}")
    return network(*entries)


def any_snapshot(random: Random) -> Snapshot:
    """Anything that may be published, and some that no operator would."""
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(len(FINGERPRINTS))]
    networks = {name: any_network(random) for name in some(random, ("home", "office", "vpn", "__proto__"), 4)}
    fields = snapshot_fields(random, ids, networks, open_port=1890)
    roles = [*ROLES, *OWN_ROLES, "superuser", "__proto__"]
    return Snapshot(
        site="s", version=1, time=random.choice((0, 2000, 2000, 2000, 4000)), port=None, keep_auth=False,
        spool="/spool",
        devices={
            key: Entry(ids[at], random.choice(roles), "u", random.choice((0, 1000)), random.choice((3000, 9000)))
            for at, key in enumerate(FINGERPRINTS)
            if random.random() < 0.9
        },
        **fields,
    )  # fmt: skip


def any_facts(random: Random, snapshot: Snapshot) -> Facts:
    """Facts as a request would show them, and some that no parser lets through."""
    seen = facts_of(wire(random, snapshot)).facts
    if random.random() < 0.08:
        odd = random.choice(
            ("", "flows", "/a b", "/a\x00b", "/\xfc", "/\u212a", "//", "/\n", "/flows\n", "*", "/?\x7f")
        )
        seen = replace(seen, target=odd)
    if random.random() < 0.04:
        seen = replace(
            seen, host=random.choice(("pi.local\n", "p\u0131", "\u212a", "pi.local ", "\npi", "PI\u0130"))
        )
    if random.random() < 0.04:
        seen = replace(seen, method=random.choice(("CONNECT", "get", "", "__proto__", "constructor", "GET ")))
    if random.random() < 0.04:
        seen = replace(seen, upgrade=random.choice((" websocket", "webSoc\u212aet", "websocket\n", "ws")))
    pool = FINGERPRINTS if random.random() < 0.85 else (None, *_ODD_FINGERPRINTS)
    addresses = _ADDRESSES if random.random() < 0.8 else _ODD_ADDRESSES
    return replace(
        seen,
        certificate=random.choice(pool),
        verified=random.random() < 0.95,
        now=random.choice((0, 999, 1000, *[2000] * 12, 3000, 3001, 9001)),
        peer=random.choice(addresses),
        by_open_port=random.random() < 0.25,
    )
