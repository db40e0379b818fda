"""`redlatch enroll`: this machine's own key, by a link; and its renewal. Needs no site."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.framework import PATH, command
from redlatch.cli.output import day
from redlatch.cli.session import Session
from redlatch.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from redlatch.operations.enrolling import Enrolled
    from redlatch.pki.keys import KeyKind

_FOLDER = Path("redlatch-key")
_LONGEST = 4096


@command(
    "enroll",
    "redlatch enroll - --pin sha256//BASE64= <link.txt",
    "redlatch enroll https://nodered.example.org:1882/#TOKEN --out backup/",
    "redlatch enroll --renew --out backup/",
)
@click.argument("url", required=False)
@click.option("--out", type=PATH, metavar="DIR", default=_FOLDER, show_default=True, help="The key's folder.")
@click.option("--pin", metavar="PIN", help="Of the server's key, as it came with the link: sha256//...")
@click.option("--ca", type=PATH, metavar="FILE", help="The root that the server's certificate comes from.")
@click.option("--key", "kind", type=click.Choice(["p256", "rsa2048"]), default="p256", show_default=True)
@click.option("--p12", is_flag=True, help="Write a .p12 too, and print its password.")
@click.option("--header", is_flag=True, help="Write a C header too, for microcontrollers.")
@click.option("--renew", is_flag=True, help="Renew the key in the folder, when it is time.")
@click.option("--now", is_flag=True, help="With --renew: also when it is not.")
def enroll(
    session: Session,
    url: str | None,
    out: Path,
    pin: str | None,
    ca: Path | None,
    kind: KeyKind,
    p12: bool,
    header: bool,
    renew: bool,
    now: bool,
) -> None:
    """Get this machine a key of its own by a link (URL; - reads it from stdin).

    The key is made here, and only a request for its certificate is sent, to a server that has the pinned key or a
    certificate that is trusted here. With --renew the present key gets a successor; URL is then the console's
    address, where that has changed.
    """
    from redlatch.operations import enrolling

    if now and not renew:
        raise UsageError("--now goes with --renew", hint="see: redlatch enroll --help")
    if renew and (pin or ca or header):
        raise UsageError(
            "--pin, --ca and --header are for a new key: a renewal keeps what is in the folder",
            hint="see: redlatch enroll --help",
        )
    if not renew and url is None:
        raise UsageError("the link is missing", hint="redlatch enroll URL, or - to read it from stdin")
    if url == "-":
        if session.interactive:
            print("The link: ", end="", file=sys.stderr, flush=True)
        url = sys.stdin.readline(_LONGEST + 1).strip()
        if not url or len(url) > _LONGEST:
            raise InvalidInput("there is no link on stdin", hint="it is the first line")
    if renew:
        made = enrolling.renew(out, url=url, now=now, kind=kind, p12=p12)
    else:
        made = enrolling.enroll(url or "", out, pin=pin, ca=ca, kind=kind, p12=p12, header=header)
    _tell(session, made, renewed=renew)


def _tell(session: Session, made: Enrolled, *, renewed: bool) -> None:
    out = session.out
    out.document(
        {
            "changed": made.fresh,
            "device": made.device,
            "fingerprint": made.fingerprint,
            "not_after": made.not_after,
            "folder": str(made.folder),
            "files": [str(one) for one in made.files],
            "password": made.password,
        }
    )
    if not made.fresh:
        out.line(f"the key of {made.device} is good until {day(made.not_after)}; nothing to renew yet")
        return
    out.line(f"{made.device} has a {'new ' if renewed else ''}key, until {day(made.not_after)}", style="strong")
    for one in made.files:
        out.line(f"file  {one}")
    if made.password is not None:
        out.line(f"password  {made.password} (of the .p12; shown this once)")
    out.line(f"fingerprint  {made.fingerprint}")
