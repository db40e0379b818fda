"""The configuration of HAProxy that asks the tables of `compile`, and the lists and pages that it loads. Pure.

What anybody can name (hosts, paths, origins) stands in files of one pattern a line, never in the configuration
itself; what stands there is put together from fixed words and from what `model.checked` let pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy import pages, questions
from redlatch.engines.haproxy.compile import BITS, cidrs, text
from redlatch.engines.haproxy.model import Gateway, Upstream, listener
from redlatch.errors import InvalidInput
from redlatch.policy import paths
from redlatch.policy.builtin import addresses
from redlatch.policy.model import Snapshot
from redlatch.policy.networks import compiled, parse

_PLACE: Final = re.compile(r"[A-Za-z0-9/._-]+", re.ASCII)
_NAME: Final = re.compile(r"[a-z0-9._-]+", re.ASCII)
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]+", re.ASCII)
_SECRET: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_REGEX_SPECIAL: Final = re.compile(r"([.^$*+?()\[\]{}|\\])")


@dataclass(frozen=True, slots=True)
class Places:
    """`folder` holds what is rendered, `pems` server.pem and device-ca.pem; `log_fd` is where access lines go,
    `metrics_socket` where redlatch's own metrics are answered.
    """

    folder: Path
    pems: Path
    log_fd: int = 3
    metrics_socket: Path | None = None
    ipv6: bool = True


def render(snapshot: Snapshot | None, gateway: Gateway, secret: str, places: Places) -> dict[str, bytes]:
    """File name -> content of everything but the tables; None for `snapshot` refuses everybody.

    Errors: InvalidInput when a place or the secret could not stand in a configuration.
    """
    for path in (places.folder, places.pems, *([places.metrics_socket] if places.metrics_socket else [])):
        if _PLACE.fullmatch(str(path)) is None:
            raise InvalidInput(
                f"the folder {str(path)!r} has characters that HAProxy's configuration gives a meaning",
                hint="choose a home of letters, digits, dots and dashes",
            )
    if _SECRET.fullmatch(secret) is None:
        raise InvalidInput("the secret between gateway and Node-RED is no 64 hex digits")
    lines = [*_global(places), *_defaults(places), *_frontend(snapshot, gateway, secret, places)]
    lines += [line for number, one in enumerate(gateway.upstreams) for line in _backend(number, one)]
    if snapshot is not None:
        lines += questions.refuse(snapshot, places.folder)
    lines += [*_counters(), *_metrics(gateway, places)]
    files = {"haproxy.cfg": ("\n".join(lines) + "\n").encode("ascii"), **pages.files(places.folder)}
    return files | _lists(snapshot, gateway)


def _global(places: Places) -> list[str]:
    return [
        "# Written by redlatch from its snapshot: what is changed here is lost with the next change there.",
        "global",
        f"    log fd@{places.log_fd} len 16384 format raw local0",
        "    maxconn 4000",
        "    no strict-limits",  # with fewer file descriptors it takes fewer connections, rather than none at all
        "    tune.ssl.default-dh-param 2048",
        "",
    ]


def _defaults(places: Places) -> list[str]:
    return [
        "defaults",
        "    mode http",
        "    log global",
        "    option dontlognull",  # who is turned away after the handshake is a knock, and no bad handshake
        "    option logasap",  # a websocket is told when it opens, so that it can be found and cut
        "    option http-restrict-req-hdr-names delete",  # x_redlatch_user is the same to some programs
        "    retries 2",
        "    timeout connect 3s",
        "    timeout client 60s",
        "    timeout http-request 10s",  # slow headers
        "    timeout http-keep-alive 60s",
        "    timeout server 1h",  # long polls
        "    timeout tunnel 24h",
        f"    errorfile 502 {places.folder}/down.http",
        f"    errorfile 503 {places.folder}/down.http",
        f"    errorfile 504 {places.folder}/down.http",
        "",
    ]


def _frontend(snapshot: Snapshot | None, gateway: Gateway, secret: str, places: Places) -> list[str]:
    folder = places.folder
    lines = ["frontend door", *_binds(snapshot, gateway, places)]
    lines += [f"    {line}" for line in questions.log_format()]
    if gateway.accept_proxy:
        lines.append(
            f"    tcp-request connection expect-proxy layer4 if {{ src,map_ip({folder}/trusted.map) -m str 1 }}"
        )
    asked = questions.refuse_all() if snapshot is None else questions.ask(snapshot, folder, secret)
    lines += [f"    {line}" for line in asked]
    if snapshot is not None and (origins := _origins(snapshot)):
        # Beside what Node-RED says itself: both hold
        lines.append(
            "    http-response add-header Content-Security-Policy "
            f"\"frame-ancestors 'self' {' '.join(origins)}\" unless {{ status 101 }}"
        )
    lines += [f"    {line}" for line in _choice(gateway.upstreams, folder)]
    return [*lines, ""]


def _binds(snapshot: Snapshot | None, gateway: Gateway, places: Places) -> list[str]:
    tls = f"ssl crt {places.pems}/server.pem alpn h2,http/1.1 ssl-min-ver TLSv1.2"
    # Who shows no certificate, or a bad one, gets through the handshake, and nothing beyond it but what a rule or
    # the mode allows: HAProxy cannot choose by address beforehand. The list of fingerprints decides, every time.
    asks = f"ca-file {places.pems}/device-ca.pem verify optional crt-ignore-err all ca-ignore-err all"
    lines = [
        f"    bind {one} name main {tls} {asks}"
        for entry in gateway.listen
        for one in _sockets(entry, places.ipv6)
    ]
    if snapshot is not None and snapshot.open_port is not None:
        hosts = sorted({entry.rpartition(":")[0] for entry in gateway.listen})
        entries = (f"{host}:{snapshot.open_port}" for host in hosts)
        lines += [f"    bind {one} name open {tls}" for entry in entries for one in _sockets(entry, places.ipv6)]
    return lines


def _sockets(entry: str, ipv6: bool) -> list[str]:
    """All addresses are two sockets: on a common one IPv4 peers would come in IPv6 dress."""
    host, port = listener(entry)
    if host:
        return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    return [f"0.0.0.0:{port}", *([f"[::]:{port} v6only"] if ipv6 else [])]


def _choice(upstreams: Sequence[Upstream], folder: Path) -> list[str]:
    """The most particular first: host and path, host, path, any."""
    lines = []
    order = sorted(
        enumerate(upstreams), key=lambda one: (one[1].host is None, one[1].path is None, -len(one[1].path or ""))
    )
    for number, one in order:
        conditions = []
        if one.host is not None:
            conditions.append(f"{{ var(sess.hostname) -m str -f {folder}/upstream{number}-host.lst }}")
        if one.path is not None:
            conditions.append(f"{{ var(txn.spath) -m beg -f {folder}/upstream{number}-path.lst }}")
        lines.append(f"use_backend node-red{number}" + (f" if {' '.join(conditions)}" if conditions else ""))
    return lines


def _backend(number: int, upstream: Upstream) -> list[str]:
    host, port = upstream.address
    if host == "localhost":  # ::1 to some machines, where Node-RED behind the gateway does not listen
        host = "127.0.0.1"
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    local = host == "::1" or host.startswith("127.")
    tls = ""
    if upstream.is_https:
        tls = " ssl verify none" if local else f" ssl verify required ca-file @system-ca verifyhost {host}"
    return [f"backend node-red{number}", f"    server node-red {shown}{tls} init-addr last,libc,none", ""]


def _counters() -> list[str]:
    return [
        "backend knocks",  # who was turned away before HTTP, by address and reason
        "    stick-table type string len 96 size 10k expire 5m store gpc0",
        "",
        "backend reasons",  # decisions by reason
        "    stick-table type string len 32 size 64 store http_req_cnt",
        "",
    ]


def _metrics(gateway: Gateway, places: Places) -> list[str]:
    if gateway.metrics is None:
        return []
    lines = [
        "frontend metrics",
        f"    bind 127.0.0.1:{gateway.metrics}",
        "    no log",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        "    http-request return status 404 unless { path /redlatch }",
        "    default_backend metrics",
        "",
        "backend metrics",
    ]
    if places.metrics_socket is not None:
        lines.append(f"    server redlatch unix@{places.metrics_socket}")
    return [*lines, ""]


# --- lists


def _lists(snapshot: Snapshot | None, gateway: Gateway) -> dict[str, bytes]:
    files = {
        "trusted.map": _addresses(gateway.trusted_proxies),
        "cloudflare.map": _addresses(addresses("cloudflare")),
        "private.map": _addresses(addresses("private")),
    }
    for number, one in enumerate(gateway.upstreams):
        if one.host is not None:
            files[f"upstream{number}-host.lst"] = _lines([one.host.lower()])
        if one.path is not None:
            files[f"upstream{number}-path.lst"] = _lines([f"{one.path}/"])
    if snapshot is None:
        return files
    areas = snapshot.areas
    return files | {
        "hosts.lst": _lines(
            shown for name in snapshot.names if _NAME.fullmatch(name) for shown in (name, f"{name}.")
        ),
        "origins.lst": _lines(_origins(snapshot)),
        "uncanonical.lst": _lines([paths.UNCANONICAL]),
        "methods.map": _lines(f"{method} {bit}" for method, bit in BITS.items()),
        **_editor(snapshot.admin_root),
        "websockets.lst": _lines(_canonical(areas.websockets)),
        **_endpoints(areas.http_in),
        **_below("dashboards", areas.dashboards),
        **_below("static", areas.static),
    }


def _origins(snapshot: Snapshot) -> list[str]:
    return [one for one in snapshot.origins if _ORIGIN.fullmatch(one)]


def _lines(patterns: Iterable[str]) -> bytes:
    return "".join(f"{one}\n" for one in patterns).encode("ascii")


def _addresses(entries: Iterable[str]) -> bytes:
    """1 for those that are among them; see `cidrs` for what is not."""
    found = cidrs({"these": compiled(map(parse, entries))})
    return text({cidr: "1" if names else "0" for cidr, names in found})


def _canonical(found: Iterable[str]) -> list[str]:
    """What is not canonical is never matched, so it is left out."""
    return [path for path in found if paths.is_canonical(path)]


def _below(name: str, prefixes: Iterable[str]) -> dict[str, bytes]:
    """Prefixes that end with a segment (asked with a slash behind the path) and those that end with a slash."""
    found = [path for path in _canonical(prefixes) if path != "/"]
    return {
        f"{name}.lst": _lines(f"{path}/" for path in found if not path.endswith("/")),
        f"{name}-folders.lst": _lines(path for path in found if path.endswith("/")),
    }


def _editor(admin_root: str | None) -> dict[str, bytes]:
    """The editor's own paths in lower case, and in their own case those that only read."""
    if admin_root is None or not paths.is_canonical(admin_root):  # which no path is below
        return dict.fromkeys(("editor.lst", "editor-root.lst", "reads.lst", "reads-folders.lst", "comms.lst"), b"")
    root = admin_root.removesuffix("/")
    if root:
        own = [f"{root.lower()}/"]
    else:
        own = [
            *(f"/{segment}/" for segment in sorted(paths.EDITOR_SEGMENTS)),
            *(f"{one}/" for one in paths.EDITOR_PREFIXES),
        ]
    files = {root + one for one in paths.EDITOR_FILES} | ({root} if root else set())
    return {
        "editor.lst": _lines(own),
        "editor-root.lst": _lines([] if root else ["/"]),
        "reads.lst": _lines(sorted(files)),
        "reads-folders.lst": _lines(root + one for one in paths.EDITOR_FOLDERS),
        "comms.lst": _lines([f"{root}/comms"]),
    }


def _endpoints(patterns: Iterable[str]) -> dict[str, bytes]:
    """The http-in endpoints as literal paths without a last slash, and as expressions where a segment is free."""
    literal, free = [], []
    for pattern in patterns:
        segments = pattern.split("/")
        fixed = ["x" if one.startswith(":") else one for one in segments]
        if pattern.endswith("/") or not paths.is_canonical("/".join(fixed)):
            continue
        if fixed == segments:
            literal.append(pattern)
        else:
            shown = ("[^/]*" if one.startswith(":") else _REGEX_SPECIAL.sub(r"\\\1", one) for one in segments)
            free.append(f"^{'/'.join(shown)}$")
    return {"endpoints.lst": _lines(literal), "endpoints-free.lst": _lines(free)}
