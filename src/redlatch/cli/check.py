"""`redlatch check`: what is wrong, what it means, and what to type."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import UsageError

if TYPE_CHECKING:
    from redlatch.checks.model import Check, Scene
    from redlatch.checks.outside import Probed
    from redlatch.checks.report import News
    from redlatch.checks.run import Finding, Mended, Report

FOUND = 3  # the exit code when something is wrong
_STYLES = {"open": "bad", "broken": "bad", "weak": "warn", "note": ""}
_WIDTH = 100
_MOST = 10  # findings of one check that are shown
_CRON = {
    True: "This line does it, in the table that crontab -e opens:",
    False: "Where cron does it, take this line out of the table that crontab -e opens:",
}


@command(
    "check",
    "sudo redlatch check",
    "sudo redlatch check --fix",
    "sudo redlatch check --only file-open --only keys-in-reach",
    "redlatch check --list",
    "sudo redlatch check --watch on",
)
@click.option("--only", multiple=True, metavar="CODE", help="Look at this only; repeatable.")
@click.option("--inside", is_flag=True, help="Look at this machine only; do not knock at the door.")
@click.option("--fix", "mend", is_flag=True, help="Put right what can be put right safely; asks first.")
@click.option("--yes", is_flag=True, help="With --fix and --watch: do not ask.")
@click.option("--list", "listing", is_flag=True, help="Show all checks: codes, meanings, remedies.")
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code says whether something is wrong.")
@click.option(
    "--notify", "tell", is_flag=True, help="Tell whom `redlatch notify` names what is new and what is over."
)
@click.option("--watch", type=click.Choice(["on", "off"]), help="Have a timer check every six hours, and tell.")
def check(
    session: Session,
    only: tuple[str, ...],
    inside: bool,
    mend: bool,
    yes: bool,
    listing: bool,
    quiet: bool,
    tell: bool,
    watch: str | None,
) -> int:
    """Find out what is wrong, and say what it means and what to do.

    Changes nothing, but with --fix; to knock at the door it makes devices of its own and revokes them at the end,
    which the audit trail keeps (not with --inside, and not with --notify: then only strangers knock). An effect is
    not shown while its cause is there: mend the cause and look again. Ends with 3 when something is wrong, and
    with 0 when nothing is.
    """
    from redlatch.checks import registry
    from redlatch.checks import run as runner

    if tell and only:
        raise UsageError("--notify goes with all checks", hint="leave --only out")
    if watch is not None:
        _watch(session, watch == "on", yes=yes)
        return 0
    checks = [one for one in _chosen(only) if not (inside and one.code in registry.OUTSIDE)]
    if listing:
        _list(session, checks)
        return 0
    scene = _scene(session, devices=not tell)
    report = runner.run(checks, scene)
    mended: tuple[Mended, ...] = ()
    fixable = runner.fixable(report)
    if mend and fixable:
        _announce(session, fixable)
        session.confirm("Go on?", yes=yes)
        mended = runner.fix(fixable, scene)
        scene = _scene(session, devices=not tell)
        report = runner.run(checks, scene)
    told = None if only else _keep(session, scene, report, tell=tell)
    session.out.document(_document(report, mended, told) | {"outside": _doors(scene)})
    if not quiet:
        _show_doors(session, scene)
        _show(session, report)
        _tell_mended(session, mended, asked=mend)
    return FOUND if report.wrong else 0


def _chosen(only: Sequence[str]) -> tuple[Check, ...]:
    """The checks with these codes, all of them without any. UsageError."""
    from redlatch.checks.registry import BY_CODE, CHECKS

    for code in only:
        if code not in BY_CODE:
            raise UsageError(f"there is no check {code!r}", hint="redlatch check --list shows all of them")
    return tuple(one for one in CHECKS if not only or one.code in only)


def _scene(session: Session, *, devices: bool) -> Scene:
    from redlatch import bootstrap
    from redlatch.checks.model import Scene

    return Scene(bootstrap.site_to_check(session.settings, actor=session.actor), os.environ, devices)


def _keep(session: Session, scene: Scene, report: Report, *, tell: bool) -> News | None:
    """For the console, and to tell of it. Who may not write there has looked all the same."""
    from redlatch.checks import telling
    from redlatch.errors import FileProblem

    try:
        return telling.keep(scene.site, report, tell=tell)
    except FileProblem as error:
        if tell:
            raise
        session.out.warning(f"the report was not kept: {error.message}")
    return None


def _watch(session: Session, on: bool, *, yes: bool) -> None:
    """Puts the timer there or takes it away; where systemd cannot run it, says what cron has to."""
    from redlatch.checks import timer

    out, settings = session.out, session.settings
    session.site()  # NotSetUp: there is nothing to watch
    if not timer.is_possible(settings):
        line = timer.cron_line(settings)
        out.document({"watch": None, "changed": False, "cron": line})
        out.line("No timer of systemd's can do this here. " + _CRON[on])
        out.line(line, indent=2)
        return
    what = "write and start" if on else "stop and remove"
    out.line(f"This will {what} {timer.TIMER} and {timer.SERVICE} in /etc/systemd/system.")
    session.confirm("Go on?", yes=yes)
    changed = timer.put_on(settings) if on else timer.take_off()
    out.document({"watch": "on" if on else "off", "changed": changed, "cron": None})
    if on:
        out.line("redlatch looks every six hours, and tells whom redlatch notify names what is new.", style="good")
    else:
        out.line("Nothing looks by itself any more.")


# --- what a person gets to see


def _show(session: Session, report: Report) -> None:
    from redlatch.checks.report import WORDS

    out = session.out
    by_check: dict[str, list[Finding]] = {}
    for one in report.findings:
        by_check.setdefault(one.check.code, []).append(one)
    for same in by_check.values():
        check = same[0].check
        word = WORDS[check.severity]
        out.line(f"{word.upper()}: {check.title}  [{check.code}]", style=_STYLES[word])
        for one in same[:_MOST]:
            out.line(f"- {one.found.text}", indent=2)
        if len(same) > _MOST:
            out.line(
                f"- and {len(same) - _MOST} more; redlatch check --only {check.code} --json has all", indent=2
            )
        _block(session, check.meaning)
        for remedy in dict.fromkeys(one.remedy for one in same[:_MOST]):
            out.line(f"what to do: {remedy}", indent=2)
        out.line()
    for hidden in report.hidden:
        many = "1 finding" if hidden.count == 1 else f"{hidden.count} findings"
        out.line(f"not shown: {hidden.check.title} ({many} of {hidden.check.code}), while {hidden.cause} is there")
    for why, titles in _reasons(report).items():
        out.line(f"could not be looked at: {', '.join(titles)}: {why}", style="warn")
    out.line(summary(report), style="bad" if report.wrong else "good")
    if fixable := sum(one.found.fix is not None for one in report.findings):
        out.line(f"redlatch check --fix puts {fixable} of them right")


def _knocked(scene: Scene) -> Probed | None:
    """What the probe saw, where a check had it look."""
    found: Probed | None = scene.__dict__.get("outside")
    return found


def _doors(scene: Scene) -> dict[str, Any] | None:
    """The whole table, for --json."""
    from redlatch.checks import table

    found = _knocked(scene)
    return table.document(found) if found is not None else None


def _show_doors(session: Session, scene: Scene) -> None:
    from redlatch.cli.prove import show

    found = _knocked(scene)
    if found is not None:
        show(session.out, found)
        session.out.line()


def _block(session: Session, text: str) -> None:
    """A paragraph, indented. Paths and commands are no such thing: they stay in one line."""
    for line in textwrap.wrap(text, _WIDTH, break_on_hyphens=False):
        session.out.line(line, indent=2)


def _reasons(report: Report) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in report.unknown:
        found.setdefault(one.why, []).append(one.check.code)
    return found


def summary(report: Report) -> str:
    """How many of each, in a line."""
    from redlatch.checks.report import WORDS

    said = []
    for severity, word in WORDS.items():
        count = sum(one.check.severity == severity for one in report.findings)
        said += [f"{count} {word}"] if count else []
    hidden = sum(one.count for one in report.hidden)
    said += [f"{hidden} not shown"] if hidden else []
    said += [f"{len(report.unknown)} could not be looked at"] if report.unknown else []
    return f"{len(report.looked)} checks: {', '.join(said) or 'nothing is wrong'}"


def _announce(session: Session, findings: Sequence[Finding]) -> None:
    if session.out.as_json:
        return
    session.out.line("This will put right:")
    for one in findings:
        session.out.line(f"- {one.found.text}", indent=2)


def _tell_mended(session: Session, mended: Sequence[Mended], *, asked: bool) -> None:
    for one in mended:
        if one.why:
            session.out.line(f"not mended: {one.finding.found.text}: {one.why}", style="bad")
        else:
            session.out.line(f"mended: {one.finding.found.text}", style="good")
    if asked and not mended:
        session.out.line("there is nothing that redlatch could put right by itself")


def _list(session: Session, checks: Sequence[Check]) -> None:
    from redlatch.checks.report import WORDS

    session.out.document(
        {
            "checks": [
                {
                    "code": one.code,
                    "severity": WORDS[one.severity],
                    "title": one.title,
                    "meaning": one.meaning,
                    "remedy": one.remedy,
                    "depends_on": one.depends_on,
                }
                for one in checks
            ]
        }
    )
    for one in checks:
        session.out.line(f"{one.code}: {one.title} ({WORDS[one.severity]})", style="strong")
        _block(session, one.meaning)
        session.out.line(f"what to do: {one.remedy}", indent=2)
        if one.depends_on:
            _block(session, f"not shown while one of these is there: {', '.join(one.depends_on)}")


def _document(report: Report, mended: Sequence[Mended], told: News | None) -> dict[str, Any]:
    from redlatch.checks.report import WORDS

    return {
        "wrong": report.wrong,
        "findings": [
            {
                "code": one.check.code,
                "severity": WORDS[one.check.severity],
                "title": one.check.title,
                "text": one.found.text,
                "subject": one.found.subject,
                "meaning": one.check.meaning,
                "remedy": one.remedy,
                "fixable": one.found.fix is not None,
            }
            for one in report.findings
        ],
        "hidden": [{"code": one.check.code, "count": one.count, "cause": one.cause} for one in report.hidden],
        "unknown": [{"code": one.check.code, "why": one.why} for one in report.unknown],
        "looked": report.looked,
        "mended": [
            {"code": one.finding.check.code, "subject": one.finding.found.subject, "why": one.why}
            for one in mended
        ],
        "told": {
            "new": [{"code": one.code, "subject": one.subject} for one in (told.new if told else ())],
            "over": [{"code": code, "subject": subject} for code, subject in (told.over if told else ())],
        },
    }
