"""What is packaged for the gateway: unit, container, add-on. What could not be run here is read as its reader
would.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.nodered import node, red_js

from redlatch.cli.gateway import up
from redlatch.operations import gateway_unit
from redlatch.settings import SYSTEM_HOME, Settings

ROOT = Path(__file__).parents[2]
PACKAGING = ROOT / "packaging"
UNIT = PACKAGING / "systemd/redlatch-gateway.service"
_READ = (
    "process.stdout.write(JSON.stringify(require(process.argv[1]).load(require('fs').readFileSync(0, 'utf8'))))"
)


def yaml(path: Path) -> Any:
    """What a YAML file says, by the parser that Node-RED brings."""
    parser = red_js("5.0").parents[1] / "js-yaml"
    done = subprocess.run(
        [node("5.0"), "-e", _READ, str(parser)], input=path.read_bytes(), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_the_unit_is_hardened_and_may_write_its_spool_only() -> None:
    """systemd's own score is at most 1.6: what strangers talk to may listen on low ports, and nothing else."""
    lines = UNIT.read_text().splitlines()
    wanted = {
        "User=redlatch-gateway",
        "Type=notify",
        "KillMode=process",
        "Restart=always",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "NoNewPrivileges=yes",
    }
    assert wanted <= set(lines)
    spool = Settings(SYSTEM_HOME, system=True).gateway.spool
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [f"ReadWritePaths={spool}"]
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=16", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("unit", sorted((PACKAGING / "systemd").glob("*.service")), ids=lambda path: path.stem)
def test_the_scores_in_the_documents_are_systemds(unit: Path) -> None:
    """docs/hardening.md has a row for each unit, and its figure is what systemd says."""
    rows = re.findall(
        rf"^\| `{re.escape(unit.name)}`.* \| (\d+\.\d) \|$", (ROOT / "docs/hardening.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 1
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = re.search(r"exposure level for .*: (\d+\.\d)", done.stdout)
    assert said, done.stderr
    # Other versions of systemd count a little differently
    assert abs(float(said[1]) - float(rows[0])) <= 0.3


def test_systemd_understands_the_unit_as_it_is_written_for_a_home(tmp_path: Path) -> None:
    """Program and home are those of the installation; nothing of the usual ones is left in another home's unit."""
    path = tmp_path / gateway_unit.UNIT
    text = gateway_unit.text(Settings(Path("/srv/other"), system=True))
    assert str(SYSTEM_HOME) not in text
    assert f"ExecStart={gateway_unit.program()} gateway run\n" in text
    assert "Environment=REDLATCH_HOME=/srv/other\n" in text
    path.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True, check=False)
    known = ("is not executable", "RestartSteps", "RestartMaxDelaySec")
    assert [line for line in done.stderr.splitlines() if not any(one in line for one in known)] == []


def test_the_packaged_unit_is_the_one_that_is_installed() -> None:
    """packaging/ shows what `redlatch gateway up` writes."""
    assert UNIT.resolve() == ROOT / "src/redlatch/engines/haproxy" / gateway_unit.UNIT
    assert gateway_unit.UNIT in UNIT.name


def test_compose_publishes_the_gateway_and_nothing_else() -> None:
    """Node-RED has no port of its own, and only the gateway is in its network."""
    services = yaml(PACKAGING / "docker/compose.yaml")["services"]
    assert [name for name, one in services.items() if "ports" in one] == ["gateway"]
    assert [name for name, one in services.items() if "inside" in one["networks"]] == ["gateway", "node-red"]
    assert not {"privileged", "network_mode"} & services["gateway"].keys()
    command = services["gateway"]["command"]
    known = {option for parameter in up.params for option in parameter.opts}
    assert {word for word in command if word.startswith("--")} <= known
    build = services["gateway"]["build"]
    assert (PACKAGING / "docker" / build["context"] / build["dockerfile"]).exists()


def test_what_the_images_copy_is_there() -> None:
    """Every COPY of both Dockerfiles names something of the repository, or the wheel that its instructions
    build.
    """
    for folder, context in (("docker", ROOT), ("home-assistant", PACKAGING / "home-assistant")):
        text = (PACKAGING / folder / "Dockerfile").read_text()
        for line in re.findall(r"^COPY (?:--\S+ )?(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                assert source == "redlatch-*.whl" or (context / source).exists(), source
        assert "USER redlatch" not in text  # root lays the home out, and gives itself up afterwards


def test_the_add_ons_options_have_a_type_each() -> None:
    """Home Assistant refuses an option without one; it is in the host's network and asks for no more."""
    config = yaml(PACKAGING / "home-assistant/config.yaml")
    assert config["options"].keys() == config["schema"].keys()
    assert {"name", "version", "slug", "description", "arch"} <= config.keys()
    assert config["host_network"] is True
    assert not {"privileged", "full_access", "docker_api", "hassio_api"} & config.keys()


@pytest.mark.parametrize(
    "name", ["home-assistant/DOCS.md", "home-assistant/config.yaml", "home-assistant/run", "docker/compose.yaml"]
)
def test_what_was_not_run_says_so(name: str) -> None:
    """Whoever uses it knows."""
    assert re.search(r"not run (here|by the)", (PACKAGING / name).read_text(), re.IGNORECASE)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """redlatch and setpriv that write down what they are called with; redlatch ends with the code in `code`."""
    for name in ("redlatch", "setpriv"):
        program = tmp_path / name
        program.write_text(
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >>"{tmp_path}/said"\n'
            f'exit "$(cat "{tmp_path}/code" 2>/dev/null || echo 0)"\n'
        )
        program.chmod(0o755)
    return tmp_path


def called(programs: Path, script: str, *arguments: str, code: int = 0) -> tuple[int, list[str]]:
    (programs / "code").write_text(str(code))
    done = subprocess.run(
        [PACKAGING / script, *arguments], env={"PATH": f"{programs}:{os.environ['PATH']}"}, capture_output=True,
        check=False,
    )  # fmt: skip
    said = programs / "said"
    return done.returncode, said.read_text().splitlines() if said.exists() else []


@pytest.mark.parametrize("code", [0, 1])
def test_the_container_puts_the_gateway_up_and_gives_root_up(programs: Path, code: int) -> None:
    """Not locked, or failed with an old state in force, is no reason not to run; HAProxy's user is never root."""
    _, said = called(programs, "docker/start", "--to", "http://node-red:1880", code=code)
    assert said[:6] == ["redlatch", "gateway", "up", "--yes", "--to", "http://node-red:1880"]
    assert said[6:8] == ["setpriv", "--reuid=redlatch-gateway"]
    assert said[-3:] == ["redlatch", "gateway", "run"]


def test_the_container_ends_when_its_call_is_at_fault(programs: Path) -> None:
    """Starting again would not help."""
    assert called(programs, "docker/start", "--to", "nonsense", code=2)[0] == 2
    assert "setpriv" not in (programs / "said").read_text().splitlines()


def test_the_add_on_hands_its_options_on(programs: Path) -> None:
    """Each option is one word, whatever is in it; an option that would be two lines is refused."""
    options = programs / "options.json"
    told = {"port": 8443, "node_red": "http://127.0.0.1:46836", "names": ["a b", "$(id)"], "trusted_proxies": []}
    options.write_text(json.dumps(told))
    code, said = called(programs, "home-assistant/run", str(options))
    assert code == 0
    assert said[:4] == ["redlatch", "gateway", "up", "--yes"]
    assert said[4:8] == ["--listen=:8443", "--to=http://127.0.0.1:46836", "--site-name=a b", "--site-name=$(id)"]
    (programs / "said").unlink()
    options.write_text(json.dumps(told | {"names": ["a\n--yes"]}))
    code, said = called(programs, "home-assistant/run", str(options))
    assert (code != 0, said) == (True, [])
