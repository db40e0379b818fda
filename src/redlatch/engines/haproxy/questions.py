"""`policy.decide` as rules of HAProxy: the lines of the frontend, in the order in which decide asks.

A decision is `txn.reason`, set once: by the first line whose condition holds. Traps that these lines avoid were
measured with 2.6 and 2.8: `ssl_c_verify` is 0 when no certificate was sent; a resumed session is not verified
anew, so the fingerprint is looked up for each request; `hdr` splits at commas, `fhdr` does not; prefixes match in
the middle of a segment, so what ends with a segment is asked with a slash behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy.compile import (
    ANY_DEVICE,
    ANYWHERE,
    BITS,
    BY_OPEN_PORT,
    NOWHERE,
    OTHER,
    REACHES,
    READS_HERE,
    STRANGER,
)
from redlatch.engines.haproxy.pages import HEADERS
from redlatch.policy.model import Area, Snapshot
from redlatch.policy.paths import MAX_TARGET

_CONNECTION, _REQUEST = "tcp-request session", "http-request"


def log_format() -> list[str]:
    """One line of JSON for each decision that is told; the first fields are those of the guard's access log."""
    fields = {
        "at": "%Ts.%ms",
        "from": '"%[var(txn.peer),json(utf8s)]"',
        "device": "%[var(txn.device_json)]",
        "fp": "%[var(txn.fp_json)]",
        "method": '"%[method,json(utf8s)]"',
        "path": '"%[var(txn.path),json(utf8s)]"',
        "allow": "%[var(txn.allow)]",
        "reason": '"%[var(txn.reason)]"',
        "upgrade": "%[var(txn.upgrade_json)]",
        "count": "1",
        "cert": "%[var(txn.cert_json)]",
        "pid": "%pid",
        "id": "%rt",
        "port": "%cp",
        "status": "%ST",
    }
    line = _json(fields)
    failed = {
        "at": "%Ts.%ms", "from": '"%ci"', "device": "null", "fp": "null", "method": "null", "path": "null",
        "allow": "false", "reason": '"bad-handshake"', "upgrade": "false", "count": "1",
    }  # fmt: skip
    return [f"log-format '{line}'", f"error-log-format '{_json(failed)}'"]


