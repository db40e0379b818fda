"""install.sh and the scripts beside it, without installing anything; the whole is tests/install/whole."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from redlatch.settings import SYSTEM_HOME, Settings

ROOT = Path(__file__).parents[2]
SCRIPTS = (
    "install.sh",
    "scripts/test",
    "scripts/check-wheel",
    "scripts/lock",
    "scripts/own-root",
    "scripts/test-install",
    ".ci/run",
    "tests/install/whole",
    "tests/install/with-systemd",
    "packaging/certbot-deploy-hook",
    "packaging/docker/start",
    "packaging/home-assistant/run",
)
NOBODY = 65534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of what install.sh needs where an unprivileged user may read it, with an empty home beside it."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    for name in ("install.sh", "pyproject.toml", "requirements.lock", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "packaging", folder / "packaging")
    (folder / "home").mkdir()
    if os.geteuid() == 0:
        os.chown(folder / "home", NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def install(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs install.sh without root and without a terminal."""
    return subprocess.run(
        [*_without_root(), str(checkout / "install.sh"), *arguments],
        env={"HOME": str(checkout / "home"), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _without_root() -> list[str]:
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if os.geteuid() == 0 else []


def contents(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    """Every shell script of the project is free of what shellcheck knows."""
    done = subprocess.run(["shellcheck", ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_executable(script: str) -> None:
    """What people are told to run can be run."""
    assert os.access(ROOT / script, os.X_OK)


def test_help_names_every_option(checkout: Path) -> None:
    """--help names each option that the call accepts, and ends with 0."""
    done = install(checkout, "--help")
    options = set(re.findall(r"^ +(--[a-z-]+)\)", (ROOT / "install.sh").read_text(), re.MULTILINE))
    assert done.returncode == 0
    assert options >= {"--yes", "--no-restart", "--remove", "--purge"}
    assert [option for option in sorted(options) if option not in done.stdout] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--frobnicate",), "unknown option --frobnicate"),
        (("--purge",), "--purge goes with --remove"),
        (("--remove", "--", "--port", "1"), "takes no options of redlatch up"),
        (("--remove", "--lan"), "--lan goes with an installation"),
    ],
)
def test_a_senseless_call_is_refused(checkout: Path, arguments: tuple[str, ...], said: str) -> None:
    """A call that makes no sense ends with 2 and the reason, and changes nothing."""
    done = install(checkout, *arguments)
    assert (done.returncode, contents(checkout / "home")) == (2, [])
    assert said in done.stderr


def test_without_a_terminal_it_says_what_it_would_do_and_stops(checkout: Path) -> None:
    """Nobody can be asked: the plan is printed, nothing is done, the exit code is 2."""
    done = install(checkout, "--", "--no-passphrase")
    assert (done.returncode, contents(checkout / "home")) == (2, [])
    assert "install redlatch in" in done.stdout
    assert "redlatch up --no-passphrase" in done.stdout
    assert "redlatch serve" in done.stdout
    assert "say --yes" in done.stderr


def test_no_is_no(checkout: Path) -> None:
    """On a terminal it asks; anything but yes changes nothing, and that is no failure."""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen(
        [*_without_root(), str(checkout / "install.sh")],
        env={"HOME": str(checkout / "home"), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
        stdin=other_end, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    os.write(terminal, b"n\n")
    said, _ = process.communicate(timeout=60)
    os.close(terminal)
    os.close(other_end)
    assert (process.returncode, contents(checkout / "home")) == (0, [])
    assert "Nothing was changed." in said


def test_without_root_a_passphrase_is_settled_before_anything_is_done(checkout: Path) -> None:
    """With --yes nobody can type one: a file names it, or it is said that there is none."""
    done = install(checkout, "--yes")
    assert (done.returncode, contents(checkout / "home")) == (2, [])
    assert "REDLATCH_PASSPHRASE_FILE" in done.stderr


def test_a_removal_with_nothing_there_removes_nothing(checkout: Path) -> None:
    """--remove where nothing was installed says so, and that is no failure."""
    done = install(checkout, "--remove", "--yes")
    assert (done.returncode, contents(checkout / "home")) == (0, [])
    assert "Nothing to remove" in done.stdout


def test_a_failure_says_what_was_done_and_how_to_go_on(checkout: Path) -> None:
    """A package registry that does not answer: the step, what it said, and that a second run goes on."""
    done = install(
        checkout,
        "--yes",
        "--no-restart",
        "--",
        "--no-passphrase",
        "--user-dir",
        str(checkout / "home"),
        PIP_INDEX_URL="http://127.0.0.1:9/",
        PIP_RETRIES="0",
    )
    assert done.returncode == 1
    assert "this step did not succeed: install redlatch" in done.stderr
    assert "run ./install.sh again: it goes on from there" in done.stderr
    removed = install(checkout, "--remove", "--yes")
    assert (removed.returncode, contents(checkout / "home" / ".local/lib")) == (0, [])


def test_the_manifest_is_the_limit_of_the_removal(checkout: Path) -> None:
    """A folder outside its own that a garbled manifest names is not removed."""
    prefix = checkout / "home/.local/lib/redlatch"
    prefix.mkdir(parents=True)
    (prefix / "manifest").write_text(f"folder {checkout}/home\n")
    (checkout / "home/flows.json").write_text("[]")
    if os.geteuid() == 0:
        for path in [checkout / "home", *(checkout / "home").rglob("*")]:
            os.chown(path, NOBODY, NOBODY)
    done = install(checkout, "--remove", "--yes")
    assert done.returncode != 0
    assert "outside" in done.stderr
    assert (checkout / "home/flows.json").exists()


@pytest.mark.parametrize("both", [False, True])
def test_a_removal_takes_the_gateway_away_first(checkout: Path, both: bool) -> None:
    """A site with nothing but a gateway has no lock that could be taken off; one with both loses both."""
    home = checkout / "home"
    prefix, site = home / ".local/lib/redlatch", home / ".local/share/redlatch"
    program = prefix / "venv/bin/redlatch"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$*" >>{home}/calls\n')
    program.chmod(0o755)
    (program.parent / "python").symlink_to("/usr/bin/python3")
    (prefix / "manifest").write_text(f"folder {prefix}/venv\nhome {site}\n")
    (site / "gateway").mkdir(parents=True)
    if both:
        (site / "published").mkdir()
        (site / "published/guard.js").touch()
    if os.geteuid() == 0:
        for path in [home, *home.rglob("*")]:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    done = install(checkout, "--remove", "--yes")
    assert done.returncode == 0, done.stderr
    calls = [line for line in (home / "calls").read_text().splitlines() if "down" in line]
    assert calls == ["gateway down --yes", *(["down --yes"] if both else [])]
    assert not site.exists()


def test_names_are_looked_up_where_there_are_some() -> None:
    """The unit's condition is the file that operations write; its limits are those of the daily one."""
    units = ROOT / "packaging/systemd"
    refresh, resolve = ((units / f"redlatch-{name}.service").read_text() for name in ("refresh", "resolve"))
    marker = Settings(SYSTEM_HOME, system=True).look_up
    assert f"ConditionPathExists={marker}\n" in resolve
    limits = refresh[refresh.index("UMask=") :]
    assert resolve.endswith(limits)
    done = subprocess.run(
        ["systemd-analyze", "verify", *units.glob("redlatch-resolve.*")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [line for line in done.stderr.splitlines() if "is not executable" not in line] == []


UNIT = ROOT / "packaging/systemd/redlatch.service"


def test_the_service_runs_as_nobody_else_and_may_write_its_folder_only() -> None:
    """Hardened: systemd's own score is at most 1.5, and nothing beyond the home may be written."""
    lines = UNIT.read_text().splitlines()
    assert {"User=redlatch", "Group=redlatch", "CapabilityBoundingSet=", "NoNewPrivileges=yes"} <= set(lines)
    assert [line for line in lines if line.startswith("ReadWritePaths=")] == [f"ReadWritePaths={SYSTEM_HOME}"]
    # claims and the process that made them are judged by their owner, which these would hide
    assert not [line for line in lines if line.startswith(("PrivateUsers=", "ProtectProc="))]
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15", UNIT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Overall exposure level" in done.stdout, done.stderr
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_service_starts_where_there_is_a_site() -> None:
    """The unit is one that systemd understands (an old one has no growing pauses), and waits for a store."""
    text = UNIT.read_text()
    assert f"ConditionPathExists={Settings(SYSTEM_HOME, system=True).database}\n" in text
    assert "ExecStart=/opt/redlatch/venv/bin/redlatch serve\n" in text
    done = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True, check=False)
    known = ("is not executable", "RestartSteps", "RestartMaxDelaySec")
    assert [line for line in done.stderr.splitlines() if not any(one in line for one in known)] == []


def test_what_root_runs_daily_is_in_the_installed_place() -> None:
    """Timer, hook and unit name the program where install.sh puts it, not a checkout that somebody may write."""
    for name in ("systemd/redlatch-refresh.service", "certbot-deploy-hook"):
        assert "/opt/redlatch/venv/bin/redlatch refresh" in (ROOT / "packaging" / name).read_text()
    resolving = (ROOT / "packaging/systemd/redlatch-resolve.service").read_text()
    assert "ExecStart=/opt/redlatch/venv/bin/redlatch network resolve" in resolving
    unit = (ROOT / "packaging/systemd/nodered.service").read_text()
    assert "User=nodered" in unit
    assert "NoNewPrivileges=yes" in unit
