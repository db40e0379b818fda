"""Adoption in place, of what people have, with the rights of a real unprivileged user."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.integration.engine import samples
from tests.support import nodered as real
from tests.support.clients import Refused, request
from tests.support.nodered import red_js
from tests.support.site import Site
from tests.support.wait import until

from redlatch.engines.nodered import edit, publish
from redlatch.engines.nodered.adopt import add_block
from redlatch.engines.nodered.inspection import inspect_settings
from redlatch.engines.nodered.locate import Machine, NodeRed, locate
from redlatch.engines.nodered.users import User, call_as
from redlatch.errors import Conflict, FileProblem, NodeRedNotFound, NotAdoptable, NotPermitted
from redlatch.settings import Settings

BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Home:
    """A user's Node-RED folder, and a guard published for that user."""

    user: User
    user_dir: Path
    settings: Settings
    node: Path
    elsewhere: Machine

    @property
    def file(self) -> Path:
        return self.user_dir / "settings.js"

    def put(self, data: bytes, path: Path | None = None) -> Path:
        path = path or self.file
        path.write_bytes(data)
        path.chmod(0o640)
        os.chown(path, self.user.uid, self.user.gid)
        return path

    def located(self) -> NodeRed:
        found = locate(user_dir=self.user_dir, environ={}, machine=self.elsewhere)
        return replace(found, node=(str(self.node),))

    def state(self) -> tuple[bytes, int, int, int]:
        real = self.file.resolve()
        state = real.stat()
        return real.read_bytes(), stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid

    def listing(self) -> list[str]:
        return sorted(path.name for path in self.user_dir.iterdir())


@pytest.fixture
def home(unix_user: User, public_node: Path, open_folder: Path) -> Iterator[Home]:
    user_dir = unix_user.home / ".node-red"
    user_dir.mkdir()
    os.chown(user_dir, unix_user.uid, unix_user.gid)
    settings = Settings(home=open_folder / "redlatch", system=True)
    publish.prepare(settings, unix_user)
    publish.publish_guard(settings, unix_user.gid)
    (open_folder / "proc/self").mkdir(parents=True)
    nowhere = Machine(unit_dirs=(), proc=open_folder / "proc", root=open_folder)
    yield Home(unix_user, user_dir, settings, public_node, nowhere)
    shutil.rmtree(user_dir)


def crlf(data: bytes) -> bytes:
    return BOM + data.replace(b"\n", b"\r\n")


