"""The report that is kept, and what is told of it: each thing once when it is new and once when it is over."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.engine.conftest import account
from tests.support.home import small_site

from redlatch import bootstrap
from redlatch.checks import report as reports
from redlatch.checks import telling
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.checks.run import Report, run
from redlatch.errors import EngineError, StoreError
from redlatch.operations import notices
from redlatch.operations.site import Notify, Site
from redlatch.store import Shut


@dataclass
class Desk:
    """A site whose operator is told by a program that keeps what it hears."""

    site: Site
    folder: Path

    def report_size(self) -> int:
        """Bytes of the report that is kept."""
        return self.site.settings.last_check.stat().st_size

    def heard(self) -> list[dict[str, Any]]:
        """What came since the last call."""
        said = self.folder / "said"
        lines = said.read_text().splitlines() if said.exists() else []
        said.unlink(missing_ok=True)
        return [json.loads(line) for line in lines]

    def told(self, report: Report, *, site: Site | None = None) -> tuple[list[str], list[str]]:
        """(new, over) as subjects, of a look with this outcome."""
        telling.keep(site or self.site, report, tell=True)
        heard = self.heard()
        assert len(heard) <= 1
        new = [f"{one['code']} {one['subject']}" for each in heard for one in each["new"]]
        return new, [f"{one['code']} {one['subject']}" for each in heard for one in each["over"]]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    site = small_site(tmp_path)
    program = tmp_path / "tell"
    program.write_text(
        f"#!/bin/sh\n[ ! -e {tmp_path}/refuse ] || exit 3\ncat >>{tmp_path}/said; echo >>{tmp_path}/said\n"
    )
    program.chmod(0o755)
    notices.configure(site, command=str(program), webhook=None)
    with closing(site.store):
        yield Desk(site, tmp_path)


def seen(*codes: str, blind: str = "", severity: Severity = Severity.BROKEN, looked: str = "abc") -> Report:
    """A report of checks a, b and c (b follows from a), in which these found something: "a1" is a's about 1."""

    def look(code: str) -> Any:
        def finds(_: Scene) -> Iterator[Found]:
            if code in blind:
                raise Unknown("not from here")
            yield from (Found(f"it is {one}", one[1:]) for one in codes if one[0] == code)

        return finds

    checks = [
        Check(one, f"title {one}", severity, "meaning", f"mend {one}", look(one), ("a",) if one == "b" else ())
        for one in looked
    ]
    return run(checks, Scene(None, {}))  # type: ignore[arg-type]


def test_a_thing_is_told_once(desk: Desk) -> None:
    """New when it comes, over when it is gone, and new again only when it comes again."""
    assert desk.told(seen("a1")) == (["a 1"], [])
    assert desk.told(seen("a1")) == ([], [])
    assert desk.told(seen("a1", "a2", "c1")) == (["a 2", "c 1"], [])
    assert desk.told(seen("c1")) == ([], ["a 1", "a 2"])
    assert desk.told(seen("a1", "c1")) == (["a 1"], [])
    assert desk.told(seen()) == ([], ["a 1", "c 1"])
    assert desk.told(seen()) == ([], [])


def test_what_was_not_looked_at_is_not_over(desk: Desk) -> None:
    """Hidden by its cause, not to be seen from here, or left out: it is neither over nor told again after."""
    assert desk.told(seen("b1", "c1")) == (["b 1", "c 1"], [])
    assert desk.told(seen("a1", "b1", blind="c")) == (["a 1"], [])
    assert desk.told(seen("b1", looked="ab")) == ([], ["a 1"])
    assert desk.told(seen("b1", "c1")) == ([], [])


def test_what_a_cause_hides_is_not_over_either(desk: Desk) -> None:
    """The door is shut, so that nobody is seen to be let in: that says nothing about who would be."""
    assert desk.told(seen("b1")) == (["b 1"], [])
    assert desk.told(seen("a1")) == (["a 1"], [])
    assert desk.told(seen("b1")) == ([], ["a 1"])


def test_what_cannot_be_looked_at_this_time_stays_in_the_report(desk: Desk) -> None:
    """The timer may not try sudo; what was found by hand is not forgotten by that, and keeps its age."""
    desk.told(seen("a1"))
    before = reports.load(desk.site.settings)
    desk.told(seen(blind="a"))
    after = reports.load(desk.site.settings)
    assert before is not None
    assert after is not None
    assert [(one.key, one.since) for one in after.findings] == [(("a", "1"), before.findings[0].since)]


def test_names_of_files_do_not_spoil_the_report(desk: Desk) -> None:
    """Whatever Node-RED's user calls its files, and however many: the report is read again, and can be shown."""
    names = [f"a{number}\udcff\x1b[31m{'x' * 4000}" for number in range(2000)]
    telling.keep(desk.site, seen(*names), tell=True)
    kept = reports.load(desk.site.settings)
    assert kept is not None
    assert len(kept.findings) == 50
    assert all(one.subject.isprintable() and one.text.encode() for one in kept.findings)
    assert desk.report_size() < 1 << 20


