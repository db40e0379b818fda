"""The runner: what hides what, what stops what, and what is mended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import pytest

from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.checks.registry import BY_CODE, CHECKS
from redlatch.checks.run import causes_of, fix, fixable, run
from redlatch.errors import FileProblem

SCENE = Scene(cast("Any", None), {})


def check(
    code: str,
    look: Callable[[Scene], Iterable[Found]] | int = 0,
    *causes: str,
    severity: Severity = Severity.BROKEN,
) -> Check:
    """A check that finds so many things, or looks like that."""
    if isinstance(look, int):
        count = look

        def finds(_: Scene) -> Iterator[Found]:
            yield from (Found(f"{code} {number}", str(number)) for number in range(count))

        look = finds
    return Check(code, f"{code}'s title", severity, "meaning", "remedy", look, causes)


def raises(error: Exception) -> Callable[[Scene], Iterator[Found]]:
    def look(_: Scene) -> Iterator[Found]:
        yield Found("one thing")
        raise error

    return look


def codes(report: Any) -> list[str]:
    return [one.check.code for one in report.findings]


def test_the_worst_comes_first() -> None:
    """Findings by severity, and in the order of their checks within one."""
    made = [
        check("a", 1, severity=Severity.NOTE),
        check("b", 1),
        check("c", 1, severity=Severity.OPEN),
        check("d", 1),
    ]
    assert codes(run(made, SCENE)) == ["c", "b", "d", "a"]


def test_an_effect_is_hidden_while_its_cause_is_there() -> None:
    """Counted, with the cause named; and shown when the cause is gone."""
    report = run([check("cause", 1), check("effect", 3, "cause")], SCENE)
    assert codes(report) == ["cause"]
    assert [(one.check.code, one.count, one.cause) for one in report.hidden] == [("effect", 3, "cause")]
    assert codes(run([check("cause"), check("effect", 3, "cause")], SCENE)) == ["effect"] * 3


def test_causes_of_causes_hide_too() -> None:
    """Also over one that finds nothing by itself; what is named is what has to be mended first."""
    report = run([check("far", 1), check("between", 0, "far"), check("effect", 1, "between")], SCENE)
    assert [(one.check.code, one.cause) for one in report.hidden] == [("effect", "far")]
    report = run([check("far", 1), check("between", 1, "far"), check("effect", 1, "between")], SCENE)
    assert codes(report) == ["far"]
    assert [(one.check.code, one.cause) for one in report.hidden] == [("between", "far"), ("effect", "far")]


def test_what_causes_each_other_does_not_vanish() -> None:
    """Checks in a circle hide nothing: too much is shown rather than nothing at all."""
    assert codes(run([check("a", 1, "b"), check("b", 1, "a")], SCENE)) == ["a", "b"]


def test_a_cause_that_is_not_asked_hides_nothing() -> None:
    """With --only the one check is looked at, whatever else is wrong."""
    assert codes(run([check("effect", 1, "cause")], SCENE)) == ["effect"]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (Unknown("not from here"), "not from here"),
        (FileProblem("cannot read it", hint="x"), "cannot read it"),
        (ZeroDivisionError("oh"), "a fault of redlatch's own: ZeroDivisionError: oh"),
    ],
)
def test_what_cannot_look_stops_nobody(error: Exception, why: str) -> None:
    """It is said why; what it found before counts, and those that depend on it look all the same."""
    report = run([check("blind", raises(error)), check("after", 1), check("effect", 0, "blind")], SCENE)
    assert [(one.check.code, one.why) for one in report.unknown] == [("blind", why)]
    assert codes(report) == ["blind", "after"]
    assert report.looked == ("blind", "after", "effect")
    report = run([check("blind", lambda _: _raise(error)), check("effect", 1, "blind")], SCENE)
    assert codes(report) == ["effect"]


def _raise(error: Exception) -> Iterable[Found]:
    raise error


def test_what_is_good_to_know_is_not_wrong() -> None:
    """The exit code is about what is more than a note, and never about what is hidden or not known."""
    assert not run(
        [check("note", 1, severity=Severity.NOTE), check("blind", raises(Unknown("x")), severity=Severity.NOTE)],
        SCENE,
    ).wrong
    assert run([check("weak", 1, severity=Severity.WEAK)], SCENE).wrong


def test_only_what_is_not_found_again_is_mended() -> None:
    """A fix that does nothing, one that fails and one that helps are told apart."""
    left = {"stays", "fails", "goes"}

    def refuse() -> None:
        raise FileProblem("the disk is full")

    def look(_: Scene) -> Iterator[Found]:
        fixes = {"stays": lambda: None, "fails": refuse, "goes": lambda: left.discard("goes")}
        yield from (Found(one, one, fix=fixes[one]) for one in sorted(left))
        yield Found("by hand", "by hand")

    report = run([check("a", look)], SCENE)
    mended = fix(fixable(report), SCENE)
    assert [(one.finding.found.subject, one.why) for one in mended] == [
        ("fails", "the disk is full"),
        ("goes", ""),
        ("stays", "it is still there"),
    ]


@pytest.mark.parametrize("devices", [True, False])
def test_who_mends_looks_again_as_before(devices: bool) -> None:
    """No devices are made for it where the look before it made none."""
    seen: list[bool] = []

    def look(scene: Scene) -> Iterator[Found]:
        seen.append(scene.devices)
        yield Found("it", fix=lambda: None)

    scene = Scene(SCENE.site, SCENE.environ, devices)
    fix(fixable(run([check("a", look)], scene)), scene)
    assert seen == [devices, devices]


# --- the registry


def test_codes_are_unique_and_say_all_there_is_to_say() -> None:
    """Lower case with hyphens; a title, a meaning in sentences, and something to do."""
    assert len(BY_CODE) == len(CHECKS)
    for one in CHECKS:
        assert one.code.replace("-", "").isalnum(), one.code
        assert one.code == one.code.lower(), one.code
        assert one.title[0].islower() or one.title.startswith(("DNS", "CA", "Node-RED")), one.code
        assert not one.title.endswith("."), one.code
        assert one.meaning.endswith((".", ".)")), one.code
        assert one.remedy, one.code


def test_causes_exist_and_nothing_causes_itself() -> None:
    """Every code in depends_on is a check, and no chain of them leads back."""
    for one in CHECKS:
        assert set(one.depends_on) <= BY_CODE.keys(), one.code
        for cause in causes_of(one.code, BY_CODE):
            assert one.code not in causes_of(cause, BY_CODE), (one.code, cause)
