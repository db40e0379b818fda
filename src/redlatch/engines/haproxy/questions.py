"""`policy.decide` as rules of HAProxy: door.cfg, what every request runs through, and refused.cfg for the others.

A decision is `txn.reason`, set once: by the first line whose condition holds. The door only finds out whether a
request is let in, and keeps who is at the other end of a connection until the tables change; why not is asked by
the backend that all others go to, so that it costs those alone.

In the .cfg files `@` is the folder of the tables and lists, and words in capitals are what `_words` says.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from redlatch.engines.haproxy.compile import (
    ANY_DEVICE,
    BY_OPEN_PORT,
    NOTHING,
    NOWHERE,
    OTHER,
    REACHES,
    READS_HERE,
    STRANGER,
)
from redlatch.engines.haproxy.pages import HEADERS
from redlatch.policy.model import Snapshot
from redlatch.policy.paths import MAX_TARGET

_OCTET = "25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9]"
REFUSED = "refused"  # the backend


def log_format() -> list[str]:
    """One line of JSON for each decision that is told; the first fields are those of the guard's access log."""
    told = {
        "at": "%Ts.%ms",
        "from": '"%[var(sess.peer),json(utf8s)]"',
        "device": "%[var(sess.device_json)]",
        "fp": "%[var(sess.fp_json)]",
        "method": '"%[method,json(utf8s)]"',
        "path": '"%[var(txn.path),json(utf8s)]"',
        "allow": "%[var(txn.allow)]",
        "reason": '"%[var(txn.reason)]"',
        "upgrade": "%[var(txn.upgrade)]",
        "count": "1",
        "cert": "%[var(sess.cert_json)]",
        "pid": "%pid",
        "id": "%rt",
        "port": "%cp",
        "status": "%ST",
    }
    failed = {
        "at": "%Ts.%ms", "from": '"%ci"', "device": "null", "fp": "null", "method": "null", "path": "null",
        "allow": "false", "reason": '"bad-handshake"', "upgrade": "false", "count": "1",
    }  # fmt: skip
    return [f"log-format '{_json(told)}'", f"error-log-format '{_json(failed)}'"]


def _json(fields: dict[str, str]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in fields.items()) + "}"


def refuse_all() -> list[str]:
    """Where there is no snapshot: nobody is let in, and nothing beyond the handshake is said."""
    return ["tcp-request session reject", "http-request reject"]


def ask(snapshot: Snapshot, folder: Path, secret: str) -> Iterator[str]:
    """The door: who asks, and whether that is let in."""
    stale = f"{{ str(stale),map_str_int({folder}/state.map) eq 1 }}"
    yield from _lines("words.cfg", snapshot, folder)
    yield "tcp-request session set-var(sess.peer) src"
    yield from _who("tcp-request session", "", folder)
    yield from _at_the_handshake(snapshot, folder)
    yield f"http-request set-log-level silent if {stale}"
    yield f"http-request reject if {stale}"
    yield "http-request set-var(txn.anew) bool(true) if trusted or !same_version or !begun or !lasts"
    yield from _peer()
    yield from _who("http-request", "anew", folder)
    yield from _lines("door.cfg", snapshot, folder, SECRET=secret)
    yield f"use_backend {REFUSED} if !allowed"


