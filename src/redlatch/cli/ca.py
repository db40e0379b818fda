"""`redlatch ca ...`: the certificate authorities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import LazyGroup, command
from redlatch.cli.output import day
from redlatch.cli.session import Session

if TYPE_CHECKING:
    from redlatch.operations.authorities import Listed

ca = LazyGroup(
    "ca",
    help="The two certificate authorities: one names your devices, one names the server.",
    examples=(
        "redlatch ca list",
        "redlatch ca rotate device",
        "redlatch ca import device ca.crt --key ca.key",
        "sudo redlatch ca lock --credential",
    ),
    lazy={
        "list": ("redlatch.cli.ca:list_", "show all of them, and where their keys are"),
        "rotate": ("redlatch.cli.ca_rotate:rotate", "have a new one take over, step by step"),
        "import": ("redlatch.cli.ca_import:import_", "have one that you have already take over"),
        "end": ("redlatch.cli.ca:end", "stop trusting one that came with an adopted certificate"),
        "lock": ("redlatch.cli.ca_lock:lock", "put their keys under a passphrase"),
        "unlock": ("redlatch.cli.ca_lock:unlock", "take the passphrase off their keys"),
    },
)

_STATES = {
    "signs": "signs",
    "waits": "handed out, does not sign yet",
    "trusted": "trusted",
    "ended": "ended",
}


@command("list", "redlatch ca list", "redlatch ca list --json")
def list_(session: Session) -> None:
    """Show all authorities: what they are for, until when, whether they sign, and where their keys are.

    Below it stands how far a change from one to another is.
    """
    from redlatch.cli.ca_rotate import print_progress, progress_document
    from redlatch.operations import authorities, rotation

    site = session.site()
    found, waiting = authorities.listed(site)
    steps = [rotation.progress(site, "device"), rotation.progress(site, "server")]
    out = session.out
    out.document(
        {
            "authorities": [_document(one) for one in found],
            "requests": [{"kind": one.kind, "key_file": one.key_file} for one in waiting],
            "rotations": [progress_document(one) for one in steps if one.stage != "none"],
        }
    )
    out.table(
        ("KIND", "NAME", "FINGERPRINT", "FROM", "UNTIL", "STATE", "DEVICES", "KEY"),
        [
            (
                one.kind,
                one.subject,
                one.fingerprint[:16],
                day(one.not_before),
                day(one.not_after),
                _STATES[one.state],
                "" if one.devices is None else str(one.devices),
                one.key,
            )
            for one in found
        ],
    )
    for request in waiting:
        out.line(f"a request for a {request.kind} CA is out; its signed certificate: redlatch ca import FILE")
    for one in steps:
        if one.stage != "none":
            out.line()
            print_progress(out, one)


def _document(one: Listed) -> dict[str, Any]:
    return {
        "kind": one.kind,
        "subject": one.subject,
        "fingerprint": one.fingerprint,
        "not_before": one.not_before,
        "not_after": one.not_after,
        "state": one.state,
        "key": one.key,
        "devices": one.devices,
        "retired_at": one.retired_at,
        "pem": one.pem,
    }


@command("end", "redlatch ca end 3f2a91c0")
@click.argument("fingerprint")
@click.option("--force", is_flag=True, help="Also when devices are shut out by it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def end(session: Session, fingerprint: str, force: bool, yes: bool) -> None:
    """Stop trusting an authority that came with an adopted certificate, and shut out all certificates of it.

    FINGERPRINT is as `redlatch ca list` shows it. One that signs here is replaced with `redlatch ca rotate`.
    """
    from redlatch.operations import adopting, rotation

    session.confirm("Stop trusting that authority, with all of its certificates?", yes=yes)
    done = adopting.end(session.site(), fingerprint, force=force)
    out = session.out
    out.document({"revoked": done.revoked, "shut_out": done.cut, "force": done.force.as_dict()})
    out.line(f"it is not trusted any more; {_many(done.revoked)} of it died with it", style="strong")
    if done.cut:
        out.line(f"shut out: {rotation.names(done.cut)}", style="warn")
    print_force(out, done.force)


def _many(count: int) -> str:
    return "1 certificate" if count == 1 else f"{count} certificates"
