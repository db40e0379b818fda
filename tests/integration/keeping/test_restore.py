"""A site put back from a backup: the same CAs and devices, what was shut out stays out, nothing ever half."""

from __future__ import annotations

import os
import pwd
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.crash import syscalls
from tests.integration.keeping.test_backup import rebuilt, tar_of
from tests.integration.operations.test_trouble import as_root, fill, small_disk
from tests.support.home import small_site
from tests.support.keeping import MADE_WITH_0003, Original, back_up, opened, proved, put_back, sealed

from redlatch import bootstrap
from redlatch.engines.nodered import publish
from redlatch.engines.nodered.users import user_by_uid
from redlatch.errors import Conflict, NotSetUp, RedlatchError, StoreTooNew
from redlatch.files import names_in
from redlatch.operations import archive, backup, devices, links, publishing, restore, sealing, server
from redlatch.operations.archive import Archive, BadBackup
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Config, Notify, Service, Site, Target, authority, changing, set_config
from redlatch.policy.snapshot import encode
from redlatch.settings import Settings, from_environment
from redlatch.store import Store


def states(site: Site) -> dict[str, bool]:
    """Name -> whether the device is in use."""
    with site.store.read() as view:
        assert view.verify_audit().ok
        return {one.name: one.revoked_at is None for one in view.devices()}


def kinds(site: Site) -> list[str]:
    with site.store.read() as view:
        return [one.event.kind for one in view.audit_events()]


def test_the_same_site_comes_back(original: Original, tmp_path: Path) -> None:
    """Same CAs, same devices, the chain goes on; the restored site issues keys, and is told to nobody yet."""
    with closing(put_back(original.file, tmp_path / "new").store) as store:
        site = bootstrap.open_site(from_environment(tmp_path / "new", {}), actor="test")
        assert states(site) == {"Phone": True, "Tablet": False}
        for kind in ("server", "device"):
            mine, theirs = authority(site, kind), authority(original.site, kind)
            assert mine.certificate == theirs.certificate
        assert (site.config().adopted, site.config().target) == (False, None)
        assert kinds(site)[-1] == "site.restored"
        with site.store.read() as view, original.site.store.read() as before:
            event = view.audit_before(None, 1)[0].event
            head = archive.unpack(opened(original.file)).manifest.head
            assert (event.data["event"], event.data["head"]) == (head.seq, head.hash.hex())
            assert view.site().revision > before.site().revision
        assert (
            devices.add(site, "Lamp").certificate.issuer == authority(original.site, "device").certificate.subject
        )
        site.store.close()
        assert store is not None


def test_what_is_written_is_private(original: Original, tmp_path: Path) -> None:
    """Folders 0700 and files 0600, whatever the umask; nothing is left of the building."""
    before = os.umask(0)
    try:
        put_back(original.file, tmp_path / "new").store.close()
    finally:
        os.umask(before)
    settings = from_environment(tmp_path / "new", {})
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in settings.authority.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file() and path.name != "lock"} == {0o600}
    assert stat.S_IMODE(settings.authority.stat().st_mode) == 0o700
    assert names_in(settings.home) == {"authority"}


@as_root
def test_in_an_installation_of_roots_all_of_it_belongs_to_the_services_user(
    original: Original, tmp_path: Path
) -> None:
    """The home is root's, what is in it the user's as whom the service runs; so the service can change it."""
    user = pwd.getpwnam("daemon")
    settings = Settings(tmp_path / "new", system=True, user="daemon")
    put_back(original.file, settings).store.close()
    assert settings.home.stat().st_uid == 0
    owners = {path: path.stat() for path in (settings.authority, *settings.authority.rglob("*"))}
    assert {(one.st_uid, one.st_gid) for one in owners.values()} == {(user.pw_uid, user.pw_gid)}


def test_a_site_that_is_there_is_not_touched(original: Original, tmp_path: Path) -> None:
    site = small_site(tmp_path)
    site.store.close()
    before = {path: path.read_bytes() for path in site.settings.home.rglob("*") if path.is_file()}
    with pytest.raises(Conflict, match="already"):
        put_back(original.file, site.settings.home)
    assert {path: path.read_bytes() for path in site.settings.home.rglob("*") if path.is_file()} == before


