"""`redlatch device adopt`: a certificate from elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from redlatch.cli.device import device_document, print_force
from redlatch.cli.framework import PATH, command
from redlatch.cli.output import day
from redlatch.cli.session import Session


@command(
    "adopt",
    'redlatch device adopt "Ada\'s card" ada.crt --chain company-ca.pem --role owner',
    "redlatch device adopt press press-2027.pem --chain company-ca.pem --further",
)
@click.argument("name")
@click.argument("certificate", type=PATH)
@click.option(
    "--chain", type=PATH, multiple=True, metavar="FILE", help="Its CA, and those above; may be repeated."
)
@click.option(
    "--password", type=PATH, metavar="FILE", help="A file whose first line opens a locked one. Default: asked."
)
@click.option("--role", metavar="ROLE", default="admin", show_default=True, help="What it may do.")
@click.option("--owner", metavar="PERSON", help="Whose it is: their devices share one Node-RED user.")
@click.option("--further", is_flag=True, help="A further certificate of the device NAME, which is there already.")
def adopt(
    session: Session,
    name: str,
    certificate: Path,
    chain: tuple[Path, ...],
    password: Path | None,
    role: str,
    owner: str | None,
    further: bool,
) -> None:
    """Let a device in by a certificate that it has from elsewhere: a smart card, XCA, a company's CA.

    Its CA is trusted at the TLS handshake from then on, without its key; who gets in is still decided by the list
    of certificates alone. It cannot be renewed here: adopt the next one with --further, or give the device a key
    of this site's with `redlatch device renew`.
    """
    from redlatch.operations import adopting

    done = adopting.adopt(
        session.site(),
        name,
        (certificate, *chain),
        lambda file: session.password_of(file, password),
        role=role,
        owner=owner,
        further=further,
    )
    out = session.out
    out.document(
        device_document(done.device)
        | {
            "fingerprint": done.certificate.fingerprint,
            "serial": done.certificate.serial,
            "not_after": done.certificate.not_after,
            "issuer": done.issuer,
            "new_anchor": done.new_anchor,
            "force": done.force.as_dict(),
        }
    )
    out.line(f"{done.device.name} gets in by it, until {day(done.certificate.not_after)}", style="strong")
    out.fields([("issued by", done.issuer), ("fingerprint", done.certificate.fingerprint)])
    if done.new_anchor:
        out.line(
            "Other certificates of that issuer get through the TLS handshake, and no further: they are not on the "
            "list."
        )
    out.line("It cannot be renewed here: get the next one from its issuer, and adopt that with --further.")
    print_force(out, done.force)
