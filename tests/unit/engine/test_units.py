"""systemd units read from their files, as systemd would."""

from __future__ import annotations

from pathlib import Path

import pytest

from redlatch.engines.nodered.units import (
    find_units,
    load_unit,
    parse_environment_file,
    split_words,
    unit_warnings,
)


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    return tmp_path / "etc"


@pytest.fixture
def dirs(tmp_path: Path, etc: Path) -> tuple[Path, ...]:
    lib = tmp_path / "lib"
    for folder in (etc, lib):
        folder.mkdir()
    return (etc, lib)


def put(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_stronger_folder_wins_and_drop_ins_add_up(dirs: tuple[Path, ...]) -> None:
    """A unit in /etc replaces that of /lib; drop-ins of both apply in the order of their names."""
    put(dirs[1], "nodered.service", "[Service]\nUser=lib\nExecStart=node-red\n")
    put(dirs[0], "nodered.service", "[Service]\nUser=etc\nExecStart=node-red\n")
    put(dirs[1], "nodered.service.d/10-a.conf", "[Service]\nUser=ten\nEnvironment=A=1\n")
    put(dirs[0], "nodered.service.d/20-b.conf", '[Service]\nEnvironment="B=2 3" A=9\n')
    unit = load_unit("nodered.service", dirs)
    assert unit is not None
    assert unit.last("User") == "ten"
    assert unit.environment() == {"A": "9", "B": "2 3"}
    assert [path.name for path in unit.dropins] == ["10-a.conf", "20-b.conf"]


def test_empty_assignment_resets_a_list(dirs: tuple[Path, ...]) -> None:
    """`systemctl edit` replaces ExecStart by emptying it first."""
    put(dirs[0], "nodered.service", "[Service]\nExecStart=node-red -u /old\n")
    put(dirs[0], "nodered.service.d/override.conf", "[Service]\nExecStart=\nExecStart=node-red -u /new\n")
    unit = load_unit("nodered.service", dirs)
    assert unit is not None
    assert unit.command({}) == ("node-red", "-u", "/new")


def test_own_drop_in_is_not_read(dirs: tuple[Path, ...]) -> None:
    """What redlatch added does not count as what the person set."""
    put(dirs[0], "nodered.service", "[Service]\nExecStart=node-red\n")
    put(dirs[0], "nodered.service.d/redlatch.conf", "[Service]\nEnvironment=NODE_OPTIONS=--require=/x\n")
    unit = load_unit("nodered.service", dirs)
    assert unit is not None
    assert unit.environment() == {}


@pytest.mark.parametrize("how", ["link", "empty"])
def test_masked_unit_does_not_exist(how: str, dirs: tuple[Path, ...]) -> None:
    """A link to /dev/null or an empty file in /etc hides the unit of /lib."""
    put(dirs[1], "nodered.service", "[Service]\nExecStart=node-red\n")
    if how == "link":
        (dirs[0] / "nodered.service").symlink_to("/dev/null")
    else:
        put(dirs[0], "nodered.service", "")
    assert load_unit("nodered.service", dirs) is None


def test_other_units_that_start_node_red_are_found(dirs: tuple[Path, ...]) -> None:
    """By ExecStart, not by name; instances of a template know their user."""
    put(dirs[0], "smarthome.service", "[Service]\nExecStart=/usr/bin/node /opt/node-red/red.js\n")
    put(dirs[0], "backup.service", "[Unit]\nAfter=nodered.service\n[Service]\nExecStart=/bin/tar c /home\n")
    put(dirs[1], "node-red@.service", "[Service]\nUser=%i\nExecStart=node-red\n")
    (dirs[0] / "multi-user.target.wants").mkdir()
    (dirs[0] / "multi-user.target.wants/node-red@ada.service").symlink_to(dirs[1] / "node-red@.service")
    found = {unit.name: unit for unit in find_units(dirs)}
    assert sorted(found) == ["node-red@ada.service", "smarthome.service"]
    assert found["node-red@ada.service"].last("User") == "ada"


def test_command_expands_variables_like_systemd(dirs: tuple[Path, ...]) -> None:
    """A lone $VAR is split into words and may vanish; ${VAR} stays one; prefixes of the line go."""
    put(
        dirs[0],
        "nodered.service",
        "[Service]\nExecStart=-/usr/bin/env node-red-pi $NODE_OPTIONS $NONE ${TITLE} $$x\n",
    )
    unit = load_unit("nodered.service", dirs)
    assert unit is not None
    assert unit.command({"NODE_OPTIONS": "--a --b", "TITLE": "two words"}) == (
        "/usr/bin/env", "node-red-pi", "--a", "--b", "two words", "$x",
    )  # fmt: skip
    assert unit.passes_node_options


@pytest.mark.parametrize(
    ("text", "words"),
    [("a  b\tc", ["a", "b", "c"]), ("'a b' \"c d\"", ["a b", "c d"]), ('x"y z"w', ["xy zw"]), ('""', [""]),
     (r"a\ b \"q\"", ["a b", '"q"']), ('"open', ["open"]), ("", [])],
)  # fmt: skip
def test_words_are_split_like_systemd(text: str, words: list[str]) -> None:
    """Quotes, escapes and unfinished quotes."""
    assert split_words(text) == words


def test_environment_file() -> None:
    """Comments, quotes and continuation lines."""
    text = '# no\n; no\nA=1\nB="two words"\nC=\'x\'\nD=a \\\nb\nnot a line\n1X=2\nE="q\\"q"\n'
    assert parse_environment_file(text) == {"A": "1", "B": "two words", "C": "x", "D": "a b", "E": 'q"q'}


@pytest.mark.parametrize(
    ("line", "warned"),
    [("ExecStart=/usr/bin/env NODE_OPTIONS=--x node-red", True), ("ExecStart=/usr/bin/env -i node-red", True),
     ("ExecStart=node-red\nUnsetEnvironment=NODE_OPTIONS", True), ("ExecStart=node-red\nRootDirectory=/srv", True),
     ("ExecStart=/usr/bin/env node-red-pi $NODE_OPTIONS", False)],
)  # fmt: skip
def test_units_that_defeat_the_drop_in_are_named(line: str, warned: bool, dirs: tuple[Path, ...]) -> None:
    """What would take the preload away is said."""
    put(dirs[0], "nodered.service", f"[Service]\n{line}\n")
    unit = load_unit("nodered.service", dirs)
    assert unit is not None
    assert bool(unit_warnings(unit)) is warned
