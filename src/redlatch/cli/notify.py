"""`redlatch notify`: who is told what ends soon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import UsageError

if TYPE_CHECKING:
    from redlatch.operations.site import Notify


@command(
    "notify",
    "redlatch notify",
    "redlatch notify --command /usr/local/bin/tell-me --try",
    "redlatch notify --webhook https://ntfy.example.org/redlatch --try",
    "redlatch notify --audit-head daily",
    "redlatch notify --none",
)
@click.option("--command", "program", metavar="FILE", help="Run this, with the notice as JSON on its input.")
@click.option("--webhook", metavar="URL", help="POST the notice as JSON to this https address.")
@click.option(
    "--audit-head",
    type=click.Choice(["daily", "off"]),
    help="Send them the end of the audit chain each day, out of this machine's reach.",
)
@click.option("--none", "nobody", is_flag=True, help="Tell nobody; the console and `redlatch status` still do.")
@click.option("--try", "attempt", is_flag=True, help="Send a notice now, to see that it arrives.")
def notify(
    session: Session,
    program: str | None,
    webhook: str | None,
    audit_head: str | None,
    nobody: bool,
    attempt: bool,
) -> None:
    """Show or choose who is told, 30, 7 and 1 days before a device's key ends.

    The service (redlatch serve) sends the notices. The command is run without arguments and without a shell, as
    the user who runs the service. The head of the audit chain goes out with the daily `redlatch refresh`.
    """
    from redlatch.operations import notices

    if nobody and (program or webhook or audit_head):
        raise UsageError("--none goes with nothing else", hint="redlatch notify --help")
    site = session.site()
    chosen = site.config().notify
    if nobody or program or webhook or audit_head:
        anew = bool(nobody or program or webhook)  # who is told; else it stays as it is
        daily = audit_head == "daily" if audit_head else chosen.audit_head
        chosen = notices.configure(
            site,
            command=program if anew else chosen.command,
            webhook=webhook if anew else chosen.webhook,
            audit_head=daily and not nobody,
        )
    document: dict[str, Any] = {
        "command": chosen.command,
        "webhook": _host(chosen.webhook),
        "audit_head": chosen.audit_head,
    }
    if attempt:
        notices.deliver(chosen, {"event": "test", "machine": site.config().machine, "certificates": []})
        document["sent"] = chosen.command is not None or chosen.webhook is not None
    session.out.document(document)
    session.out.fields(
        [
            ("command", chosen.command or "none"),
            ("web hook", f"at {_host(chosen.webhook)}" if chosen.webhook else "none"),
            ("head of the audit chain", _head(chosen)),
        ]
    )
    if attempt:
        session.out.line("a test notice was sent" if document["sent"] else "there is nobody to tell", style="good")


def _head(chosen: Notify) -> str:
    if not chosen.audit_head:
        return "not sent"
    return "sent each day" if chosen.command or chosen.webhook else "not sent: nobody is named"


def _host(webhook: str | None) -> str | None:
    """The host only: the path of a web hook often is a secret."""
    return urlsplit(webhook).hostname if webhook else None
