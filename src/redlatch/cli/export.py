"""`redlatch export ...`: configurations for a proxy that somebody already runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from redlatch.cli.framework import PATH, LazyGroup, command
from redlatch.cli.session import Session

export = LazyGroup(
    "export",
    help="A configuration for a proxy that you already run. It counts as it was written: no live revocation.",
    examples=("sudo redlatch export nginx --out /etc/nginx/conf.d/redlatch.conf", "sudo redlatch export caddy"),
    lazy={
        "nginx": ("redlatch.cli.export:nginx", "a file for nginx's http block"),
        "caddy": ("redlatch.cli.export:caddy", "a site for a Caddyfile"),
        "device-ca": ("redlatch.cli.export:device_ca", "the device CA's certificate, for a proxy to read"),
    },
)


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--server-key", type=PATH, metavar="FILE", help="Its key, where that is another file."),
        click.option("--server-cert", type=PATH, metavar="FILE", help="The server's certificate and chain (PEM)."),
        click.option(
            "--to", "upstream", metavar="URL", default="http://127.0.0.1:1880", show_default=True,
            help="The Node-RED behind it.",
        ),
        click.option(
            "--listen", metavar="[ADDRESS]:PORT", default=":443", show_default=True, help="Where it listens."
        ),
        click.option("--out", type=PATH, metavar="FILE", help="Write it there, at once and whole."),
    ):  # fmt: skip
        function = option(function)
    return function


@command(
    "nginx",
    "sudo redlatch export nginx --out /etc/nginx/conf.d/redlatch.conf",
    "sudo redlatch export nginx --listen 192.168.1.5:443 --to http://127.0.0.1:1880",
)
@_options
@click.option(
    "--device-ca", type=PATH, metavar="FILE", help="The device CA's certificate (redlatch export device-ca)."
)
def nginx(session: Session, out: Path | None, **places: Any) -> None:
    """Print a file for nginx's http block: who may come in, and what they reach.

    It says in its head what it enforces and what it cannot. Write and load it anew after every change.
    """
    _export(session, "nginx", out, places)


@command(
    "caddy",
    "sudo redlatch export caddy --out /etc/caddy/redlatch.caddy",
    "sudo redlatch export caddy --server-cert /etc/ssl/home.pem --server-key /etc/ssl/home.key",
)
@_options
def caddy(session: Session, out: Path | None, **places: Any) -> None:
    """Print a site for a Caddyfile: who may come in, and what they reach.

    It says in its head what it enforces and what it cannot. Write and load it anew after every change.
    """
    _export(session, "caddy", out, places)


@command("device-ca", "sudo redlatch export device-ca --out /etc/nginx/redlatch-device-ca.pem")
@click.option("--out", type=PATH, metavar="FILE", help="Write it there, at once and whole.")
def device_ca(session: Session, out: Path | None) -> None:
    """Print the device CA's certificate (PEM): what a proxy must know to ask for keys. It holds no key itself."""
    from redlatch.operations import exporting

    _hand_over(session, exporting.device_ca(session.site()).decode(), out)


def _export(session: Session, program: str, out: Path | None, places: dict[str, Any]) -> None:
    from redlatch.operations import exporting

    text = exporting.render(session.site(), program, exporting.Places(**places))
    _hand_over(session, text, out)
    session.out.warning("a later change counts there only once this is written and loaded again")


def _hand_over(session: Session, text: str, out: Path | None) -> None:
    from redlatch.operations import exporting

    if out is not None:
        exporting.write(out, text.encode())
        session.out.line(f"wrote {out}", style="good")
    session.out.document({"file": out, "text": text if out is None else None})
    if out is None and not session.out.as_json:
        # ASCII, and nothing in it steers a terminal
        sys.stdout.write(text)
        sys.stdout.flush()
