"""`redlatch ca import`: an authority that a person has already."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.ca_rotate import NEXT, print_progress, progress_document
from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, command
from redlatch.cli.output import day
from redlatch.cli.session import Session, sudo_owner
from redlatch.errors import UsageError
from redlatch.files import write_new

if TYPE_CHECKING:
    from redlatch.operations.rotation import Kind


@command(
    "import",
    "redlatch ca import device xca-export.p12",
    "redlatch ca import device pki/ca.crt --key pki/private/ca.key",
    "redlatch ca import device intermediate_ca.crt root_ca.crt --key intermediate_ca_key",
    "redlatch ca import device --request redlatch.csr",
    "redlatch ca import device signed.pem company-root.pem",
)
@click.argument("kind", type=click.Choice(["device", "server"]), metavar="device|server")
@click.argument("files", type=PATH, nargs=-1, metavar="[FILE]...")
@click.option(
    "--key", "key_file", type=PATH, metavar="FILE", help="The CA's private key, where it has its own file."
)
@click.option(
    "--password", type=PATH, metavar="FILE", help="A file whose first line opens the key. Default: asked."
)
@click.option("--request", type=PATH, metavar="FILE", help="Make the key here, and write a request to be signed.")
@click.option("--forget-request", is_flag=True, help="Remove the key of a request that will not be signed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(
    session: Session,
    kind: Kind,
    files: tuple[Path, ...],
    *,
    key_file: Path | None,
    password: Path | None,
    request: Path | None,
    forget_request: bool,
    yes: bool,
) -> None:
    """Have a CA take over that you have already: XCA's export, easy-rsa's, step-ca's, a company's.

    FILE holds its certificate and those above it, up to the root (PEM, DER, PKCS#7 or PKCS#12, in any order).
    Without its key: --request writes a request for it, and the key is made here; once it is signed, import the
    certificate. It takes over like a new one: `redlatch ca rotate` shows how far that is, and ends the old one.
    """
    if bool(files) + (request is not None) + forget_request != 1:
        raise UsageError(
            "name the CA's files, or --request, or --forget-request",
            hint="redlatch ca import device ca.crt --key ca.key",
        )
    if request is not None:
        _request(session, kind, request)
    elif forget_request:
        _forget(session, kind)
    else:
        _import(session, kind, (*files, *([key_file] if key_file else [])), password=password, yes=yes)


def _import(session: Session, kind: Kind, files: tuple[Path, ...], *, password: Path | None, yes: bool) -> None:
    from redlatch.operations import authorities, importing

    site = session.site()
    plan = importing.plan(site, kind, files, lambda file: session.password_of(file, password))
    out = session.out
    name = authorities.name_of(plan.authority.certificate)
    out.line(f"{name}, until {day(plan.authority.not_after)}", style="strong")
    for one in plan.authority.chain:
        out.line(f"below {authorities.name_of(one)}", indent=2)
    for remark in plan.remarks:
        out.line(f"attention: {remark}", style="warn")
    session.confirm(f"Have it take over as the {kind} CA?", yes=yes)
    done = importing.carry_out(site, plan)
    out.document(
        progress_document(done.progress)
        | {"subject": name, "remarks": plan.remarks, "force": done.force.as_dict()}
    )
    out.line(f"{name} is a {kind} CA of this site", style="strong")
    for line in NEXT[(kind, "begin")]:
        out.line(line)
    print_progress(out, done.progress)
    print_force(out, done.force)


def _request(session: Session, kind: Kind, path: Path) -> None:
    from redlatch.operations import importing

    if path.exists():
        write_new(path, b"", mode=0o644)  # says that it is there, before a key is made
    made = importing.request(session.site(), kind)
    write_new(path, made, mode=0o644, owner=sudo_owner())
    session.out.document({"request": path})
    session.out.line(f"the request is in {path}; its key stays here", style="strong")
    session.out.line("Have it signed as a CA with path length 0 that may sign certificates (keyCertSign). Then:")
    session.out.line(f"redlatch ca import {kind} SIGNED.pem ROOT.pem", indent=2)


def _forget(session: Session, kind: Kind) -> None:
    from redlatch.operations import importing

    count = importing.forget_request(session.site(), kind)
    session.out.document({"forgotten": count})
    session.out.line("the key of the request is removed" if count else "no request is out")
