"""Three real users: root lays a home out, the service's user changes it, Node-RED's user gets nothing of it."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine import fresh
from tests.integration.engine import service_work as work
from tests.support.nodered import free_port
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.engines.nodered import publish
from redlatch.engines.nodered.users import User, call_as, clean_environment, drop_rights
from redlatch.errors import EngineError, FileProblem, NotPermitted, RedlatchError
from redlatch.files import make_dir, write_atomic
from redlatch.operations import authorities, devices, layout, lookups, server, setup
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Site, exclusive
from redlatch.settings import Settings

# What the guard does with claims, by its own code: after each change it says that the new version is in force.
GUARD = """
const fs = require("node:fs"), path = require("node:path");
const [published, spool] = process.argv.slice(1);
const folder = fs.readdirSync(published).find((name) => name.startsWith("guard-"));
const { Claims } = require(path.join(published, folder, "claims.js"));
const head = () => fs.readFileSync(path.join(published, "snapshot.json"), "utf8").split("\\n");
const claims = new Claims({
  state: () => {
    const [line, digest] = head();
    const { site, version } = JSON.parse(line);
    const now = Date.now() / 1000;
    return { format: 1, site, version, digest, pid: process.pid, started: now, at: now, closed: 2, ms: 21.4 };
  },
  connections: () => [],
});
process.umask(0o077);
claims.start(spool);
const at = Date.now() / 1000;
claims.access({ at, from: "192.0.2.7", method: "GET", path: "/", allow: false, reason: "no-rule" });
let last = "";
setInterval(() => {
  const digest = head()[1];
  if (digest !== last) claims.inForce();
  last = digest;
}, 10);
"""


@dataclass(frozen=True)
class Home:
    """A site of root's, locked: `settings` as root and the service have them."""

    settings: Settings
    node_red: User
    service: User
    node: Path
    user_dir: Path

    def site(self, actor: str = "root") -> Site:
        return bootstrap.open_site(self.settings, actor=actor)

    def as_service(self, function: Any, *arguments: Any) -> Any:
        """Calls `function(site, ...)` of this module in a process of the service's user."""
        return fresh.call(self.service, work.in_site, *self.words, function.__name__, *arguments)

    @property
    def words(self) -> list[str]:
        return [str(self.settings.home), self.settings.user]

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """A process of Node-RED's user that makes claims as the guard does."""
        process = subprocess.Popen(
            [self.node, "-e", GUARD, self.settings.published, self.settings.spool],
            env=clean_environment(self.node_red),
            cwd="/",
            stdin=subprocess.DEVNULL,
            preexec_fn=lambda: drop_rights(self.node_red),  # noqa: PLW1509 - no threads here
        )
        try:
            until((self.settings.spool / "in-force.json").exists, seconds=20, what="a claim")
            yield
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def home(unix_user: User, service_user: User, public_node: Path, open_folder: Path) -> Home:
    """As `redlatch up` of root's lays it out."""
    settings = Settings(open_folder / "redlatch", system=True, user=service_user.name)
    user_dir = open_folder / "node-red"
    user_dir.mkdir()
    (user_dir / "settings.js").write_text(f"module.exports = {{uiPort: {free_port()}}};\n")
    for path in (user_dir, user_dir / "settings.js"):
        os.chown(path, unix_user.uid, unix_user.gid)
    # Root looks for another user's node where that user has it, not along root's own PATH.
    own_node = unix_user.home / ".local/bin/node"
    if not own_node.exists():
        own_node.parent.mkdir(parents=True)
        own_node.symlink_to(public_node)
    made = Home(settings, unix_user, service_user, public_node, user_dir)
    up(made)
    return made


def up(home: Home) -> setup.Plan:
    environ = {"PATH": f"{home.node.parent}:/usr/bin:/bin"}
    plan = setup.plan(
        home.settings, setup.Options(user_dir=home.user_dir), environ, bootstrap.present_config(home.settings)
    )
    setup.lock(bootstrap.prepare_site(plan, actor="root"), plan)
    return plan


