"""`redlatch ca rotate`: a new authority takes over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import command
from redlatch.cli.output import Output, day, minute
from redlatch.cli.session import Session
from redlatch.errors import UsageError

if TYPE_CHECKING:
    from redlatch.operations.rotation import Done, Kind, Progress
    from redlatch.operations.site import Site

_STEPS = ("status", "switch", "end", "cancel", "now")


@command(
    "rotate",
    "redlatch ca rotate device",
    "redlatch ca rotate device --status",
    "redlatch ca rotate device --end",
    "redlatch ca rotate server --switch",
)
@click.argument("kind", type=click.Choice(["device", "server"]), metavar="device|server")
@click.option("--status", is_flag=True, help="Show how far it is: who has moved, and who has not.")
@click.option("--switch", is_flag=True, help="server: have the server's certificates come from the new root.")
@click.option("--end", is_flag=True, help="Take the old one out, with every certificate of it.")
@click.option("--cancel", is_flag=True, help="Give the new one up.")
@click.option(
    "--now", is_flag=True, help="device: a new one, and the old one out at once: its key is in other hands."
)
@click.option("--force", is_flag=True, help="With --end: also when devices are shut out by it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def rotate(session: Session, kind: Kind, *, force: bool, yes: bool, **steps: bool) -> None:
    r"""Have a new certificate authority take over from the present one, step by step; nobody is shut out on the
    way.

    \b
    device: begin it, give every device a new key (/renew of the console, redlatch device renew, enroll --renew),
            see that all have moved (--status), end the old one (--end).
    server: begin it, give every device the new root (the same ways hand it out), have the server use it
            (--switch), end the old one (--end).
    """
    wanted = [step for step in _STEPS if steps[step]]
    if len(wanted) > 1:
        raise UsageError(
            "one step at a time: " + ", ".join(f"--{one}" for one in wanted), hint="leave all but one out"
        )
    step = wanted[0] if wanted else "begin"
    if (step == "switch" and kind != "server") or (step == "now" and kind != "device"):
        raise UsageError(
            f"--{step} is for the {'server' if step == 'switch' else 'device'} CA only",
            hint="a server root cannot be replaced at once: every device has to get the new one first"
            if step == "now"
            else "the new device CA signs from the beginning",
        )
    if force and step != "end":
        raise UsageError("--force goes with --end only", hint="leave it out")
    site = session.site()
    if step == "status":
        _status(session, site, kind)
        return
    _report(session, kind, step, _carry_out(session, site, kind, step, force=force, yes=yes))


def _status(session: Session, site: Site, kind: Kind) -> None:
    from redlatch.operations import rotation

    found = rotation.progress(site, kind)
    session.out.document(progress_document(found))
    print_progress(session.out, found)


def _carry_out(session: Session, site: Site, kind: Kind, step: str, *, force: bool, yes: bool) -> Done:
    from redlatch.operations import authorities, rotation

    out = session.out
    match step:
        case "begin":
            with site.store.read() as view:
                authorities.refuse_under_way(view, kind)
            for line in _WHAT_BEGINS[kind]:
                out.line(line)
            if kind == "server" and site.config().server_files is not None:
                out.warning("your Node-RED shows a certificate of yours: only the console's comes from this CA")
            session.confirm("Begin?", yes=yes)
            return rotation.begin(site, kind)
        case "switch":
            remaining = rotation.progress(site, kind).remaining
            if remaining:
                out.line(
                    f"{_devices(len(remaining))} got nothing since the new root is there, and will show a warning "
                    f"instead of Node-RED: {rotation.names([one.name for one in remaining])}",
                    style="warn",
                )
            session.confirm("Have the server use the new root?", yes=yes)
            return rotation.switch(site)
        case "end":
            remaining = rotation.progress(site, kind).remaining if kind == "device" else ()
            if remaining and force:
                names = rotation.names([one.name for one in remaining])
                out.line(f"{_devices(len(remaining))} will be shut out: {names}", style="warn")
            session.confirm(f"End the old {kind} CA? Its key is removed, and this cannot be undone.", yes=yes)
            return rotation.end(site, kind, force=force)
        case "cancel":
            # One that was signed elsewhere, by a request, has its key nowhere else: it cannot be imported again.
            session.confirm(
                f"Give the new {kind} CA up? Its key here is removed for good, and unless you brought it along "
                "there is no other copy.",
                yes=yes,
            )
            return rotation.cancel(site, kind)
        case _:
            with site.store.read() as view:
                count = view.devices_in_use()
            out.line(
                f"A new device CA, and every certificate of the old one dead at once: {_devices(count)} will be "
                "shut out, those that use the console too.",
                style="warn",
            )
            session.confirm("Shut all of them out?", yes=yes)
            return rotation.now(site)


_WHAT_BEGINS = {
    "device": (
        "A new device CA is made, and signs from now on.",
        "Certificates of the old one get in until you end that.",
    ),
    "server": (
        "A new server CA is made. Whatever devices get from now on has its root too.",
        "The server goes on using the old one until you switch.",
    ),
}


def _report(session: Session, kind: Kind, step: str, done: Done) -> None:
    out = session.out
    out.document(
        progress_document(done.progress)
        | {"revoked": done.revoked, "shut_out": done.cut, "force": done.force.as_dict()}
    )
    with_it = f", with {_certificates(done.revoked)}" if kind == "device" else ""
    out.line(_DONE[step].format(kind=kind, with_it=with_it), style="strong")
    if done.cut:
        from redlatch.operations import rotation

        out.line(f"shut out: {rotation.names(done.cut)}", style="warn")
    for line in NEXT.get((kind, step), ()):
        out.line(line)
    if step == "begin":
        print_progress(out, done.progress)
    print_force(out, done.force)


_DONE = {
    "begin": "the new {kind} CA is there",
    "switch": "the server's certificates come from the new root",
    "end": "the old {kind} CA has ended{with_it}",
    "cancel": "the new {kind} CA is given up",
    "now": "the old device CA is out{with_it}",
}
NEXT = {
    ("device", "begin"): (
        "Each device moves with its next key:",
        "- a phone or laptop: open the console's /renew, install what it hands over, delete the old key",
        "- a script: redlatch enroll --renew --now",
        "- another device: redlatch device renew NAME",
        "When all have moved: redlatch ca rotate device --end",
    ),
    ("server", "begin"): (
        "Each device needs the new root beside the old one:",
        "- iPhone and iPad: open the console's /renew and install the profile, which holds both roots; then in",
        "  Settings, General, About, Certificate Trust Settings switch the new one on",
        "- Android: open the console's /renew, and install server-ca-2.crt as a CA certificate",
        "- a computer: the same, and install server-ca-2.crt as a trusted root",
        "- a script: redlatch enroll --renew --now",
        "When all have it: redlatch ca rotate server --switch",
    ),
    ("server", "switch"): (
        "A device that warns now has not got the new root: redlatch ca rotate server --cancel goes back.",
        "When all is well: redlatch ca rotate server --end",
    ),
    ("server", "end"): ("The old root can be removed from every device: it vouches for nothing any more.",),
    ("device", "now"): (
        "Nobody has a key now. The first one, on this machine: redlatch device send NAME --role owner",
    ),
}


def progress_document(found: Progress) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "stage": found.stage,
        "new": found.new,
        "old": found.old,
        "moved": found.moved,
        "remaining": [
            {"id": one.device_id, "name": one.name, "not_after": one.not_after, "seen_at": one.seen_at}
            for one in found.remaining
        ],
    }


def print_progress(out: Output, found: Progress) -> None:
    """How far a rotation is, and who has not moved."""
    if found.stage == "none":
        out.line(f"no new {found.kind} CA is taking over; {found.new[:16]} signs")
        return
    what = (
        "have moved to the new device CA"
        if found.kind == "device"
        else "got something since the new root is there"
    )
    out.line(f"{found.moved} of {found.moved + len(found.remaining)} devices {what}")
    if found.remaining:
        out.table(
            ("NOT YET", "UNTIL", "LAST SEEN"),
            [
                (one.name, day(one.not_after), minute(one.seen_at) if one.seen_at is not None else "never")
                for one in found.remaining
            ],
        )


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _certificates(count: int) -> str:
    return "1 certificate" if count == 1 else f"{count} certificates"