@pytest.fixture
def newer(tmp_path: Path) -> Iterator[tuple[Site, bytes]]:
    """A site, and a backup made before a device was shut out, another came, and one of two keys was revoked."""
    site = small_site(tmp_path)
    phone = devices.add(site, "Phone", role="owner")
    devices.renew(site, "Phone")
    devices.add(site, "Lost")
    with changing(site) as tx:
        set_config(tx, service=Service(enrolment=("127.0.0.1",)))
        tx.record("site.changed")
    [invited] = links.invite(site, [links.Wanted("Guest")], pinned=True)
    data = back_up(site)
    links.redeem(site, invited.token, peer="127.0.0.1", by_page=False, csr=csr())
    devices.revoke(site, "Lost", reason="in the train")
    devices.add(site, "New")
    with changing(site) as tx:
        tx.revoke_certificate(phone.fingerprint, site.clock(), "old")
        tx.record("certificate.revoked", fingerprint=phone.fingerprint)
    yield site, data
    site.store.close()


def csr() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    from redlatch.pki.keys import generate_key

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "device")])
    made = x509.CertificateSigningRequestBuilder().subject_name(name).sign(generate_key("p256"), SHA256())
    return made.public_bytes(Encoding.PEM)


def test_revocations_since_are_carried_over_and_the_store_of_before_is_kept(newer: tuple[Site, bytes]) -> None:
    """With --replace: who was shut out stays out, the used link opens nothing, the newer devices are named."""
    site, data = newer
    site.store.close()
    settings = site.settings
    found = proved(data)
    plan = restore.plan(settings, found, now=bootstrap.now(), replace_present=True)
    assert plan.present is not None
    assert [one.name for one in plan.present.back] == ["Lost"]
    assert len(plan.present.certificates) == 1
    assert set(plan.present.lost) == {"New", "Guest"}
    done = restore.restore(plan, actor="test", clock=bootstrap.now)
    found.close()
    assert (done.again, done.links) == (("Lost",), 1)
    again = bootstrap.open_site(settings, actor="test")
    with closing(again.store), closing(Store.open(done.kept / "redlatch.db")) as kept:  # type: ignore[operator]
        assert states(again) == {"Phone": True, "Lost": False}
        with again.store.read() as view, kept.read() as old:
            assert view.site().revision > old.site().revision
            [phone] = [one for one in view.devices() if one.name == "Phone"]
            assert {one.reason for one in view.certificates(phone.id)} == {"old", None}
        assert {link.withdrawn_at is not None for link in links.list_links(again)} == {True}
        assert kinds(again)[-3:] == ["site.restored", "device.revoked", "certificate.revoked"]


@pytest.mark.parametrize("was_there", [True, False])
def test_what_changes_while_somebody_is_asked_is_not_overlooked(
    original: Original, tmp_path: Path, was_there: bool
) -> None:
    """A device shut out before "yes" would come back unnamed, and a site made meanwhile would lose its keys."""
    if was_there:
        put_back(original.file, tmp_path).store.close()
    found = proved(original.file)
    with closing(found):
        settings = from_environment(tmp_path, {})
        plan = restore.plan(settings, found, now=bootstrap.now(), replace_present=was_there)
        if was_there:
            present = bootstrap.open_site(settings, actor="test")
            with closing(present.store):
                devices.revoke(replace(present, insist=True), "Phone")
        else:
            elsewhere = small_site(tmp_path / "elsewhere")
            elsewhere.store.close()
            (tmp_path / "elsewhere/home/authority").rename(settings.authority)
        before = settings.database.read_bytes()
        with pytest.raises(Conflict, match="meanwhile"):
            restore.restore(plan, actor="test", clock=bootstrap.now)
        assert settings.database.read_bytes() == before
        assert [
            one.name for one in settings.home.iterdir() if "restoring" in one.name or "before" in one.name
        ] == []


