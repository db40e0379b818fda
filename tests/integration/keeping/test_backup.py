"""What a backup holds, what it is not made of, and that a hostile one is refused in words."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pyrage
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cli.harness import AS_SOMEBODY
from tests.integration.operations.test_trouble import as_root, fill, small_disk
from tests.support.home import small_site
from tests.support.keeping import KEY, TO, Original, back_up, opened, proved, sealed

from redlatch import audit
from redlatch.errors import InvalidInput, PassphraseNeeded, RedlatchError, StoreError, StoreTooNew
from redlatch.files import names_in
from redlatch.operations import archive, backup, devices, sealing
from redlatch.operations.archive import BackupTooNew, BadBackup
from redlatch.operations.site import Site
from redlatch.pki.keys import generate_key, private_key_pem


def test_it_holds_store_and_keys_and_says_what_it_is(original: Original) -> None:
    """Opened again, each byte is there; nothing of it stands in the file."""
    assert archive.unpack(opened(original.file)).keys == original.archive.keys
    found = proved(original.file)
    with closing(found), original.site.store.read() as view:
        assert found.manifest.site == view.site().uuid
        assert (found.devices, found.locked) == (1, ())
        assert [kind for kind, _ in found.authorities] == ["server", "device"]
        event = view.audit_before(None, 1)[0].event
        assert (event.kind, event.data["head"]) == ("backup.made", found.manifest.head.seq)
    for secret in (b"PRIVATE KEY", b"Phone", b"SQLite", found.manifest.site.encode()):
        assert secret not in original.file


def test_it_is_a_tar_that_others_read(original: Original) -> None:
    """Whoever has lost redlatch gets the keys out with age and tar."""
    with tarfile.open(fileobj=io.BytesIO(opened(original.file))) as tar:
        assert set(tar.getnames()) == {
            "manifest.json",
            "redlatch.db",
            *(f"keys/{k}" for k in original.archive.keys),
        }
        assert {one.mode for one in tar.getmembers()} == {0o600}


def test_changes_meanwhile_go_on_and_the_copy_is_of_one_moment(tmp_path: Path) -> None:
    """Devices are added while copies are made: all of them succeed, and in each copy the chain is whole."""
    site = small_site(tmp_path)
    going = threading.Event()

    def add() -> None:
        mine = Site(site.settings, type(site.store).open(site.settings.database), "other", site.clock, bytes)
        with closing(mine.store):
            for number in range(12):
                devices.add(mine, f"Lamp {number}")
                going.set()

    with closing(site.store):
        thread = threading.Thread(target=add)
        thread.start()
        assert going.wait(10)
        counts = []
        while thread.is_alive() or not counts:
            with closing(proved(back_up(site))) as found:
                counts.append(found.devices)
        thread.join()
        assert counts == sorted(counts)
        assert len(devices.list_devices(site)) == 12
        with site.store.read() as view:
            assert view.verify_audit().ok


def test_a_missing_key_is_said_before_anything_is_written(tmp_path: Path) -> None:
    site = small_site(tmp_path)
    with closing(site.store):
        next(site.settings.keys.glob("device-*")).unlink()
        with pytest.raises(StoreError, match="is missing"):
            back_up(site)
        with site.store.read() as view:
            assert view.audit_before(None, 1)[0].event.kind != "backup.made"


def rebuilt(original: Original, **changed: object) -> bytes:
    """The tar of a backup in which something is another thing, with every hash made to fit."""
    return archive.pack(replace(original.archive, **changed))  # type: ignore[arg-type]


def altered(original: Original, *statements: str) -> bytes:
    """A backup whose store somebody changed."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(original.archive.store)
    for statement in statements:
        connection.execute(statement)
    data = connection.serialize()
    connection.close()
    return rebuilt(original, store=data)


def refused(data: bytes, kind: type[RedlatchError] = RedlatchError) -> str:
    with pytest.raises(kind) as caught:
        backup.read(data, Path("the-backup")).close()
    return caught.value.message


