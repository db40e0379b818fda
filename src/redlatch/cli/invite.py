"""`redlatch device invite`, `links`, `withdraw`: links by which devices get their keys from the service."""

from __future__ import annotations

import csv
import io
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.framework import PATH, Lifetime, command
from redlatch.cli.link import show_code, show_fingerprint
from redlatch.cli.output import minute, quoted
from redlatch.cli.session import Session, sudo_owner
from redlatch.errors import EngineError, FileProblem, InvalidInput, UsageError
from redlatch.files import explained, write_new
from redlatch.operations.handing import without_redlatch

if TYPE_CHECKING:
    from redlatch.operations.links import Invited, Wanted
    from redlatch.operations.site import Config, Site
    from redlatch.store import LinkRow

_CSV_BYTES = 1 << 20


@command(
    "invite",
    'redlatch device invite "Bart\'s phone"',
    'redlatch device invite "Ada\'s laptop" --role admin --pinned',
    'redlatch device invite "Holiday tablet" --remote --valid 24h',
    "redlatch device invite --csv devices.csv --sheet sheet.html --valid 24h",
)
@click.argument("name", required=False)
@click.option("--role", metavar="ROLE", default="user", show_default=True, help="Of a new device.")
@click.option("--owner", metavar="PERSON", help="Whose it is, of a new device.")
@click.option("--days", type=int, default=365, show_default=True, help="How long the key is good.")
@click.option(
    "--valid", type=Lifetime(), metavar="TIME", help="How long the link is. [default: 15m, --remote 24h]"
)
@click.option("--remote", is_flag=True, help="For a device outside your network.")
@click.option("--trust-lan", is_flag=True, help="You trust everybody in your network.")
@click.option("--pinned", is_flag=True, help="For a command line that checks the server's key, and no page.")
@click.option("--csv", "table", type=PATH, metavar="FILE", help="Many devices: columns name, role, owner.")
@click.option("--sheet", type=PATH, metavar="FILE", help="With --csv: a page of QR codes to print.")
def invite(
    session: Session,
    name: str | None,
    *,
    role: str,
    owner: str | None,
    table: Path | None,
    sheet: Path | None,
    trust_lan: bool,
    **told: Any,
) -> None:
    """Make a link by which one device gets its key, once.

    The service (redlatch serve) must run. On a terminal this waits until the link was used; ctrl-c leaves the link
    open. The link is shown here only.
    """
    from redlatch.operations import links

    if (name is None) == (table is None) or (table is None) != (sheet is None):
        raise UsageError("name one device, or give both --csv and --sheet", hint="see --help for examples")
    site = session.site()
    wanted = [links.Wanted(name, role, owner)] if name is not None else read_table(_path(table), role, owner)
    config = site.config()
    _must_serve(config)
    if sheet is not None and (sheet.exists() or sheet.is_symlink()):
        raise FileProblem(f"{sheet} exists already", hint="name another file, or move it away")
    trusted = trust_lan or _ask_for_trust(session, site, wanted, told)
    made = links.invite(site, wanted, trust_lan=trusted, **told)
    try:
        if sheet is not None:
            _write_sheet(session, site, config, sheet, made)
        else:
            _show(session, site, config, made[0])
    except BaseException:
        for one in made:  # a link that nobody has seen shall not stay open
            if sheet is not None and links.state(one.link, site.clock()) == "open":
                links.withdraw(site, one.link.id)
        raise
    if session.interactive and sheet is None:
        _wait(session, site, made[0])


def _path(path: Path | None) -> Path:
    if path is None:
        raise UsageError("there is no file named")
    return path


def read_table(path: Path, role: str, owner: str | None) -> list[Wanted]:
    """The devices of a CSV file whose first line names its columns: name, and role and owner where they differ.

    Errors: FileProblem; InvalidInput with the number of the line.
    """
    from redlatch.operations.links import Wanted
    from redlatch.pki import names

    with explained("read", path), path.open("rb") as stream:
        data = stream.read(_CSV_BYTES + 1)
    if len(data) > _CSV_BYTES:
        raise FileProblem(f"{path} is larger than 1 MB", hint="split it")
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path} is no CSV file in UTF-8: {error}", hint="save it anew as CSV, UTF-8") from None
    columns = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "name" not in columns or set(columns) - {"name", "role", "owner"} or len(set(columns)) != len(columns):
        raise InvalidInput(
            f"{path}, line 1: the columns are {', '.join(columns) or 'missing'}",
            hint="the first line names them: name,role,owner (role and owner may be left out)",
        )
    found = []
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise InvalidInput(f"{path}, line {number}: {len(row)} columns where there should be {len(columns)}")
        cells = dict(zip(columns, (cell.strip() for cell in row), strict=True))
        try:
            whose = cells.get("owner") or owner
            found.append(
                Wanted(
                    names.device_name(cells["name"]),
                    cells.get("role") or role,
                    names.person_name(whose) if whose else None,
                )
            )
        except InvalidInput as error:
            raise InvalidInput(f"{path}, line {number}: {error.message}", hint=error.hint) from None
    if not found:
        raise InvalidInput(f"{path} names no device", hint="one a line, below the line with the columns' names")
    return found


def _must_serve(config: Config) -> None:
    """A link that leads nowhere helps nobody: says so before there is one."""
    from redlatch.operations import service

    port = config.service.console_port
    for address in service.addresses(config.service.console):
        try:
            with socket.create_connection((address, port), timeout=2):
                return
        except OSError:
            continue
    raise EngineError(
        f"the service does not run: nothing answers on port {port}",
        hint="start it with `redlatch serve` (where systemd runs it: sudo systemctl start redlatch), or hand the "
        "key over without it: redlatch device send",
    )


