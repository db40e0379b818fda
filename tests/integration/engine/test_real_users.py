"""With real users: what Node-RED's user, and anybody else, can read, replace, link or turn into a FIFO."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from redlatch.engines.nodered import claims, publish
from redlatch.engines.nodered.users import User, call_as, drop_rights, may_reach, root_powers, run_as
from redlatch.errors import EngineError, FileProblem, NotFound
from redlatch.files import write_atomic
from redlatch.settings import Settings

NOBODY = User("nobody", 65534, 65534, (65534,), Path("/nonexistent"))
PART = hashlib.sha256(b"part").hexdigest()
PUBLISHED = (
    "guard.js",
    "behind.js",
    "preload.js",
    "behind.json",
    "server.pem",
    "device-ca.pem",
    "snapshot.json",
    f"snapshot/{PART}",
)
SPOOLED = ("in-force.json", "connections.json", "access.jsonl", "access.1.jsonl")


@dataclass(frozen=True)
class Place:
    settings: Settings
    user: User


@pytest.fixture
def place(unix_user: User, service_user: User, open_folder: Path) -> Place:
    """A home as root sets it up: authority closed, published readable, spool the user's own."""
    settings = Settings(home=open_folder / "redlatch", system=True, user=service_user.name)
    publish.prepare(settings, unix_user)
    publish.publish_behind(settings, PART, keep_auth=False, keep_host=False, group=unix_user.gid)
    publish.publish_server(settings, b"server key", unix_user.gid)
    publish.publish_device_ca(settings, b"device ca", unix_user.gid)
    publish.publish_snapshot(settings, b"snapshot", {PART: b"part"}, unix_user.gid)
    settings.keys.mkdir(parents=True)
    settings.authority.chmod(0o700)
    write_atomic(settings.keys / "server-ca.key", b"secret", mode=0o600)
    write_atomic(settings.database, b"secret", mode=0o600)
    return Place(settings, unix_user)


def everything(folder: str) -> list[str]:
    return sorted(str(path) for path in Path(folder).rglob("*"))


def attempt(action: str, target: str) -> str:  # noqa: PLR0912 - one line for each thing to try
    """Tries one thing; "done", or why not."""
    path = Path(target)
    try:
        match action:
            case "read":
                path.read_bytes()
            case "list":
                list(path.iterdir())
            case "write":
                path.write_bytes(b"mine")
            case "append":
                with path.open("ab") as stream:
                    stream.write(b"mine")
            case "remove":
                path.unlink()
            case "chmod":
                path.chmod(0o777)
            case "link over":
                (Path("/tmp") / f"link-{os.getpid()}").symlink_to("/etc/passwd")
                (Path("/tmp") / f"link-{os.getpid()}").replace(path)
            case "add":
                (path / "new").write_bytes(b"")
            case "fifo":
                os.mkfifo(path / "fifo")
            case "rename folder":
                path.rename(path.with_name("moved"))
            case "hard link":
                os.link(path, f"/var/tmp/hard-{os.getpid()}")
        return "done"
    except OSError as error:
        return type(error).__name__
    finally:
        (Path("/tmp") / f"link-{os.getpid()}").unlink(missing_ok=True)


def test_user_of_node_red_reads_what_it_serves(place: Place) -> None:
    """Every published file is readable for that user."""
    for path in everything(str(place.settings.published)):
        assert call_as(place.user, attempt, "list" if Path(path).is_dir() else "read", path) == "done", path
        assert may_reach(place.user, Path(path))


@pytest.mark.parametrize("action", ["write", "append", "remove", "chmod", "link over", "hard link"])
def test_user_of_node_red_changes_no_published_file(action: str, place: Place) -> None:
    """No published file can be changed, removed, replaced by a link or kept alive by a hard link."""
    for path in everything(str(place.settings.published)):
        if Path(path).is_file():
            before = Path(path).read_bytes()
            assert call_as(place.user, attempt, action, path) == "PermissionError", path
            assert Path(path).read_bytes() == before