SAMPLES: dict[str, Callable[[Path], bytes]] = {
    "default of 4.0": lambda _: samples.default("4.0"),
    "default of 4.1": lambda _: samples.default("4.1"),
    "default of 5.0": lambda _: samples.default("5.0"),
    "forum recipe": samples.forum,
    "adminAuth": lambda _: samples.ADMIN_AUTH.encode(),
    "CRLF and BOM": lambda _: crlf(samples.default("4.1")),
    "no newline at the end": lambda _: samples.ADMIN_AUTH.encode().rstrip(),
    "a comment as last line": lambda _: samples.default("5.0") + b"// the end",
    "exports filled one by one": lambda _: b"exports.uiPort = 1881;\nexports.flowFile = 'f.json';\n",
    "https as a function": lambda _: b"module.exports = {https: async function () { return {key: 1, ca: 2} }}\n",
    "prints while it loads": lambda _: b"console.log('x'.repeat(5000)); module.exports = {uiPort: 1882}\n",
    "starts a timer": lambda _: b"setInterval(() => {}, 1000); module.exports = {uiPort: 1882}\n",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_adopted_and_given_back_byte_for_byte(name: str, home: Home, open_folder: Path) -> None:
    """The block takes effect, stays once, keeps owner and mode; release gives back exactly what was there."""
    home.put(SAMPLES[name](open_folder))
    before = home.state()
    done = edit.adopt(home.located(), home.settings.published)
    assert (done.changed, done.after.guarded) == (True, True)
    adopted = home.state()
    assert adopted[1:] == before[1:]
    assert adopted[0].startswith(before[0])
    assert (b"\r\n" in adopted[0][len(before[0]) :]) == (b"\r\n" in before[0])

    assert edit.adopt(home.located(), home.settings.published).changed is False
    assert home.state() == adopted
    assert inspect_settings(home.located()).guarded
    assert edit.release(home.located()).changed is True
    assert home.state() == before
    assert edit.release(home.located()).changed is False
    assert home.listing() == ["settings.js"]


def test_inspection_describes_what_the_person_set(home: Home) -> None:
    """Guarded or not, it is the person's own settings that are described."""
    home.put(samples.ADMIN_AUTH.encode())
    before = inspect_settings(home.located())
    edit.adopt(home.located(), home.settings.published)
    after = inspect_settings(home.located())
    assert replace(after, guarded=False, guard_site=None, guard_version=None) == replace(
        before, guard_version=None
    )
    assert (before.admin_auth, before.admin_root, before.node_root) == ("credentials", "/red", "/api")
    assert before.areas.dashboards == ("/api/dashboard", "/api/panel")
    assert before.static == (("/home/pi/pictures/", "/"),)
    assert (before.node_auth, before.projects, before.https) == (True, True, "none")


def test_forum_recipe_is_described_without_its_secrets(home: Home, open_folder: Path) -> None:
    """What will be taken over is shown: certificate, client CA, files; never a key."""
    home.put(samples.forum(open_folder))
    found = inspect_settings(home.located())
    assert (found.https, found.client_ca, found.https_block.request_cert) == ("object", True, True)
    assert "localhost" in found.https_summary
    assert "client certificates required" in found.https_summary
    assert [Path(name).name for name in found.https_files] == [
        "server-key.pem",
        "server-cert.pem",
        "client-ca.pem",
    ]
    assert any("client certificates of a CA of your own" in text for text in found.warnings)
    assert "PRIVATE" not in repr(found)
    assert "a secret" not in repr(found)


REFUSED = {
    "syntax error": (b"module.exports = {\n  uiPort: 1880,,\n}\n", "line 2"),
    "early return": (b"module.exports = {};\nreturn;\n", "has no effect"),
    "ESM default export": (b"export default {uiPort: 1880}\n", "ES module"),
    "process.exit": (b"process.exit(0)\n", "ends the process"),
    "infinite loop": (b"for (;;) {}\n", "did not finish"),
    "throws": (b"throw new Error('no ' + 'luck')\n", "no luck"),
    "missing module": (b"require('nothing-of-that-name')\n", "Cannot find module"),
    "a promise": (b"module.exports = Promise.resolve({})\n", "promise"),
    "a number": (b"module.exports = 7\n", "number"),
    "prints for ever": (b"for (;;) console.log('x'.repeat(10000))\n", "it"),
    "replaces module": (b"module = {exports: {}};\n", "has no effect"),
    "frozen": (b"module.exports = Object.freeze({uiPort: 1880})\n", "cannot be locked"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_adopted_is_left_alone(name: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason and a way on are named; the file is untouched and nothing lies beside it."""
    monkeypatch.setattr("redlatch.engines.nodered.inspection.TIMEOUT", 2.0)
    text, words = REFUSED[name]
    home.put(text)
    before = home.state()
    with pytest.raises(NotAdoptable, match=words) as caught:
        edit.adopt(home.located(), home.settings.published)
    assert caught.value.hint
    assert home.state() == before
    assert home.listing() == ["settings.js"]


def test_module_that_exports_settings_by_name_is_left_alone(home: Home) -> None:
    """`export {s as "module.exports"}` loads in Node-RED, but has no module.exports to wrap."""
    home.put(b'const s = {uiPort: 1880};\nexport {s as "module.exports"};\n')
    before = home.state()
    with pytest.raises(NotAdoptable):
        edit.adopt(home.located(), home.settings.published)
    assert home.state() == before


def test_linked_settings_are_changed_behind_the_link(home: Home) -> None:
    """A settings.js that links into a repository of the user's stays a link."""
    target = home.user.home / "dotfiles-settings.js"
    home.put(samples.default("5.0"), target)
    home.file.symlink_to(target)
    edit.adopt(home.located(), home.settings.published)
    assert home.file.is_symlink()
    assert b"redlatch" in target.read_bytes()
    edit.release(home.located())
    assert target.read_bytes() == samples.default("5.0")
    target.unlink()


def test_link_to_a_file_of_root_is_refused(home: Home, open_folder: Path) -> None:
    """Root's rights do not reach through a link that Node-RED's user made: neither to read nor to write."""
    secret = open_folder / "secret.js"
    secret.write_text("module.exports = {uiPort: 1}\n")
    secret.chmod(0o600)
    home.file.symlink_to(secret)
    with pytest.raises(FileProblem, match=home.user.name):
        edit.adopt(home.located(), home.settings.published)
    secret.chmod(0o644)
    with pytest.raises((FileProblem, NotAdoptable)):
        edit.adopt(home.located(), home.settings.published)
    assert secret.read_text() == "module.exports = {uiPort: 1}\n"
    assert secret.stat().st_uid == 0


def test_settings_that_are_a_fifo_do_not_hang(home: Home) -> None:
    """A FIFO in its place is an error, not a wait."""
    os.mkfifo(home.file)
    os.chown(home.file, home.user.uid, home.user.gid)
    with pytest.raises((FileProblem, NotAdoptable)):
        edit.adopt(home.located(), home.settings.published)


def test_unreadable_settings_are_explained(home: Home) -> None:
    """A file that Node-RED's own user cannot read is an error that says so."""
    home.put(samples.default("5.0")).chmod(0)
    with pytest.raises(FileProblem, match="permission denied"):
        edit.adopt(home.located(), home.settings.published)


def test_missing_settings_become_node_reds_default(home: Home) -> None:
    """Where Node-RED would write its default at the first start, adoption does, and locks it."""
    program = home.user.home / "node-red"
    program.mkdir()
    for name in ("red.js", "settings.js", "package.json"):
        shutil.copy(red_js("5.0").parent / name, program / name)
    red = replace(home.located(), program=program / "red.js")
    assert not red.settings_exist
    done = edit.adopt(red, home.settings.published)
    assert (done.changed, done.created, done.after.guarded) == (True, True, True)
    assert home.state()[2:] == (home.user.uid, home.user.gid)
    edit.release(home.located())
    assert home.file.read_bytes() == samples.default("5.0")
    shutil.rmtree(program)


def test_missing_settings_without_a_program_name_the_way_on(home: Home) -> None:
    """Nothing is made up: start Node-RED once."""
    with pytest.raises(NotAdoptable, match="no Node-RED"):
        edit.adopt(replace(home.located(), program=None), home.settings.published)
    assert home.listing() == []


def test_settings_of_somebody_else_are_left_alone(home: Home) -> None:
    """A settings.js of root's in the user's folder would change hands: refused."""
    home.put(samples.default("5.0"))
    os.chown(home.file, 0, 0)
    home.file.chmod(0o644)
    with pytest.raises(NotAdoptable, match="does not belong"):
        edit.adopt(home.located(), home.settings.published)
    assert home.state()[0] == samples.default("5.0")


def test_another_redlatch_is_not_pushed_aside(home: Home, open_folder: Path) -> None:
    """A settings.js that another home guards stays with it, until that guard is gone."""
    home.put(samples.default("5.0"))
    other = Settings(home=open_folder / "other", system=True)
    publish.prepare(other, home.user)
    publish.publish_guard(other, home.user.gid)
    edit.adopt(home.located(), other.published)
    with pytest.raises(Conflict, match="another redlatch"):
        edit.adopt(home.located(), home.settings.published)
    publish.unpublish(other)
    assert edit.adopt(home.located(), home.settings.published).changed
    assert home.state()[0].count(b">>> redlatch") == 1


def test_later_edits_survive_release(home: Home) -> None:
    """What was written before, into and after the block's place stays."""
    home.put(b"module.exports = {uiPort: 1880};\n")
    edit.adopt(home.located(), home.settings.published)
    home.put(b"// first\n" + home.file.read_bytes() + b"// last\n")
    edit.release(home.located())
    assert home.file.read_bytes() == b"// first\nmodule.exports = {uiPort: 1880};\n// last\n"


def test_settings_replaced_behind_the_block_are_seen(home: Home) -> None:
    """A line after the block that exports something else takes the guard away: inspection says so, adopt mends."""
    home.put(b"module.exports = {uiPort: 1880};\n")
    edit.adopt(home.located(), home.settings.published)
    home.put(home.file.read_bytes() + b"module.exports = {uiPort: 1999};\n")
    assert inspect_settings(home.located()).guarded is False
    assert edit.adopt(home.located(), home.settings.published).changed
    found = inspect_settings(home.located())
    assert (found.guarded, found.ui_port) == (True, 1999)


def test_change_during_adoption_is_not_lost(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """An editor's save between reading and renaming wins; adoption says so."""
    home.put(b"module.exports = {uiPort: 1880};\n")
    judged = edit.inspect_file

    def save(nodered: NodeRed, file: Path) -> object:
        found = judged(nodered, file)
        home.put(b"module.exports = {uiPort: 1881};\n")
        return found

    monkeypatch.setattr(edit, "inspect_file", save)
    with pytest.raises(Conflict, match="changed by somebody else"):
        edit.adopt(home.located(), home.settings.published)
    assert home.file.read_bytes() == b"module.exports = {uiPort: 1881};\n"
    assert home.listing() == ["settings.js"]


_ADOPT = """
import os, signal, stat, sys
from dataclasses import replace
from pathlib import Path
from redlatch.engines.nodered import edit
from redlatch.engines.nodered.locate import Machine, locate
user_dir, published, node, step, marker = sys.argv[1:]
def stopping(function, when):
    def wrapped(*arguments):
        if when(*arguments):
            Path(marker).touch()
            signal.pause()
        return function(*arguments)
    return wrapped
def kind(folder):
    return lambda descriptor: stat.S_ISDIR(os.fstat(descriptor).st_mode) == folder
if step.startswith("fsync"):
    edit.os.fsync = stopping(os.fsync, kind(step == "fsync of the folder"))
else:
    setattr(edit, step, stopping(getattr(edit, step), lambda *_: True))
red = locate(user_dir=Path(user_dir), environ={}, machine=Machine((), Path("/proc"), Path("/nonexistent")))
edit.adopt(replace(red, node=(node,)), Path(published))
"""
STEPS = {
    "_write_candidate": "old", "fsync of the candidate": "old", "inspect_file": "old", "_commit": "old",
    "fsync of the folder": "new",
}  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_killed_adoption_leaves_the_old_file_or_the_new(step: str, home: Home, open_folder: Path) -> None:
    """kill -9 before writing, flushing, proving, renaming and after it: a whole file stands, the rest is swept."""
    home.put(samples.default("5.0"))
    before = home.state()
    inbox = open_folder / "marks"
    inbox.mkdir()
    inbox.chmod(0o777)
    process = subprocess.Popen(
        [sys.executable, "-c", _ADOPT, home.user_dir, home.settings.published, home.node, step, inbox / "here"],
        start_new_session=True,
    )  # fmt: skip
    try:
        until((inbox / "here").exists, seconds=20, what=step)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    expected = before[0] if STEPS[step] == "old" else add_block(before[0], home.settings.published)
    assert home.state() == (expected, *before[1:])
    assert edit.adopt(home.located(), home.settings.published).changed is (STEPS[step] == "old")
    assert home.listing() == ["settings.js"]


def test_settings_run_without_roots_rights_environment_and_files(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What settings.js does while it is loaded, it does as its user: no root, no secrets of ours."""
    monkeypatch.setenv("SOME_PASSPHRASE", "top secret")
    report = home.user.home / "report.json"
    home.put(
        b"const fs = require('fs'); let shadow = 'closed';"
        b"try { fs.readFileSync('/etc/shadow'); shadow = 'open' } catch {}"
        b"fs.writeFileSync('"
        + str(report).encode()
        + b"', JSON.stringify({uid: process.getuid(), gid: process.getgid(),"
        b" groups: process.getgroups(), env: process.env, shadow, fds: fs.readdirSync('/proc/self/fd').length}));"
        b"module.exports = {};\n"
    )
    with (home.settings.home / "secret").open("w") as _kept_open:
        assert inspect_settings(home.located()).ok
    said = json.loads(report.read_text())
    report.unlink()
    assert (said["uid"], said["gid"], said["shadow"]) == (home.user.uid, home.user.gid, "closed")
    assert 0 not in said["groups"]
    assert "top secret" not in json.dumps(said["env"])
    assert said["env"]["HOME"] == str(home.user.home)


def test_folder_of_root_with_settings_of_a_user_is_not_run_as_root(home: Home, open_folder: Path) -> None:
    """A link that turns ~/.node-red into a folder of root's does not make redlatch run the user's code as root."""
    shared = open_folder / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    home.put(b"module.exports = {}\n", shared / "settings.js")
    found = locate(user_dir=shared, environ={}, machine=home.elsewhere)
    assert found.user.name == home.user.name
    (shared / "settings.js").unlink()
    shared.chmod(0o777)
    with pytest.raises(NotPermitted, match="writable"):
        locate(user_dir=shared, environ={}, machine=home.elsewhere)


def test_missing_folder_is_an_error(home: Home) -> None:
    """A mistyped --user-dir is said, not created; taking the lock off does not need it."""
    missing = home.user.home / "no-such-folder"
    with pytest.raises(NodeRedNotFound, match="no folder"):
        locate(user_dir=missing, environ={}, machine=home.elsewhere)
    found = locate(user_dir=missing, environ={}, machine=home.elsewhere, for_release=True)
    assert edit.release(found).changed is False


@pytest.mark.parametrize("version", real.VERSIONS)
def test_forum_recipe_taken_over_by_a_real_node_red(version: real.Version, tmp_path: Path) -> None:
    """Under the recipe's own https block strangers stay out and a device of redlatch's comes in."""
    site = Site(tmp_path / "site")
    device = site.device()
    user_dir = tmp_path / "user"
    user_dir.mkdir(mode=0o700)
    recipe = samples.forum(tmp_path)
    (user_dir / "settings.js").write_bytes(recipe)
    red = replace(
        locate(user_dir=user_dir, environ={}), node=(str(real.node(version)),), program=real.red_js(version)
    )
    assert edit.adopt(red, site.published).changed
    with real.NodeRed(version, user_dir) as running:
        assert request(running.port, "GET", "/flows", device).status == 200
        with pytest.raises(Refused):
            request(running.port, "GET", "/flows")
    edit.release(red)
    assert (user_dir / "settings.js").read_bytes() == recipe


def locate_name(user_dir: str) -> str:
    return locate(user_dir=Path(user_dir), environ={}).user.name


def test_somebody_elses_node_red_needs_root(home: Home, open_folder: Path) -> None:
    """Without root only one's own is found; another's is refused with the way on."""
    assert call_as(home.user, locate_name, str(home.user_dir)) == home.user.name
    with pytest.raises(NotPermitted, match="root") as caught:
        call_as(home.user, locate_name, str(open_folder))
    assert "sudo" in caught.value.hint
