"""Clocks that cannot be right: a Pi without a battery starts in 1970, another one years ahead. No issuing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.keeping.test_backup import Shell
from tests.integration.operations.conftest import House
from tests.support.home import small_site
from tests.support.site import published

from redlatch import RELEASED, bootstrap
from redlatch.errors import Conflict, RedlatchError
from redlatch.operations import backup, devices, links, server, service_key
from redlatch.operations.site import CLOCK_AHEAD, Site, changing
from redlatch.policy.decide import decide
from redlatch.policy.model import Facts

BEHIND = [datetime(1970, 1, 2, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 5, 31, tzinfo=UTC)]
AHEAD = bootstrap.now() + CLOCK_AHEAD + timedelta(days=2)


def at(site: Site, moment: datetime) -> Site:
    return replace(site, clock=lambda: moment)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = small_site(tmp_path_factory.mktemp("clock"))
    with closing(made.store):
        devices.add(made, "Phone")
        yield made


ISSUING: dict[str, Callable[[Site], Any]] = {
    "a device's": lambda site: devices.add(site, "Lamp"),
    "a further one": lambda site: devices.renew(site, "Phone"),
    "the service's": service_key.renew,
    "a new server CA": lambda site: server.add_name(site, "pi.example.org", new_root=True),
    "a link": lambda site: links.invite(site, [links.Wanted("Guest")], pinned=True),
    "a backup": lambda site: backup.make(site, seal=bytes, how={}, deliver=lambda _: None),
}


@pytest.mark.parametrize("moment", [*BEHIND, AHEAD], ids=lambda one: f"{one:%Y}")
def test_a_device_is_shut_out_whatever_the_clock_says(tmp_path: Path, moment: datetime) -> None:
    """A lost phone does not wait for a battery. The time is that of the newest event: no other key ends by it."""
    site = small_site(tmp_path)
    with closing(site.store):
        devices.add(site, "Phone", role="owner")
        devices.add(site, "Lost")
        with site.store.read() as view:
            newest = view.audit_before(None, 1)[0].event.at
        assert devices.revoke(at(site, moment), "Lost").device.revoked_at == newest
        with site.store.read() as view:
            assert view.audit_before(None, 1)[0].event.at == newest
            assert view.verify_audit().ok


@pytest.mark.parametrize("what", ISSUING)
@pytest.mark.parametrize("moment", [*BEHIND, AHEAD], ids=lambda one: f"{one:%Y}")
def test_a_clock_that_cannot_be_right_issues_nothing(site: Site, what: str, moment: datetime) -> None:
    """Behind this redlatch's release, or more than 400 days past the newest event: said, and nothing changed."""
    before = site.store.copy()
    keys = sorted(site.settings.keys.iterdir())
    with pytest.raises(Conflict, match="the clock of this machine says") as caught:
        ISSUING[what](at(site, moment))
    assert ("--clock-is-right" in caught.value.hint) == (moment == AHEAD)
    assert site.store.copy() == before
    assert (sorted(site.settings.keys.iterdir()), site.settings.service_pem.exists()) == (keys, False)


@pytest.mark.parametrize("moment", BEHIND, ids=lambda one: f"{one:%Y}")
def test_a_site_is_not_made_with_a_date_of_1970(tmp_path: Path, moment: datetime) -> None:
    """`up` on such a machine makes nothing, and works once the clock is right."""
    house = House(tmp_path, "5.0")
    with pytest.raises(Conflict, match="before this redlatch was released"):
        bootstrap.prepare_site(house.plan(), actor="test", clock=lambda: moment)
    assert not house.settings.home.exists()
    assert house.settings_file.read_bytes() == house.original


def test_within_reason_nothing_is_asked(tmp_path: Path) -> None:
    """A machine that was off for a year goes on; after a person said so, also one of two years."""
    site = small_site(tmp_path)
    with closing(site.store):
        devices.add(at(site, bootstrap.now() + timedelta(days=365)), "After a year")
        later = at(site, bootstrap.now() + timedelta(days=365 + 800))
        with pytest.raises(Conflict):
            devices.add(later, "After three")
        with changing(later, clock_is_right=True) as tx:
            tx.record("site.changed")
        assert devices.add(later, "After three").certificate
        with pytest.raises(Conflict, match="may have jumped"):  # once said is not said for ever
            devices.add(at(site, bootstrap.now() + timedelta(days=365 + 800 + 401)), "After four")


def test_the_command_says_it_and_takes_the_answer(tmp_path: Path) -> None:
    """`redlatch refresh --clock-is-right` is what the hint names; with a clock of 1970 it helps nobody."""
    shell = Shell(tmp_path)
    done = shell.run("refresh", "--help")
    assert b"--clock-is-right" in done.stdout
    site = bootstrap.open_site(shell_settings(tmp_path), actor="test")
    with (
        closing(site.store),
        pytest.raises(Conflict, match="released"),
        changing(at(site, BEHIND[0]), clock_is_right=True),
    ):
        pass


def shell_settings(folder: Path) -> Any:
    from redlatch.settings import from_environment

    return from_environment(folder / "home", os.environ)


def test_the_doors_stay_shut_whatever_the_clock_says(tmp_path: Path) -> None:
    """The decision uses the later of the clock and the newest event: a clock of 1970 revives no key that has
    ended, and lets in whom the newest event's time lets in; one years ahead lets in nobody.
    """
    house = House(tmp_path, "5.0")
    house.up()
    with closing(house.open().store):
        short = devices.add(house.open(), "Short", role="owner", days=1)
        long = devices.add(house.open(), "Long", role="owner")
        devices.add(at(house.open(), bootstrap.now() + timedelta(days=2)), "Later")
        snapshot = published(house.settings.published)

        def gets_in(issued: devices.Issued, now: datetime) -> bool:
            facts = Facts(
                target="/flows",
                host="localhost",
                certificate=issued.fingerprint,
                verified=True,
                now=int(now.timestamp()),
                peer="127.0.0.1",
            )
            return decide(facts, snapshot).allow

        for now in (*BEHIND, bootstrap.now()):
            assert (gets_in(short, now), gets_in(long, now)) == (False, True)
        assert not gets_in(long, AHEAD)


def test_the_release_date_is_a_day_that_is_past() -> None:
    """Else the newest redlatch refused to work on the day of its release."""
    assert datetime.fromisoformat(RELEASED).replace(tzinfo=UTC) < bootstrap.now()
    assert issubclass(Conflict, RedlatchError)