@pytest.mark.parametrize("action", ["add", "fifo", "rename folder", "chmod"])
def test_user_of_node_red_changes_no_published_folder(action: str, place: Place) -> None:
    """Nothing can be put beside the published files, and the folders cannot be swapped."""
    folders = [place.settings.published, *(p for p in place.settings.published.iterdir() if p.is_dir())]
    for folder in [*folders, *([place.settings.spool] if action == "rename folder" else [])]:
        assert call_as(place.user, attempt, action, str(folder)) == "PermissionError", folder


def test_user_of_node_red_reads_no_secret(place: Place) -> None:
    """Store and CA keys are closed, folder and all."""
    for path in (place.settings.database, place.settings.keys / "server-ca.key"):
        assert call_as(place.user, attempt, "read", str(path)) == "PermissionError"
        assert not may_reach(place.user, path)
    assert call_as(place.user, attempt, "list", str(place.settings.authority)) == "PermissionError"


def test_nobody_else_reads_anything(place: Place) -> None:
    """Another user sees neither the server key nor the claims."""
    for folder in (place.settings.published, place.settings.spool, place.settings.authority):
        assert call_as(NOBODY, attempt, "list", str(folder)) == "PermissionError"
    assert call_as(NOBODY, attempt, "read", str(place.settings.published / "server.pem")) == "PermissionError"


# --- the spool: the user's own folder, so everything may be put there


def plant(kind: str, target: str, bait: str) -> None:
    path = Path(target)
    path.unlink(missing_ok=True)
    match kind:
        case "link":
            path.symlink_to(bait)
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device link":
            path.symlink_to("/dev/zero")
        case "hard link":
            original = path.with_name("original")
            original.write_text("{}")
            os.link(original, path)
        case "huge":
            with path.open("wb") as stream:
                stream.truncate(1 << 40)
        case "garbage":
            path.write_bytes(b"\xff\x00" * 1000)
        case "deep":
            path.write_bytes(b"[" * 500_000)
        case "wrong types":
            path.write_text('{"format":1,"site":7,"version":"9","at":true,"connections":[1,{"id":[]}]}')


READERS = {
    "in-force.json": claims.read_in_force,
    "connections.json": claims.read_connections,
    "access.jsonl": claims.read_access,
    "access.1.jsonl": claims.read_access,
}


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device link", "hard link", "huge"])
@pytest.mark.parametrize("name", SPOOLED)
def test_planted_claim_is_refused(kind: str, name: str, place: Place) -> None:
    """Links, FIFOs, folders, hard links and giants in the spool are an error at once, never followed."""
    bait = place.settings.home / "bait.json"
    bait.write_text(json.dumps({"format": 1}))
    call_as(place.user, plant, kind, str(place.settings.spool / name), str(bait))
    with pytest.raises(FileProblem, match=r"cannot be trusted|larger"):
        READERS[name](place.settings, place.user.uid)


@pytest.mark.parametrize("kind", ["garbage", "deep", "wrong types"])
@pytest.mark.parametrize("name", SPOOLED)
def test_nonsense_in_a_claim_says_nothing(kind: str, name: str, place: Place) -> None:
    """What does not fit the schema is no claim."""
    call_as(place.user, plant, kind, str(place.settings.spool / name), "")
    assert not READERS[name](place.settings, place.user.uid)


def test_claim_of_another_user_is_refused(place: Place) -> None:
    """A file of root's in the spool (moved there by whatever means) is not Node-RED's word."""
    (place.settings.spool / "in-force.json").write_text("{}")
    with pytest.raises(FileProblem):
        claims.read_in_force(place.settings, place.user.uid)


def test_removal_follows_no_link(place: Place, open_folder: Path) -> None:
    """`down` empties the spool without following what lies in it."""
    treasure = open_folder / "treasure"
    treasure.mkdir()
    (treasure / "kept").write_text("kept")
    call_as(place.user, plant, "link", str(place.settings.spool / "in-force.json"), str(treasure))
    publish.unpublish(place.settings)
    assert (treasure / "kept").read_text() == "kept"
    assert not place.settings.spool.exists()
    assert not place.settings.published.exists()


