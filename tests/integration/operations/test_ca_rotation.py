"""Rotations step by step: what is refused, what is given up, who has moved; without engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.support.home import small_site

from redlatch import bootstrap
from redlatch.errors import Conflict, NotFound, PassphraseNeeded
from redlatch.operations import adopting, authorities, devices, rotation, server, service_key
from redlatch.operations.rotation import Kind
from redlatch.operations.site import Site, changing


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = small_site(tmp_path)
    yield found
    found.store.close()


def later(site: Site, seconds: int) -> Site:
    return replace(site, clock=lambda: bootstrap.now() + timedelta(seconds=seconds))


def states(site: Site, kind: str) -> list[tuple[str, str]]:
    return [(one.state, one.key) for one in authorities.listed(site)[0] if one.kind == kind]


@pytest.mark.parametrize("kind", ["device", "server"])
def test_steps_out_of_their_order_are_refused(kind: Kind, site: Site) -> None:
    """Nothing ends, switches or is given up before it began; it does not begin twice."""
    for step in (rotation.end, rotation.cancel):
        with pytest.raises(Conflict, match="no new"):
            step(site, kind)
    with pytest.raises(Conflict, match="no new server root"):
        rotation.switch(site)
    rotation.begin(site, kind)
    with pytest.raises(Conflict, match="already"):
        rotation.begin(site, kind)
    assert len(list(site.settings.keys.iterdir())) == 3


def test_a_new_device_ca_is_given_up_as_long_as_it_gave_nothing(site: Site) -> None:
    """Its key goes and the old one signs again; with one certificate of it there is no way back."""
    devices.add(site, "phone")
    rotation.begin(site, "device")
    assert states(site, "device") == [("trusted", "here"), ("signs", "here")]
    rotation.cancel(site, "device")
    assert states(site, "device") == [("signs", "here"), ("ended", "removed")]
    rotation.begin(site, "device")
    devices.renew(site, "phone")
    with pytest.raises(Conflict, match="issued 1 certificate already"):
        rotation.cancel(site, "device")
    assert rotation.end(site, "device").revoked == 1


def test_who_has_moved(site: Site) -> None:
    """A device moves with its next key; one that is revoked, or whose keys have ended, holds nothing up."""
    for name in ("phone", "tablet", "lost"):
        devices.add(site, name)
    devices.add(site, "old", days=1)
    rotation.begin(site, "device")
    devices.revoke(site, "lost")
    devices.renew(site, "tablet")
    tomorrow = later(site, 2 * 86400)
    found = rotation.progress(tomorrow, "device")
    assert ([one.name for one in found.remaining], found.moved) == (["phone"], 1)
    with pytest.raises(Conflict, match=r"1 device would be shut out, .*: phone$"):
        rotation.end(tomorrow, "device")
    devices.renew(site, "phone")
    assert rotation.end(tomorrow, "device").cut == ()
    with site.store.read() as view:
        assert view.devices_by_authority(tomorrow.clock()) == {3: 2}


def test_a_switched_server_root_goes_back_and_forth(site: Site) -> None:
    """The console's certificate follows the root that signs, with the key that it had, and back again."""
    service_key.server_pem(site)
    before = service_key.leaf(site)
    assert before is not None
    devices.add(site, "phone")
    rotation.begin(later(site, 5), "server")
    found = rotation.progress(later(site, 20), "server")
    assert ([one.name for one in found.remaining], found.moved, found.stage) == (["phone"], 0, "handing-out")
    devices.renew(later(site, 10), "phone")
    assert rotation.progress(later(site, 20), "server").remaining == ()

    rotation.switch(later(site, 20))
    shown = service_key.leaf(site)
    assert shown is not None
    assert shown.issuer != before.issuer
    assert shown.public_key() == before.public_key()
    rotation.cancel(later(site, 30), "server")
    shown = service_key.leaf(site)
    assert shown is not None
    assert (shown.issuer, shown.public_key()) == (before.issuer, before.public_key())
    assert states(site, "server") == [("signs", "here"), ("ended", "removed")]
    assert len(devices.renew(later(site, 40), "phone").server_cas) == 1


def test_a_lost_or_locked_key_stops_a_switch_before_anything_changes(site: Site) -> None:
    """The server depends on the new key from then on: it must be there, and open."""
    rotation.begin(site, "server")
    waiting = site.settings.keys / _key_of(site, "waits")
    content = waiting.read_bytes()
    waiting.write_bytes(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(PassphraseNeeded):
        rotation.switch(site)
    waiting.write_bytes((site.settings.keys / _key_of(site, "signs")).read_bytes())
    with pytest.raises(NotFound, match="not the one"):
        rotation.switch(site)
    assert [state for state, _ in states(site, "server")] == ["signs", "waits"]
    waiting.write_bytes(content)
    rotation.switch(site)
    assert [state for state, _ in states(site, "server")] == ["trusted", "signs"]


def _key_of(site: Site, state: str) -> str:
    listed = [one for one in authorities.listed(site)[0] if one.kind == "server" and one.state == state]
    with site.store.read() as view:
        return authorities.find(view, listed[0].fingerprint).key_file


def test_an_ended_authority_is_named_by_enough_digits(site: Site) -> None:
    """Seven digits are too few, one that signs is not ended this way, and one that is ended is not found."""
    signs = authorities.listed(site)[0][0]
    with pytest.raises(NotFound):
        adopting.end(site, signs.fingerprint[:7])
    with pytest.raises(Conflict, match="signs here"):
        adopting.end(site, signs.fingerprint)
    rotation.now(site)
    with pytest.raises(NotFound):
        adopting.end(site, signs.fingerprint)


def test_a_name_outside_the_constraints_is_a_rotation(site: Site) -> None:
    """`name add --new-root`: the new root signs at once, the old one stays until the end; not twice at once."""
    with pytest.raises(Conflict, match="may not name"):
        server.add_name(site, "pi.example.org")
    rotation.begin(site, "server")
    with pytest.raises(Conflict, match="already"):
        server.add_name(site, "pi.example.org", new_root=True)
    assert site.config().names == ()


def test_a_key_that_was_ordered_before_the_change_is_not_given_after_it(site: Site) -> None:
    """An ended CA issues nothing, however far the order had got."""
    made = devices.order(site)
    rotation.now(site)
    with pytest.raises(Conflict, match="meanwhile"), changing(site) as tx:
        devices.added(site, tx, made, name="late", role="owner", owner=None, days=1)
    assert devices.list_devices(site) == []