def test_an_interruption_in_the_exchange_takes_nothing_away(
    original: Original, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ctrl-c just after the two were swapped: what is beside then is the site of before."""
    small_site(tmp_path).store.close()
    exchange = restore._exchange

    def interrupted(one: Path, other: Path) -> None:
        exchange(one, other)
        raise KeyboardInterrupt

    monkeypatch.setattr(restore, "_exchange", interrupted)
    before = (tmp_path / "home/authority/redlatch.db").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        put_back(original.file, tmp_path / "home", replace=True)
    [kept] = (tmp_path / "home").glob("authority.before-*")
    assert (kept / "redlatch.db").read_bytes() == before


def test_a_store_with_a_garbled_row_is_replaced(newer: tuple[Site, bytes]) -> None:
    """SQLite finds nothing wrong with it, and the reason to restore is that redlatch does."""
    import sqlite3

    site, data = newer
    site.store.close()
    with closing(sqlite3.connect(site.settings.database, isolation_level=None)) as raw:
        raw.execute("UPDATE devices SET created_at = 'garbage'")
    with closing(put_back(data, site.settings.home, replace=True).store):
        pass


def test_a_device_with_a_newer_key_is_named(original: Original, tmp_path: Path) -> None:
    """It was renewed since: the restored site does not know the key that it has."""
    site = put_back(original.file, tmp_path)
    with closing(site.store):
        devices.renew(site, "Phone")
    with closing(proved(original.file)) as found:
        plan = restore.plan(site.settings, found, now=bootstrap.now(), replace_present=True)
        assert plan.present is not None
        assert plan.present.lost == ("Phone",)


def test_what_engines_were_told_is_overtaken(original: Original, tmp_path: Path) -> None:
    """The store is lost, the published list is not: a change after the restore is newer than it."""
    settings = from_environment(tmp_path, {})
    settings.published.mkdir(parents=True)
    with original.site.store.read() as view:
        made = publishing.build(view, original.site.config(), spool=settings.spool)
    head, _ = encode(replace(made, version=made.version + 90))
    (settings.published / "snapshot.json").write_bytes(head)
    with closing(put_back(original.file, tmp_path).store) as store, store.read() as view:
        assert view.site().revision > made.version + 90


@pytest.mark.parametrize(
    "config",
    [
        {"server_files": [1, 2]},
        {"server_files": ["a\0b", "c"]},
        {"service": {"console": [["127.0.0.1"]]}},
        {"notify": {"webhook": "file:///etc/shadow"}},
    ],
)
def test_a_configuration_that_no_redlatch_wrote_is_refused_in_words(
    original: Original, tmp_path: Path, config: dict[str, Any]
) -> None:
    import json

    with original.site.store.read() as view:
        text = json.dumps(dict(view.site().config) | config).replace("'", "''")
    made = changed_store(original.archive, f"UPDATE site SET config = '{text}'")
    with pytest.raises(BadBackup):
        put_back(sealed(archive.pack(made)), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_store_that_is_in_use_is_not_moved_away(newer: tuple[Site, bytes]) -> None:
    """A service that went on writing into it would lose what it writes."""
    site, data = newer
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT * FROM site');"
        "print(1, flush=True); input()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, site.settings.database], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    assert other.stdout.readline() == b"1\n"
    try:
        with pytest.raises(Conflict, match=f"process {other.pid} has the present store open"):
            put_back(data, site.settings.home, replace=True)
    finally:
        other.kill()
        other.communicate()


def test_a_damaged_store_is_replaced_and_it_is_said(newer: tuple[Site, bytes]) -> None:
    """The reason why people restore: then nothing can be carried over."""
    site, data = newer
    site.store.close()
    site.settings.database.write_bytes(b"not a store" * 1000)
    found = proved(data)
    plan = restore.plan(site.settings, found, now=bootstrap.now(), replace_present=True)
    assert plan.present is not None
    assert "damaged" in plan.present.problem
    restore.restore(plan, actor="test", clock=bootstrap.now)
    found.close()
    with closing(bootstrap.open_site(site.settings, actor="test").store):
        pass


def test_what_was_published_after_the_backup_is_not_believed(tmp_path: Path) -> None:
    """On the same machine the published list names a device that the restored store does not know: it goes."""
    site = small_site(tmp_path)
    user = user_by_uid(os.getuid())
    assert user is not None
    publish.prepare(site.settings, user)
    target = Target(user.name, user.uid, user.gid, str(tmp_path), str(tmp_path / "settings.js"), 1880)
    with changing(site) as tx:
        set_config(tx, target=target)
        tx.record("site.changed")
    old = devices.add(site, "Phone")
    data = back_up(site)
    devices.add(site, "Later")
    site.store.close()
    again = put_back(data, site.settings.home, replace=True)
    with closing(again.store):
        with changing(again) as tx:
            set_config(tx, target=target)
            tx.record("site.changed")
        assert enforce(again).state == "published"
        from tests.support.site import published

        assert set(published(again.settings.published).devices) == {old.fingerprint}


def test_the_server_shows_a_certificate_of_the_restored_ca(original: Original, tmp_path: Path) -> None:
    """An installer made a fresh site on the new machine and published a key by its CA, which no device knows."""
    fresh = small_site(tmp_path)
    user = user_by_uid(os.getuid())
    assert user is not None
    publish.prepare(fresh.settings, user)
    target = Target(user.name, user.uid, user.gid, str(tmp_path), str(tmp_path / "settings.js"), 1880)
    for back in (False, True):
        site = put_back(original.file, fresh.settings.home, replace=True) if back else fresh
        with closing(site.store):
            with changing(site) as tx:
                set_config(tx, target=target)
                tx.record("site.changed")
            assert server.refresh(site).changes
            leaf = server.published_leaf(site)
            assert leaf is not None
            leaf.verify_directly_issued_by(authority(site, "server").certificate)
            assert server.refresh(site).changes == ()
    leaf.verify_directly_issued_by(authority(original.site, "server").certificate)


def test_what_belongs_to_the_old_machine_is_left_out(tmp_path: Path) -> None:
    """Its Node-RED, its files, its addresses, its programs; the web hook and the names stay."""
    site = small_site(tmp_path)
    with changing(site) as tx:
        set_config(
            tx,
            target=Target("pi", 1000, 1000, "/home/pi/.node-red", "/home/pi/.node-red/settings.js", 1880),
            adopted=True,
            names=("pi.example.org",),
            server_files=("/no/such/cert.pem", "/no/such/key.pem"),
            service=Service(console=("192.0.2.7", "loopback"), enrolment=("192.0.2.7",)),
            notify=Notify("/bin/sh", "https://ntfy.example.org/x", True),
        )
        tx.record("site.changed")
    data = back_up(site)
    site.store.close()
    found = proved(data)
    plan = restore.plan(from_environment(tmp_path / "new", {}), found, now=bootstrap.now(), replace_present=False)
    config = plan.config
    assert (config.target, config.adopted, config.server_files) == (None, False, None)
    assert (config.service.console, config.service.enrolment) == (("loopback",), ("loopback",))
    assert config.notify == Notify(None, "https://ntfy.example.org/x", True)
    assert config.names == ("pi.example.org",)
    said = " ".join(plan.remarks)
    assert all(one in said for one in ("attic", "/no/such/cert.pem", "addresses", "/bin/sh"))
    found.close()


def test_a_newer_backup_is_refused_and_an_older_one_brought_up(tmp_path: Path) -> None:
    """A store of tomorrow: StoreTooNew. The file beside this test, made by the redlatch that knew schema 0003: the
    same devices, the same CAs, today's schema, and its rules.
    """
    data = (MADE_WITH_0003 / "site.backup").read_bytes()
    tar = sealing.opened(data, passphrase=bytes, identity=(MADE_WITH_0003 / "age-key.txt").read_bytes())
    made = archive.unpack(tar)
    assert made.manifest.schema == "0003"
    assert b"CREATE TABLE trial" not in made.store
    site = put_back(sealed(tar), tmp_path / "new")
    with closing(site.store):
        assert states(site) == {"Phone": True, "Tablet": False, "Wall": True}
        assert site.store.schema() == "0004"
        with site.store.read() as view:
            assert any(rule.roles == ("family",) for rule in view.rules())
            assert {row.signing for row in view.authorities("device")} == {True}
        assert devices.add(site, "New").certificate
    newer = changed_store(made, "UPDATE alembic_version SET version_num = '0099'")
    with pytest.raises(StoreTooNew):
        put_back(sealed(archive.pack(newer)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def changed_store(made: Archive, statement: str) -> Archive:
    import sqlite3

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.deserialize(made.store)
        connection.execute(statement)
        return replace(made, store=connection.serialize())


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (datetime(1970, 1, 2, tzinfo=UTC), "released"),
        (datetime(2000, 1, 1, tzinfo=UTC), "released"),
        (bootstrap.now() - timedelta(days=2), "before this backup was made"),
    ],
)
def test_a_clock_that_is_behind_restores_nothing(
    original: Original, tmp_path: Path, now: datetime, said: str
) -> None:
    with pytest.raises(Conflict, match=said):
        put_back(original.file, tmp_path / "new", now=lambda: now)
    assert not (tmp_path / "new").exists()


def test_a_hostile_file_leaves_nothing(original: Original, tmp_path: Path) -> None:
    from tests.integration.keeping.test_backup import altered

    for data in (b"", tar_of(), altered(original, "UPDATE audit SET actor = 'x' WHERE seq = 1")):
        with pytest.raises(RedlatchError):
            put_back(sealed(data), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert rebuilt(original) == archive.pack(original.archive)


@as_root
def test_a_full_disk_restores_nothing(original: Original, tmp_path: Path) -> None:
    """Also beside a site: the old one is as it was, and the next try succeeds."""
    (tmp_path / "new").mkdir()
    with small_disk(tmp_path / "new"):
        filler = fill(tmp_path / "new")
        with pytest.raises(RedlatchError, match=r"no space|full"):
            put_back(original.file, tmp_path / "new")
        assert names_in(tmp_path / "new") == {"filler"}
        filler.unlink()
        put_back(original.file, tmp_path / "new").store.close()


def whole(settings: Settings) -> str:
    """The site's uuid, when it is whole."""
    site = bootstrap.open_site(settings, actor="test")
    with closing(site.store), site.store.read() as view:
        assert view.verify_audit().ok
        known = {row.key_file for kind in ("server", "device") for row in view.authorities(kind)}
        assert {path.name for path in settings.keys.iterdir()} == known
        authority(site, "device")
        return view.site().uuid


def killed(
    make: Callable[[str], Settings], operation: Callable[[Settings], Site], logs: Path
) -> Iterator[Settings]:
    """A home after a kill on entering a call that writes into it: every rename, and a spread of the rest."""
    operation(make("first")).store.close()  # what is imported late is imported by now: calls are counted
    settings = make("whole")
    ran = syscalls.run(lambda: operation(settings), logs)
    assert ran.ended == syscalls.DONE, ran.said
    found = ran.below(settings.home)
    every = 1 if os.environ.get("REDLATCH_KILLS") == "all" else max(1, len(found) // 8)
    for number, call in enumerate(found):
        if number % every == 0 or call.name.startswith("rename"):
            settings = make(f"killed-{number}")
            ran = syscalls.run(lambda settings=settings: operation(settings), logs, syscalls.killed_at(call))
            assert ran.ended == -signal.SIGKILL, call
            yield settings


@pytest.mark.skipif(syscalls.STRACE is None, reason="needs strace")
def test_killed_anywhere_there_is_no_site_or_the_whole(original: Original, tmp_path: Path) -> None:
    """And the next try succeeds, and leaves nothing of the first."""
    uuid = original.archive.manifest.site
    outcomes = set()
    for settings in killed(
        lambda name: from_environment(tmp_path / name, {}),
        lambda settings: put_back(original.file, settings.home),
        tmp_path,
    ):
        try:
            assert whole(settings) == uuid
            outcomes.add("whole")
        except NotSetUp:
            outcomes.add("none")
            put_back(original.file, settings.home).store.close()
            assert whole(settings) == uuid
            assert names_in(settings.home) == {"authority"}
    assert "none" in outcomes


@pytest.mark.skipif(syscalls.STRACE is None, reason="needs strace")
def test_killed_while_replacing_the_old_site_is_there_or_the_new(original: Original, tmp_path: Path) -> None:
    """Never none: with `redlatch up` it would be made anew, with other CAs. And the old one, from the moment on in
    which it is not the site any more, has a name that no later restore clears up.
    """

    def make(name: str) -> Settings:
        (tmp_path / name).mkdir()
        site = small_site(tmp_path / name)
        site.store.close()
        return site.settings

    new = original.archive.manifest.site
    outcomes = set()
    for settings in killed(make, lambda settings: put_back(original.file, settings.home, replace=True), tmp_path):
        is_new = whole(settings) == new
        outcomes.add(is_new)
        kept = [(one / "redlatch.db").stat().st_size for one in settings.home.glob("authority.before-*")]
        assert len(kept) == 1 or not is_new
    assert outcomes == {False, True}


def test_a_backup_of_the_restored_site_is_proved_like_any(original: Original, tmp_path: Path) -> None:
    site = put_back(original.file, tmp_path / "new")
    with closing(site.store):
        data = back_up(site)
        with closing(proved(data)) as found:
            assert found.events == len(kinds(site)) - 1
        assert server.covered(authority(site, "server"), ("attic.local",)) == ["attic.local"]
        assert Config.of(site.config().stored()) == site.config()
        assert backup.collect(site).keys == dict(original.archive.keys)