def _json(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def refuse_all(folder: Path) -> list[str]:
    """Where there is no snapshot: nobody is let in, and nothing beyond the handshake is said."""
    return [
        "tcp-request session reject",
        "http-request set-var(txn.reason) str(no-snapshot)",
        "http-request reject",
    ]


def ask(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    """The whole decision, and what is done about it."""
    yield from _words(snapshot, folder)
    yield from _at_the_handshake(snapshot, folder)
    yield f"http-request set-log-level silent if {{ str(stale),map_str_int({folder}/state.map) eq 1 }}"
    yield f"http-request reject if {{ str(stale),map_str_int({folder}/state.map) eq 1 }}"
    yield from _peer(folder)
    yield from _who(_REQUEST, "txn", folder)
    yield from _request(folder)
    yield from _area(folder)
    yield from _reach(folder)
    yield from _outcome(snapshot, folder)


# --- one line


def _set(name: str, value: str, condition: str = "") -> str:
    return f"http-request set-var(txn.{name}) {value}" + (f" if {condition}" if condition else "")


def _refuse(reason: str, condition: str) -> str:
    return _set("reason", f"str({reason})", f"!decided {condition}")


# --- conditions


_WORDS: Final = r"""
acl decided var(txn.reason) -m found
acl quiet var(txn.quiet) -m found
acl has_certificate ssl_c_used
acl verified ssl_c_verify 0
acl past ssl_c_verify 10
acl future ssl_c_verify 9
acl by_open_port so_name -m str open
acl trusted src -f @/trusted.lst
acl cloudflare src -f @/cloudflare.lst
acl is_device var(txn.why) -m str ok
acl no_grant var(txn.grant) -m str 0

acl get method GET
acl connect method CONNECT
acl reads method GET HEAD
acl host_form req.fhdr(host) -m reg '^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(:[0-9]{1,5})?$'
acl own_host var(txn.hostname) -m str -f @/hosts.lst
acl own_host var(txn.hostname) -m reg '^(OCTET)(\.(OCTET)){3}$'
acl host_is_ipv6 var(txn.hostname) -m reg '^\[.*:.*\]$'
acl any_ipv6 var(txn.hostname),ltrim([),rtrim(]) -m ip ::/0
acl by_http2 fc_http_major 2
acl origin_form url -m beg /
acl path_form pathq -m beg /
acl too_long pathq -m len gt MAX_TARGET
acl asks_upgrade req.fhdr_cnt(upgrade) gt 0
acl one_upgrade req.fhdr_cnt(upgrade) eq 1
acl to_websocket req.fhdr(upgrade) -m str -i websocket
acl connection_upgrade req.hdr(connection) -m str -i upgrade
acl has_origin req.fhdr_cnt(origin) gt 0
acl one_origin req.fhdr_cnt(origin) eq 1
acl own_origin req.fhdr(origin),strcmp(txn.own) eq 0
acl own_origin req.fhdr(origin) -m str -f @/origins.lst
acl has_site req.fhdr_cnt(sec-fetch-site) gt 0
acl one_site req.fhdr_cnt(sec-fetch-site) eq 1
acl same_site req.fhdr(sec-fetch-site) -m str same-origin none
acl one_mode req.fhdr_cnt(sec-fetch-mode) eq 1
acl navigates req.fhdr(sec-fetch-mode) -m str navigate
acl one_dest req.fhdr_cnt(sec-fetch-dest) eq 1
acl is_shown req.fhdr(sec-fetch-dest) -m str SHOWN

acl uncanonical var(txn.path) -m reg -f @/uncanonical.lst
acl editors var(txn.lpath) -m beg -f @/editor.lst
acl editors var(txn.path) -m str -f @/editor-root.lst
acl editor_reads var(txn.path) -m str -f @/reads.lst
acl editor_reads var(txn.path) -m beg -f @/reads-folders.lst
acl comms var(txn.path) -m str -f @/comms.lst
acl websockets var(txn.path) -m str -f @/websockets.lst
acl endpoints var(txn.path),rtrim(/) -m str -f @/endpoints.lst
acl endpoints var(txn.path),rtrim(/) -m reg -f @/endpoints-free.lst
acl dashboards var(txn.spath) -m beg -f @/dashboards.lst
acl dashboards var(txn.path) -m beg -f @/dashboards-folders.lst
acl static var(txn.spath) -m beg -f @/static.lst
acl static var(txn.path) -m beg -f @/static-folders.lst

acl by_area var(txn.by_area),and(txn.method) gt 0
acl by_prefix var(txn.by_prefix),and(txn.method) gt 0
acl by_folder var(txn.by_folder),and(txn.method) gt 0
acl reaches var(txn.by_area),and(REACHES) gt 0
acl reaches var(txn.by_prefix),and(REACHES) gt 0
acl reaches var(txn.by_folder),and(REACHES) gt 0
acl elsewhere var(txn.also_area),and(txn.method) gt 0
acl elsewhere var(txn.also_prefix),and(txn.method) gt 0
acl elsewhere var(txn.also_folder),and(txn.method) gt 0
acl reads_here var(txn.by_area),and(READS_HERE) gt 0
"""


def _words(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    """The names that the other lines use. With HTTP/2, HAProxy makes an absolute form of every target; 9 and 10
    are OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
    """
    words = {
        "@": str(folder),
        "OCTET": "25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]",
        "MAX_TARGET": str(MAX_TARGET),
        "SHOWN": "document iframe" if snapshot.origins else "document",
        "READS_HERE": str(READS_HERE),
        "REACHES": str(REACHES),
    }
    text = _WORDS
    for word, value in words.items():
        text = text.replace(word, value)
    yield from (line for line in text.splitlines() if line)


# --- who


def _at_the_handshake(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    """Nothing beyond the handshake for whom no rule speaks of. Who comes through a proxy is asked later."""
    yield "tcp-request session set-var(sess.peer) src"
    yield from _who(_CONNECTION, "sess", folder)
    refused = "!{ var(sess.why) -m str ok } { var(sess.grant) -m str 0 }"
    silent = {
        "strict": [f"{refused} !trusted"],
        "auto": [f"{refused} !trusted !{{ src -f {folder}/private.lst }}"],
    }.get(snapshot.mode, [])
    yield f"tcp-request session set-var(sess.turned_away) bool(true) if {refused} by_open_port"
    yield from (f"tcp-request session set-var(sess.turned_away) bool(true) if {one}" for one in silent)
    turned_away = "{ var(sess.turned_away) -m found }"
    yield f"tcp-request session set-var(sess.knock) src,concat(|,sess.why) if {turned_away}"
    yield f"tcp-request session track-sc0 var(sess.knock) table knocks if {turned_away}"
    yield f"tcp-request session sc-inc-gpc0(0) if {turned_away}"
    yield f"tcp-request session reject if {turned_away}"


def _peer(folder: Path) -> Iterator[str]:
    """The address that counts: that of the connection, or what a trusted proxy says it is.

    Of X-Forwarded-For the last, which the proxy itself added; CF-Connecting-IP from Cloudflare alone, since others
    hand on what a client wrote there. What is no address is in no network.
    """
    yield _set("peer", "src")
    yield _set("peer", "req.hdr(x-forwarded-for,-1)", "trusted { req.hdr(x-forwarded-for) -m found }")
    yield _set("peer", "req.fhdr(cf-connecting-ip)", "trusted cloudflare { req.fhdr(cf-connecting-ip) -m found }")


def _who(action: str, scope: str, folder: Path) -> Iterator[str]:
    """`why`: ok, or why this is no device; `row` of the device; `grant` and `permission` of whoever asks."""

    def line(name: str, value: str, condition: str = "") -> str:
        return f"{action} set-var({scope}.{name}) {value}" + (f" if {condition}" if condition else "")

    def why(reason: str, condition: str) -> str:
        return line("why", f"str({reason})", f"!{{ var({scope}.why) -m found }} {condition}")

    def found(name: str) -> str:
        return f"{{ var({scope}.{name}) -m found }}"

    once = (
        f"{action} set-var(sess.fp) ssl_c_der,sha2(256),hex,lower if has_certificate !{{ var(sess.fp) -m found }}"
    )
    time = f"str(time),map_str_int({folder}/state.map)"
    yield once
    yield line("row", f"var(sess.fp),map_str({folder}/changed.map)", "has_certificate")
    yield line("row", f"var(sess.fp),map_str({folder}/devices.map)", f"has_certificate !{found('row')}")
    # The later of clock and snapshot: a clock that falls back revives nothing
    yield line("now", "date")
    yield line("now", time, f"{{ {time},sub({scope}.now) gt 0 }}")
    listed = f"{found('row')} !{{ var({scope}.row) -m str -- - }}"
    yield why("no-certificate", "!has_certificate")
    yield why("expired", f"past {listed}")
    yield why("not-yet-valid", f"future {listed}")
    yield why("unknown-certificate", "past or !" + found("why") + " future")
    yield why("untrusted-certificate", "!verified")
    yield why("unknown-certificate", f"!{found('row')} or !{found('why')} {{ var({scope}.row) -m str -- - }}")
    yield why("not-yet-valid", f"{{ var({scope}.row),field(1,|),sub({scope}.now) gt 0 }}")
    yield why("expired", f"{{ var({scope}.row),field(2,|),sub({scope}.now) lt 0 }}")
    yield line("why", "str(ok)", f"!{found('why')}")
    is_device = f"{{ var({scope}.why) -m str ok }}"
    yield line("place", f"var({scope}.peer),map_ip({folder}/networks.map,{NOWHERE})")
    yield line("place", f"str({NOWHERE})", f"!{found('place')}")  # what is no address
    yield line("who", f"str({STRANGER})", f"!{is_device} !by_open_port")
    yield line("who", f"str({BY_OPEN_PORT})", f"!{is_device} by_open_port")
    yield line("who_role", f"var({scope}.row),field(4,|)", is_device)
    yield line("who", f"var({scope}.row),field(3,|),map_str({folder}/special.map)", is_device)
    yield line("who", f"var({scope}.who_role)", f"{is_device} !{found('who')}")
    grants = f"concat(|,{scope}.place),map_str({folder}/grants.map)"
    yield line("granted", f"var({scope}.who),{grants}")
    # A role that no rule names and that nobody knows
    yield line("granted", f"str({ANY_DEVICE}),{grants}", f"{is_device} !{found('granted')}")
    yield line("granted", "str(0|-)", f"!{found('granted')}")
    yield line("grant", f"var({scope}.granted),field(1,|)")
    yield line("permission", f"var({scope}.granted),field(2,|)")


# --- what


def _request(folder: Path) -> Iterator[str]:
    """What nobody may do, whatever the rules."""
    yield _set("path", "path")
    yield _set("hostname", "req.fhdr(host),host_only", "host_form")
    yield _set("own", "req.fhdr(host),lower")
    yield _set("own_host_header", "var(txn.own)")
    yield _set("own", "str(https://),concat(,txn.own_host_header)")
    yield _set("why_stranger", "var(txn.why)")
    yield _set("reason", "var(txn.why)", "!is_device no_grant")
    yield _refuse("foreign-host", "!host_form")
    yield _refuse("foreign-host", "!own_host !host_is_ipv6")
    yield _refuse("foreign-host", "host_is_ipv6 !any_ipv6")
    yield _refuse("bad-target", "!by_http2 !origin_form")
    yield _refuse("bad-target", "!path_form")
    yield _refuse("bad-target", "too_long")
    yield _refuse("bad-upgrade", "connect")
    websocket = "get one_upgrade to_websocket connection_upgrade"
    yield _set("websocket", "bool(true)", f"asks_upgrade {websocket}")
    yield _refuse("bad-upgrade", "asks_upgrade !{ var(txn.websocket) -m found }")
    yield _refuse("cross-origin", "has_origin !one_origin")
    yield _refuse("cross-origin", "has_origin !own_origin")
    foreign = "!has_origin has_site"
    for condition in ("!one_mode", "!navigates", "!one_dest", "!is_shown", "!reads", "asks_upgrade"):
        yield _refuse("cross-origin", f"{foreign} !same_site {condition}")
        yield _refuse("cross-origin", f"{foreign} !one_site {condition}")


def _area(folder: Path) -> Iterator[str]:
    """The area: unknown is the editor's, and what the editor owns is never anything else."""
    websocket = "{ var(txn.websocket) -m found }"
    flows = "!uncanonical !{ var(txn.is_editors) -m found } !{ var(txn.area) -m found }"
    yield _set("spath", "var(txn.path),concat(/)")
    yield _set("lpath", "var(txn.spath),lower")
    yield _set("is_editors", "bool(true)", "editors")
    yield _set("area", f"str({Area.EDITOR})", "uncanonical")
    reading = "!{ var(txn.area) -m found } { var(txn.is_editors) -m found }"
    yield _set("area", f"str({Area.EDITOR_READ})", f"{reading} !{websocket} editor_reads")
    yield _set("area", f"str({Area.EDITOR_READ})", f"{reading} {websocket} comms")
    yield _set("area", f"str({Area.WEBSOCKETS})", f"{flows} {websocket} websockets")
    yield _set("area", f"str({Area.HTTP_IN})", f"{flows} !{websocket} endpoints")
    yield _set("area", f"str({Area.DASHBOARDS})", f"{flows} dashboards")
    yield _set("area", f"str({Area.STATIC})", f"{flows} !{websocket} static")
    yield _set("area", f"str({Area.EDITOR})", "!{ var(txn.area) -m found }")


def _reach(folder: Path) -> Iterator[str]:
    """Whether a rule lets it through, or which of them comes nearest."""
    named = "!uncanonical !{ var(txn.is_editors) -m found }"
    reach = f"map_str_int({folder}/reach.map,0)"
    for method, bit in BITS.items():
        yield _set("method", f"int({bit})", f"{{ method {method} }}")
    yield _set("method", f"int({OTHER})", "!{ var(txn.method) -m found }")
    yield _set("by_area", f"var(txn.grant),concat(|,txn.area),{reach}", "!decided")
    yield _set("reason", "str(ok)", "!decided by_area")
    for name, subject in (("prefix", "spath"), ("folder", "path")):
        table = "prefixes" if name == "prefix" else "folders"
        yield _set(f"{name}_set", f"var(txn.{subject}),map_beg({folder}/{table}.map)", f"!decided {named}")
        yield _set(
            f"by_{name}",
            f"var(txn.grant),concat(|,txn.{name}_set),{reach}",
            f"!decided {{ var(txn.{name}_set) -m found }}",
        )
        yield _set("reason", "str(ok)", f"!decided by_{name}")
    # --- refused: a stranger for being one, a device by the nearest rule
    yield _set("reason", "var(txn.why)", "!decided !is_device")
    yield _refuse("read-only", "!reads reads_here")
    yield _refuse("wrong-method", "reaches")
    grants = f"concat(|{ANYWHERE}),map_str({folder}/grants.map)"
    yield _set("also", f"var(txn.who),{grants},field(1,|)", "!decided")
    yield _set("also", f"str({ANY_DEVICE}),{grants},field(1,|)", "!decided !{ var(txn.also) -m found }")
    yield _set("also_area", f"var(txn.also),concat(|,txn.area),{reach}", "!decided")
    for name in ("prefix", "folder"):
        yield _set(
            f"also_{name}",
            f"var(txn.also),concat(|,txn.{name}_set),{reach}",
            f"!decided {{ var(txn.{name}_set) -m found }}",
        )
    yield _refuse("wrong-network", "elsewhere")
    yield _refuse("no-rule", "")


# --- what is done about it


def _outcome(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    allowed = "{ var(txn.reason) -m str ok }"
    yield "http-request track-sc1 var(txn.reason) table reasons"
    # Told is, of what is let in, the first request of a connection, every upgrade and every write
    yield _set("quiet", "bool(true)", f"{allowed} reads !asks_upgrade {{ var(sess.came_in) -m found }}")
    yield "http-request set-log-level silent if quiet"
    yield _set("allow", "str(false)", "!quiet")
    yield _set("allow", "str(true)", f"!quiet {allowed}")
    yield _set("upgrade_json", "str(false)", "!quiet")
    yield _set("upgrade_json", "str(true)", "!quiet asks_upgrade")
    yield _set("device_id", "var(txn.row),field(3,|)", "!quiet is_device")
    yield _set("fp_short", "var(sess.fp),bytes(0,12)", "!quiet has_certificate")
    for name, value in (("device", "txn.device_id"), ("fp", "txn.fp_short"), ("cert", "sess.fp")):
        yield _set(f"{name}_json", "str(null)", "!quiet")
        quoted = f"!quiet {{ var({value}) -m found }}"
        yield _set(f"{name}_json", r"'str(\")'", quoted)
        yield _set(f"{name}_json", rf"'var(txn.{name}_json),concat(,{value},\")'", quoted)
    yield f"http-request set-var(sess.came_in) bool(true) if {allowed}"
    told = {"strict": "", "auto": f" !{{ var(txn.peer) -m ip -f {folder}/private.lst }}"}.get(snapshot.mode)
    if told is not None:
        yield f"http-request reject if !is_device no_grant{told}"
    headers = " ".join(f'hdr {name} "{value}"' for name, value in HEADERS.items())
    for kind, file, wanted in (
        ("html", "why.html", "{ req.hdr(accept) -m sub text/html }"),
        ("plain", "why.txt", ""),
    ):
        yield (
            f'http-request return status 403 content-type "text/{kind}; charset=utf-8" lf-file {folder}/{file} '
            f"{headers} if !{allowed} {wanted}".rstrip()
        )