def rights(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Path -> (uid, gid, mode) of everything in a folder and of itself."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        state = path.lstat()
        found[str(path.relative_to(folder))] = (state.st_uid, state.st_gid, f"{stat.S_IMODE(state.st_mode):o}")
    return found


# --- what the service can do


def test_the_service_adds_and_revokes_and_sees_it_in_force(home: Home) -> None:
    """Recorded, published for Node-RED's group, and in force by the guard's claim, which the service reads."""
    with home.guard():
        assert home.as_service(work.add_and_revoke) == ["in-force", "in-force"]
    for name, (uid, gid, mode) in rights(home.settings.published).items():
        folder = (home.settings.published / name).is_dir()
        assert (uid, gid, mode) == (home.service.uid, home.node_red.gid, "2750" if folder else "640"), name
    assert {uid for uid, _, _ in rights(home.settings.authority).values()} == {home.service.uid}


def test_the_service_reads_the_guards_claims(home: Home) -> None:
    """Whatever Node-RED's umask: the group of claims is redlatch's own, and may read."""
    with home.guard():
        until((home.settings.spool / "access.jsonl").exists, seconds=10, what="the access log")
        assert home.as_service(work.read_log) == ["no-rule"]
    for name, (uid, gid, mode) in rights(home.settings.spool).items():
        assert (uid, gid, mode) == (home.node_red.uid, home.service.gid, "2750" if name == "." else "640"), name


def test_what_the_service_makes_anew_is_node_reds_to_read(home: Home) -> None:
    """A folder that the service makes keeps the group, though it is no member of it and may not set the bit."""
    assert home.as_service(work.add) == "published"
    assert home.as_service(work.publish_anew) == "published"
    found = rights(home.settings.published / "snapshot")
    assert found.pop(".") == (home.service.uid, home.node_red.gid, "2750")
    assert set(found.values()) == {(home.service.uid, home.node_red.gid, "640")}


def test_a_folder_that_lost_its_group_is_no_silent_failure(home: Home) -> None:
    """Where Node-RED could not read what the service publishes, the change is recorded and the reason said."""
    (home.settings.published / "snapshot").chmod(0o750)
    assert home.as_service(work.add) == "recorded"
    home.site()  # root's next command puts it right
    assert rights(home.settings.published)["snapshot"][2] == "2750"
    assert home.as_service(work.add_and_revoke) == ["published", "published"]


def test_the_service_issues_its_own_certificate(home: Home) -> None:
    """Key, leaf, in one file of its own; renewed when it is gone."""
    first = home.as_service(work.own_certificate)
    assert home.as_service(work.own_certificate) == first
    home.settings.service_pem.unlink()
    second = home.as_service(work.own_certificate)
    assert second != first
    assert "PRIVATE KEY" in second
    state = home.settings.service_pem.stat()
    assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (home.service.uid, 0o600)


def test_root_and_the_service_write_the_store_at_once(home: Home) -> None:
    """What SQLite makes beside the store is the service's, also when root's command was the first to open it."""
    site = home.site()
    devices.add(site, "Bart's phone")
    beside = {name for name in rights(home.settings.authority) if name.startswith("redlatch.db-")}
    assert beside == {"redlatch.db-wal", "redlatch.db-shm"}
    assert home.as_service(work.add) == "published"
    assert {one.device.name for one in devices.list_devices(site)} == {"Bart's phone", "Maggie's laptop"}
    for name in beside:
        assert rights(home.settings.authority)[name][0] == home.service.uid, name


def test_root_makes_nothing_that_the_service_cannot_use(home: Home) -> None:
    """Lock and marker of look-ups, made by whoever comes first."""
    home.settings.lock.unlink()
    site = home.site()
    with exclusive(home.settings):
        pass
    lookups.mark_wanted(site)
    assert home.as_service(work.last_look) == lookups.last_look(site)
    assert home.as_service(work.add_and_revoke) == ["published", "published"]


# --- what it cannot do


def attempt(function: Any, *arguments: Any) -> str:
    try:
        function(*arguments)
    except (OSError, RedlatchError) as error:
        return type(error).__name__
    return "done"


def test_the_service_is_not_root(home: Home) -> None:
    """Its user writes neither the home nor the claims, reads nothing of Node-RED's, and gives nothing away."""
    settings, target = home.settings, home.user_dir / "settings.js"
    target.chmod(0o600)
    for function, arguments in (
        (os.rename, (settings.published, settings.home / "moved")),
        (os.mkdir, (settings.home / "new",)),
        (os.mkdir, (settings.spool / "new",)),
        (os.unlink, (settings.spool / "in-force.json",)),
        (os.chmod, (settings.spool, 0o777)),
        (os.chown, (settings.published / "server.pem", home.node_red.uid, -1)),
        (os.listdir, ("/root",)),
        (Path.read_bytes, (target,)),
    ):
        with home.guard():
            assert call_as(home.service, attempt, function, *arguments) == "PermissionError", (function, arguments)


def test_node_reds_user_reads_and_writes_nothing_of_the_services(home: Home) -> None:
    """Neither its key nor its folder: a flow cannot pass for the console."""
    home.as_service(work.own_certificate)
    for path in (home.settings.service_pem, home.settings.database, home.settings.lock):
        assert path.exists()
        assert call_as(home.node_red, attempt, Path.read_bytes, path) == "PermissionError", path
        assert call_as(home.node_red, attempt, os.unlink, path) == "PermissionError", path
    for folder in (home.settings.authority, home.settings.keys):
        assert call_as(home.node_red, attempt, os.listdir, folder) == "PermissionError", folder


def test_node_reds_user_cannot_call_operations(home: Home) -> None:
    """With redlatch's own code, as Node-RED's user: the store does not open."""
    with pytest.raises(NotPermitted):
        fresh.call(home.node_red, work.in_site, *home.words, "add_and_revoke")


# --- what root does not do for it


@pytest.fixture
def treasure(open_folder: Path) -> Path:
    """A folder of root's with something in it that shall stay as it is."""
    folder = open_folder / "treasure"
    folder.mkdir(mode=0o700)
    (folder / "kept").write_text("kept")
    (folder / "kept").chmod(0o600)
    return folder


def swap(path: Path, target: Path) -> None:
    """Puts a link in the place of a file or folder, as its owner may."""
    if path.is_dir():
        path.rename(path.with_name("aside"))
    else:
        path.unlink()
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["published/snapshot", "published/guard", "authority/keys"])
def test_root_follows_no_folder_that_became_a_link(name: str, home: Home, treasure: Path) -> None:
    """Publishing, removing what is old and repairing end at the link: nothing is written, given away, removed."""
    before = rights(treasure)
    if name.endswith("guard"):
        name += f"-{publish.guard_hash()}"
    call_as(home.service, lambda: swap(home.settings.home / name, treasure))
    site = home.site()
    attempt(enforce, site)
    assert attempt(server.refresh, site) in ("done", "FileProblem")
    with pytest.raises(FileProblem):  # one level below: the link is on the way
        write_atomic(home.settings.home / name / "plugin/x", b"", mode=0o600)
    with pytest.raises(FileProblem):
        make_dir(home.settings.home / name / "plugin/x", mode=0o755)
    assert attempt(up, home) in ("FileProblem", "StoreError", "NotAdoptable")
    authorities.remove_orphans(site)
    publish.remove_parts(home.settings, ["kept"])
    assert publish.parts(home.settings) == set() or name != "published/snapshot"
    assert rights(treasure) == before
    assert (treasure / "kept").read_text() == "kept"


