"""node and red.js, found where people have them; nothing is run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from redlatch.engines.nodered.programs import find_node, find_program, red_js, version_of
from redlatch.engines.nodered.users import User


@pytest.fixture
def ada(tmp_path: Path) -> User:
    (tmp_path / "home").mkdir()
    return User("ada", 1234, 1234, (1234,), tmp_path / "home")


def install(prefix: Path, version: str = "4.1.0", *, name: str = "node-red") -> Path:
    """Node-RED as `npm install -g --prefix` leaves it, with a node beside it."""
    package = prefix / "lib/node_modules/node-red"
    package.mkdir(parents=True)
    (package / "red.js").write_text("#!/usr/bin/env node\n")
    (package / "package.json").write_text(json.dumps({"name": name, "version": version}))
    (prefix / "bin").mkdir(exist_ok=True)
    (prefix / "bin/node-red").symlink_to("../lib/node_modules/node-red/red.js")
    node = prefix / "bin/node"
    node.write_text("#!/bin/sh\n")
    node.chmod(0o755)
    return package / "red.js"


@pytest.mark.parametrize("place", [".nvm/versions/node/v20.1.0", ".npm-global", "n", ".volta", ".local"])
def test_node_red_of_a_home_is_found_with_its_node(place: str, ada: User, tmp_path: Path) -> None:
    """Version managers and npm prefixes; the node beside it runs it."""
    program = install(ada.home / place)
    assert find_program((), ada, {}, tmp_path / "none") == program
    assert find_node((), program, ada, {}, tmp_path / "none") == (str(ada.home / place / "bin/node"),)
    assert version_of(program) == "4.1.0"


def test_newest_version_of_nvm_wins(ada: User, tmp_path: Path) -> None:
    """v20 is newer than v9."""
    install(ada.home / ".nvm/versions/node/v9.0.0")
    newer = install(ada.home / ".nvm/versions/node/v20.0.0")
    assert find_program((), ada, {}, tmp_path / "none") == newer


def test_path_comes_first(ada: User, tmp_path: Path) -> None:
    """What the unit's or the person's PATH names is what runs."""
    install(ada.home / ".npm-global")
    program = install(tmp_path / "elsewhere")
    environ = {"PATH": f"relative:/nowhere:{tmp_path}/elsewhere/bin"}
    assert find_program((), ada, environ, tmp_path / "none") == program
    assert find_node((), program, ada, environ, tmp_path / "none") == (f"{tmp_path}/elsewhere/bin/node",)


def test_small_script_in_front_is_followed(ada: User, tmp_path: Path) -> None:
    """An installer's wrapper names node and red.js."""
    program = install(tmp_path / "opt/redlatch/x")
    node = tmp_path / "opt/redlatch/x/bin/node"
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/node-red").write_text(f'#!/bin/sh\nexec "{node}" "{program}" "$@"\n')
    assert find_program((), ada, {}, tmp_path) == program
    assert find_node((), program, ada, {}, tmp_path) == (str(node),)


def test_other_programs_of_that_name_are_not_taken(ada: User, tmp_path: Path) -> None:
    """A package that is not node-red, a dangling link, a FIFO in its place."""
    install(ada.home / ".npm-global", name="something-else")
    assert find_program((), ada, {}, tmp_path / "none") is None
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/node-red").symlink_to("/nowhere")
    assert red_js(tmp_path / "bin/node-red") is None
    assert version_of(None) is None
