"""Other web origins: pages from elsewhere (a Home Assistant panel) that may call this Node-RED and embed it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, changing, set_config
from redlatch.pki import names as pki_names

_PORTS: Final = {"http": 80, "https": 443}
_MOST: Final = 32
_URL: Final = re.compile(r"(?i:(https?))://([^/?#@]+)(/?)", re.ASCII)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([0-9]{1,5}))?", re.ASCII)
_EXAMPLE: Final = "as in https://homeassistant.local:8123"


@dataclass(frozen=True, slots=True)
class Changed:
    """An origin that was added or removed, what whoever added it should know, and how far the change got."""

    origin: str
    warnings: tuple[str, ...]
    force: Force


def add(site: Site, url: str) -> Changed:
    """Lets the pages of an origin call this Node-RED with the browser's certificate, and show it in a frame.

    Errors: InvalidInput (no origin), Conflict (it is there already, or there are 32).
    """
    origin = canonical(url)
    with changing(site) as tx:
        present = Config.of(tx.site().config).origins
        if origin in present:
            raise Conflict(
                f"{origin} is one of this site's origins already", hint="redlatch origin list shows all of them"
            )
        if len(present) >= _MOST:
            raise Conflict(f"there are {_MOST} origins already", hint="remove one that is not needed any more")
        set_config(tx, origins=(*present, origin))
        tx.record("origin.added", origin=origin)
    return Changed(origin, warnings(origin), enforce(site))


def remove(site: Site, url: str) -> Changed:
    """Takes an origin away: its pages are refused from then on. Errors: InvalidInput, NotFound."""
    origin = canonical(url)
    with changing(site) as tx:
        present = Config.of(tx.site().config).origins
        if origin not in present:
            raise NotFound(
                f"{origin} is not one of this site's origins", hint="redlatch origin list shows all of them"
            )
        set_config(tx, origins=tuple(one for one in present if one != origin))
        tx.record("origin.removed", origin=origin)
    return Changed(origin, (), enforce(site))


def list_origins(site: Site) -> tuple[str, ...]:
    return site.config().origins


def warnings(origin: str) -> tuple[str, ...]:
    """What is weak about an origin, in words."""
    if not origin.startswith("http://"):
        return ()
    text = "whoever sits between it and a browser can act as that page, with the key of the device that shows it"
    return (f"{origin} is not encrypted: {text}",)


def canonical(url: str) -> str:
    """The origin as a browser writes it in its Origin header (RFC 6454, 6.2); InvalidInput for anything else."""
    url = url.strip()
    match = _URL.fullmatch(url)
    if match is None:
        raise _no_origin(url)
    scheme = match[1].lower()
    parts = _HOST.fullmatch(match[2])
    if parts is None:
        raise InvalidInput(f"{url[:200]!r} names no host that a browser knows", hint=_EXAMPLE)
    port = int(parts[2]) if parts[2] is not None else _PORTS[scheme]
    if not 1 <= port <= 65535:
        raise InvalidInput(f"{port} is no port", hint="a number from 1 to 65535")
    host = _host(parts[1])
    return f"{scheme}://{host}" if port == _PORTS[scheme] else f"{scheme}://{host}:{port}"


def _host(text: str) -> str:
    try:
        if text.startswith("["):
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        if re.fullmatch(r"[0-9.]+", text):
            return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise InvalidInput(f"{text!r} is no address", hint=_EXAMPLE) from None
    return pki_names.host_name(text)


def _no_origin(url: str) -> InvalidInput:
    shown = repr(url[:200])
    if "*" in url:
        return InvalidInput(f"{shown} has a wildcard", hint=f"name each origin by itself, {_EXAMPLE}")
    if "@" in url:
        # not repeated: a password may stand there, or a token behind the path
        return InvalidInput("this web origin has a user's name in it", hint=f"leave it out, {_EXAMPLE}")
    match = re.match(r"((?i:https?)://[^/?#]+)[/?#]", url, re.ASCII)
    if match is not None:
        return InvalidInput("a web origin is a whole server and has no path", hint=f"write {match[1]}")
    if "://" not in url:
        return InvalidInput(f"{shown} is no web origin", hint=f"write https:// before it, {_EXAMPLE}")
    return InvalidInput(f"{shown} is no web origin", hint=f"http or https, a host and perhaps a port, {_EXAMPLE}")
