"""A home with both CAs and no Node-RED: what most of the control plane needs."""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from redlatch import bootstrap
from redlatch.files import make_dir
from redlatch.operations import authorities
from redlatch.operations.site import Config, Site, changing
from redlatch.settings import from_environment
from redlatch.store import Store


def small_site(root: Path) -> Site:
    """A new site in `root`/home, opened."""
    settings = from_environment(root / "home", {})
    for folder in (settings.home, settings.authority, settings.keys):
        make_dir(folder, mode=0o700)
    Store.create(settings.database, site_uuid=str(uuid.uuid4()), now=bootstrap.now()).close()
    site = Site(settings, Store.open(settings.database), "test", bootstrap.now, bootstrap.no_passphrase)
    config = Config(machine="attic", hosts=("attic", "attic.local", "localhost"))
    with changing(site) as tx:
        tx.set_config(config.stored())
        tx.record("site.created", machine=config.machine)
        for kind in ("server", "device"):
            authorities.create(site, tx, kind, config.hosts, None)
    return site


@contextlib.contextmanager
def copied(site: Site, root: Path) -> Iterator[Site]:
    """A copy of a closed site in `root`/home, opened: cheaper than a new one."""
    settings = from_environment(root / "home", {})
    shutil.copytree(site.settings.home, settings.home)
    with contextlib.closing(Store.open(settings.database)) as store:
        yield replace(site, settings=settings, store=store)
