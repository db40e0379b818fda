"""What commands that change who gets in have in common: --dry-run, --force, --try, and what becomes of a trial."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click

from redlatch.cli.framework import Lifetime
from redlatch.cli.output import minute
from redlatch.cli.session import Session
from redlatch.errors import RedlatchError

if TYPE_CHECKING:
    from redlatch.operations.site import Site
    from redlatch.operations.trials import Trial
    from redlatch.operations.weighing import Affected, Weighed

_F = TypeVar("_F", bound=Callable[..., Any])

_FEW = 12
_MEANINGS = {
    "dry_run": click.option("--dry-run", is_flag=True, help="Say what it would do and whom, and do nothing."),
    "force": click.option("--force", is_flag=True, help="Although it locks out everybody who could undo it."),
    "trial": click.option(
        "--try",
        "trial",
        type=Lifetime(),
        metavar="TIME",
        help="Taken back after TIME (10s to 1h), unless redlatch trial keep keeps it.",
    ),
}


class TakenBack(RedlatchError):
    """A change on trial was taken back."""

    code = "taken-back"


def options(*names: str) -> Callable[[_F], _F]:
    """The named ones of dry_run, force and trial."""

    def declare(function: _F) -> _F:
        for name in reversed(names):
            function = _MEANINGS[name](function)
        return function

    return declare


def prepared(session: Session, what: str, *, force: bool = False, trial: timedelta | None = None) -> Site:
    """The site to make a change with: insisting, or on trial. `what` says in words what is done."""
    from redlatch.operations import trial_watch, trials

    site = replace(session.site(), insist=force)
    if trial is None:
        return site
    asked = trials.Asked(trials.length(trial), what, "the command line", trial_watch.watch)
    return replace(site, trial=asked)


def named(site: Site, what: str) -> Site:
    """The same, once it is known in all its words what is done."""
    return site if site.trial is None else replace(site, trial=replace(site.trial, what=what))


def rehearse(session: Session, site: Site, operation: Callable[[Site], object]) -> dict[str, Any]:
    """Says what the operation would do to those who came in lately; as JSON."""
    from redlatch.operations import weighing

    found = weighing.rehearse(site, operation)
    _say(session, found)
    return {
        "refused": found.lost or None,
        "cut": [_document(one) for one in found.cut],
        "let_in": [_document(one) for one in found.let_in],
        "judged": found.judged,
        "claimed_by": found.by,
    }


def only_rehearse(session: Session, site: Site, operation: Callable[[Site], object], *, unseen: str = "") -> None:
    """A whole `--dry-run` of a command that has nothing else to say. `unseen` is what no log tells."""
    session.out.document({"changed": False, "would": rehearse(session, site, operation)})
    if unseen:
        session.out.warning(f"{unseen} no log says, so that who needs it is not named here")
    session.out.line("nothing was changed (--dry-run)")


def _say(session: Session, found: Weighed) -> None:
    out = session.out
    if found.lost:
        out.warning(f"refused without --force: {found.lost}")
    _list(session, "would be cut", found.cut, "bad")
    _list(session, "would be let in", found.let_in, "good")
    many = "1 access" if found.judged == 1 else f"{found.judged:,} accesses"
    if not found.judged:
        out.line(f"the log knows no access of the last 7 days ({found.by}'s word), so that nobody can be named")
    elif found.cut or found.let_in:
        out.line(f"by {many} of the last 7 days ({found.by}'s word)", style="faint")
    else:
        out.line(f"nobody of the last 7 days would be cut or let in ({many} looked at, {found.by}'s word)")


def _list(session: Session, verdict: str, some: tuple[Affected, ...], style: str) -> None:
    for one in some[:_FEW]:
        who = one.name or "without a key"
        times = "once" if one.times == 1 else f"{one.times:,} times"
        session.out.line(
            f"{verdict}: {who}, from {one.address}: {one.what} ({times}, last {minute(one.last)})", style=style
        )
    if len(some) > _FEW:
        session.out.line(f"{verdict}: {len(some) - _FEW:,} more; --json names all of them", style=style)


def _document(one: Affected) -> dict[str, Any]:
    return {"name": one.name, "from": one.address, "what": one.what, "times": one.times, "last": one.last}


# --- on trial


def on_trial(site: Site) -> dict[str, Any]:
    """What a command's JSON says besides, when its change is on trial."""
    from redlatch.operations import trials

    found = trials.show(site) if site.trial is not None else None
    return {} if found is None else {"trial": document(found)}


def document(one: Trial) -> dict[str, Any]:
    """A trial as JSON."""
    return {
        "what": one.what,
        "by": one.actor,
        "begun": one.begun,
        "until": one.until,
        "seconds": round(one.seconds),
    }


def hold(session: Session, site: Site) -> None:
    """After a change on trial: says how it is kept and, on a terminal, waits for what becomes of it.

    ctrl-c takes it back at once. TakenBack when it was not kept; in a script it returns at once.
    """
    from redlatch.operations import trial_watch, trials

    found = trials.show(site) if site.trial is not None else None
    if found is None:
        return
    out = session.out
    out.line(
        f"on trial until {minute(found.until)}: then it is taken back, unless somebody keeps it", style="warn"
    )
    out.line("to keep it, in another window or from another device: redlatch trial keep")
    if not session.interactive:
        return

    def tick(seconds: float) -> None:
        left = trials.show(site)
        if left is not None:
            out.progress(f"taken back in {left.seconds:.0f} s; ctrl-c takes it back now")
        time.sleep(seconds)

    try:
        ended = trial_watch.wait(site, pause=tick)
        kept = ended is None and trials.was_kept(site)
    except KeyboardInterrupt:
        trials.undo(site)
        kept = False
    finally:
        out.progress()
    if not kept:
        raise TakenBack(
            "nobody kept it: everything is as it was before", hint="redlatch trial keep keeps a change"
        )
    out.line("kept", style="good")
