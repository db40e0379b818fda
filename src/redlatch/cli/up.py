"""`redlatch up`: say what will change, ask, prepare, see a device come in, lock."""

from __future__ import annotations

import contextlib
import gc
import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, command
from redlatch.cli.output import Output
from redlatch.cli.session import Session
from redlatch.errors import EngineError
from redlatch.policy.model import MODES

if TYPE_CHECKING:
    from redlatch.cli.send import Listen
    from redlatch.operations.setup import Locked, Plan
    from redlatch.operations.site import Site

#: Seconds for a device to come in on the test port: importing a key on a phone takes minutes, not seconds.
_TEST_SECONDS = 1200.0
_SEVERITY = {
    "breaks": "will stop working",
    "changes": "will work differently",
    "outside": "is not protected by the lock",
    "note": "good to know",
}


class NobodyCameIn(EngineError):
    """No device came in on the test port in time, so nothing was locked."""

    code = "nobody-came-in"


@command(
    "up",
    "sudo redlatch up",
    "sudo redlatch up --name pi.example.org --mode explain",
    "redlatch up --user-dir ~/.node-red --yes --no-passphrase",
    "sudo redlatch up --server-cert fullchain.pem --server-key privkey.pem",
)
@click.option("--user-dir", type=PATH, metavar="DIR", help="Node-RED's user folder. Default: found.")
@click.option(
    "--settings", "settings_file", type=PATH, metavar="FILE", help="Its settings.js, where it is elsewhere."
)
@click.option("--port", type=int, help="Serve on this port. Default: as settings.js says.")
@click.option(
    "--name", "names", multiple=True, metavar="HOST", help="A host name it is reached by; repeat for more."
)
@click.option("--server-cert", type=PATH, metavar="FILE", help="A certificate that browsers know, with its chain.")
@click.option("--server-key", type=PATH, metavar="FILE", help="Its private key.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="What strangers get: nothing, a page that says why, or (auto) the page at home only. Default: strict.",
)
@click.option("--keep-auth", is_flag=True, help="Leave adminAuth alone: key and password are both needed then.")
@click.option("--no-passphrase", is_flag=True, help="Without root: leave the CA keys unencrypted.")
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="Hand the first key over here only. Default: all private addresses.",
)
@click.option("--yes", is_flag=True, help="Do not ask, and lock without seeing a device come in.")
def up(
    session: Session,
    *,
    no_passphrase: bool,
    listen: tuple[str, ...],
    yes: bool,
    names: tuple[str, ...],
    **told: Any,
) -> None:
    """Lock a Node-RED: from then on only devices with a key get in.

    Shows what will change and what will break, and asks. On a terminal it hands the first device its key and locks
    after that device has come in with it. A second run changes nothing, or repairs what was changed.
    """
    from redlatch import bootstrap
    from redlatch.cli.send import Listen
    from redlatch.operations import setup

    options = setup.Options(names=names, **told)
    plan = setup.plan(session.settings, options, os.environ, bootstrap.present_config(session.settings))
    out = session.out
    _show_plan(out, plan)
    if plan.changes:
        session.confirm("Do this?", yes=yes)
    protect = not session.settings.system and not no_passphrase
    if protect and plan.first_time:
        session.new_passphrase()  # before anything is made: nobody shall be left with half a site
    site = bootstrap.prepare_site(plan, actor=session.actor, passphrase=session.passphrase, protect=protect)
    came_in = None
    if not yes and session.interactive and not plan.inspection.locked_inside:
        came_in = _see_a_device(session, site, Listen(listen))
    locked = setup.lock(site, plan)
    _report(session, site, plan, locked, came_in)


def _show_plan(out: Output, plan: Plan) -> None:
    node_red = plan.node_red
    out.line(f"Node-RED of the user {node_red.user.name}, settings in {node_red.settings_file}", style="strong")
    if plan.changes:
        out.line("This will change:", style="strong")
    for change in plan.changes:
        out.line(f"- {change}", indent=2)
    for finding in () if plan.inspection.locked_inside else plan.findings:
        out.line(
            f"{_SEVERITY[finding.severity]}: {finding.text}", style="warn" if finding.severity == "breaks" else ""
        )
        if finding.remedy:
            out.line(f"what to do: {finding.remedy}", indent=2)
    for warning in plan.warnings:
        out.line(f"attention: {warning}", style="warn")
    for cert, key in plan.found_certificates:
        out.line("there is a certificate that browsers know already; with it phones need no root of yours:")
        out.line(f"redlatch up --server-cert {shlex.quote(cert)} --server-key {shlex.quote(key)}", indent=2)
    if not plan.changes:
        out.line("nothing to change")