def test_a_store_that_was_changed_is_refused(original: Original) -> None:
    """With a manifest that fits: event, end of the chain, site, version, a trigger, a damaged page."""
    assert "tampered" in refused(altered(original, "UPDATE audit SET actor = 'mallory' WHERE seq = 2"))
    assert "manifest names" in refused(
        altered(original, "DELETE FROM audit WHERE seq > 3", "UPDATE site SET audit_seq = 3")
    )
    assert "manifest names" in refused(
        altered(original, f"UPDATE site SET uuid = '{'0' * 8}-0000-0000-0000-{'0' * 12}'")
    )
    trigger = "CREATE TRIGGER t AFTER UPDATE ON devices BEGIN DELETE FROM devices; END"
    assert "trigger" in refused(altered(original, trigger))
    assert "view" in refused(altered(original, "CREATE VIEW v AS SELECT 1"))
    assert "damaged" in refused(altered(original, "UPDATE certificates SET device_id = 'nobody'"))
    assert "garbled" in refused(altered(original, """UPDATE site SET config = '{"machine": 3, "service": 4}'"""))
    assert "damaged" in refused(altered(original, "UPDATE devices SET created_at = 'soon'"))
    assert "no store" in refused(altered(original, "DROP TABLE alembic_version"))
    refused(altered(original, "UPDATE alembic_version SET version_num = '9999'"), StoreTooNew)
    page = bytearray(original.archive.store)
    page[4096:8192] = os.urandom(4096)
    refused(rebuilt(original, store=bytes(page)), StoreError)
    refused(rebuilt(original, store=b"SQLite format 3\0" + bytes(500)), StoreError)
    refused(rebuilt(original, store=b""), RedlatchError)


def test_a_key_that_is_another_ones_is_refused(original: Original) -> None:
    keys = original.archive.keys
    name = next(one for one in keys if one.startswith("device"))
    other = private_key_pem(generate_key("p256"), None)
    assert "is not the one" in refused(rebuilt(original, keys={**keys, name: other}))
    assert "cannot be read" in refused(rebuilt(original, keys={**keys, name: b"no key"}))
    assert "lacks the key" in refused(rebuilt(original, keys={k: v for k, v in keys.items() if k != name}))
    assert "belongs to none" in refused(rebuilt(original, keys={**keys, "more.pem": other}))


def test_a_key_under_its_own_passphrase_stays_under_it(original: Original) -> None:
    """It is kept as it is, and that nobody opened it is said."""
    keys = dict(original.archive.keys)
    name = next(one for one in keys if one.startswith("device"))
    keys[name] = private_key_pem(generate_key("p256"), b"of the CA")
    with closing(backup.read(rebuilt(original, keys=keys), Path("b"))) as found:
        assert found.locked == (f"keys/{name}",)


def tar_of(*members: tarfile.TarInfo, data: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for one in members:
            tar.addfile(one, io.BytesIO(data) if one.isreg() else None)
    return stream.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, *, link: str = "", size: int = 0) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, size
    return made


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 1024,
        b"hello",
        os.urandom(5000),
        tar_of(member("../../etc/cron.d/x")),
        tar_of(member("/etc/passwd")),
        tar_of(member("keys/../x")),
        tar_of(member("keys/.hidden")),
        tar_of(member("keys/a/b")),
        tar_of(member("keys/" + "a" * 200)),
        tar_of(member("keys/x.pem", tarfile.SYMTYPE, link="/etc/shadow")),
        tar_of(member("keys/x.pem", tarfile.LNKTYPE, link="redlatch.db")),
        tar_of(member("keys", tarfile.DIRTYPE)),
        tar_of(member("keys/x.pem", tarfile.FIFOTYPE)),
        tar_of(member("keys/x.pem", tarfile.CHRTYPE)),
        tar_of(member("keys/ü.pem")),
        tar_of(member("redlatch.db"), member("redlatch.db")),
        tar_of(member("keys/big.pem", size=1 << 20), data=b"x" * (1 << 20)),
        tar_of(*(member(f"keys/{number}.pem") for number in range(300))),
        member("redlatch.db", size=1 << 40).tobuf(tarfile.GNU_FORMAT),
        member("redlatch.db", size=1 << 29).tobuf(tarfile.USTAR_FORMAT),
        tar_of(member("manifest.json", size=5), data=b"[[[[["),
        tar_of(member("manifest.json", size=20000), data=b"[" * 20000),
        tar_of(member("manifest.json", size=2), data=b"{}"),
    ],
    ids=range(24),
)
def test_a_tar_of_somebody_elses_is_refused(data: bytes) -> None:
    """Names outside, links, devices, doubles, sizes beyond all bounds: nothing is written or followed."""
    with pytest.raises(BadBackup):
        archive.unpack(data)


