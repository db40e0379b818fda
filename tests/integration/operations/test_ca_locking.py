"""The keys of the CAs under a passphrase: on the disk, while it is missing, and killed in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.support import foreign_cas as other
from tests.support.home import small_site

from redlatch.cli import ca_lock
from redlatch.cli.session import Session, passphrase_from_systemd
from redlatch.errors import Conflict, NotPermitted, PassphraseNeeded
from redlatch.files import names_in
from redlatch.operations import (
    authorities,
    credentials,
    devices,
    importing,
    locking,
    rotation,
    server,
    service_key,
)
from redlatch.operations.site import Site
from redlatch.pki import keys


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(keys, "SCRYPT_N", 1024)  # how slow it has to be is tested with the keys themselves
    monkeypatch.setattr(keys, "SCRYPT_P", 1)
    found = small_site(tmp_path)
    yield found
    found.store.close()


def knowing(site: Site, passphrase: bytes) -> Site:
    return replace(site, passphrase=lambda: passphrase)


def kinds(site: Site) -> list[str]:
    with site.store.read() as view:
        return [one.event.kind for one in view.audit_events()]


def test_locked_changed_and_unlocked(site: Site) -> None:
    """Every key is under the passphrase, then under another one, then under none; each is recorded."""
    importing.request(site, "device")
    locking.lock(site, b"one")
    assert locking.look(site).files == locking.look(site).locked
    assert len(locking.look(site).files) == 3
    with pytest.raises(PassphraseNeeded):
        devices.add(site, "phone")
    with pytest.raises(PassphraseNeeded, match="does not open"):
        devices.add(knowing(site, b"two"), "phone")
    devices.add(knowing(site, b"one"), "phone")
    with pytest.raises(PassphraseNeeded, match="does not open"):
        locking.lock(knowing(site, b"guess"), b"two")
    locking.lock(knowing(site, b"one"), b"two")
    devices.add(knowing(site, b"two"), "tablet")
    with pytest.raises(PassphraseNeeded):
        locking.unlock(knowing(site, b"one"))
    locking.unlock(knowing(site, b"two"))
    devices.add(site, "laptop")
    assert [one for one in kinds(site) if one.startswith("ca.") and "lock" in one] == [
        "ca.locked", "ca.locked", "ca.unlocked",
    ]  # fmt: skip
    for path in site.settings.keys.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_what_needs_no_key_goes_on_while_they_are_locked(site: Site) -> None:
    """Devices are shut out, renamed and given roles, a CA is ended; nothing is issued and no CA made."""
    devices.add(site, "boss", role="owner")
    devices.add(site, "phone")
    devices.add(site, "tablet")
    rotation.begin(site, "device")
    service_key.server_pem(site)
    locking.lock(site, b"secret")
    devices.set_role(site, "phone", "viewer")
    assert devices.revoke(site, "tablet").certificates == 1
    assert rotation.end(site, "device", force=True).cut == ("boss", "phone")
    service_key.server_pem(site)
    for attempt in (
        lambda: devices.add(site, "new"),
        lambda: devices.renew(site, "phone"),
        lambda: rotation.begin(site, "device"),
        lambda: rotation.now(site),
        lambda: importing.request(site, "server"),
    ):
        with pytest.raises(PassphraseNeeded):
            attempt()
    # A new CA is under the same passphrase as the others
    rotation.begin(knowing(site, b"secret"), "device")
    assert locking.look(site).files == locking.look(site).locked


def test_killed_between_two_keys_both_still_open(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One key is under the new passphrase and one is not; each opens, and the same command finishes."""
    real = authorities.write_key

    def once(*given: object) -> None:
        real(*given)  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGKILL)

    for old, new in ((b"", b"one"), (b"one", b"two")):
        child = os.fork()
        if child == 0:
            monkeypatch.setattr(authorities, "write_key", once)
            try:
                locking.lock(knowing(site, old), new)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        opened = [{word for word in (old, new) if opens(site, name, word)} for name in locking.look(site).files]
        assert sorted(map(sorted, opened)) == sorted([[old], [new]])
        locking.lock(knowing(site, old), new)
        assert all(opens(site, name, new) for name in locking.look(site).files)
    assert kinds(site)[-2:] == ["ca.locked", "ca.locked"]


