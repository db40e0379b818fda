"""Devices made for a check's knocks, on a site that has nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.home import small_site

from redlatch.errors import Conflict
from redlatch.operations import weighing
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


def test_nothing_is_revoked_or_published_where_none_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change on trial refuses them: the site, its audit trail and what is published are as before."""
    site = small_site(tmp_path)
    with site.store.read() as view:
        before = view.site().revision, view.audit_head()

    def on_trial(*_: object, **__: object) -> None:
        raise Conflict("a change is on trial")

    monkeypatch.setattr(weighing, "weighed", on_trial)
    published: list[object] = []
    monkeypatch.setattr("redlatch.operations.throwaways.enforce", published.append)
    with pytest.raises(Conflict, match="on trial"), throwaways(site):
        pass
    with site.store.read() as view:
        assert (view.site().revision, view.audit_head()) == before
    assert published == []
    site.store.close()
