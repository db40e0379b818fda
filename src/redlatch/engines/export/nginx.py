r"""A snapshot as a file for nginx (1.22 and newer), to be included in its `http` block. Pure.

nginx knows of a client's certificate its SHA-1 and no other digest. That is enough here, because TLS verified the
chain before: another certificate with a listed SHA-1 would have to be one that the device CA signed (over a
SHA-256, with a serial number of the CA's own choice), so neither a second preimage nor a pair made to collide
helps anybody. Serial number and issuer would be weaker: two CAs may have the same name.

`map` and `if ... return` are all it takes. Two headers that a client chooses are never put into one text, so that
the end of one cannot pass for the other. Of headers sent twice nginx 1.22 sees the first, newer ones all of them;
what was judged is what Node-RED is sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from redlatch.engines.export import tables, words
from redlatch.engines.export.model import Export, checked
from redlatch.engines.export.tables import ODD, PLAIN, STRANGER, WEBSOCKET

_SAYS: Final = words.Program(
    name="nginx",
    does=(
        (
            "No resumption of TLS sessions (ssl_session_tickets, ssl_session_cache): a resumed one is not "
            "verified anew. This server is the default one on its address and port, which decides on that; nginx "
            "starts with no two."
        ),
        "Only HTTP/1.0 and 1.1: leave http2 off on this port.",
    ),
    cannot=(
        (
            "Telling an empty header from none. Of one that is sent twice nginx 1.22 sees the first; what was "
            "judged is what Node-RED is sent."
        ),
        "The SHA-256 of a certificate: it is known by its SHA-1 here, behind a chain that TLS verified.",
        (
            "Ending what workers of before a reload have open, unless nginx's top level says: "
            "worker_shutdown_timeout 10s;"
        ),
    ),
    load="nginx -t && systemctl reload nginx",
)
_LONGEST_NAME: Final = 40  # server_names_hash_bucket_size is 64 where nothing else is said


def render(export: Export) -> str:
    """The file. Errors: InvalidInput for what may not stand in it."""
    export = checked(export)
    head = words.header(export, _SAYS)
    parts = [_networks(export), _devices(export), _request(export), _decision(export), _server(export)]
    lines = [f"# {line}".rstrip() for line in head]
    for part in parts:
        lines += ["", *part]
    return "\n".join(lines) + "\n"


def _map(source: str, name: str, default: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f'map "{source}" $redlatch_{name} {{'
    yield f"    default {_quoted(default)};"
    for key, value in entries:
        yield f"    {_quoted(key)} {_quoted(value)};"
    yield "}"


def _quoted(text: str) -> str:
    r"""In quotes: of an expression no backslash may be eaten (\" \' \\ \t \r \n are nginx's own)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _networks(export: Export) -> Iterator[str]:
    yield "# --- from where: the address of the connection itself, whatever real_ip_header says elsewhere"
    for number, name in enumerate(tables.networks(export.snapshot)):
        yield f"# {tables.comment(name)}"
        yield f"geo $realip_remote_addr $redlatch_net{number} {{"
        yield "    default 0;"
        yield from (f"    {subnet} 1;" for subnet in tables.subnets(export.snapshot.networks[name]))
        yield "}"


def _devices(export: Export) -> Iterator[str]:
    of_device, _ = tables.classes(export.snapshot)
    rows = [
        (export.sha1[key], tables.row(of_device[key], entry), tables.label(entry, export))
        for key, entry in tables.listed(export.snapshot)
        if key in export.sha1
    ]
    yield "# --- who: class, not before, not after (Unix seconds, both inclusive), id, user, role"
    yield "# These two may stand once in all of nginx's files: where yours say them already, take them out here."
    yield f"map_hash_max_size {max(2048, 4 * len(rows))};"
    yield "map_hash_bucket_size 128;"
    yield 'map "$ssl_client_verify:$ssl_client_fingerprint" $redlatch_row {'
    yield f"    default {_quoted(tables.NOBODY)};"
    for sha1, row, label in rows:
        yield f"    # {label}"
        yield f'    "SUCCESS:{sha1}" {_quoted(row)};'
    yield "}"
    yield from _map("$redlatch_row $msec", "begun", "0", _compared("[^ ]+ ", 4, later=True))
    yield from _map("$redlatch_row $msec", "not_over", "0", _compared("[^ ]+ [0-9]{10} ", 3, later=False))
    yield from _map(
        "$redlatch_begun$redlatch_not_over $redlatch_row", "class", STRANGER,
        [("~^11 (?<redlatch_c>c[0-9]+) ", "$redlatch_c")],
    )  # fmt: skip
    for name, place in (("device", 3), ("user", 4), ("role", 5)):
        skip = f"(?:[^ ]+ ){{{place}}}"
        default = "anyone" if name == "user" else ""
        yield from _map(
            "$redlatch_class $redlatch_row", f"{name}", default,
            [(f"~^c[0-9]+ {skip}(?<redlatch_{name[0]}>[^ ]+)", f"$redlatch_{name[0]}")],
        )  # fmt: skip


def _compared(before: str, words: int, *, later: bool) -> list[tuple[str, str]]:
    r"""Whether now is not before (`later`) or not after the number of ten digits behind `before`; between the two
    are so many words. nginx compares no numbers: one is below the other where, behind the digits that both begin
    with, its next digit is.
    """
    middle = " " + "[^ ]+ " * words
    greater = ((digit, f"[{digit + 1}-9]") for digit in range(9))
    smaller = ((digit, f"[0-{digit - 1}]") for digit in range(1, 10))
    differs = "|".join(rf"{digit}[0-9]*{middle}\1{other}" for digit, other in (greater if later else smaller))
    return [
        (rf"~^{before}([0-9]*)(?:{differs})[0-9]*[.]", "1"),
        (rf"~^{before}([0-9]{{10}}){middle}\1[.]", "1"),
    ]


def _request(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    yield "# --- what: the target as it was sent, never as it was decoded"
    # 414 comes before a target of more than 8 KB
    yield from _map("$request", "target", "0", [(r"~^[^ ]+ /[!-~]{0,8191} HTTP/1[.][01]$", "1")])
    yield from _map("$request_uri", "before_query", tables.NOWHERE, _captured(tables.BEFORE_QUERY))
    yield from _map("$redlatch_before_query", "path", tables.NOWHERE, _captured(tables.CANONICAL))
    yield "# --- a page, or a websocket; nothing else"
    yield from _map("$http_upgrade", "upgrade", "x", [("", "n"), ("~*^websocket$", "w")])
    yield from _map("$http_connection", "connection", "0", [(r"~*(?:^|,)[ \t]*upgrade[ \t]*(?:,|$)", "1")])
    kinds = [("~^CONNECT ", ODD), ("~^GET w1$", WEBSOCKET), ("~^[^ ]+ n[01]$", PLAIN)]
    yield from _map("$request_method $redlatch_upgrade$redlatch_connection", "kind", ODD, kinds)
    yield from _map("$redlatch_kind $redlatch_path", "area", tables.UNKNOWN, _regular(tables.area_table(snapshot)))
    yield "# --- by which name, and whose page asks"
    yield from _map("$http_host", "host", "0", [(f"~{tables.host_expression(snapshot.names)}", "1")])
    origins = [(f"~^{tables.literal(one)}$", "l") for one in snapshot.origins]
    yield from _map("$http_origin", "origin", "f", [("", "n"), *origins])
    same = r"~^https://([^A-Z|]+)\|(?i:\1)$"  # no name of this site holds a |
    yield from _map("$http_origin|$http_host", "same", "0", [(same, "1")])
    yield from _map("$http_sec_fetch_site", "site", "0", [("", "1"), ("~^(?:same-origin|none)$", "1")])
    yield from _map("$http_sec_fetch_mode", "navigates", "0", [("~^navigate$", "1")])
    yield from _map("$http_sec_fetch_dest", "document", "0", [("~^document$", "1")])
    ours = [
        ("~^l", "1"),
        ("~^f1", "1"),
        ("~^n01", "1"),
        (f"~^n0011 {PLAIN} (?:GET|HEAD)$", "1"),
    ]
    parts = "$redlatch_origin$redlatch_same$redlatch_site$redlatch_navigates$redlatch_document"
    yield from _map(f"{parts} $redlatch_kind $request_method", "ours", "0", ours)


def _captured(table: tables.Table) -> list[tuple[str, str]]:
    return [(f"~{one}", f"${value}" if value != tables.NOWHERE else value) for one, value in table]


def _regular(table: tables.Table) -> list[tuple[str, str]]:
    return [(f"~{expression}", value) for expression, value in table]


def _decision(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    places = "".join(f"$redlatch_net{number}" for number, _ in enumerate(tables.networks(snapshot))) or "-"
    rules = [(f"~{expression}", "1") for _, expression in tables.rule_table(snapshot)]
    yield "# --- the rules: class, networks, method, area, path"
    yield from _map(
        f"$redlatch_class {places} $request_method $redlatch_area $redlatch_path", "rule", "0", dict(rules).items()
    )
    verdicts = [(f"~^1111 [{PLAIN}{WEBSOCKET}] ", "allow"), (f"~ {STRANGER}$", "close")]
    facts = "$redlatch_host$redlatch_target$redlatch_ours$redlatch_rule"
    yield from _map(f"{facts} $redlatch_kind $redlatch_class", "verdict", "refuse", verdicts)
    yield from _map("$redlatch_kind", "to_upgrade", "", [(WEBSOCKET, "websocket")])
    yield from _map("$redlatch_kind", "to_connection", "", [(WEBSOCKET, "upgrade")])


def _server(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    stranger = "403" if snapshot.mode == "explain" else "444"
    yield "server {"
    yield from (f"    {line}" for line in _listen(export))
    names = [name for name in snapshot.names if len(name) <= _LONGEST_NAME]
    yield f"    server_name {' '.join(_quoted(one) for one in names) or '_'};"
    yield f"    ssl_certificate {_quoted(export.server_cert)};"
    yield f"    ssl_certificate_key {_quoted(export.server_key)};"
    yield f"    ssl_client_certificate {_quoted(export.device_ca)};"
    yield f"    ssl_verify_client {'on' if tables.wants_certificate(snapshot) else 'optional'};"
    yield "    ssl_verify_depth 1;"
    yield from (f"    {line}" for line in _TLS)
    yield f"    if ($redlatch_verdict = close) {{ return {stranger}; }}"
    yield "    if ($redlatch_verdict != allow) { return 403; }"
    yield "    # 495, 496: a bad certificate, or none; 497: http on a port of https; 400: what is no request"
    yield "    error_page 495 496 497 = @redlatch_stranger;"
    yield f"    location @redlatch_stranger {{ return {stranger}; }}"
    yield "    location / {"
    yield f"        proxy_pass http://{export.behind};"
    yield from (f"        {line}" for line in _PASS)
    yield "    }"
    yield "}"


def _listen(export: Export) -> Iterator[str]:
    host, port = export.place
    if host:
        yield f"listen {f'[{host}]' if ':' in host else host}:{port} ssl default_server;"
        return
    yield f"listen {port} ssl default_server;"
    yield f"listen [::]:{port} ssl default_server;"


_TLS: Final = (
    "ssl_protocols TLSv1.2 TLSv1.3;",
    "# A resumed session is not verified anew",
    "ssl_session_tickets off;",
    "ssl_session_cache off;",
    "ssl_early_data off;",
    "server_tokens off;",
    "underscores_in_headers off;",
    "ignore_invalid_headers on;",
    "client_max_body_size 0;  # Node-RED has limits of its own",
)
_PASS: Final = (
    "proxy_http_version 1.1;",
    "proxy_buffering off;",
    "proxy_read_timeout 1h;",
    "proxy_set_header Host $http_host;",
    "proxy_set_header Upgrade $redlatch_to_upgrade;",
    "proxy_set_header Connection $redlatch_to_connection;",
    "# What was judged is what is sent on",
    "proxy_set_header Origin $http_origin;",
    "proxy_set_header Sec-Fetch-Site $http_sec_fetch_site;",
    "proxy_set_header Sec-Fetch-Mode $http_sec_fetch_mode;",
    "proxy_set_header Sec-Fetch-Dest $http_sec_fetch_dest;",
    "proxy_set_header X-Redlatch-Device $redlatch_device;",
    "proxy_set_header X-Redlatch-User $redlatch_user;",
    "proxy_set_header X-Redlatch-Role $redlatch_role;",
    'proxy_set_header X-Redlatch-Permission "";',
    'proxy_set_header X-Redlatch-Secret "";',
    "proxy_set_header X-Forwarded-For $realip_remote_addr;",
    "proxy_set_header X-Forwarded-Host $http_host;",
    "proxy_set_header X-Forwarded-Proto https;",
    "proxy_set_header X-Real-IP $realip_remote_addr;",
    'proxy_set_header Forwarded "";',
)
