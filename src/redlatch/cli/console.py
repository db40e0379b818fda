"""`redlatch console`: where console and enrolment of the service listen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.device import print_force
from redlatch.cli.framework import PATH, command
from redlatch.cli.output import day
from redlatch.cli.session import Session
from redlatch.errors import UsageError

if TYPE_CHECKING:
    from redlatch.operations.service import Configured
    from redlatch.operations.site import Service, Site

_WORDS = {"loopback": "this machine only", "lan": "this machine and its private networks"}


@command(
    "console",
    "redlatch console",
    "sudo redlatch console --listen lan",
    "sudo redlatch console --console-listen 192.168.1.20 --enrol-listen lan",
    "sudo redlatch console --server-cert fullchain.pem --server-key privkey.pem",
)
@click.option("--listen", multiple=True, metavar="WHERE", help="Both: loopback, lan or an ADDRESS; repeatable.")
@click.option("--console-listen", multiple=True, metavar="WHERE", help="The console only; repeatable.")
@click.option("--enrol-listen", multiple=True, metavar="WHERE", help="The enrolment pages only; repeatable.")
@click.option("--port", type=int, metavar="N", help="The console's port. Default: 1881.")
@click.option("--enrol-port", type=int, metavar="N", help="The port of the enrolment pages. Default: 1882.")
@click.option("--server-cert", type=PATH, metavar="FILE", help="Show this public certificate, with its chain.")
@click.option("--server-key", type=PATH, metavar="FILE", help="Its key, which Node-RED's user must not read.")
@click.option("--no-server-cert", is_flag=True, help="Show a certificate of this site's own CA again.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def console(
    session: Session,
    *,
    listen: tuple[str, ...],
    console_listen: tuple[str, ...],
    enrol_listen: tuple[str, ...],
    port: int | None,
    enrol_port: int | None,
    server_cert: Path | None,
    server_key: Path | None,
    no_server_cert: bool,
    yes: bool,
) -> None:
    """Show or change where the console and the enrolment pages of `redlatch serve` listen.

    Without options it shows. By default both listen on this machine only; `--listen lan` opens them to its private
    networks. The console lets in owners and admins by their keys; the enrolment pages ask for no key, and listen
    only while a link is open.
    """
    from redlatch.operations import service

    if listen and (console_listen or enrol_listen):
        raise UsageError(
            "--listen says it for both, --console-listen and --enrol-listen for one", hint="leave one of them out"
        )
    site = session.site()
    told: dict[str, Any] = {
        "console": listen or console_listen or None,
        "enrolment": listen or enrol_listen or None,
        "console_port": port,
        "enrolment_port": enrol_port,
        "server_files": _files(server_cert, server_key, without=no_server_cert),
    }
    if all(value is None for value in told.values()):
        _print(session, site, site.config().service)
        return
    planned = service.plan(site, **told)
    for change in planned.changes:
        session.out.line(change)
    for text in planned.warnings:
        session.out.line(f"attention: {text}", style="warn")
    if not planned.changes:
        session.out.line("nothing to change")
    else:
        session.confirm("Change this?", yes=yes)
    done = service.configure(site, **told)
    _print(session, site, done.service, done)


def _files(cert: Path | None, key: Path | None, *, without: bool) -> tuple[str, ...] | None:
    """The two files, () for none of one's own, None for what was there."""
    if (cert is None) != (key is None):
        raise UsageError("--server-cert and --server-key belong together", hint="name both files")
    if cert is None or key is None:
        return () if without else None
    if without:
        raise UsageError("--no-server-cert excludes --server-cert", hint="leave one of them out")
    return str(cert), str(key)


def _print(
    session: Session,
    site: Site,
    present: Service,
    done: Configured | None = None,
) -> None:
    from redlatch.operations import hosts, service, service_key

    out = session.out
    urls = {"console": hosts.console_url(site), "enrolment": hosts.enrolment_url(site)}
    restarted = service.restart(site) if done is not None and done.changes else ""
    both: dict[str, dict[str, Any]] = {}
    for which in ("console", "enrolment"):
        choice, port = service.of(present, which)
        both[which] = {
            "listen": choice,
            "addresses": service.addresses(choice),
            "port": port,
            "url": urls[which],
        }
    leaf = service_key.leaf(site)
    names = service_key.public_names(site)
    out.document(
        {
            "changed": done is not None and bool(done.changes),
            "changes": done.changes if done is not None else (),
            **both,
            "certificate": {
                "public": bool(names),
                "names": names,
                "not_after": leaf.not_valid_after_utc if leaf is not None else None,
                "server_files": present.server_files,
            },
            "warnings": done.warnings if done is not None else (),
            "restart": restarted,
            "force": done.force.as_dict() if done is not None else None,
        }
    )
    rows = [
        (which, one["url"], _WORDS.get(one["listen"][0], " ".join(one["listen"]))) for which, one in both.items()
    ]
    out.table(("WHAT", "ADDRESS", "LISTENS ON"), rows)
    out.line(f"certificate: {_certificate(present, names, leaf)}")
    if restarted:
        out.line(restarted)
    if done is not None:
        print_force(out, done.force)


def _certificate(present: Service, names: tuple[str, ...], leaf: Any) -> str:
    if leaf is None:
        return "none yet; redlatch serve makes one of this site's own CA"
    until = f"good until {day(leaf.not_valid_after_utc)}"
    if present.server_files is None:
        return f"of this site's own CA, {until}"
    if names:
        return f"public, for {', '.join(names)}, {until}"
    return f"{present.server_files[0]}, {until}; no root that this machine trusts vouches for it"