@pytest.mark.parametrize(
    ("put", "said"),
    [
        (member("../../etc/cron.d/x"), "no redlatch puts there"),
        (member("/etc/passwd"), "no redlatch puts there"),
        (member("keys/../x"), "no redlatch puts there"),
        (member("keys/a/b"), "no redlatch puts there"),
        (member("keys/x.pem", tarfile.SYMTYPE, link="/etc/shadow"), "no plain file"),
        (member("keys/x.pem", tarfile.LNKTYPE, link="redlatch.db"), "no plain file"),
        (member("keys/x.pem", tarfile.FIFOTYPE), "no plain file"),
        (member("keys/x.pem", size=1 << 20), "larger"),
        (member("redlatch.db"), "twice"),
    ],
    ids=lambda one: one.name if isinstance(one, tarfile.TarInfo) else "",
)
def test_a_whole_backup_with_something_slipped_in_is_refused(
    original: Original, put: tarfile.TarInfo, said: str
) -> None:
    """All else is right, and the manifest lists it: the name, the kind or the size alone is why."""
    content = bytes(put.size)
    with tarfile.open(fileobj=io.BytesIO(archive.pack(original.archive))) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar.getmembers()}  # type: ignore[union-attr]
    manifest = json.loads(members.pop("manifest.json"))
    listed = {"size": put.size, "sha256": hashlib.sha256(content).hexdigest()}
    manifest["members"] = {put.name: listed} | manifest["members"]
    members = {"manifest.json": json.dumps(manifest).encode()} | members
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name, data in members.items():
            made.addfile(member(name, size=len(data)), io.BytesIO(data))
        made.addfile(put, io.BytesIO(content))
    with pytest.raises(BadBackup, match=said):
        archive.unpack(stream.getvalue())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_backup_changed_in_any_place_is_refused(original: Original, data: st.DataObject) -> None:
    """Bytes changed, cut off, put in or behind: the tar says so, or holds the same as before."""
    whole = archive.pack(original.archive)
    headers = [*range(1500), *range(len(whole) - 4500, len(whole))]
    place = data.draw(st.sampled_from(headers) | st.integers(0, len(whole) - 1))
    put = data.draw(st.binary(max_size=3))
    cut = data.draw(st.integers(0, 3) | st.just(len(whole)))
    changed = whole[:place] + put + whole[place + cut :]
    with suppress(BadBackup):
        assert archive.unpack(changed) == original.archive


def test_a_newer_format_is_named(original: Original) -> None:
    whole = archive.pack(original.archive)
    newer = whole.replace(b'"format": 1', b'"format": 2')
    with pytest.raises(BackupTooNew, match="newer redlatch"):
        archive.unpack(newer)


def test_only_a_recipient_opens_it(original: Original, tmp_path: Path) -> None:
    """An age key and an OpenSSH key are good; another key, no key, a passphrase and a changed byte are not."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "id"], check=True)
    line = (tmp_path / "id.pub").read_text().strip()
    data = sealing.for_recipients(b"content", [*TO, line])
    assert sealing.check_recipients([*TO, line]) == {"age": 1, "ssh-ed25519": 1}
    for identity in (f"# a comment\n{KEY}\n".encode(), (tmp_path / "id").read_bytes()):
        assert sealing.opened(data, passphrase=bytes, identity=identity) == b"content"
    other = str(pyrage.x25519.Identity.generate()).encode()
    for identity, kind in ((other, BadBackup), (None, InvalidInput), (b"AGE-SECRET-KEY-1", InvalidInput)):
        with pytest.raises(kind):
            sealing.opened(data, passphrase=lambda: b"a passphrase of no use", identity=identity)
    for place in (30, len(data) - 1):
        garbled = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(BadBackup):
            sealing.opened(garbled, passphrase=bytes, identity=str(KEY).encode())


@pytest.mark.parametrize(
    "wrong",
    [
        "age1",
        "ssh-rsa AAAA",
        "ecdsa-sha2-nistp256 AAAA",
        "me@example.org",
        pytest.param(str(KEY), id="secret"),
        "",
    ],
)
def test_what_is_no_public_key_is_refused_without_being_repeated(wrong: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sealing.check_recipients([wrong])
    assert "AGE-SECRET" not in caught.value.message + caught.value.hint


def test_without_pyrage_nothing_is_written_and_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    with pytest.raises(sealing.NoEncryption) as caught:
        sealing.check_recipients(TO)
    assert "age --passphrase" in caught.value.hint


class Shell:
    """Somebody with a site in `home`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        small_site(folder).store.close()
        (folder / "pw").write_text("correct horse battery staple\n")
        (folder / "pw").chmod(0o600)
        (folder / "id").write_text(f"{KEY}\n")

    def run(
        self, *words: str, out: object = subprocess.PIPE, **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = [*AS_SOMEBODY, sys.executable, "-m", "redlatch", *words]
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "REDLATCH_HOME": str(self.folder / "home"), **environ},
            stdin=subprocess.DEVNULL,
            stdout=out,  # type: ignore[call-overload]
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("shell"))


