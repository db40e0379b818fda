"""Each inside check finds what it is for on a real site, and nothing on a healthy one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.checks.healthy import INSIDE, Break, Healthy, healthy, seen
from tests.integration.checks.inside_breaks import BREAKS

from redlatch.checks.run import fix, fixable, run


@pytest.fixture(scope="module")
def house() -> Iterator[Healthy]:
    with pytest.MonkeyPatch.context() as patch, healthy(patch) as found:
        yield found


def test_a_healthy_site_has_nothing_wrong(house: Healthy) -> None:
    """Every inside check looks, and none finds anything, also nothing that is only good to know."""
    report = house.look()
    assert seen(report) == []
    assert [(one.check.code, one.why) for one in report.unknown] == []
    assert not report.wrong


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: case.id)
def test_what_is_broken_is_found(house: Healthy, case: Break) -> None:
    """The check names it, and no other check finds anything; where --fix mends it, nothing is left."""
    assert seen(house.look()) == []
    subject = case.subject(house)
    with case.do(house):
        report = house.look()
        assert (case.code, subject) in seen(report)
        assert {code for code, _ in seen(report)} == {case.code, *case.also}
        for one in report.findings:
            assert one.remedy
        if case.mends:
            with house.opened() as scene:
                mended = fix(fixable(run(INSIDE, scene)), scene)
            assert [one.why for one in mended] == [""] * len(report.findings)
            assert seen(house.look()) == []
        else:
            assert [one.found.text for one in fixable(report) if one.check.code == case.code] == []
    assert seen(house.look()) == []
