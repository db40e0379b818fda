"""The flow file that Node-RED would load."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from redlatch.engines.nodered.flows import read_flows
from redlatch.engines.nodered.locate import NodeRed
from redlatch.engines.nodered.users import user_by_uid


@pytest.fixture
def red(tmp_path: Path) -> NodeRed:
    user = user_by_uid(os.geteuid())
    assert user is not None
    return NodeRed(user, tmp_path, tmp_path / "settings.js", True, (), None, None)


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def ids(nodes: list[dict[str, Any]] | None) -> list[str] | None:
    return None if nodes is None else [node["id"] for node in nodes]


def test_settings_and_arguments_name_the_file(red: NodeRed) -> None:
    """The command line counts more than settings.js, and that more than the default."""
    for name in ("flows", "mine", "given"):
        put(red.user_dir / f"{name}.json", [{"id": name}])
    assert ids(read_flows(red)) == ["flows"]
    assert ids(read_flows(red, flow_file="mine.json")) == ["mine"]
    assert ids(read_flows(replace(red, argv=("-v", "given.json")), flow_file="mine.json")) == ["given"]


def test_active_project_has_its_own_file(red: NodeRed) -> None:
    """With projects, .config.projects.json names the project and its package.json the file."""
    put(red.user_dir / "flows.json", [{"id": "old"}])
    put(red.user_dir / ".config.projects.json", {"projects": {}, "activeProject": "house"})
    put(red.user_dir / "projects/house/package.json", {"node-red": {"settings": {"flowFile": "house.json"}}})
    put(red.user_dir / "projects/house/house.json", [{"id": "house"}])
    assert ids(read_flows(red)) == ["house"]


@pytest.mark.parametrize("name", ["../elsewhere", "{base}/elsewhere", ".hidden", "a/b"])
def test_project_names_do_not_lead_elsewhere(name: str, red: NodeRed) -> None:
    """A project is a folder of projects/, nothing else."""
    name = name.format(base=red.user_dir)
    put(red.user_dir / "flows.json", [{"id": "old"}])
    put(red.user_dir / ".config.projects.json", {"activeProject": name})
    put(red.user_dir / "projects" / name / "package.json", {"node-red": {"settings": {"flowFile": "f.json"}}})
    put(red.user_dir / "projects" / name / "f.json", [{"id": "led astray"}])
    assert ids(read_flows(red)) == ["old"]


@pytest.mark.parametrize("text", ["", "not json", "[" * 100_000, "7", '{"flows": 3}', "[1, null]"])
def test_flows_that_cannot_be_understood_stop_nothing(text: str, red: NodeRed) -> None:
    """They are Node-RED's problem."""
    (red.user_dir / "flows.json").write_text(text)
    assert not read_flows(red)


def test_no_flows_is_none(red: NodeRed) -> None:
    """A Node-RED that was never used; a FIFO in the file's place is not waited for."""
    assert read_flows(red) is None
    os.mkfifo(red.user_dir / "flows.json")
    assert read_flows(red) is None