@pytest.mark.parametrize(
    "name",
    [
        "published/snapshot.json",
        "published/server.pem",
        "published/guard.js",
        "authority/lock",
        "authority/service.pem",
    ],
)
def test_root_follows_no_file_that_became_a_link(name: str, home: Home, treasure: Path) -> None:
    """It is replaced or refused; what it points to is neither read into the folder, changed nor given away."""
    home.as_service(work.own_certificate)
    before = rights(treasure)
    path = home.settings.home / name
    call_as(home.service, lambda: swap(path, treasure / "kept"))
    attempt(lambda: server.refresh(home.site()))
    attempt(up, home)
    assert rights(treasure) == before
    assert (treasure / "kept").read_text() == "kept"
    assert path.is_symlink() or path.read_bytes() != b"kept"


def test_root_waits_for_no_fifo(home: Home) -> None:
    """Where a file is expected and a FIFO lies, a command says so, or goes on, and does not hang."""
    for name in ("published/snapshot.json", "published/server.pem", "authority/look-up"):
        path = home.settings.home / name
        call_as(home.service, lambda path=path: (path.unlink(missing_ok=True), os.mkfifo(path))[1])  # type: ignore[misc]
    site = home.site()
    assert lookups.last_look(site) is None
    assert server.refresh(site).force.state == "published"


