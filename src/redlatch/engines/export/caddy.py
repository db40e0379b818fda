"""A snapshot as a site of a Caddyfile (Caddy 2.6 and newer), to be imported into it or to stand alone. Pure.

Caddy knows the SHA-256 of a client's certificate. The device CAs stand in the file itself: a CA file that is gone
or empty had Caddy take any certificate (CVE-2026-27586). Values are looked up by `map`, compared by expressions of
CEL and kept in `vars`; an expression that fails matches nothing, and what nothing matches is refused. Comments
stand on lines of their own: behind a word in quotes Caddy 2.6 takes them for words.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from typing import Final

from redlatch.engines.export import tables, words
from redlatch.engines.export.model import Export, checked
from redlatch.engines.export.tables import ODD, PLAIN, STRANGER, WEBSOCKET
from redlatch.errors import InvalidInput
from redlatch.policy.paths import MAX_TARGET

_SAYS: Final = words.Program(
    name="caddy",
    does=(),
    cannot=(
        (
            "Switching off the resumption of TLS sessions in a Caddyfile. The list is looked up for each "
            "request, also of a resumed session, so a revocation that is loaded holds for it too."
        ),
        (
            "Addresses instead of names: Caddy wants the name that TLS carried, and https://192.168.1.5 carries "
            "none, so it is refused (421). Where this is the only site on its port, servers { strict_sni_host "
            "insecure_off } among the global options allows it; names are looked at here all the same."
        ),
        (
            "Long lists at speed: devices and subnets are gone through one by one. Meant for hundreds, not for "
            "100,000."
        ),
        "Ending websockets of before a reload: systemctl restart caddy does.",
    ),
    load="caddy validate --config /etc/caddy/Caddyfile && systemctl reload caddy",
)


def render(export: Export) -> str:
    """The file. Errors: InvalidInput for what may not stand in it, or without a device CA."""
    export = checked(export)
    if not export.authorities:
        raise InvalidInput("there is no device CA, so nobody could be let in")
    lines = [f"# {line}".rstrip() for line in words.header(export, _SAYS)]
    host, port = export.place
    lines += ["", f":{port} {{"]
    if host:
        lines.append(f"\tbind {host}")
    lines += [f"\t{line}" for line in _tls(export)]
    lines.append("\troute {")
    for part in (_headers(), _networks(export), _devices(export), _request(export), _decision(export)):
        lines += [f"\t\t{line}" for line in part]
    lines += ["\t}", "}"]
    return "\n".join(lines) + "\n"


def _map(source: str, names: Iterable[str], default: str, entries: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield f"map {source} {' '.join(f'{{redlatch_{name}}}' for name in names)} {{"
    yield from (f"\t{_token(key)} {value}" for key, value in entries)
    yield f"\tdefault {default}"
    yield "}"


def _token(text: str) -> str:
    """As one word: nothing is escaped between backticks, and no expression holds one."""
    return f"`{text}`"


def _when(name: str, expression: str) -> str:
    return f"@redlatch_{name} expression {_token(expression)}"


def _var(name: str, value: str, matcher: str = "") -> str:
    return f"vars {f'@redlatch_{matcher} ' if matcher else ''}redlatch_{name} {value}"


def _tls(export: Export) -> Iterator[str]:
    mode = "require_and_verify" if tables.wants_certificate(export.snapshot) else "verify_if_given"
    yield f'tls "{export.server_cert}" "{export.server_key}" {{'
    yield "\tclient_auth {"
    yield f"\t\tmode {mode}"
    yield from (f"\t\ttrusted_ca_cert {base64.b64encode(der).decode()}" for der in export.authorities)
    yield "\t}"
    yield "}"


def _headers() -> Iterator[str]:
    yield "# --- the client's own, whatever their spelling"
    yield "request_header -*redlatch*"
    yield "request_header -X-Real-IP"
    yield "request_header -Forwarded"
    yield "request_header -CF-Connecting-IP"


def _networks(export: Export) -> Iterator[str]:
    yield "# --- from where: the address of the connection itself"
    for number, name in enumerate(tables.networks(export.snapshot)):
        subnets = list(tables.subnets(export.snapshot.networks[name]))
        yield _var(f"net{number}", "0")
        if not subnets:
            continue
        yield f"# {tables.comment(name)}"
        yield f"@redlatch_net{number} {{"
        yield from (f"\tremote_ip {subnet}" for subnet in subnets)
        yield "}"
        yield _var(f"net{number}", "1", f"net{number}")


def _devices(export: Export) -> Iterator[str]:
    of_device, _ = tables.classes(export.snapshot)
    yield "# --- who: class, not before, not after (Unix seconds, both inclusive), id, user, role"
    yield "map {http.request.tls.client.fingerprint} {redlatch_listed} {"
    for key, entry in tables.listed(export.snapshot):
        yield f"\t# {tables.label(entry, export)}"
        yield f'\t{key} "{tables.row(of_device[key], entry)}"'
    yield f'\tdefault "{tables.NOBODY}"'
    yield "}"
    yield "vars redlatch_row {redlatch_listed}"
    fields = ("who", "begin", "end", "device", "user", "role")
    word = "([^ ]+)"
    outputs = " ".join(f"${{{number}}}" for number in range(1, len(fields) + 1))
    begin_end = f"{tables.LAST} 0"
    yield from _map(
        "{http.vars.redlatch_row}", fields, f"{STRANGER} {begin_end} none anyone none",
        [(f"~^{' '.join([word] * len(fields))}$", outputs)],
    )  # fmt: skip
    yield _var("class", STRANGER)
    now = "int({time.now.unix})"
    yield _when("in_time", f"int({{redlatch_begin}}) <= {now} && {now} <= int({{redlatch_end}})")
    yield _var("class", "{redlatch_who}", "in_time")


def _request(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    upgrade, connection = "{http.request.header.Upgrade}", "{http.request.header.Connection}"
    yield "# --- what: the target as it was sent, never as it was decoded"
    # "-" alone is no output to map
    yield from _map("{http.request.orig_uri}", ("before_query",), "none", _captured(tables.BEFORE_QUERY))
    yield from _map("{redlatch_before_query}", ("canonical",), "none", _captured(tables.CANONICAL))
    yield _var("path", tables.NOWHERE)
    yield _when("canonical", '{redlatch_canonical} != "none"')
    yield _var("path", "{redlatch_canonical}", "canonical")
    yield "# --- a page, or a websocket; nothing else"
    yield "@redlatch_no_upgrade header !Upgrade"
    yield _when(
        "websocket",
        f'{{http.request.method}} == "GET" && {upgrade}.lowerAscii() == "websocket" && '
        f'{connection}.lowerAscii().matches("(?:^|,)[ \\\\t]*upgrade[ \\\\t]*(?:,|$)")',
    )
    yield _var("kind", ODD)
    yield _var("kind", WEBSOCKET, "websocket")
    yield _var("kind", PLAIN, "no_upgrade")
    areas = [(f"~{one}", letter) for one, letter in tables.area_table(snapshot)]
    yield from _map('"{http.vars.redlatch_kind} {http.vars.redlatch_path}"', ("area",), tables.UNKNOWN, areas)
    yield "# --- by which name, and whose page asks"
    hosts = [(f"~{tables.host_expression(snapshot.names)}", "own")]
    yield from _map("{http.request.hostport}", ("host",), "foreign", hosts)
    yield from _pages(export)


def _captured(table: tables.Table) -> list[tuple[str, str]]:
    return [(f"~{one}", f"${{{value}}}" if value != tables.NOWHERE else "none") for one, value in table]


def _pages(export: Export) -> Iterator[str]:
    origin, site = "{http.request.header.Origin}", "{http.request.header.Sec-Fetch-Site}"
    kind, method = "{http.vars.redlatch_kind}", "{http.request.method}"
    yield "@redlatch_no_origin header !Origin"
    yield "@redlatch_no_site header !Sec-Fetch-Site"
    yield _var("origin", "sent")
    yield _var("origin", "none", "no_origin")
    yield _var("site", "sent")
    yield _var("site", "none", "no_site")
    yield _var("page", "other")
    listed = "".join(f' || {origin} == "{one}"' for one in export.snapshot.origins)
    yield _when("same_origin", f'{origin} == "https://" + {{http.request.hostport}}.lowerAscii(){listed}')
    yield _var("page", "own", "same_origin")
    none = '{http.vars.redlatch_origin} == "none"'
    near = f'{{http.vars.redlatch_site}} == "none" || {site} == "same-origin" || {site} == "none"'
    moves = (
        '{http.request.header.Sec-Fetch-Mode} == "navigate" && {http.request.header.Sec-Fetch-Dest} == "document"'
        f' && {kind} == "{PLAIN}" && ({method} == "GET" || {method} == "HEAD")'
    )
    yield _when("no_other_page", f"{none} && (({near}) || ({moves}))")
    yield _var("page", "own", "no_other_page")


def _decision(export: Export) -> Iterator[str]:
    snapshot = export.snapshot
    places = "".join(f"{{http.vars.redlatch_net{n}}}" for n, _ in enumerate(tables.networks(snapshot))) or "-"
    path = "{http.vars.redlatch_path}"
    source = f'"{{http.vars.redlatch_class}} {places} {{http.request.method}} {{redlatch_area}} {path}"'
    rules = {f"~{expression}": "admits" for _, expression in tables.rule_table(snapshot)}
    yield "# --- the rules: class, networks, method, area, path"
    yield from _map(source, ("rule",), "none", rules.items())
    target = "{http.request.orig_uri}"
    admitted = (
        '{redlatch_rule} == "admits" && {redlatch_host} == "own" && {http.vars.redlatch_page} == "own" && '
        f'{{http.vars.redlatch_kind}} != "{ODD}" && {{http.request.method}} != "CONNECT" && '
        f'size({target}) <= {MAX_TARGET} && {target}.matches("^/[!-~]*$")'
    )
    device = f'{{http.vars.redlatch_class}} != "{STRANGER}"'
    yield _when("device", f"{admitted} && {device}")
    yield from _to(export, "device", ("Device {redlatch_device}", "User {redlatch_user}", "Role {redlatch_role}"))
    if not tables.wants_certificate(snapshot):
        yield _when("anyone", admitted)
        yield from _to(export, "anyone", ("User anyone",))
    if snapshot.mode == "explain":
        yield "respond 403"
        return
    yield _when("known", device)
    yield "respond @redlatch_known 403"
    yield "abort"


def _to(export: Export, matcher: str, identity: Iterable[str]) -> Iterator[str]:
    yield f"reverse_proxy @redlatch_{matcher} {export.behind} {{"
    # After what Connection names was taken out, so that a client cannot have these taken out too
    yield from (f"\theader_up X-Redlatch-{one}" for one in identity)
    yield "}"