def _see_a_device(session: Session, site: Site, where: Listen) -> str:
    """The fingerprint of a device that came in on the test port. Its first key is handed over where there is none.

    Nothing is locked before: NotHandedOver, NobodyCameIn and ctrl-c leave Node-RED as it was.
    """
    import ssl

    from redlatch.cli.link import link_hosts
    from redlatch.cli.send import handing_over
    from redlatch.service import testport
    from redlatch.service.origin import server_context

    gc.enable()
    out = session.out
    sockets = where.bind()
    with contextlib.ExitStack() as stack:
        for sock in sockets:
            stack.callback(sock.close)
        url = f"https://{link_hosts(site, sockets)[0]}:{sockets[0].getsockname()[1]}/"
        if not _active(site):
            name = click.prompt("A name for your first device", default="My first device", err=True)
            stack.enter_context(  # its page is there until the device has come in
                handing_over(
                    session,
                    site,
                    name,
                    role="owner",
                    where=where,
                    next_url=url,
                    afterwards="redlatch up   (it goes on with that device)",
                )
            )
        out.line()
        out.line("Now open this on a device that has its key:", style="strong")
        out.line(url, indent=2, style="strong")
        out.line("Node-RED is locked as soon as it has come in. ctrl-c ends it, and nothing is locked.")
        context = server_context(
            site.settings.published / "server.pem",
            device_ca=(site.settings.published / "device-ca.pem").read_text("ascii"),
            oldest=ssl.TLSVersion.TLSv1_2,  # as Node-RED's guard will
        )
        fingerprint = testport.wait_for_device(
            sockets, context, lambda found: found in _active(site), timeout=_TEST_SECONDS
        )
    if fingerprint is None:
        raise NobodyCameIn(
            f"no device came in within {_TEST_SECONDS / 60:.0f} minutes; nothing was locked",
            hint="install the key on the device and run redlatch up again; --yes locks without this test",
        )
    out.line(f"{_active(site)[fingerprint]} came in.", style="good")
    return fingerprint


def _active(site: Site) -> dict[str, str]:
    """Fingerprint -> name of every certificate that is good now."""
    now = site.clock()
    with site.store.read() as view:
        return {
            one.fingerprint: device.name
            for one in view.active_certificates()
            if one.not_before <= now <= one.not_after and (device := view.device_by_id(one.device_id)) is not None
        }


def _report(session: Session, site: Site, plan: Plan, locked: Locked, came_in: str | None) -> None:
    from redlatch.engines.nodered.dropin import restart_command

    out = session.out
    config = site.config()
    active = _active(site)
    restart = locked.changed or locked.force.state != "in-force"
    out.document(
        {
            "changed": bool(plan.changes) or locked.changed,
            "changes": plan.changes,
            "settings_file": plan.node_red.settings_file,
            "user": plan.node_red.user.name,
            "unit": plan.node_red.unit,
            "drop_in": locked.dropin,
            "mode": config.mode,
            "names": config.hosts,
            "addresses": plan.addresses,
            "devices": len(set(active.values())),
            "found_certificates": plan.found_certificates,
            "came_in": came_in,
            "findings": [
                {"code": one.code, "severity": one.severity, "text": one.text, "remedy": one.remedy}
                for one in plan.findings
            ],
            "warnings": plan.warnings,
            "restart_needed": restart,
            "restart": restart_command(plan.node_red),
            "force": locked.force.as_dict(),
        }
    )
    out.line("The lock is in place." if locked.changed else "The lock is in place, as it was.", style="good")
    print_force(out, locked.force)
    if not active:
        out.line("No device has a key yet, so nobody gets in. The first one:", style="warn")
        out.line('redlatch device send "My phone" --role owner', indent=2)
    if restart:
        when = "It takes effect when Node-RED starts the next time" if locked.changed else "To start Node-RED"
        out.line(f"{when}: {restart_command(plan.node_red)}", style="warn" if locked.changed else "")