def test_root_removes_nothing_that_a_forged_head_names(home: Home, treasure: Path) -> None:
    """The service's user writes the head that names old parts: no name leads out of the folder."""
    import hashlib
    import json

    def forge() -> None:
        path = home.settings.published / "snapshot.json"
        body = json.loads(path.read_bytes().partition(b"\n")[0])
        body["networks"] = {"home": "../../../treasure/kept", "away": str(treasure / "kept")}
        line = json.dumps(body).encode()
        path.write_bytes(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")

    call_as(home.service, forge)
    devices.add(home.site(), "Ada's tablet")
    assert (treasure / "kept").read_text() == "kept"


def test_root_gives_nothing_away_that_has_another_name(home: Home, treasure: Path) -> None:
    """A hard link into the folders, and a link: whose they are stays as it is."""
    before = rights(treasure)
    os.link(treasure / "kept", home.settings.authority / "hard")
    os.link(treasure / "kept", home.settings.published / "hard")
    (home.settings.published / "soft").symlink_to(treasure / "kept")
    layout.bring(home.settings, home.site().target())
    assert rights(treasure) == before


def test_a_file_of_roots_among_the_claims_stays_roots(home: Home) -> None:
    """Whatever Node-RED's user could get moved into its folder, it does not become its own by that."""
    other = home.settings.spool / "other"
    other.write_text("root's")
    other.chmod(0o600)
    layout.bring(home.settings, home.site().target())
    state = other.stat()
    assert (state.st_uid, stat.S_IMODE(state.st_mode)) == (0, 0o600)


def test_no_lock_is_taken_on_what_a_link_names(home: Home, treasure: Path) -> None:
    """Else the service's user could have root's commands wait for any file's lock."""
    call_as(home.service, lambda: swap(home.settings.lock, treasure / "kept"))
    with pytest.raises(FileProblem), exclusive(home.settings):
        pass


# --- from the layout of before


def as_before(home: Home) -> None:
    """What an earlier redlatch left: published root's, claims for Node-RED's user alone, lock in the home."""
    for path in (home.settings.published, *home.settings.published.rglob("*")):
        os.chown(path, 0, home.node_red.gid)
        path.chmod(0o750 if path.is_dir() else 0o640)
    (home.settings.spool / "access.jsonl").write_text("{}\n")
    for path in (home.settings.spool, *home.settings.spool.iterdir()):
        os.chown(path, home.node_red.uid, home.node_red.gid)
        path.chmod(0o700 if path.is_dir() else 0o600)
    home.settings.lock.rename(home.settings.home / "lock")
    (home.settings.home / "look-up").write_text("1700000000\n")


@pytest.mark.parametrize("by", ["refresh", "up"])
def test_an_earlier_layout_is_brought_to_this_one(by: str, home: Home) -> None:
    """By root's refresh and up, said in words; afterwards the service can do its work, and all is done."""
    first = rights(home.settings.home)
    as_before(home)
    assert layout.is_of_before(home.settings)
    with pytest.raises((RedlatchError, EngineError)):
        home.as_service(work.publish_anew)
    if by == "refresh":
        assert "files and folders" in server.refresh(home.site()).changes[0]
        assert server.refresh(home.site()).changes == ()
    else:
        assert layout.change(home.settings) in up(home).changes
        assert up(home).changes == ()
    now = rights(home.settings.home)
    # What SQLite keeps while somebody has the store open comes and goes
    passing = ("published/snapshot/", "authority/redlatch.db-")
    assert {name: now[name] for name in first if not name.startswith(passing)} == {
        name: one for name, one in first.items() if not name.startswith(passing)
    }
    assert not (home.settings.home / "lock").exists()
    assert home.settings.look_up.read_text() == "1700000000\n"
    assert now["spool/access.jsonl"] == (home.node_red.uid, home.service.gid, "640")
    assert home.as_service(work.add_and_revoke) == ["published", "published"]
    assert not layout.is_of_before(home.settings)


def test_the_services_user_cannot_set_a_site_up(home: Home) -> None:
    """`up` is root's: it acts as Node-RED's user, which nobody else may."""
    with pytest.raises((NotPermitted, FileProblem)):
        fresh.call(home.service, work.set_up, *home.words, str(home.user_dir))
