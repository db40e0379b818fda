"""`redlatch explain`: what a request would get, and why."""

from __future__ import annotations

from typing import Any

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session


@command(
    "explain",
    "redlatch explain GET /flows",
    'redlatch explain GET /dashboard --device "Bart\'s phone" --from 192.168.1.20',
    "redlatch explain POST /webhook/github --from 140.82.115.1 --open-port",
    "redlatch explain GET /comms --websocket --device laptop",
)
@click.argument("method")
@click.argument("path")
@click.option("--device", metavar="NAME", help="Who asks. Default: somebody without a certificate.")
@click.option("--from", "address", metavar="ADDRESS", default="", help="Where from. Default: from nowhere known.")
@click.option("--websocket", is_flag=True, help="A websocket, not a page.")
@click.option("--origin", metavar="URL", help="The page that asks, where it is another one's.")
@click.option("--host", metavar="HOST", help="The name that it is called by. Default: one of its own.")
@click.option("--open-port", is_flag=True, help="By the port that asks nobody for a certificate.")
def explain(session: Session, **told: Any) -> None:
    """Say what a request would get, and why: allowed or refused, by which rule, and what to do about it.

    It asks the rules that are recorded here, and sends nothing. Both answers end with exit code 0.
    """
    from redlatch.operations import reach

    path = told.pop("path")
    asked = reach.Asked(target=path, **told)
    found = reach.explain(session.site(), asked)
    out = session.out
    allow = found.decision.allow
    out.document(
        {
            "allow": allow,
            "reason": found.decision.reason,
            "text": found.text,
            "next": found.next,
            "area": found.area,
            "rules": [{"id": number, "sentence": sentence} for number, sentence in found.rules],
            "request": {
                "method": asked.method,
                "path": asked.target,
                "device": asked.device,
                "from": asked.address or None,
                "websocket": asked.websocket,
                "origin": asked.origin,
                "host": found.host,
                "open_port": asked.open_port,
            },
        }
    )
    if allow:
        out.line("allowed", style="good")
    else:
        out.line(f"refused ({found.decision.reason}): {found.text}", style="bad")
        out.line(found.next)
    out.fields(
        [
            ("who", asked.device or "somebody without a certificate"),
            ("from", asked.address or "not said: no network holds it (--from ADDRESS)"),
            ("path counts as", found.area),
        ]
    )
    for number, sentence in found.rules:
        out.line(f"rule {number}: {sentence}")
