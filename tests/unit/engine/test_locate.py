"""Which Node-RED is meant, by what lies on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from redlatch.engines.nodered.locate import Machine, locate, parse_arguments
from redlatch.engines.nodered.processes import is_node_red
from redlatch.errors import NodeRedNotFound, NotAdoptable

ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="acts as other users")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with nothing on it."""
    for folder in ("units", "proc/self", "root/etc"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "proc/self/root").symlink_to("/")
    return Machine((tmp_path / "units",), tmp_path / "proc", tmp_path / "root")


def unit(machine: Machine, text: str, name: str = "nodered.service") -> None:
    (machine.unit_dirs[0] / name).write_text(f"[Service]\n{text}\n")


def process(machine: Machine, pid: int, argv: list[str], *, root: str = "/", uid: int = 0, **environ: str) -> None:
    folder = machine.proc / str(pid)
    folder.mkdir()
    (folder / "cmdline").write_bytes(b"\0".join(word.encode() for word in argv) + b"\0")
    (folder / "environ").write_bytes(b"\0".join(f"{k}={v}".encode() for k, v in environ.items()))
    (folder / "status").write_text(
        f"State:\tS (sleeping)\nUid:\t{uid}\t0\t0\t0\nGid:\t{uid}\t0\t0\t0\nGroups:\t\n"
    )
    (folder / "root").symlink_to(root)
    (folder / "exe").symlink_to("/usr/bin/node")
    (folder / "cwd").symlink_to("/")


@ROOT
def test_unit_names_user_and_folder(machine: Machine) -> None:
    """User= and the arguments of ExecStart= say it all."""
    unit(
        machine,
        "User=daemon\nEnvironment=OPT=--title\nExecStart=node-red-pi -v $OPT x -u data\nWorkingDirectory=/srv",
    )
    found = locate(environ={"SUDO_USER": "nobody"}, machine=machine)
    assert (found.user.name, found.user_dir, found.unit) == ("daemon", Path("/srv/data"), "nodered.service")
    assert found.settings_file == Path("/srv/data/settings.js")


@ROOT
def test_unit_with_a_group_of_its_own(machine: Machine) -> None:
    """Group= is the group that may read what is published."""
    unit(machine, "User=daemon\nGroup=games\nExecStart=node-red -s /etc/node-red.js")
    found = locate(environ={}, machine=machine)
    assert (found.user.gid, found.settings_file) == (60, Path("/etc/node-red.js"))


def test_unit_of_a_missing_user_is_an_error(machine: Machine) -> None:
    """It is named, not guessed around; a folder that is named is found all the same."""
    unit(machine, "User=no-such-user-here\nExecStart=node-red")
    with pytest.raises(NodeRedNotFound, match="no-such-user-here"):
        locate(environ={}, machine=machine)
    assert locate(user_dir=machine.root, environ={}, machine=machine).unit is None


@ROOT
def test_root_login_whose_node_red_runs_as_root_is_found_by_its_unit(machine: Machine) -> None:
    """/root/.node-red is right where the unit really runs as root."""
    unit(machine, "ExecStart=/usr/bin/node-red\nEnvironment=HOME=/root")
    assert locate(environ={}, machine=machine).user_dir == Path("/root/.node-red")


