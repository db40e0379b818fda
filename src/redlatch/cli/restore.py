"""`redlatch restore`: the site of a backup, made again here."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.backup import described, open_backup, show
from redlatch.cli.framework import PATH, command
from redlatch.cli.output import minute
from redlatch.cli.session import Session

if TYPE_CHECKING:
    from redlatch.operations.restore import Plan, Restored

_SHOWN = 20


@command(
    "restore",
    "sudo redlatch restore redlatch.backup",
    "sudo redlatch restore redlatch.backup --identity ~/age-key.txt --yes",
    "age --decrypt redlatch.backup | sudo redlatch restore - --yes",
    "sudo redlatch restore redlatch.backup --replace",
)
@click.argument("file", type=PATH)
@click.option("--identity", type=PATH, metavar="SECRET", help="The file with a recipient's secret key.")
@click.option("--replace", "replacing", is_flag=True, help="Although there is a site: it is kept beside.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def restore(session: Session, file: Path, identity: Path | None, replacing: bool, yes: bool) -> None:
    """Make the site in FILE (- for stdin) again: same CAs, same devices. Then `redlatch up` puts the lock on.

    All of the backup is proved before anything is written. What was revoked after it was made is not revoked in
    it: where the newer store is still here (--replace), those devices are shown and revoked again.
    """
    from redlatch import bootstrap
    from redlatch.operations import restore as restoring

    gc.enable()
    out = session.out
    proved = open_backup(session, file, identity)
    try:
        plan = restoring.plan(session.settings, proved, now=bootstrap.now(), replace_present=replacing)
        if not out.as_json:
            show(session, proved)
            _show_plan(session, plan)
        session.confirm("Do this?", yes=yes)
        done = restoring.restore(plan, actor=session.actor, clock=bootstrap.now)
    finally:
        proved.close()
    present = plan.present
    out.document(
        {
            **described(proved),
            "home": session.settings.home,
            "kept": done.kept,
            "revoked_again": done.again,
            "locked_out": present.lost if present is not None else (),
            "links_withdrawn": done.links,
            "remarks": plan.remarks,
            "next": "redlatch up",
        }
    )
    _report(session, plan, done)


def _show_plan(session: Session, plan: Plan) -> None:
    out, present, said = session.out, plan.present, plan.proved.manifest
    out.line("This will change:", style="strong")
    out.line(f"- make this site again in {plan.settings.home}", indent=2)
    out.line("- withdraw the links that were open when the backup was made", indent=2)
    if present is not None:
        out.line(f"- keep the site that is there now beside it, as {plan.settings.authority}.before-...", indent=2)
        if present.problem:
            out.line(f"attention: the site that is there cannot be read: {present.problem}", style="warn")
        elif present.site != said.site:
            out.line("attention: the site that is there is another one; none of its keys will open", style="warn")
    _show_revocations(session, plan)
    if present is not None and present.lost:
        out.line(
            f"attention: these devices got their keys after the backup, and need new ones: {_some(present.lost)}",
            style="warn",
        )
    for remark in plan.remarks:
        out.line(f"attention: {remark}", style="warn")


def _show_revocations(session: Session, plan: Plan) -> None:
    """What a restored store forgets matters most where a device was lost since."""
    out, present, said = session.out, plan.present, plan.proved.manifest
    if present is None or present.problem or present.site != said.site:
        out.line(
            f"attention: who was shut out after {minute(said.at)} is not shut out in this backup, and would get in"
            " again: revoke those devices anew",
            style="warn",
        )
        return
    if present.back or present.certificates:
        names = _some([one.name for one in present.back])
        single = f"{len(present.certificates)} single certificates" if present.certificates else ""
        out.line(
            "attention: shut out since the backup, and revoked again in it: "
            + ", ".join(one for one in (names, single) if one),
            style="warn",
        )
    out.line(
        f"attention: other changes made after {minute(said.at)} are lost: rules, roles, networks", style="warn"
    )


def _report(session: Session, plan: Plan, done: Restored) -> None:
    out = session.out
    out.line("The site is back.", style="good")
    if done.again:
        out.line(f"revoked again: {_some(done.again)}")
    if done.links:
        out.line(f"links withdrawn: {done.links}")
    if done.kept is not None:
        out.line(f"the site of before is in {done.kept}, with its CA keys: remove it once all is well")
    if plan.present is None:
        out.line("Look through the devices, and revoke those that were lost meanwhile: redlatch device list")
    out.line("Nothing is locked yet: redlatch up", style="warn")


def _some(names: list[str] | tuple[str, ...]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
