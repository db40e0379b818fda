"""The timer that looks by itself: its units, and what puts them there and takes them away."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from redlatch.checks import timer
from redlatch.engines.nodered import dropin
from redlatch.settings import SYSTEM_HOME, Settings

ROOT = Path(__file__).parents[3]
UNITS = (timer.SERVICE, timer.TIMER)


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What systemctl is told; units go to a folder of the test's."""
    told: list[str] = []

    def systemctl(*words: str, timeout: float = 0) -> subprocess.CompletedProcess[str]:
        told.append(" ".join(words))
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(dropin, "systemctl", systemctl)
    monkeypatch.setattr(dropin, "systemd_runs", lambda: True)
    monkeypatch.setattr(dropin, "ETC", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    return told


def test_it_is_put_there_and_taken_away(calls: list[str], tmp_path: Path) -> None:
    """Both units, started and stopped; a second time changes nothing, and nothing is left."""
    settings = Settings(SYSTEM_HOME, system=True)
    assert timer.put_on(settings)
    assert calls == ["daemon-reload", f"enable --now {timer.TIMER}"]
    assert sorted(path.name for path in (tmp_path / "etc").iterdir()) == sorted(UNITS)
    assert not timer.put_on(settings)
    calls.clear()
    assert timer.take_off()
    assert calls == [f"disable --now {timer.TIMER}", "daemon-reload"]
    assert list((tmp_path / "etc").iterdir()) == []
    assert not timer.take_off()


def test_it_runs_for_the_home_that_it_was_put_there_for(tmp_path: Path) -> None:
    """Nothing of the usual home is left in another one's units, and systemd understands them."""
    settings = Settings(Path("/srv/other"), system=True)
    for unit in UNITS:
        (tmp_path / unit).write_text(timer.text(settings, unit))
    text = (tmp_path / timer.SERVICE).read_text()
    assert str(SYSTEM_HOME) not in text
    assert "Environment=REDLATCH_HOME=/srv/other\n" in text
    done = subprocess.run(
        ["systemd-analyze", "verify", *(tmp_path / unit for unit in UNITS)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "is not executable" not in line] == []


def test_the_units_are_those_of_the_package() -> None:
    """packaging/ shows what is written; what root runs is in the installed place."""
    for unit in UNITS:
        assert (ROOT / "packaging/systemd" / unit).resolve() == ROOT / "src/redlatch/checks" / unit
    assert (
        "ExecStart=/opt/redlatch/venv/bin/redlatch check --quiet --notify\n"
        in (ROOT / "packaging/systemd" / timer.SERVICE).read_text()
    )


def test_the_service_is_as_hardened_as_the_daily_one() -> None:
    """Every limit of redlatch-refresh.service is its own too, with one capability more, to see whose a port is."""
    folder = ROOT / "packaging/systemd"
    refresh, check = (
        [line for line in (folder / name).read_text().splitlines() if line and not line.startswith(("#", "["))]
        for name in ("redlatch-refresh.service", timer.SERVICE)
    )
    limits = set(refresh[refresh.index("UMask=0077") :])
    missing = limits - set(check)
    assert {line.partition("=")[0] for line in missing} == {"CapabilityBoundingSet"}
    (capabilities,) = missing
    assert f"{capabilities} CAP_SYS_PTRACE" in check
    assert "SuccessExitStatus=3" in check


def test_without_systemd_there_is_a_line_for_cron() -> None:
    """It names the home, in quotes where that needs them."""
    line = timer.cron_line(Settings(Path("/srv/my home"), system=False))
    assert line.split(" ", 5)[:5] == ["17", "*/6", "*", "*", "*"]
    assert line.endswith("--home '/srv/my home' check --quiet --notify")
