"""A home and a user folder of Node-RED's, set up by the operations that the command line calls."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.nodered import VERSIONS, NodeRed, Version, free_port, node, red_js, write_settings

from redlatch import bootstrap
from redlatch.operations import devices, setup
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Site
from redlatch.pki.bundles import pem_files
from redlatch.settings import Settings, from_environment


@dataclass(frozen=True)
class Key:
    """A device's certificate and key in one PEM file."""

    cert_file: Path
    issued: devices.Issued


class House:
    """One home with one Node-RED."""

    def __init__(self, root: Path, version: Version) -> None:
        self.root = root
        self.version = version
        self.port = free_port()
        self.user_dir = root / "user"
        self.settings_file = write_settings(self.user_dir)
        self.original = self.settings_file.read_bytes()
        self.settings: Settings = from_environment(root / "home", {})
        # Its own Node.js: a fresh machine has no other.
        path = f"{node(version).parent}:{red_js(version).parents[1] / '.bin'}:/usr/bin:/bin"
        self.environ = {"PATH": path, "HOME": str(root)}
        self.site: Site | None = None

    def options(self, **more: Any) -> setup.Options:
        return setup.Options(user_dir=self.user_dir, port=self.port, **more)

    def plan(self, **more: Any) -> setup.Plan:
        return setup.plan(
            self.settings, self.options(**more), self.environ, bootstrap.present_config(self.settings)
        )

    def up(self, **more: Any) -> setup.Locked:
        plan = self.plan(**more)
        self.site = bootstrap.prepare_site(plan, actor="test")
        return setup.lock(self.site, plan)

    def open(self) -> Site:
        if self.site is None:
            self.site = bootstrap.open_site(self.settings, actor="test")
        # Most houses have one device only; what locks that out is what the guard's own tests are about.
        return replace(self.site, insist=True)

    def key(self, name: str, **more: Any) -> Key:
        issued = devices.add(self.open(), name, **more)
        return self.file(issued)

    def file(self, issued: devices.Issued) -> Key:
        files = pem_files(issued.key, issued.certificate, issued.server_cas)
        path = self.root / f"{issued.fingerprint[:16]}.pem"
        path.write_bytes(files["cert.pem"] + files["key.pem"])
        return Key(path, issued)

    def node_red(self) -> NodeRed:
        return NodeRed(self.version, self.user_dir, port=self.port)


@pytest.fixture(params=VERSIONS)
def house(request: pytest.FixtureRequest, tmp_path: Path) -> House:
    return House(tmp_path, request.param)


@pytest.fixture
def newest(tmp_path: Path) -> House:
    """For what does not depend on Node-RED's version."""
    return House(tmp_path, "5.0")


def fill(site: Site, count: int) -> None:
    """As many devices as that, written past the operations (which would take hours) and published."""
    with closing(sqlite3.connect(site.settings.database, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        connection.execute(
            "INSERT INTO devices (id, name, name_key, role, user_slug, created_at)"
            " WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ? - 1)"
            " SELECT 'd' || i, 'd' || i, 'd' || i, 'user', 'u' || i, 0 FROM n",
            (count,),
        )
        connection.execute(
            "INSERT INTO certificates"
            " (fingerprint, device_id, authority_id, serial, not_before, not_after, issued_at, der, changed)"
            " SELECT lower(hex(randomblob(32))), id, 1, id, 0, 4000000000, 0, zeroblob(600), 0 FROM devices"
        )
        connection.execute("COMMIT")
    assert enforce(site, anew=True).state == "published"
