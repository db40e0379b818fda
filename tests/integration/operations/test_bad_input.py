"""What bad input gets: a clear error with a hint, and nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.integration.operations.conftest import House

from redlatch import bootstrap
from redlatch.errors import Conflict, InvalidInput, NotFound, PassphraseNeeded, RedlatchError, UsageError
from redlatch.operations import devices, server, setup
from redlatch.operations.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site with one device, shared: nothing here may change it."""
    house = House(tmp_path_factory.mktemp("bad"), "5.0")
    house.up()
    house.key("Bart's phone")
    return house.open()


@pytest.mark.parametrize(
    ("attempt", "error"),
    [
        pytest.param(lambda s: devices.add(s, "bart’s  PHONE"), Conflict, id="a name that reads the same"),
        pytest.param(lambda s: devices.add(s, ""), InvalidInput, id="no name"),
        pytest.param(lambda s: devices.add(s, "a\x1b[31m"), InvalidInput, id="a terminal escape"),
        pytest.param(lambda s: devices.add(s, "a\u202eb"), InvalidInput, id="right-to-left"),
        pytest.param(lambda s: devices.add(s, "x" * 300), InvalidInput, id="300 characters"),
        pytest.param(lambda s: devices.add(s, "new", role="root"), InvalidInput, id="unknown role"),
        pytest.param(lambda s: devices.add(s, "new", days=0), InvalidInput, id="no days"),
        pytest.param(lambda s: devices.add(s, "new", days=100_000), InvalidInput, id="too many days"),
        pytest.param(lambda s: devices.add(s, "new", csr=b"garbage"), InvalidInput, id="garbage CSR"),
        pytest.param(lambda s: devices.add(s, "new", owner="\x00"), InvalidInput, id="owner with control"),
        pytest.param(lambda s: devices.revoke(s, "nobody"), NotFound, id="unknown device"),
        pytest.param(lambda s: devices.revoke(s, "Bart's phone", reason="\x07"), InvalidInput, id="bad reason"),
        pytest.param(lambda s: devices.revoke(s, "Bart's phone", reason="x" * 201), InvalidInput, id="a novel"),
        pytest.param(lambda s: devices.renew(s, "nobody"), NotFound, id="renew unknown"),
        pytest.param(lambda s: devices.set_role(s, "Bart's phone", "king"), InvalidInput, id="role unknown"),
        pytest.param(lambda s: devices.rename(s, "Bart's phone", "\n"), InvalidInput, id="rename to nothing"),
        pytest.param(lambda s: server.add_name(s, "*.lan"), InvalidInput, id="wildcard"),
        pytest.param(lambda s: server.add_name(s, "pi.local:1880"), InvalidInput, id="name with a port"),
        pytest.param(lambda s: server.add_name(s, "bad_name; rm -rf /"), InvalidInput, id="no host name"),
    ],
)
def test_is_refused_and_nothing_changes(
    site: Site, attempt: Callable[[Site], object], error: type[RedlatchError]
) -> None:
    """Each is refused with a message in lower case, and neither store nor published files differ afterwards."""
    before = _state(site)
    with pytest.raises(error) as caught:
        attempt(site)
    assert not caught.value.message.endswith(".")
    assert _state(site) == before


def test_a_failed_delivery_is_no_device(site: Site) -> None:
    """When the file with the key cannot be written, the device does not exist."""
    before = _state(site)

    def fail(_: devices.Issued) -> None:
        raise NotFound("the folder is gone")

    with pytest.raises(NotFound):
        devices.add(site, "new", deliver=fail)
    with pytest.raises(NotFound):
        devices.renew(site, "Bart's phone", deliver=fail)
    assert _state(site) == before


def test_a_clock_years_behind_changes_nothing(site: Site) -> None:
    """A Pi that starts in 1970 issues nothing that would be refused for ever."""
    before = _state(site)
    early = replace(site, clock=lambda: datetime(1970, 1, 2, tzinfo=UTC))
    with pytest.raises(Conflict, match="clock"):
        devices.add(early, "new")
    assert _state(site) == before


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": "open"}, UsageError),
        ({"server_cert": Path("x.pem")}, UsageError),
        ({"names": ("a b",)}, InvalidInput),
    ],
)
def test_bad_options_of_up(newest: House, options: dict[str, Any], error: type[RedlatchError]) -> None:
    """`up` refuses before it touches anything."""
    with pytest.raises(error):
        newest.plan(**options)
    assert not newest.settings.home.exists()


def test_certificate_and_key_that_do_not_match(newest: House) -> None:
    """A pair that does not belong together is refused before anything is made."""
    from redlatch.pki import certificates, keys
    from redlatch.pki.authority import Authority

    now = bootstrap.now()
    ca = Authority.create_server("x", ["pi.local"], now=now)
    leaf = ca.issue_server(keys.generate_key("p256").public_key(), ["pi.local"], now=now)
    cert, key = newest.root / "c.pem", newest.root / "k.pem"
    cert.write_bytes(certificates.certificate_pem(leaf))
    key.write_bytes(keys.private_key_pem(keys.generate_key("p256"), None))
    with pytest.raises(InvalidInput, match="do not belong together"):
        newest.plan(server_cert=cert, server_key=key)
    assert not newest.settings.home.exists()


def test_keys_under_a_passphrase(newest: House) -> None:
    """With a passphrase the CA keys on disk are of no use without it, and right with it."""
    plan = newest.plan()
    secret = b"correct horse battery staple"
    site = bootstrap.prepare_site(plan, actor="test", passphrase=lambda: secret, protect=True)
    setup.lock(site, plan)
    for path in newest.settings.keys.iterdir():
        assert b"ENCRYPTED" in path.read_bytes()
    assert devices.add(site, "phone").fingerprint
    for wrong in (b"", b"wrong"):
        with pytest.raises(PassphraseNeeded):
            devices.add(replace(site, passphrase=lambda wrong=wrong: wrong), "laptop")
    # What needs no key needs no passphrase: a lost phone can be shut out at once.
    assert (
        devices.revoke(replace(site, passphrase=bootstrap.no_passphrase, insist=True), "phone").certificates == 1
    )


def _state(site: Site) -> tuple[object, ...]:
    with site.store.read() as view:
        head, revision = view.audit_head(), view.site().revision
    published = {str(path): path.read_bytes() for path in site.settings.published.rglob("*") if path.is_file()}
    return head, revision, published, sorted(site.settings.keys.iterdir())