def test_the_command_writes_one_private_file_and_overwrites_nothing(shell: Shell) -> None:
    """0600 whatever the umask; a second time it is refused, and nothing else is left in the folder."""
    before = names_in(shell.folder)
    done = shell.run("backup", "one.backup", "--to", TO[0], "--json")
    assert done.returncode == 0, done.stderr
    made = shell.folder / "one.backup"
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    data = made.read_bytes()
    again = shell.run("backup", "one.backup", "--to", TO[0])
    assert (again.returncode, b"exists already" in again.stderr) == (1, True)
    assert made.read_bytes() == data
    assert names_in(shell.folder) - before == {"one.backup"}
    found = shell.run("backup", "--verify", "one.backup", "--identity", "id", "--json", REDLATCH_HOME="/nowhere")
    assert json.loads(found.stdout)["head"] == json.loads(done.stdout)["head"]
    events = json.loads(shell.run("audit", "--json").stdout)["events"]
    data_of_event = [one["data"] for one in events if one["kind"] == "backup.made"][-1]
    assert data_of_event["sha256"] == json.loads(done.stdout)["sha256"]
    assert data_of_event["recipients"] == {"age": 1}


def test_a_passphrase_comes_from_a_file_or_a_person(shell: Shell) -> None:
    """Not from the command line; where there is neither, nothing is written. Another one does not open it, and one
    that was made too hard is not tried.
    """
    assert shell.run("backup", "two.backup", REDLATCH_BACKUP_PASSPHRASE_FILE="pw").returncode == 0
    assert shell.run("backup", "--verify", "two.backup", REDLATCH_BACKUP_PASSPHRASE_FILE="pw").returncode == 0
    done = shell.run("backup", "three.backup")
    assert (done.returncode, b"REDLATCH_BACKUP_PASSPHRASE_FILE" in done.stderr) == (1, True)
    assert not (shell.folder / "three.backup").exists()
    data = (shell.folder / "two.backup").read_bytes()
    assert sealing.needs_passphrase(data)
    with pytest.raises(PassphraseNeeded, match="does not open"):
        sealing.opened(data, passphrase=lambda: b"correct horse battery stapl", identity=None)
    stanza = data.split(b"\n")[1]
    hard = data.replace(stanza, stanza.rsplit(b" ", 1)[0] + b" 40")
    with pytest.raises(PassphraseNeeded, match="faster machine"):
        sealing.opened(hard, passphrase=lambda: b"correct horse battery staple", identity=None)
    with pytest.raises(InvalidInput, match="too short"):
        sealing.with_passphrase(b"content", b"elevenbytes")


def test_unencrypted_keys_go_to_another_program_only(shell: Shell) -> None:
    """A file in the folder, a file that others may read: refused. A pipe: the tar."""
    for words in (["backup", "--plain", "four.tar"], ["backup", "--plain", "-", "--json"]):
        assert shell.run(*words).returncode == 2
    loose = shell.folder / "loose.tar"
    with loose.open("wb") as stream:
        loose.chmod(0o644)
        assert shell.run("backup", "--plain", "-", out=stream).returncode == 2
    assert loose.read_bytes() == b""
    done = shell.run("backup", "--plain", "-")
    assert done.returncode == 0, done.stderr
    assert set(archive.unpack(done.stdout).keys) == names_in(shell.folder / "home/authority/keys")


@as_root
def test_the_file_belongs_to_whoever_called_sudo(original: Original, tmp_path: Path) -> None:
    """Also where the folder is root's: a file that its owner cannot take away is of no use."""
    from redlatch.cli.backup import _Writing

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUDO_UID", "12345")
        patch.setenv("SUDO_GID", "12346")
        writing = _Writing(tmp_path / "redlatch.backup")
        with writing:
            writing.write(original.file)
            writing.finish()
    state = (tmp_path / "redlatch.backup").stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode), state.st_nlink) == (12345, 12346, 0o600, 1)


@as_root
def test_a_full_disk_leaves_no_half_a_backup(tmp_path: Path) -> None:
    """It is said, and neither file nor event is there."""
    from redlatch.cli.backup import _Writing

    site = small_site(tmp_path)
    with closing(site.store), small_disk(tmp_path / "stick"):
        fill(tmp_path / "stick")
        writing = _Writing(tmp_path / "stick/redlatch.backup")
        with pytest.raises(RedlatchError) as caught, writing:
            backup.make(site, seal=sealed, how={}, deliver=writing.write)
        assert "no space" in caught.value.message
        assert "redlatch.backup" in caught.value.message
        assert ".partial" not in caught.value.message
        assert names_in(tmp_path / "stick") == {"filler"}
        with site.store.read() as view:
            assert view.audit_before(None, 1)[0].event.kind == "ca.created"


def test_the_documents_say_what_the_manifest_says(original: Original) -> None:
    """The manifest is JSON for a person: no key, no device."""
    with tarfile.open(fileobj=io.BytesIO(opened(original.file))) as tar:
        stream = tar.extractfile("manifest.json")
        assert stream is not None
        said = json.loads(stream.read())
    assert set(said) == {"format", "redlatch", "site", "schema", "at", "machine", "head", "members"}
    assert audit.Head(
        said["head"]["seq"], bytes.fromhex(said["head"]["hash"])
    ) == original.archive.manifest.head or (said["head"]["seq"] >= original.archive.manifest.head.seq)
