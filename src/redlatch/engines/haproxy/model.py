"""What a gateway is told besides the snapshot: where it listens, what it stands in front of, whom it believes."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from redlatch.errors import InvalidInput, RedlatchError
from redlatch.policy.networks import parse
from redlatch.policy.paths import is_canonical

_HOST: Final = r"(?!-)[A-Za-z0-9.-]{1,253}(?<!-)"
_NAME: Final = re.compile(_HOST, re.ASCII)
_ADDRESS: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Upstream:
    """One Node-RED behind the gateway: its `url` (scheme, host and port only), and which requests are for it.

    `host` is a host name of the request, `path` a canonical path that the request's is, or lies below; None stands
    for every other one.
    """

    url: str
    host: str | None = None
    path: str | None = None

    @property
    def address(self) -> tuple[str, int]:
        """(host or address, port)."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    @property
    def is_https(self) -> bool:
        return self.url.startswith("https://")


@dataclass(frozen=True, slots=True)
class Gateway:
    """`listen` are `ADDRESS:PORT` (the address may be empty: all of them, IPv6 in brackets), `trusted_proxies`
    networks whose PROXY headers and forwarded addresses are believed, `metrics` a port on loopback or None.
    """

    listen: tuple[str, ...]
    upstreams: tuple[Upstream, ...]
    accept_proxy: bool = False
    trusted_proxies: tuple[str, ...] = ()
    metrics: int | None = None


def listener(text: str) -> tuple[str, int]:
    """(address or "", port) of `:443`, `192.168.1.5:443`, `[::1]:8443`, `443`; InvalidInput."""
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidInput(
            f"{text[:100]!r} is no address and port", hint="an IPv6 address stands in brackets: [::1]:443"
        )
    if not (port.isascii() and port.isdecimal() and 1 <= int(port or 0) <= 65535):
        raise InvalidInput(f"{text[:100]!r} has no port", hint="as in :443 or 192.168.1.5:443")
    if host:
        parse(host if "/" not in host and "-" not in host else "no address")
    return host, int(port)


def checked(gateway: Gateway) -> Gateway:
    """The same gateway, once everything in it may stand in a configuration; InvalidInput with what is wrong."""
    if not gateway.listen:
        raise InvalidInput("the gateway listens nowhere", hint="name a port, as in --listen :443")
    if not gateway.upstreams:
        raise InvalidInput(
            "the gateway has no Node-RED behind it", hint="name one, as in --to http://127.0.0.1:1880"
        )
    for one in gateway.listen:
        listener(one)
    for network in gateway.trusted_proxies:
        parse(network)
    for upstream in gateway.upstreams:
        _check_upstream(upstream)
    asked = [(one.host, one.path) for one in gateway.upstreams]
    if len(set(asked)) != len(asked):
        raise InvalidInput(
            "two Node-REDs are named for the same requests",
            hint="tell them apart: --to HOST=URL or --to /PATH=URL",
        )
    if gateway.metrics is not None and not 1 <= gateway.metrics <= 65535:
        raise InvalidInput(f"{gateway.metrics} is no port", hint="a number from 1 to 65535")
    return gateway


def _check_upstream(upstream: Upstream) -> None:
    hint = "as in --to http://127.0.0.1:1880"
    try:
        parts = urlsplit(upstream.url)
        port = parts.port
    except ValueError as error:
        raise InvalidInput(f"{upstream.url[:100]!r} is no address of a Node-RED", hint=hint) from error
    host = parts.hostname or ""
    plain = f"{parts.scheme}://{parts.netloc}"
    known = _NAME.fullmatch(host) or (_ADDRESS.fullmatch(host) and ":" in host)
    if (
        parts.scheme not in ("http", "https")
        or not known
        or upstream.url.rstrip("/") != plain
        or "@" in plain
        or port == 0
    ):
        raise InvalidInput(f"{upstream.url[:100]!r} is no address of a Node-RED", hint=hint)
    if upstream.host is not None and _NAME.fullmatch(upstream.host) is None:
        raise InvalidInput(
            f"{upstream.host[:100]!r} is no host name", hint="as in --to home.example=http://127.0.0.1:1880"
        )
    path = upstream.path
    if path is not None and (not is_canonical(path) or path.endswith("/")):
        raise InvalidInput(
            f"the path {path[:100]!r} is not in its canonical form",
            hint="as in --to /workshop=http://127.0.0.1:1881",
        )


def gateway_json(gateway: Gateway) -> bytes:
    """What `parse_gateway` reads."""
    return json.dumps({"format": 1, **asdict(gateway)}, indent=1).encode() + b"\n"


def parse_gateway(data: bytes) -> Gateway:
    """Reads what `gateway_json` wrote; InvalidInput for anything else."""
    try:
        body: dict[str, Any] = json.loads(data)
        if body.pop("format") != 1:
            raise InvalidInput("the gateway's configuration has a format that this redlatch does not know")
        return checked(of(body))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, RedlatchError):
            raise
        raise InvalidInput("the gateway's configuration is torn or garbled") from error


def of(body: dict[str, Any]) -> Gateway:
    """From JSON's lists and dicts; TypeError or KeyError for what is none."""
    upstreams = tuple(Upstream(**one) for one in body["upstreams"])
    lists = {key: tuple(body[key]) for key in ("listen", "trusted_proxies")}
    return Gateway(
        upstreams=upstreams, accept_proxy=body["accept_proxy"] is True, metrics=body["metrics"], **lists
    )
