"""Devices made for a check's knocks, on a site that has nobody else."""

from __future__ import annotations

from pathlib import Path

from tests.support.home import small_site

from redlatch.operations.throwaways import throwaways


def test_the_last_who_could_change_something_may_go(tmp_path: Path) -> None:
    """Only they could reach the editor; they are revoked all the same, and nobody has to insist."""
    site = small_site(tmp_path)
    with site.store.read() as view:
        assert view.devices_in_use() == 0
    with throwaways(site):
        pass
    with site.store.read() as view:
        assert view.devices_in_use() == 0
    site.store.close()
