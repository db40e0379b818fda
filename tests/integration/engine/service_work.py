"""What the service does to a site, for `fresh.call`."""

from __future__ import annotations

import codecs
import contextlib
import importlib
import pkgutil
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cryptography

import redlatch
from redlatch import bootstrap
from redlatch.engines.nodered import claims
from redlatch.operations import devices, lookups, service, setup, traffic
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Site
from redlatch.pki import authority, bundles, csr
from redlatch.settings import Settings


def _loaded(package: Any) -> None:
    """Imports all of a package before rights are given up: others may not read this checkout, or this Python."""
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.startswith(("redlatch.cli", "redlatch.store.migrations", "redlatch.__main__")):
            with contextlib.suppress(ImportError):  # of what an extra brings
                importlib.import_module(found.name)


_loaded(cryptography)
_loaded(redlatch)
LOADED = (authority, bundles, csr, traffic, *map(codecs.lookup, ("ascii", "idna", "latin-1", "punycode")))


def in_site(home: str, user: str, function: str, *arguments: Any) -> Any:
    site = bootstrap.open_site(Settings(Path(home), system=True, user=user), actor="console: Bart's phone")
    return globals()[function](site, *arguments)


def add(site: Site) -> str:
    return devices.add(site, "Maggie's laptop").force.state


def add_and_revoke(site: Site) -> list[str]:
    added = devices.add(site, "Ada's tablet")
    return [added.force.state, devices.revoke(replace(site, insist=True), "Ada's tablet").force.state]


def last_look(site: Site) -> int | None:
    return lookups.last_look(site)


def read_log(site: Site) -> list[str]:
    return [one.reason for one in claims.read_access(site.settings, site.target().uid)]


def publish_anew(site: Site) -> str:
    shutil.rmtree(site.settings.published / "snapshot")
    return enforce(site, anew=True).state


def own_certificate(site: Site) -> str:
    return service.server_pem(site).read_text()


def set_up(home: str, user: str, user_dir: str) -> None:
    settings = Settings(Path(home), system=True, user=user)
    options = setup.Options(user_dir=Path(user_dir))
    plan = setup.plan(settings, options, {"PATH": "/usr/bin:/bin"}, bootstrap.present_config(settings))
    bootstrap.prepare_site(plan, actor="redlatch")
