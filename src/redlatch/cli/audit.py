"""`redlatch audit`: who changed what."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.framework import command
from redlatch.cli.output import minute, plain
from redlatch.cli.session import Session
from redlatch.errors import StoreError, UsageError

if TYPE_CHECKING:
    from redlatch.audit import Noted
    from redlatch.operations.site import Site

_LONGEST = 4096  # bytes of a head and what stands around it


@command(
    "audit",
    "redlatch audit",
    "redlatch audit --verify",
    "redlatch audit --head --sign",
    "redlatch audit --verify --head noted-in-march.txt",
    "redlatch audit --json",
)
@click.option("--verify", is_flag=True, help="Check that no event was changed, removed or slipped in.")
@click.option(
    "--head",
    is_flag=False,
    flag_value="",
    metavar="[HEAD]",
    help="Print the end of the chain, to keep elsewhere; with --verify compare with one kept (text, file or -).",
)
@click.option("--sign", is_flag=True, help="With --head: have the device CA sign it.")
def audit(session: Session, verify: bool, head: str | None, sign: bool) -> None:
    """Show who changed what, oldest first.

    With --verify the chain of hashes is checked. Who owns this machine could rewrite all of it: keep its head
    (--head) somewhere else, on paper or in a mail. --verify --head shows whether anything before it was changed.
    """
    if sign and (verify or head is None):
        raise UsageError("--sign goes with --head", hint="redlatch audit --head --sign")
    if head and not verify:
        raise UsageError("a head is compared with --verify", hint="redlatch audit --verify --head FILE")
    if verify and head == "":
        raise UsageError(
            "which head to compare with is missing", hint="redlatch audit --verify --head FILE, or its text, or -"
        )
    noted = _noted(head) if head else None
    site = session.site()
    if noted is not None:
        _compare(session, site, noted)
    elif head is not None:
        _head(session, site, sign=sign)
    elif verify:
        _verify(session, site)
    else:
        _list(session, site)


def _noted(told: str) -> Noted:
    """A head as it was given: itself, a file that holds it, or standard input."""
    from redlatch.audit import parse_head
    from redlatch.files import read_plain

    if told == "-":
        return parse_head(sys.stdin.read(_LONGEST))
    if told.lstrip().startswith("redlatch-head/"):
        return parse_head(told)
    return parse_head(read_plain(Path(told), max_bytes=_LONGEST).decode("utf-8", "replace"))


def _head(session: Session, site: Site, *, sign: bool) -> None:
    from redlatch.operations import heads

    noted = heads.note(site, sign=sign)
    session.out.document(heads.document(noted))
    session.out.line(noted.text)


def _compare(session: Session, site: Site, noted: Noted) -> None:
    from redlatch.operations import heads

    found = heads.check(site, noted)
    signed = bool(noted.signature)
    session.out.document(
        {
            "ok": True,
            "events": found.chain.count,
            "head": found.chain.head.hex(),
            "noted": noted.seq,
            "at": noted.at,
            "signed": signed,
        }
    )
    session.out.line(f"{found.chain.count} events, unbroken", style="good")
    session.out.line(
        f"event {noted.seq} of {minute(noted.at)} is among them: nothing up to it was changed since", style="good"
    )
    if signed:
        session.out.line("the head was signed by this site's device CA")


def _verify(session: Session, site: Site) -> None:
    with site.store.read() as view:
        found = view.verify_audit()
    if not found.ok:
        raise StoreError(
            f"the audit trail was tampered with: {found.problem}",
            hint=f"the {found.count} events before it are whole; compare with a backup",
        )
    session.out.document({"ok": True, "events": found.count, "head": found.head.hex()})
    session.out.line(f"{found.count} events, unbroken", style="good")
    session.out.line(f"head: {found.head.hex()}")


def _list(session: Session, site: Site) -> None:
    with site.store.read() as view:
        events = [entry.event for entry in view.audit_events()]
    session.out.document(
        {
            "events": [
                {"seq": one.seq, "at": one.at, "actor": one.actor, "kind": one.kind, "data": one.data}
                for one in events
            ]
        }
    )
    session.out.table(
        ("NUMBER", "TIME", "WHO", "WHAT", "DETAILS"),
        [(str(one.seq), minute(one.at), one.actor, one.kind, _details(dict(one.data))) for one in events],
    )


def _details(data: dict[str, object]) -> str:
    shown = []
    for key, value in data.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
        # A fingerprint or id is looked up by its beginning; the whole of it is in --json.
        shown.append(f"{key}={text[:16] if key in ('fingerprint', 'device', 'serial') else text}")
    return ", ".join(shown)
