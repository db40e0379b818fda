"""Running checks: what was found, what is hidden by its cause, what could not be looked at. Prints nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.errors import RedlatchError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, and the check that found it."""

    check: Check
    found: Found

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same thing at the next look: code and subject."""
        return self.check.code, self.found.subject

    @property
    def remedy(self) -> str:
        return self.found.remedy or self.check.remedy


@dataclass(frozen=True, slots=True)
class Hidden:
    """`count` findings of a check that follow from another one's: mend `cause` (its code) first."""

    check: Check
    count: int
    cause: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """A check that could not look, and why, in words."""

    check: Check
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """`findings` by severity, the worst first. `looked` are the codes of all checks that were run, `covered` those
    of them that a cause hides, whether they found something or not.
    """

    findings: tuple[Finding, ...]
    hidden: tuple[Hidden, ...]
    unknown: tuple[Unseen, ...]
    looked: tuple[str, ...]
    covered: tuple[str, ...] = ()

    @property
    def wrong(self) -> bool:
        """Whether something was found; what is only good to know does not count."""
        return any(one.check.severity > Severity.NOTE for one in self.findings)


def run(checks: Iterable[Check], scene: Scene) -> Report:
    """Has each check look once, in order. Never raises for what a check does: one that fails stops no other.

    An effect is hidden while one of its causes, or a cause of these, was found; a check whose cause could not be
    looked at is run like any other.
    """
    checks = tuple(checks)
    found: dict[str, list[Found]] = {}
    unknown: list[Unseen] = []
    for check in checks:
        found[check.code] = seen = []
        try:
            for one in check.look(scene):
                seen.append(one)
        except Unknown as reason:
            unknown.append(Unseen(check, str(reason)))
        except RedlatchError as error:
            unknown.append(Unseen(check, error.message))
        except Exception as error:  # noqa: BLE001 - the others still have to look
            unknown.append(Unseen(check, f"a fault of redlatch's own: {type(error).__name__}: {error}"))
    by_code = {check.code: check for check in checks}
    causes = {code: _cause(code, by_code, {code for code, seen in found.items() if seen}) for code in found}
    shown = [Finding(check, one) for check in checks if causes[check.code] is None for one in found[check.code]]
    hidden = []
    for check in checks:
        cause = causes[check.code]
        if cause is not None and found[check.code]:
            hidden.append(Hidden(check, len(found[check.code]), cause))
    return Report(
        findings=tuple(sorted(shown, key=lambda one: -one.check.severity)),
        hidden=tuple(hidden),
        unknown=tuple(unknown),
        looked=tuple(by_code),
        covered=tuple(code for code, cause in causes.items() if cause is not None),
    )


def _cause(code: str, checks: Mapping[str, Check], found: Collection[str]) -> str | None:
    """The code that hides this one: a cause that was found and that nothing hides; None where there is none."""
    above = causes_of(code, checks)
    return next((one for one in above if one in found and not set(causes_of(one, checks)) & set(found)), None)


def causes_of(code: str, checks: Mapping[str, Check]) -> list[str]:
    """All that a check depends on, what that depends on included, the nearest first; never itself."""
    found: list[str] = []
    todo = list(checks[code].depends_on) if code in checks else []
    while todo:
        one = todo.pop(0)
        if one not in found and one != code:
            found.append(one)
            todo += checks[one].depends_on if one in checks else ()
    return found


@dataclass(frozen=True, slots=True)
class Mended:
    """What became of a finding's `fix`: `why` it could not be done, or that it is still there; empty: mended."""

    finding: Finding
    why: str = ""


def fixable(report: Report) -> tuple[Finding, ...]:
    """The findings that redlatch can mend by itself."""
    return tuple(one for one in report.findings if one.found.fix is not None)


def fix(findings: Sequence[Finding], scene: Scene) -> tuple[Mended, ...]:
    """Mends these findings, then has their checks look again: only what is not found any more is mended."""
    failed: dict[tuple[str, str], str] = {}
    for one in findings:
        try:
            if one.found.fix is not None:
                one.found.fix()
        except RedlatchError as error:
            failed[one.key] = error.message
    checks = {one.check.code: one.check for one in findings}
    again = run(checks.values(), Scene(scene.site, scene.environ, scene.devices))
    left = {one.key for one in again.findings} | {
        one.key for one in findings if one.check.code in {blind.check.code for blind in again.unknown}
    }
    return tuple(
        Mended(one, failed.get(one.key) or ("it is still there" if one.key in left else "")) for one in findings
    )
