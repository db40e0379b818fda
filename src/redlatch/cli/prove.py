"""`redlatch prove`: knock at every door as a stranger and as a device, and show what came back."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import EngineError

if TYPE_CHECKING:
    from redlatch.checks.outside import Probed
    from redlatch.cli.output import Output
    from redlatch.operations.site import Site

_MOST_SAID = 5


class NotProven(EngineError):
    """Some knock at the door was not answered as it should be, or could not be tried."""

    code = "not-proven"


@command("prove", "sudo redlatch prove", "sudo redlatch prove --wait 120 --json")
@click.option(
    "--wait", type=click.IntRange(0), default=60, show_default=True, help="Seconds for Node-RED to listen."
)
def prove(session: Session, wait: int) -> None:
    """Knock at every door as a stranger and as a device, and show what came back.

    What should come back is what the rules say of this machine's own address. Every surface is tried without a
    key, with keys that must not work (of another CA, revoked, ended, resumed sessions) and with one that must,
    and so are tricks with paths, hosts and origins. Only reading requests are sent, and none that a flow would
    answer. The devices are added for this and revoked at the end. Both are in the audit trail.
    """
    from redlatch.checks import outside, table

    site = session.site()
    _await(site, wait)
    found = outside.probe(site, os.environ)
    missing = _missing(found)
    if missing is None:
        session.out.document(table.document(found))
    show(session.out, found)
    if missing is not None:
        raise missing


def _missing(found: Probed) -> NotProven | None:
    """Why that proves nothing; None where it does."""
    from redlatch.checks import outside

    if not found.rows and not found.unjudged:
        return NotProven("no door was there to knock at", hint="redlatch status says what is missing")
    if wrong := [row for row in found.rows if not row.ok]:
        said = [f"{row.surface} of {row.door} with {row.key}: {row.seen}" for row in wrong]
        more = f" and {len(said) - _MOST_SAID} more" if len(said) > _MOST_SAID else ""
        return NotProven(
            "; ".join(said[:_MOST_SAID]) + more,
            hint="was Node-RED restarted since `redlatch up`? redlatch status says what is wrong",
        )
    if found.unjudged:
        return NotProven(
            "; ".join(found.unjudged),
            hint="put that right and run it again; it takes root, and the CA keys' passphrase where they have one",
        )
    if all(row.key != outside.GOOD for row in found.rows):  # a door that is shut for everybody proves nothing
        return NotProven("no device knocked", hint="redlatch status says what is missing")
    return None


def show(out: Output, found: Probed) -> None:
    """The table in green and red, in words too; then what was not tried."""
    from redlatch.checks import table

    headers, rows = table.compact(found.rows)
    if rows:
        out.styled_table(headers, rows)
    for words in found.left_out:
        out.line(f"not tried: {words}")


def _await(site: Site, wait: int) -> None:
    """Returns when something listens at every door; NotProven when `wait` seconds were not enough."""
    from redlatch.checks import doors

    deadline = time.monotonic() + wait
    while (missing := doors.shut_doors(site)) and time.monotonic() < deadline:
        time.sleep(0.2)
    if missing:
        raise NotProven(
            f"nothing listens on port {missing[0][1]} ({missing[0][0]})",
            hint="start Node-RED, then run redlatch prove again",
        )
