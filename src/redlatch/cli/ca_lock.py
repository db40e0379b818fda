"""`redlatch ca lock` and `unlock`: a passphrase for the keys of the authorities."""

from __future__ import annotations

from pathlib import Path

import click

from redlatch.cli.framework import PATH, command
from redlatch.cli.session import Session
from redlatch.errors import Conflict


@command(
    "lock",
    "redlatch ca lock",
    "sudo redlatch ca lock --credential",
    "redlatch ca lock --new-passphrase secret.txt",
)
@click.option("--new-passphrase", type=PATH, metavar="FILE", help="A file whose first line it is. Default: asked.")
@click.option("--credential", is_flag=True, help="Have systemd hand it to redlatch's services, encrypted.")
def lock(session: Session, new_passphrase: Path | None, credential: bool) -> None:
    """Put the keys of both CAs under a passphrase, or under another one (it asks for the present one first).

    While they are locked, whatever needs no key goes on: shutting devices out, rules, networks. Giving keys to
    devices and renewing the server's certificate ask for the passphrase. With --credential the services get it
    from systemd, which decrypts it on this machine only.
    """
    from redlatch.operations import credentials, locking

    site = session.site()
    program = credentials.check(system=site.settings.system) if credential else None
    before = locking.look(site)
    if before.locked:
        site.passphrase()
    written = locking.lock(site, session.other_passphrase(new_passphrase), program=program)
    restarted = _restart(credential)
    out = session.out
    out.document(
        {"keys": before.files, "changed": bool(before.locked), "credential": written, "restarted": restarted}
    )
    what = "under another passphrase" if before.locked else "under a passphrase"
    out.line(f"{_keys(len(before.files))} {what}", style="strong")
    for path in written:
        out.line(f"wrote {path}", indent=2)
    out.line("Keep it where you keep a house key: without it no device gets a key, and nobody can reset it.")
    if site.settings.system and not credential and not credentials.is_handed_over():
        out.warning(
            "the service and the daily timer do not know it: they give no keys and renew no certificate; "
            "--credential has systemd hand it to them"
        )
    elif credentials.is_handed_over() and not credential:
        out.warning("systemd still hands the old passphrase to the services: run it again with --credential")


@command("unlock", "redlatch ca unlock")
@click.option("--yes", is_flag=True, help="Do not ask.")
def unlock(session: Session, yes: bool) -> None:
    """Take the passphrase off the keys of both CAs, and away from systemd."""
    from redlatch.operations import locking

    site = session.site()
    before = locking.look(site)
    # Killed in between, no key is locked any more, and units are still handed the passphrase
    if not before.locked and not before.handed_over:
        raise Conflict("the CA keys are under no passphrase", hint="redlatch ca lock puts them under one")
    if site.settings.system:
        out_of_reach = "root and the user redlatch can read them then; flows cannot."
    else:
        out_of_reach = "Whatever runs as you can read them then, and flows do: they could let anybody in."
    session.out.line(out_of_reach, style="" if site.settings.system else "warn")
    session.confirm("Take the passphrase off?", yes=yes)
    removed = locking.unlock(site)
    restarted = _restart(bool(removed))
    session.out.document({"keys": before.files, "removed": removed, "restarted": restarted})
    session.out.line(f"{_keys(len(before.files))} under no passphrase", style="strong")
    for path in removed:
        session.out.line(f"removed {path}", indent=2)


def _restart(wanted: bool) -> bool:
    """Has the service take up what systemd gives it now."""
    from redlatch.engines.nodered import dropin
    from redlatch.operations.credentials import UNITS

    return wanted and dropin.try_restart(UNITS[0])


def _keys(count: int) -> str:
    return "1 key is" if count == 1 else f"{count} keys are"
