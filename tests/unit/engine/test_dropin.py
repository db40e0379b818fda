"""The drop-in's text: NODE_OPTIONS merged and quoted for node, for systemd and for the Raspberry Pi's script."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.nodered import node

from redlatch.engines.nodered import dropin
from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.units import parse_environment_file
from redlatch.engines.nodered.users import user_by_uid
from redlatch.errors import NotAdoptable
from redlatch.settings import Settings

SETTINGS = Settings(home=Path("/var/lib/redlatch"), system=True)
OURS = "--require=/var/lib/redlatch/published/preload.js"


@pytest.fixture
def units(tmp_path: Path) -> Path:
    folder = tmp_path / "systemd"
    folder.mkdir()
    return folder


def planned(units: Path, service: str, settings: Settings = SETTINGS) -> dropin.DropIn:
    (units / "nodered.service").write_text(f"[Service]\n{service}\n")
    user = user_by_uid(os.geteuid())
    assert user is not None
    red = NodeRed(user, units, units / "settings.js", True, (), None, None, unit="nodered.service")
    found = dropin.plan_dropin(red, settings, etc=units, unit_dirs=(units,))
    assert found is not None
    return found


def options(found: dropin.DropIn) -> str:
    return parse_environment_file(found.environment)["NODE_OPTIONS"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ExecStart=node-red", OURS),
        (
            "Environment=NODE_OPTIONS=--max_old_space_size=512\nExecStart=node-red",
            f"--max_old_space_size=512 {OURS}",
        ),
        ('Environment="NODE_OPTIONS=--a=1 --b" X=1\nExecStart=node-red', f"--a=1 --b {OURS}"),
        (f'Environment="NODE_OPTIONS=--a {OURS}"\nExecStart=node-red', f"--a {OURS}"),
        (
            "Environment='NODE_OPTIONS=\"--require=/a b/c.js\"'\nExecStart=node-red",
            f'"--require=/a b/c.js" {OURS}',
        ),
    ],
)
def test_options_of_the_unit_are_kept(before: str, after: str, units: Path) -> None:
    """What the unit sets stays; a preload of ours is there once."""
    assert options(planned(units, before)) == after


def test_environment_file_of_the_user_counts_more(units: Path) -> None:
    """As for systemd: a file beats Environment=."""
    (units / "environment").write_text("NODE_OPTIONS=--from-file\n")
    text = f"Environment=NODE_OPTIONS=--from-unit\nEnvironmentFile=-{units}/environment\nExecStart=node-red"
    assert options(planned(units, text)) == f"--from-file {OURS}"


@pytest.mark.parametrize("name", ["pub lished", 'say "hi"', "back\\slash", "100%", "ünïcode"])
def test_odd_paths_reach_node_unharmed(name: str, units: Path, tmp_path: Path) -> None:
    """Node, given exactly the rendered NODE_OPTIONS, loads the preload from a path with spaces and quotes."""
    settings = Settings(home=tmp_path / name, system=True)
    settings.published.mkdir(parents=True)
    (settings.published / "preload.js").write_text("console.log('loaded')")
    found = planned(units, "ExecStart=node-red", settings)
    done = subprocess.run(
        [str(node()), "-e", "0"], env={"NODE_OPTIONS": options(found)}, capture_output=True, text=True, check=False
    )
    assert done.stdout == "loaded\n", (json.dumps(options(found)), done.stderr)


def test_path_that_the_pis_script_would_split_is_refused(units: Path) -> None:
    """node-red-pi splits NODE_OPTIONS at every space: such a home is refused with the way on."""
    with pytest.raises(NotAdoptable, match="cannot be handed to node"):
        planned(
            units, "ExecStart=node-red-pi $NODE_OPTIONS", Settings(home=Path("/var/lib/red latch"), system=True)
        )


def test_hardened_unit_may_write_the_spool(units: Path) -> None:
    """ProtectSystem=strict makes everything read-only; the claims need their folder."""
    assert "ReadWritePaths" not in planned(units, "ExecStart=node-red").text
    strict = planned(units, "ExecStart=node-red\nProtectSystem=strict")
    assert 'ReadWritePaths="/var/lib/redlatch/spool"' in strict.text


def test_installed_twice_is_installed_once_and_removed_whole(units: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second time changes nothing; removal leaves the folder only where others use it."""
    monkeypatch.setattr(dropin, "reload_systemd", lambda: None)
    found = planned(units, "ExecStart=node-red")
    assert not dropin.dropin_present(found)
    assert dropin.install_dropin(found)
    assert not dropin.install_dropin(found)
    assert dropin.dropins_installed(Path("/var/lib/redlatch/published"), etc=units) == ["nodered.service"]
    assert dropin.dropins_installed(Path("/srv/other/published"), etc=units) == []
    found.environment_path.write_text("NODE_OPTIONS=\n")
    assert not dropin.dropin_present(found)
    assert dropin.install_dropin(found)
    (found.path.parent / "override.conf").write_text("")
    assert dropin.remove_dropin("nodered.service", etc=units)
    assert sorted(path.name for path in found.path.parent.iterdir()) == ["override.conf"]
    assert not dropin.remove_dropin("nodered.service", etc=units)


def test_no_unit_or_no_root_no_drop_in(units: Path) -> None:
    """Without a unit, or without root, there is none."""
    user = user_by_uid(os.geteuid())
    assert user is not None
    red = NodeRed(user, units, units / "settings.js", True, (), None, None, argv=("-u", "/x"), pid=1)
    assert dropin.plan_dropin(red, SETTINGS) is None
    red = replace(red, unit="nodered.service")
    assert dropin.plan_dropin(red, Settings(home=Path("/x"), system=False), etc=units) is None


def test_restart_says_how(units: Path) -> None:
    """A person's own process is never ended: the command is named."""
    user = user_by_uid(os.geteuid())
    assert user is not None
    red = NodeRed(user, units, units / "settings.js", True, (), None, None, argv=("-u", "/x"), pid=1)
    assert dropin.restart(red).done is False
    assert dropin.restart(red).command.startswith("node-red -u /x")
    assert dropin.restart_command(replace(red, unit="nodered.service")) == "sudo systemctl restart nodered"
