"""`redlatch audit`: who changed what."""

from __future__ import annotations

import json

import click

from redlatch.cli.framework import command
from redlatch.cli.output import minute, plain
from redlatch.cli.session import Session
from redlatch.errors import StoreError


@command("audit", "redlatch audit", "redlatch audit --verify", "redlatch audit --json")
@click.option("--verify", is_flag=True, help="Check that no event was changed, removed or slipped in.")
def audit(session: Session, verify: bool) -> None:
    """Show who changed what, oldest first.

    With --verify the chain of hashes is checked and its head printed: note the head elsewhere, and nobody can
    rewrite the past unnoticed.
    """
    site = session.site()
    out = session.out
    with site.store.read() as view:
        if verify:
            found = view.verify_audit()
            if not found.ok:
                raise StoreError(
                    f"the audit trail was tampered with: {found.problem}",
                    hint=f"the {found.count} events before it are whole; compare with a backup",
                )
            out.document({"ok": True, "events": found.count, "head": found.head.hex()})
            out.line(f"{found.count} events, unbroken", style="good")
            out.line(f"head: {found.head.hex()}")
            return
        events = [entry.event for entry in view.audit_events()]
    out.document(
        {
            "events": [
                {"seq": one.seq, "at": one.at, "actor": one.actor, "kind": one.kind, "data": one.data}
                for one in events
            ]
        }
    )
    out.table(
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