def test_a_note_is_not_told(desk: Desk) -> None:
    """What is only good to know is in the report, and nobody is woken for it."""
    assert desk.told(seen("a1", severity=Severity.NOTE)) == ([], [])
    kept = reports.load(desk.site.settings)
    assert kept is not None
    assert [one.severity for one in kept.findings] == ["note"]


def test_what_could_not_be_told_is_told_at_the_next_look(desk: Desk) -> None:
    """The report is kept all the same."""
    (desk.folder / "refuse").touch()
    with pytest.raises(EngineError, match="ended with 3"):
        telling.keep(desk.site, seen("a1"), tell=True)
    kept = reports.load(desk.site.settings)
    assert kept is not None
    assert [one.key for one in kept.findings] == [("a", "1")]
    (desk.folder / "refuse").unlink()
    assert desk.told(seen("a1")) == (["a 1"], [])


def test_a_look_by_hand_tells_nobody_and_takes_nothing_from_the_next_notice(desk: Desk) -> None:
    telling.keep(desk.site, seen("a1"), tell=False)
    assert desk.heard() == []
    assert desk.told(seen("a1")) == (["a 1"], [])


def test_who_named_nobody_is_told_everything_later(desk: Desk) -> None:
    """Without a command and a web hook nothing counts as told."""
    chosen = desk.site.config().notify
    notices.configure(desk.site, command=None, webhook=None)
    assert desk.told(seen("a1")) == ([], [])
    notices.configure(desk.site, command=chosen.command, webhook=None)
    assert desk.told(seen("a1")) == (["a 1"], [])


def test_a_store_that_cannot_be_read_is_told_of(desk: Desk) -> None:
    """To whom it was told last: the store does not say it any more."""
    assert desk.told(seen()) == ([], [])
    broken = replace(desk.site, store=Shut(desk.site.settings.database, StoreError("it is damaged")))
    assert desk.told(seen("a1"), site=broken) == (["a 1"], [])


def test_a_finding_keeps_its_age(desk: Desk) -> None:
    """Since when it is so, over looks that saw it and looks that left it out."""
    telling.keep(desk.site, seen("a1", "c1"), tell=False)
    first = reports.load(desk.site.settings)
    later = replace(desk.site, clock=lambda: bootstrap.now() + timedelta(hours=6))
    telling.keep(later, seen("a1", "a2", looked="ab"), tell=False)
    second = reports.load(desk.site.settings)
    assert first is not None
    assert second is not None
    since = {one.key: one.since for one in second.findings}
    assert since.keys() == {("a", "1"), ("a", "2"), ("c", "1")}
    assert since["a", "1"] == since["c", "1"] == first.at < since["a", "2"] == second.at


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2}', '{"format": 1, "at": 1e99, "findings": [{}]}', "[" * 100_000]
)
def test_a_report_that_is_garbled_is_none(desk: Desk, content: str) -> None:
    """Nothing fails by it, and the next one takes its place."""
    desk.site.settings.last_check.write_text(content)
    assert reports.load(desk.site.settings) is None
    assert desk.told(seen("a1")) == (["a 1"], [])
    assert reports.load(desk.site.settings) is not None


def test_the_report_is_for_redlatch_alone(desk: Desk) -> None:
    """It names what is weak, and whom to tell."""
    telling.keep(desk.site, seen("a1"), tell=False)
    assert stat.S_IMODE(desk.site.settings.last_check.stat().st_mode) == 0o600


def test_root_runs_the_operators_command_as_redlatch(tmp_path: Path) -> None:
    """Who may write the store, which says what is run, must not become root by it."""
    with account("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin") as own:
        tmp_path.chmod(0o777)
        folder = Path("/var/tmp") / f"{own.name}-tell"
        folder.mkdir()
        program = folder / "tell"
        program.write_text(f"#!/bin/sh\n{{ id -u; id -G; }} >{folder}/said\n")
        program.chmod(0o755)
        os.chown(folder, own.uid, own.gid)
        try:
            site = small_site(tmp_path)
            with closing(site.store):
                notices.configure(site, command=str(program), webhook=None)
                settings = replace(site.settings, system=True, user=own.name)
                telling.keep(replace(site, settings=settings), seen("a1"), tell=True)
            assert (folder / "said").read_text().split() == [str(own.uid), str(own.gid)]
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def test_nobody_is_told_where_that_cannot_be_remembered(desk: Desk) -> None:
    """A report that cannot be kept would be told again and again."""
    desk.site.settings.last_check.mkdir()
    with pytest.raises(Exception, match="cannot write"):
        telling.keep(desk.site, seen("a1"), tell=True)
    assert desk.heard() == []
    assert Notify() != desk.site.config().notify