def _ask_for_trust(session: Session, site: Site, wanted: Sequence[Wanted], told: dict[str, Any]) -> bool:
    """Whether somebody at the terminal said, asked, that the network is trusted. TrustNeeded where nobody can."""
    from redlatch.operations import links

    try:
        for one in wanted:
            links.check(site, one.name, one.role, remote=told["remote"], trust_lan=False, pinned=told["pinned"])
    except links.TrustNeeded as error:
        if not session.interactive:
            raise
        session.out.warning(error.message)
        session.confirm("Do you trust everybody in your network?", yes=False)
        return True
    return False


def _show(session: Session, site: Site, config: Config, made: Invited) -> None:
    from redlatch.operations import hosts
    from redlatch.operations.site import LOOPBACK

    link, out = made.link, session.out
    base = hosts.enrolment_url(site)
    url = f"{base}/#{made.token}"
    shown = hosts.enrolment_shows(site)
    pin = hosts.pin(shown.pem)
    out.document(
        {"event": "link", "link": link.id, "device": link.name, "role": link.role, "url": url, "pin": pin}
        | {"expires": link.expires_at, "pinned": link.pinned, "remote": link.remote}
    )
    out.line()
    if not link.pinned:
        out.line(f"A key for {link.name}. Open this on the device that shall have it:", style="strong")
        out.line()
        out.line(url, indent=2, style="strong")
        out.line()
        if session.interactive:
            show_code(out, url)
            out.line()
        if not shown.known_as:
            out.line(
                "The browser will warn. Compare the SHA-256 fingerprint in that warning; if it is not this one,"
            )
            out.line(f"go no further and end the link: redlatch device withdraw {link.id}")
            out.line()
            show_fingerprint(out, hosts.fingerprint(shown.pem))
            out.line()
    out.line("By a command line, which checks the server's key:" if not link.pinned else "On that computer:")
    out.line(f"redlatch enroll - --pin {pin}", indent=2)
    out.line(f"and give it the link: {url}", indent=2)
    out.line("or without redlatch:")
    for line in without_redlatch(base, made.token, pin):
        out.line(line, indent=2)
    out.line()
    out.line(
        f"It works once, until {minute(link.expires_at)}"
        + (", from anywhere." if link.remote else ", and only in your network.")
    )
    if config.service.enrolment == (LOOPBACK,):
        out.line(
            "Nobody but this machine can open it: enrolment listens on loopback. redlatch console --listen lan "
            "changes that.",
            style="warn",
        )
    out.line(f"Withdraw it: redlatch device withdraw {link.id}")


def _write_sheet(session: Session, site: Site, config: Config, sheet: Path, made: Sequence[Invited]) -> None:
    from redlatch.cli.sheet import page
    from redlatch.operations import hosts

    base = hosts.enrolment_url(site)
    write_new(sheet, page(made, base, config.machine).encode(), mode=0o600, owner=sudo_owner())
    out = session.out
    out.document(
        {
            "event": "links",
            "sheet": str(sheet),
            "links": [
                {"link": one.link.id, "device": one.link.name, "expires": one.link.expires_at} for one in made
            ],
        }
    )
    out.line(f"{len(made)} links, one a device, in {sheet}: print it, cut it up, hand it out.", style="strong")
    out.line(f"Each works once, until {minute(made[0].link.expires_at)}. Delete the file afterwards.")


def _wait(session: Session, site: Site, made: Invited) -> None:
    from redlatch.operations import links

    out = session.out
    out.line("Waiting for the device; ctrl-c ends the waiting, not the link.")
    link: LinkRow | None = made.link
    while link is not None and (state := links.state(link, site.clock())) == "open":
        time.sleep(0.3)
        with site.store.read() as view:
            link = view.link(made.link.id)
    if link is None:
        return
    if state in ("withdrawn", "expired"):
        out.line(f"The link is {state}: nobody took the key.", style="warn")
        return
    out.line(f"The key of {link.name} went to {link.used_from}.", style="good")
    out.line(f"If that was not you: redlatch device revoke {quoted(link.name)}")


@command("links", "redlatch device links")
def links_(session: Session) -> None:
    """Show the links of the last days and what came of them."""
    from redlatch.operations import links

    site = session.site()
    now = site.clock()
    found = links.list_links(site)
    session.out.document(
        [
            {
                "link": one.id,
                "device": one.name,
                "role": one.role,
                "state": links.state(one, now),
                "expires": one.expires_at,
                "by": one.created_by,
                "used_at": one.used_at,
                "used_from": one.used_from,
                "fingerprint": one.fingerprint,
                "remote": one.remote,
                "pinned": one.pinned,
            }
            for one in found
        ]
    )
    if not found:
        session.out.line("no links; redlatch device invite NAME makes one")
        return
    session.out.table(
        ("LINK", "DEVICE", "ROLE", "STATE", "UNTIL", "USED FROM", "MADE BY"),
        [
            (
                str(one.id),
                one.name,
                one.role,
                links.state(one, now),
                minute(one.expires_at),
                one.used_from or "",
                one.created_by,
            )
            for one in found
        ],
    )


@command("withdraw", "redlatch device withdraw 12")
@click.argument("link", type=click.IntRange(1))
def withdraw(session: Session, link: int) -> None:
    """End a link before anybody uses it."""
    from redlatch.operations import links

    row = links.withdraw(session.site(), link)
    session.out.document({"link": row.id, "device": row.name, "state": "withdrawn"})
    session.out.line(f"the link for {row.name} is withdrawn", style="strong")