def opens(site: Site, name: str, passphrase: bytes) -> bool:
    from redlatch.pki.keys import load_private_key

    data = (site.settings.keys / name).read_bytes()
    if not passphrase:
        return not authorities.is_locked(data)
    if not authorities.is_locked(data):
        return False
    try:
        load_private_key(data, passphrase)
    except PassphraseNeeded:
        return False
    return True


@pytest.mark.parametrize(("old", "new"), [(b"", b"one"), (b"one", b"two"), (b"one", b"")])
@pytest.mark.parametrize("step", ["begin", "now", "import", "request", "name"])
def test_a_lock_that_comes_in_between(
    step: str, old: bytes, new: bytes, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No new key is plain, or under the old passphrase, beside keys that were locked since it was asked for."""
    company = other.make(tmp_path, "company", other.CA)
    if old:
        locking.lock(site, old)
    knows = knowing(site, old)
    plan = importing.plan(knows, "device", [company.cert, company.key], lambda _: b"")
    steps: dict[str, Callable[[], object]] = {
        "begin": lambda: rotation.begin(knows, "device"),
        "now": lambda: rotation.now(knows),
        "import": lambda: importing.carry_out(knows, plan),
        "request": lambda: importing.request(knows, "device"),
        "name": lambda: server.add_name(knows, "pi.example.org", new_root=True),
    }
    asked = authorities.passphrase_of_keys

    def then(given: Site) -> bytes | None:
        found = asked(given)
        if new:
            locking.lock(given, new)
        else:
            locking.unlock(given)
        return found

    before = authorities.key_files(site)
    monkeypatch.setattr(authorities, "passphrase_of_keys", then)
    with pytest.raises(Conflict, match="meanwhile"):
        steps[step]()
    assert sorted(names_in(site.settings.keys)) == before
    assert all(opens(site, name, new) for name in before)


def test_where_the_passphrase_comes_from(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that REDLATCH_PASSPHRASE_FILE names, else systemd's credential, else nobody knows it here."""
    monkeypatch.delenv("REDLATCH_PASSPHRASE_FILE", raising=False)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(PassphraseNeeded):
        Session(site.settings.home, as_json=True).passphrase()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert passphrase_from_systemd() is None
    (tmp_path / "redlatch-ca").write_bytes(b"by systemd\n")
    (tmp_path / "redlatch-ca").chmod(0o440)  # what systemd makes of a file for a user of its own
    assert Session(site.settings.home, as_json=True).passphrase() == b"by systemd"
    (tmp_path / "own").write_bytes(b"by file\n")
    (tmp_path / "own").chmod(0o600)
    monkeypatch.setenv("REDLATCH_PASSPHRASE_FILE", str(tmp_path / "own"))
    assert Session(site.settings.home, as_json=True).passphrase() == b"by file"


def test_unlocking_goes_on_where_it_was_killed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are plain, and systemd hands the passphrase over still: the same command takes that away."""
    store, etc, program = tmp_path / "credstore", tmp_path / "etc", tmp_path / "systemd-creds"
    etc.mkdir()
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o755)
    monkeypatch.setattr(credentials, "handed_over", partial(credentials.handed_over, store=store, etc=etc))
    take_away = partial(credentials.take_away, store=store, etc=etc)
    site = replace(site, settings=replace(site.settings, system=True, user="root"), passphrase=lambda: b"one")
    monkeypatch.setattr(Session, "site", lambda _: site)
    monkeypatch.setattr(credentials.dropin, "reload_systemd", lambda: None)
    monkeypatch.setattr(ca_lock, "_restart", lambda _: False)
    locking.lock(site, b"one")
    written = credentials.put(b"one", str(program), store=store, etc=etc)

    def killed() -> tuple[Path, ...]:
        written[0].unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(credentials, "take_away", killed)
    with pytest.raises(KeyboardInterrupt):
        locking.unlock(site)
    monkeypatch.setattr(credentials, "take_away", take_away)
    assert locking.look(site).locked == ()
    ca_lock.unlock.main(["--yes"], obj=site.settings.home, standalone_mode=False)
    assert not any(one.exists() for one in written)
    with pytest.raises(Conflict, match="under no passphrase"):
        ca_lock.unlock.main(["--yes"], obj=site.settings.home, standalone_mode=False)


def test_a_credential_is_for_root(site: Site) -> None:
    """Without root's installation there is no unit to hand it to, and that is said before anything is asked."""
    with pytest.raises(NotPermitted):
        credentials.check(system=False)
