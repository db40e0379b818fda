"""`redlatch gateway ...`: HAProxy in front of Node-RED, with the same lock."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, LazyGroup, command
from redlatch.cli.session import Session
from redlatch.errors import NotSetUp
from redlatch.policy.model import MODES

if TYPE_CHECKING:
    from redlatch.operations.gateway_plan import Plan
    from redlatch.operations.gateway_standing import Standing

gateway = LazyGroup(
    "gateway",
    help="HAProxy in front of Node-RED, with the same lock: for Docker, Home Assistant, several Node-REDs.",
    examples=(
        "sudo redlatch gateway up --to http://127.0.0.1:1880",
        "sudo redlatch gateway status",
        "sudo redlatch gateway down",
    ),
    lazy={
        "up": ("redlatch.cli.gateway:up", "put the gateway in front of a Node-RED"),
        "status": ("redlatch.cli.gateway:status", "show whether it runs, and whether anybody gets past it"),
        "down": ("redlatch.cli.gateway:down", "take the gateway away again"),
        "render": ("redlatch.cli.gateway:render", "print the configuration that HAProxy gets"),
        "run": ("redlatch.cli.gateway:run", "drive HAProxy: what systemd and containers start"),
    },
)


@command(
    "up",
    "sudo redlatch gateway up --to http://127.0.0.1:1880",
    "sudo redlatch gateway up --to /workshop=http://127.0.0.1:1881 --to http://127.0.0.1:1880",
    "sudo redlatch gateway up --to attic.lan=http://192.168.1.8:1880 --site-name attic.lan",
    "redlatch gateway up --listen :8443 --to http://127.0.0.1:1880 --yes --no-passphrase",
)
@click.option("--listen", multiple=True, metavar="ADDRESS", help="Where it listens; repeatable. Default: :443.")
@click.option(
    "--to", multiple=True, metavar="URL", help="Node-RED's own address: URL, HOST=URL or /PATH=URL; repeatable."
)
@click.option(
    "--site-name", "names", multiple=True, metavar="NAME", help="A host name it is reached by; repeatable."
)
@click.option("--accept-proxy/--no-accept-proxy", default=None, help="Expect a PROXY header from trusted proxies.")
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="NETWORK",
    help="Believe who it says a client is; repeatable.",
)
@click.option("--metrics", type=int, metavar="PORT", help="Serve Prometheus metrics on loopback; 0: no longer.")
@click.option("--user-dir", type=PATH, metavar="DIR", help="The user folder of the Node-RED here. Default: found.")
@click.option(
    "--settings", "settings_file", type=PATH, metavar="FILE", help="Its settings.js, where it is elsewhere."
)
@click.option(
    "--admin-root", metavar="PATH", help="Where the editor is, for a Node-RED that is not on this machine."
)
@click.option("--mode", type=click.Choice(MODES), help="What strangers get, as in redlatch up. Default: strict.")
@click.option("--keep-auth", is_flag=True, help="Leave adminAuth alone: key and password are both needed then.")
@click.option("--server-cert", type=PATH, metavar="FILE", help="A certificate that browsers know, with its chain.")
@click.option("--server-key", type=PATH, metavar="FILE", help="Its private key.")
@click.option("--no-passphrase", is_flag=True, help="Without root: leave the CA keys unencrypted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def up(session: Session, *, no_passphrase: bool, yes: bool, **told: Any) -> int:
    """Put HAProxy in front of one Node-RED or several: only devices with a key get through.

    Shows what will change, and asks. A Node-RED on this machine is bound to loopback, by marked lines in its
    settings.js. "Locked" is said only when nobody gets past the gateway, as far as was seen; else the exit code
    is 1. What you choose stays until you say something else.
    """
    from redlatch import bootstrap
    from redlatch.operations import gateway_plan, gateway_standing

    options = gateway_plan.Options(**told)
    plan = gateway_plan.plan(session.settings, options, os.environ, bootstrap.present_config(session.settings))
    _show_plan(session, plan)
    if plan.changes:
        session.confirm("Do this?", yes=yes)
    protect = not session.settings.system and not no_passphrase
    if protect and plan.first_time:
        session.new_passphrase()  # before anything is made: nobody shall be left with half a site
    site, done = bootstrap.put_gateway_up(
        plan, actor=session.actor, passphrase=session.passphrase, protect=protect
    )
    stands = gateway_standing.standing(site, os.environ)
    out = session.out
    out.document(
        {
            "changed": done.changed,
            "changes": plan.changes,
            "started": done.started,
            "command": None if done.started or stands.claim is not None else done.command,
            "restart": done.restart,
            "force": done.force.as_dict(),
            **_document(stands),
            "warnings": [*plan.warnings, *stands.warnings],
        }
    )
    out.line("The gateway is in place." if done.changed else "The gateway is in place, as it was.", style="good")
    print_force(out, done.force)
    if stands.claim is None:
        out.line("nothing starts services here; this starts it:" if not done.started else "it starts")
        if not done.started:
            out.line(done.command, indent=2)
    if done.restart:
        out.line(f"Node-RED listens on loopback only from its next start on: {done.restart}", style="warn")
    _say_locked(session, stands)
    return 0 if stands.locked else 1


def _show_plan(session: Session, plan: Plan) -> None:
    out = session.out
    to = ", ".join(one.url for one in plan.gateway.upstreams)
    out.line(
        f"HAProxy {plan.program.short} in front of {to}, listening on {', '.join(plan.gateway.listen)}",
        style="strong",
    )
    if plan.changes:
        out.line("This will change:", style="strong")
    for change in plan.changes or ():
        out.line(f"- {change}", indent=2)
    for warning in plan.warnings:
        out.line(f"attention: {warning}", style="warn")
    if not plan.changes:
        out.line("nothing to change")


def _say_locked(session: Session, stands: Standing) -> None:
    if stands.locked:
        session.out.line("locked: only devices with a key get through", style="good")
    for one in stands.open_at:
        session.out.line(f"not locked: {one}", style="bad")
    if not stands.locked and not stands.open_at:
        session.out.line("not locked yet: the gateway does not enforce the latest version", style="bad")


def _document(stands: Standing) -> dict[str, Any]:
    return {
        "locked": stands.locked,
        "open_at": stands.open_at,
        "gateway": asdict(stands.gateway),
        "node_reds": [
            {"url": one.upstream.url, "runs": one.runs, "closed": one.closed, "words": one.words}
            for one in stands.reach
        ],
        "haproxy": stands.program.name if stands.program is not None else None,
        "recorded": stands.recorded,
        "in_force": stands.claim.version if stands.claim is not None else None,
        "ends_tls": stands.ends_tls,
    }


@command("status", "sudo redlatch gateway status", "sudo redlatch gateway status --json")
def status(session: Session) -> int:
    """Show whether the gateway runs, what is in force, and whether anybody gets to Node-RED past it.

    Exit code 1 when it is not locked: when Node-RED's own port can be reached, or nothing shows that it cannot.
    """
    from redlatch.operations import gateway_standing

    stands = gateway_standing.standing(session.site(), os.environ)
    out = session.out
    out.document(_document(stands) | {"warnings": stands.warnings})
    _say_locked(session, stands)
    claim = stands.claim
    out.fields(
        [
            ("listens on", ", ".join(gateway_standing.listening_at(stands.gateway))),
            ("haproxy", stands.program.name if stands.program is not None else "none"),
            ("recorded", f"version {stands.recorded}"),
            ("in force", "the gateway does not run" if claim is None else f"version {claim.version}"),
            *((one.upstream.url, _served(one.upstream.host, one.upstream.path)) for one in stands.reach),
        ]
    )
    for warning in stands.warnings:
        out.line(f"attention: {warning}", style="warn")
    return 0 if stands.locked else 1


def _served(host: str | None, path: str | None) -> str:
    return f"for {host}" if host else f"for {path} and what lies below it" if path else "for everything else"


@command("down", "sudo redlatch gateway down", "sudo redlatch gateway down --yes --json")
@click.option("--yes", is_flag=True, help="Do not ask.")
def down(session: Session, yes: bool) -> None:
    """Take the gateway away: Node-RED is as open as it was before.

    Removes exactly what `redlatch gateway up` added. Devices, CAs and the audit trail stay.
    """
    from redlatch.operations import gateway as operation

    site = session.site()
    out = session.out
    removed = operation.down_plan(site)
    out.line("This will be removed:", style="strong")
    for one in removed:
        out.line(f"- {one}", indent=2)
    out.line("Node-RED is open again then: whoever reaches its port gets in.", style="bad")
    session.confirm("Do this?", yes=yes)
    done = operation.take_down(site, os.environ)
    out.document(
        {
            "removed": done.removed,
            "kept": done.kept,
            "restart": done.restart,
            "warning": "Node-RED is open to everybody who reaches its port",
        }
    )
    when = f" from its next start on: {done.restart}" if done.restart else ""
    out.line(f"The gateway is gone. Node-RED is OPEN to whoever reaches its port{when}", style="bad")
    for one in done.kept:
        out.line(f"kept: {one}")


@command("render", "sudo redlatch gateway render", "sudo redlatch gateway render --json")
def render(session: Session) -> None:
    """Print the configuration that HAProxy gets, and where its maps and lists are.

    To read, not to use elsewhere: what decides lies in the maps, which the gateway keeps up to date. The secret
    between gateway and Node-RED is left out.
    """
    from redlatch.operations import gateway_show

    site = session.site()
    shown = gateway_show.render(site)
    session.out.document(
        {
            "folder": shown.folder,
            "configuration": shown.configuration,
            "files": shown.files,
            "tables": shown.tables,
        }
    )
    session.out.line(f"# maps and lists are in {shown.folder}: {' '.join([*shown.tables, *shown.files])}")
    if not session.out.as_json:
        sys.stdout.write(shown.configuration)


@command("run", "redlatch gateway run")
def run(session: Session) -> None:
    """Drive HAProxy until it is told to end: what the systemd unit and the containers start.

    It reads what is published and needs no right but to listen. Killed, HAProxy goes on; started again, it takes
    over.
    """
    from redlatch.engines.haproxy import process

    place = session.settings.gateway
    if not place.published.is_dir():
        raise NotSetUp(f"no gateway is set up in {session.settings.home}", hint="run: redlatch gateway up --help")
    process.run(place)