def test_folders_that_others_may_swap_are_named(open_folder: Path, unix_user: User) -> None:
    """A home below a folder of somebody else's can be replaced as a whole; below root's it cannot."""
    assert publish.untrusted_ancestors(open_folder / "redlatch") == []
    theirs = open_folder / "theirs"
    theirs.mkdir()
    os.chown(theirs, unix_user.uid, unix_user.gid)
    assert publish.untrusted_ancestors(theirs / "redlatch") == [theirs]


# --- acting as the user


def identities() -> list[list[int]]:
    return [list(os.getresuid()), list(os.getresgid()), sorted(os.getgroups())]


def regain() -> str:
    try:
        os.setuid(0)
    except PermissionError:
        return "refused"
    return "root again"


def open_descriptors() -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists the folder
            found.append(str(entry.readlink()))
    return found


def test_rights_are_given_up_for_good(unix_user: User, open_folder: Path) -> None:
    """Real, effective and saved ids and the groups are the user's, with no way back; no file of ours is open."""
    assert call_as(unix_user, identities) == [[unix_user.uid] * 3, [unix_user.gid] * 3, sorted(unix_user.groups)]
    assert call_as(unix_user, regain) == "refused"
    with (open_folder / "secret").open("w"):
        assert not [name for name in call_as(unix_user, open_descriptors) if "secret" in name]
    assert os.geteuid() == 0


def test_helper_that_hangs_or_dies_is_an_error(unix_user: User) -> None:
    """A child that says nothing, or ends without a word, does not hang the command."""
    with pytest.raises(EngineError, match="no answer"):
        call_as(unix_user, time.sleep, 60, timeout=0.2)
    with pytest.raises(EngineError, match="without an answer"):
        call_as(unix_user, os._exit, 1)


def refuse() -> None:
    raise NotFound("not here", hint="look elsewhere")


def test_errors_of_the_child_arrive_as_what_they_are(unix_user: User) -> None:
    """A RedlatchError keeps class, message and hint; an OSError becomes a FileProblem that names the user."""
    with pytest.raises(NotFound, match="not here") as caught:
        call_as(unix_user, refuse)
    assert caught.value.hint == "look elsewhere"
    with pytest.raises(FileProblem, match=unix_user.name):
        call_as(unix_user, os.listdir, "/root")


def test_runs_are_bounded(unix_user: User) -> None:
    """Time and output end a run; so does its own end, even when a child of it keeps the pipes open."""
    assert run_as(unix_user, ["sleep", "60"], timeout=0.2).timed_out
    assert run_as(unix_user, ["cat", "/dev/zero"], max_output=1000).truncated
    done = run_as(unix_user, ["sh", "-c", "sleep 60 & echo said"], timeout=30)
    assert (done.returncode, done.stdout, done.timed_out) == (0, b"said\n", False)
    assert run_as(unix_user, ["cat"], input=b"x" * 300_000).stdout == b"x" * 300_000


def test_run_gets_a_clean_environment(unix_user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's variables stay with the caller; the user is who it is."""
    monkeypatch.setenv("SECRET_OF_ROOT", "1")
    said = run_as(unix_user, ["env"], env={"GIVEN": "yes"}).stdout.decode()
    assert "SECRET_OF_ROOT" not in said
    assert "GIVEN=yes" in said
    assert f"HOME={unix_user.home}" in said
    assert run_as(unix_user, ["id", "-u"]).stdout.strip() == str(unix_user.uid).encode()


def test_ordinary_user_has_no_root_powers(unix_user: User) -> None:
    """A plain account is not warned about; root and members of the disk group are."""
    assert root_powers(unix_user) == []
    disk = User(unix_user.name, unix_user.uid, unix_user.gid, (unix_user.gid, 6), unix_user.home)
    assert "disk" in root_powers(disk)[0]
    assert "root" in root_powers(User("root", 0, 0, (0,), Path("/root")))[0]


def test_dropping_to_another_user_is_checked(unix_user: User) -> None:
    """An unprivileged process cannot become somebody else: it is told, not ignored."""

    def become() -> None:
        drop_rights(NOBODY)

    with pytest.raises(FileProblem):
        call_as(unix_user, become)