def refuse(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    """The backend of what is not let in."""
    yield f"backend {REFUSED}"
    said = {"strict": [""], "auto": [f" !{{ var(sess.peer),map_ip({folder}/private.map) -m str 1 }}"]}.get(
        snapshot.mode, []
    )
    silence = "\n".join(f"http-request reject if !is_device no_grant{condition}" for condition in said)
    headers = " ".join(f'hdr {name} "{value}"' for name, value in HEADERS.items())
    for name, words in (("words.cfg", {}), ("refused.cfg", {"SILENCE": silence, "HEADERS": headers})):
        yield from (f"    {line}" for line in _lines(name, snapshot, folder, **words))
    yield ""


def _lines(name: str, snapshot: Snapshot, folder: Path, **more: str) -> Iterator[str]:
    text = resources.files("redlatch.engines.haproxy").joinpath(name).read_text("ascii")
    words = {
        "@": str(folder),
        "OCTET": _OCTET,
        "MAX_TARGET": str(MAX_TARGET),
        # A page may be shown in a frame of an origin that is named: which one, the browser sees to
        "SHOWN": "document iframe" if snapshot.origins else "document",
        "READS_HERE": str(READS_HERE),
        "REACHES": str(REACHES),
        "OTHER": str(OTHER),
        **more,
    }
    for word, value in words.items():
        text = text.replace(word, value)
    yield from (line for line in text.splitlines() if line)


def _at_the_handshake(snapshot: Snapshot, folder: Path) -> Iterator[str]:
    """Nothing beyond the handshake for whom no rule speaks of. Who comes through a proxy is asked later."""
    silent = {
        "strict": ["!is_device no_grant !trusted"],
        "auto": [f"!is_device no_grant !trusted !{{ src,map_ip({folder}/private.map) -m str 1 }}"],
    }.get(snapshot.mode, [])
    turned_away = "{ var(sess.turned_away) -m found }"
    for condition in ("!is_device no_grant by_open_port", *silent):
        yield f"tcp-request session set-var(sess.turned_away) bool(true) if {condition}"
    yield f"tcp-request session set-var(sess.knock) src,concat(|,sess.why) if {turned_away}"
    yield f"tcp-request session track-sc0 var(sess.knock) table knocks if {turned_away}"
    yield f"tcp-request session sc-inc-gpc0(0) if {turned_away}"
    yield f"tcp-request session reject if {turned_away}"


def _peer() -> Iterator[str]:
    """The address that counts: that of the connection, or what a trusted proxy says it is.

    Of X-Forwarded-For the last, which the proxy itself added; CF-Connecting-IP from Cloudflare alone, since others
    hand on what a client wrote there. What is no address is in no network.
    """
    yield "http-request set-var(sess.peer) src if trusted"
    for header, fetched, whom in (
        ("x-forwarded-for", "req.hdr(x-forwarded-for,-1)", "trusted"),
        ("cf-connecting-ip", "req.fhdr(cf-connecting-ip)", "trusted cloudflare"),
    ):
        yield f"http-request set-var(sess.peer) {fetched} if {whom} {{ req.fhdr_cnt({header}) gt 0 }}"
    # HAProxy would read an address out of 127.0.0.1x, 127.0.0.1:80 and 0127.0.0.1
    yield "http-request set-var(sess.peer) str(unknown) if trusted !address"


def _who(action: str, when: str, folder: Path) -> Iterator[str]:
    """`why`: ok, or why this is no device; who it is; `grant` and `permission` of whoever asks.

    `when`: the condition of every line, if there is one.
    """

    def line(name: str, value: str, *conditions: str) -> str:
        cases = [" ".join(filter(None, (when, one))) for one in conditions or ("",)]
        tail = " or ".join(cases) if all(cases) else ""
        return f"{action} set-var(sess.{name}) {value}" + (f" if {tail}" if tail else "")

    def known(name: str) -> str:
        return f"{{ var(sess.{name}) -m found }}"

    def why(reason: str, *conditions: str) -> str:
        return line("why", f"str({reason})", *(f"!{known('why')} {one}" for one in conditions))

    if when:
        for name in ("why", "row", "from", "until", "place", "who", "granted", "device", "role", "turned_away"):
            yield f"{action} unset-var(sess.{name}) if {when}"
    # The version first: a change puts it in last, so that what was asked meanwhile is asked anew
    yield line("version", f"str(version),map_str_int({folder}/state.map)")
    yield line("fp", "ssl_c_der,sha2(256),hex,lower", f"has_certificate !{known('fp')}")
    yield line("row", f"var(sess.fp),map_str({folder}/changed.map)", "has_certificate")
    yield line("row", f"var(sess.fp),map_str({folder}/devices.map)", f"has_certificate !{known('row')}")
    # The later of clock and snapshot: a clock that falls back revives nothing
    time = f"str(time),map_str_int({folder}/state.map)"
    yield line("now", "date")
    yield line("now", time, f"{{ {time},sub(sess.now) gt 0 }}")
    listed = f"{known('row')} !{{ var(sess.row) -m str -- - }}"
    yield why("no-certificate", "!has_certificate")
    yield why("expired", f"past {listed}")
    yield why("not-yet-valid", f"future {listed}")
    yield why("unknown-certificate", "past", "future")
    yield why("untrusted-certificate", "!verified")
    yield why("unknown-certificate", f"!{known('row')}", "{ var(sess.row) -m str -- - }")
    yield why("not-yet-valid", "{ var(sess.row),field(1,|),sub(sess.now) gt 0 }")
    yield why("expired", "{ var(sess.row),field(2,|),sub(sess.now) lt 0 }")
    yield why("ok", "")
    yield line("from", "var(sess.row),field(1,|),add(0)", "is_device")
    yield line("until", "var(sess.row),field(2,|),add(0)", "is_device")
    yield line("device", "var(sess.row),field(3,|)", "is_device")
    yield line("user", "var(sess.row),field(5,|)", "is_device")
    yield line("user", "str(anyone)", "!is_device")
    yield line("place", f"var(sess.peer),map_ip({folder}/networks.map,{NOWHERE})")
    yield line("place", f"str({NOWHERE})", f"!{known('place')}")  # what is no address
    yield line("who", f"str({STRANGER})", "!is_device !by_open_port")
    yield line("who", f"str({BY_OPEN_PORT})", "!is_device by_open_port")
    yield line("role", "var(sess.row),field(4,|)", "is_device")
    yield line("who", f"var(sess.device),map_str({folder}/special.map)", "is_device")
    yield line("who", "var(sess.role)", f"is_device !{known('who')}")
    yield line("role", "var(sess.role),bytes(2)", "is_device")
    grants = f"concat(|,sess.place),map_str({folder}/grants.map)"
    yield line("granted", f"var(sess.who),{grants}")
    # A role that no rule names and that nobody knows
    yield line("granted", f"str({ANY_DEVICE}),{grants}", f"is_device !{known('granted')}")
    yield line("granted", f"str({NOTHING})", f"!{known('granted')}")
    yield line("grant", "var(sess.granted),field(1,|)")
    yield line("permission", "var(sess.granted),field(2,|)")
    yield line("fp_short", "var(sess.fp),bytes(0,12)", "has_certificate")
    for name, value in (("device", "device"), ("fp", "fp_short"), ("cert", "fp")):
        yield line(f"{name}_json", "str(null)")
        yield line(f"{name}_json", r"'str(\")'", known(value))
        yield line(f"{name}_json", rf"'var(sess.{name}_json),concat(,sess.{value},\")'", known(value))
