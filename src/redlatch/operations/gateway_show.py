"""The configuration of the gateway, for people to read."""

from __future__ import annotations

from dataclasses import dataclass

from redlatch.engines.haproxy.compile import compile_tables
from redlatch.engines.haproxy.render import Places
from redlatch.engines.haproxy.render import render as rendered
from redlatch.errors import NotSetUp
from redlatch.operations import machine
from redlatch.operations.publishing import build
from redlatch.operations.site import Config, Site

_NO_SECRET = "0" * 64


@dataclass(frozen=True, slots=True)
class Shown:
    """`configuration` is haproxy.cfg without the secret; in `folder` lie `files` and `tables` (maps) by name."""

    folder: str
    configuration: str
    files: tuple[str, ...]
    tables: tuple[str, ...]


def render(site: Site) -> Shown:
    """What the gateway would be given for the store's present state. Errors: NotSetUp, InvalidInput."""
    with site.store.read() as view:
        config = Config.of(view.site().config)
        made = build(view, config, spool=site.settings.gateway.spool)
    if config.gateway is None:
        raise NotSetUp("this site has no gateway", hint="run: redlatch gateway up --help")
    folder = site.settings.gateway.spool / "haproxy"
    places = Places(folder=folder, pems=site.settings.gateway.published, ipv6=machine.has_ipv6())
    files = rendered(made, config.gateway, _NO_SECRET, places)
    text = files.pop("haproxy.cfg").decode("ascii")
    tables = tuple(f"{name}.map" for name in compile_tables(made))
    return Shown(str(folder), text.replace(_NO_SECRET, "(secret)"), tuple(files), tables)