@ROOT
def test_sudo_never_means_the_folder_of_root(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing found: with or without SUDO_USER, root's own home is not taken."""
    monkeypatch.setattr("redlatch.engines.nodered.programs.find_program", lambda *_: None)
    for environ in ({}, {"SUDO_USER": "root"}, {"SUDO_USER": "daemon"}, {"HOME": "/root"}):
        with pytest.raises(NodeRedNotFound):
            locate(environ=environ, machine=machine)


@ROOT
def test_process_names_user_and_folder(machine: Machine) -> None:
    """A running Node-RED's arguments and HOME; its node is the one that runs."""
    process(
        machine, 41, ["/usr/bin/node", "--max-old-space-size=256", "/x/node-red/red.js", "-u", "/srv/nr"], uid=1
    )
    found = locate(environ={}, machine=machine)
    assert (found.user.uid, found.user_dir, found.pid, found.node) == (1, Path("/srv/nr"), 41, ("/usr/bin/node",))


@ROOT
def test_titled_process_is_found_by_its_home(machine: Machine) -> None:
    """Once it listens, its title hides the arguments; HOME is left."""
    process(machine, 41, ["node-red"], uid=1, HOME="/usr/sbin")
    assert locate(environ={}, machine=machine).user_dir == Path("/usr/sbin/.node-red")


@ROOT
def test_two_that_could_be_meant_are_for_a_person(machine: Machine, tmp_path: Path) -> None:
    """Both are named, and --user-dir decides."""
    for pid, name in ((41, "one"), (42, "two")):
        (tmp_path / name).mkdir()
        process(machine, pid, ["node", "/x/red.js", "-u", str(tmp_path / name)])
    with pytest.raises(NodeRedNotFound, match="more than one") as caught:
        locate(environ={}, machine=machine)
    assert "--user-dir" in caught.value.hint
    assert locate(user_dir=tmp_path / "two", environ={}, machine=machine).pid == 42


@ROOT
def test_unit_beats_a_stray_process(machine: Machine, tmp_path: Path) -> None:
    """The unit is meant; the other one is mentioned."""
    unit(machine, "User=daemon\nExecStart=node-red -u /srv/nr")
    process(machine, 41, ["node", "/x/red.js", "-u", "/elsewhere"])
    found = locate(environ={}, machine=machine)
    assert found.user_dir == Path("/srv/nr")
    assert "/elsewhere" in found.warnings[0]


@pytest.mark.parametrize(("variable", "error"), [("HOME", NodeRedNotFound), ("SUPERVISOR_TOKEN", NotAdoptable)])
def test_containers_are_told_what_to_do_instead(
    variable: str, error: type[Exception], machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Node-RED with another root folder is a container's; Home Assistant's is known by its supervisor."""
    monkeypatch.setattr("redlatch.engines.nodered.locate._from_environment", lambda *_: None)
    process(machine, 41, ["node-red"], root=str(tmp_path), **{variable: "x"})
    with pytest.raises(error, match=r"container|add-on") as caught:
        locate(environ={}, machine=machine)
    assert "gateway" in caught.value.hint  # type: ignore[attr-defined]


def test_official_docker_image_is_recognised(machine: Machine) -> None:
    """Inside of it there is no place for keys."""
    (machine.root / ".dockerenv").touch()
    (machine.root / "usr/src/node-red").mkdir(parents=True)
    with pytest.raises(NotAdoptable, match="Docker"):
        locate(environ={}, machine=machine)


@pytest.mark.parametrize("how", ["environment", "system"])
def test_home_assistant_is_recognised(how: str, machine: Machine) -> None:
    """By its token, or by its operating system."""
    if how == "system":
        (machine.root / "etc/os-release").write_text("NAME=Home\nID=haos\n")
    with pytest.raises(NotAdoptable, match="Home Assistant"):
        locate(environ={"SUPERVISOR_TOKEN": "x"} if how == "environment" else {}, machine=machine)


def test_windows_side_of_wsl_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """File rights do not hold on /mnt/c."""
    (machine.proc / "version").write_text("Linux version 5.15 (Microsoft@Microsoft.com)")
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    with pytest.raises(NotAdoptable, match="Windows"):
        locate(user_dir=Path("/mnt/c/Users/me/.node-red"), environ={}, machine=machine)


def test_missing_settings_file_is_an_error(machine: Machine, tmp_path: Path) -> None:
    """A mistyped --settings is said; a folder without settings.js yet is fine."""
    with pytest.raises(NodeRedNotFound, match="no file"):
        locate(settings_file=tmp_path / "other.js", environ={}, machine=machine)
    found = locate(user_dir=tmp_path, settings_file=tmp_path / "settings.js", environ={}, machine=machine)
    assert found.settings_exist is False


@pytest.mark.parametrize(
    ("words", "user_dir", "settings"),
    [("-u /a", "/a", None), ("--userDir /a", "/a", None), ("--userDir=/a -s b.js", "/a", "b.js"),
     ("--user /a", "/a", None),
     ("-v --safe flows.json", None, None), ("-t x -- -u /a", None, None), ("-u", None, None),
     ("--settings=/c", None, "/c"),
     ("-u /a -u /b", "/b", None), ("-D x=1 -p 80 -u /a", "/a", None)],
)  # fmt: skip
def test_arguments_are_read_as_nopt_does(words: str, user_dir: str | None, settings: str | None) -> None:
    """Short and long forms, `=`, abbreviations, the end of options."""
    found = parse_arguments(words.split())
    assert (found.user_dir, found.settings) == (user_dir, settings)


@pytest.mark.parametrize(
    ("argv", "yes"),
    [(("node-red",), True), (("node-red", "", ""), True),
     (("/usr/bin/node", "/usr/bin/node-red", "-u", "x"), True),
     (("node", "--x", "512", "/a/node-red/red.js"), True), (("node", "/a/red.js", "admin", "init"), False),
     (("node", "server.js"), False), (("vim", "/a/red.js"), False), (("grep", "node-red"), False), ((), False)],
)  # fmt: skip
def test_node_red_is_known_by_its_command_line(argv: tuple[str, ...], yes: bool) -> None:
    """Its title, or node with its script; not an editor, not `node-red admin`."""
    assert is_node_red(argv) is yes
