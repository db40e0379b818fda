"""`redlatch rule ...`: who may reach what, from where."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, named, on_trial, options, prepared, rehearse
from redlatch.errors import InvalidInput

if TYPE_CHECKING:
    from redlatch.operations.rules import Change, Shown
    from redlatch.operations.site import Site

rule = LazyGroup(
    "rule",
    help="Who may reach what, from where. No rule, no entry; rules only add up.",
    examples=(
        "redlatch rule add --area dashboards --from home",
        "redlatch rule add --path /webhook/github --method POST --anyone --open-port 1890",
        "redlatch rule list",
    ),
    lazy={
        "add": ("redlatch.cli.rule:add", "let somebody reach something"),
        "list": ("redlatch.cli.rule:list_", "show all rules, each in a sentence"),
        "remove": ("redlatch.cli.rule:remove", "take a rule away"),
        "open-port": ("redlatch.cli.rule:open_port", "a second port that asks nobody for a certificate"),
    },
)


@command(
    "add",
    "redlatch rule add --area dashboards --from home",
    'redlatch rule add --area editor --role admin --device "Bart\'s phone" --from home',
    "redlatch rule add --path /webhook/github --method POST --anyone --open-port 1890",
    "redlatch rule add --area dashboards --anyone --from wall-tablet --dry-run",
)
@click.option("--path", metavar="PATH", help="A path of yours, and what lies below it.")
@click.option(
    "--area", metavar="AREA", help="all, editor, editor-read, dashboards, http-in, static or websockets."
)
@click.option("--method", "methods", multiple=True, metavar="M", help="Only this method; repeat it for more.")
@click.option("--role", "roles", multiple=True, metavar="R", help="Devices with this role; repeat it for more.")
@click.option("--device", "devices", multiple=True, metavar="D", help="This device; repeat it for more.")
@click.option("--anyone", is_flag=True, help="Also who shows no certificate.")
@click.option("--from", "networks", multiple=True, metavar="NETWORK", help="Only from there; repeat it for more.")
@click.option("--open-port", type=int, metavar="N", help="A second port for those without a certificate.")
@options("dry_run")
@click.option("--force", is_flag=True, help="Although one of the networks stands for everybody.")
@options("trial")
@click.option("--yes", is_flag=True, help="Do not ask.")
def add(session: Session, *, dry_run: bool, force: bool, trial: timedelta | None, yes: bool, **told: Any) -> None:
    """Let somebody reach something: an area or a path of yours.

    Who: without --role, --device and --anyone, any device. From where: without --from, anywhere. Rules only add
    up; there is no order, and none that takes away.
    """
    from redlatch.operations import rules

    wanted = rules.Wanted(**told)
    site = prepared(session, "", force=force, trial=trial)
    change = rules.add(site, wanted, force=force, dry_run=True)
    site = named(site, f"added the rule: {change.shown.sentence if change.shown is not None else ''}")
    _say(session, change)
    would = rehearse(session, site, lambda one: rules.add(one, wanted, force=force)) if dry_run else None
    if not dry_run and change.changed:
        if change.question:
            session.confirm("Add the rule?", yes=yes)
        change = rules.add(site, wanted, force=force)
    _done(session, site, change, "the rule is there already" if not change.changed else "", would=would)


@command("list", "redlatch rule list", "redlatch rule list --json")
def list_(session: Session) -> None:
    """Show all rules, each in a sentence."""
    from redlatch.operations import rules

    site = session.site()
    shown = rules.list_rules(site)
    port = site.config().open_port
    session.out.document({"rules": [rule_document(one) for one in shown], "open_port": port})
    if shown:
        session.out.table(("ID", "RULE"), [(str(one.rule.id), one.sentence) for one in shown])
    else:
        session.out.line("no rule: nobody reaches anything", style="warn")
    if port is not None:
        session.out.line(f"who shows no certificate gets in by port {port} alone")


@command(
    "remove",
    "redlatch rule remove 4",
    "redlatch rule remove 2 --dry-run",
    "redlatch rule remove 2 --try 2m",
)
@click.argument("rule_id", metavar="ID", type=int)
@options("dry_run", "force", "trial")
def remove(session: Session, rule_id: int, *, dry_run: bool, force: bool, trial: timedelta | None) -> None:
    """Take a rule away; what it let in is cut.

    Refused when nobody would reach the editor any more to change flows.
    """
    from redlatch.operations import rules

    site = prepared(session, "", force=force, trial=trial)
    change = rules.remove(site, rule_id, dry_run=True)
    site = named(site, f"removed the rule: {change.shown.sentence if change.shown is not None else ''}")
    _say(session, change, verb="removes")
    would = rehearse(session, site, lambda one: rules.remove(one, rule_id)) if dry_run else None
    _done(session, site, change if dry_run else rules.remove(site, rule_id), would=would)


@command("open-port", "redlatch rule open-port", "redlatch rule open-port 1890", "redlatch rule open-port off")
@click.argument("port", required=False, metavar="[PORT|off]")
@options("dry_run", "trial")
@click.option("--yes", is_flag=True, help="Do not ask.")
def open_port(session: Session, port: str | None, *, dry_run: bool, trial: timedelta | None, yes: bool) -> None:
    """Show, open or close the second port, which asks nobody for a certificate.

    With it, who shows no certificate gets in there alone, and Node-RED's own port insists on one.
    """
    from redlatch.operations import rules

    if port is None:
        present = session.site().config().open_port
        session.out.document({"open_port": present})
        session.out.line("there is none" if present is None else f"port {present}")
        return
    if port != "off" and not (port.isascii() and port.isdecimal() and len(port) <= 5):
        raise InvalidInput(f"{port!r} is no port", hint="a number from 1 to 65535, or off")
    wanted = None if port == "off" else int(port)
    said = "closed the open port" if wanted is None else f"opened port {wanted}"
    site = prepared(session, said, trial=trial)
    change = rules.set_open_port(site, wanted, dry_run=True)
    _say(session, change)
    would = rehearse(session, site, lambda one: rules.set_open_port(one, wanted)) if dry_run else None
    if change.changed and not dry_run:
        if change.question:
            session.confirm("Close the port?", yes=yes)
        change = rules.set_open_port(site, wanted)
    same = "there is none" if wanted is None else f"it is port {wanted}"
    _done(session, site, change, f"{same} already" if not change.changed else "", would=would)


def rule_document(one: Shown) -> dict[str, Any]:
    """A rule as JSON: all of it, and its sentence."""
    return asdict(one.rule) | {"sentence": one.sentence, "revoked_devices": one.gone}


def _say(session: Session, change: Change, *, verb: str = "adds") -> None:
    """What a change would do, before it is made."""
    out = session.out
    if change.shown is not None and change.changed:
        out.line(f"{verb} the rule: {change.shown.sentence}", style="strong")
    for remark in (*change.remarks, *([change.question] if change.question else [])):
        out.warning(remark)


def _done(
    session: Session, site: Site, change: Change, nothing: str = "", *, would: dict[str, Any] | None = None
) -> None:
    out = session.out
    out.document(
        {
            "changed": change.changed and change.force is not None,
            "rule": rule_document(change.shown) if change.shown is not None else None,
            "open_port": change.open_port,
            "question": change.question or None,
            "remarks": change.remarks,
            "force": change.force.as_dict() if change.force is not None else None,
        }
        | ({} if would is None else {"would": would})
        | on_trial(site)
    )
    number = f" (rule {change.shown.rule.id})" if change.shown is not None and change.shown.rule.id else ""
    if nothing:
        out.line(nothing + number)
    elif change.force is None:
        out.line("nothing was changed (--dry-run)")
    else:
        out.line(f"done{number}", style="good")
        print_force(out, change.force)
        hold(session, site)
