"""`redlatch log`: who came in and who was refused, by the word of Node-RED and of the gateway."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.framework import command
from redlatch.cli.output import minute
from redlatch.cli.session import Session

if TYPE_CHECKING:
    from redlatch.engines.nodered.claims import Access
    from redlatch.operations.site import Site


@command("log", "redlatch log", "redlatch log --follow", "redlatch log --lines 1000 --json")
@click.option(
    "--follow", is_flag=True, help="Go on with what comes, until ctrl-c. With --json one document a line."
)
@click.option(
    "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many of the last entries."
)
def log(session: Session, follow: bool, lines: int) -> None:
    """Show who came in and who was refused.

    It is Node-RED's word: whoever writes flows there could write this log too. With a gateway in front its log is
    shown too, merged by time.
    """
    from redlatch.operations import engines, traffic

    site = session.site()
    by = engines.required(site)
    names = _Names(site)
    entries = traffic.accesses(site, lines)
    out = session.out
    if not follow:
        out.document(
            {
                "claimed_by": " and ".join(one.user for one in by),
                "entries": [_document(one, names) for one in entries],
            }
        )
    whose = [f"{'the gateway' if one.is_gateway else 'Node-RED'}'s user {one.user}" for one in by]
    out.line(f"by the word of {' and '.join(whose)}:", style="faint")
    for one in entries:
        _print(session, one, names, follow=follow)
    if not follow:
        if not entries:
            out.line("nothing yet")
        return
    gc.enable()

    def wait() -> bool:
        time.sleep(0.5)
        return True

    for one in traffic.follow(site, wait=wait):
        _print(session, one, names, follow=True)


class _Names:
    """Names of devices by their ids, looked up as they come: a log names few of them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._known: dict[str, str | None] = {}

    def get(self, device_id: str | None) -> str | None:
        """The device's name, None for nobody known."""
        if device_id is not None and device_id not in self._known:
            with self._site.store.read() as view:
                device = view.device_by_id(device_id)
            self._known[device_id] = device.name if device is not None else None
        return self._known.get(device_id or "")


def _print(session: Session, one: Access, names: _Names, *, follow: bool) -> None:
    if follow:
        session.out.document(_document(one, names))
    who = names.get(one.device_id) or (f"certificate {one.fingerprint}" if one.fingerprint else "nobody known")
    times = f" ({one.count} times)" if one.count > 1 else ""
    # A stranger refused in the handshake never got to ask for anything.
    what = f"{one.method} {one.path}{' websocket' if one.upgrade else ''}" if one.method else "a connection"
    verdict = "admitted" if one.allow else f"refused ({one.reason})"
    session.out.line(
        f"{minute(one.at)}  {verdict}  {who}  from {one.address}  {what}{times}",
        style="" if one.allow else "warn",
    )


def _document(one: Access, names: _Names) -> dict[str, Any]:
    return {
        "at": one.at,
        "from": one.address,
        "device": one.device_id,
        "name": names.get(one.device_id),
        "fingerprint": one.fingerprint,
        "method": one.method,
        "path": one.path,
        "allow": one.allow,
        "reason": one.reason,
        "upgrade": one.upgrade,
        "count": one.count,
    }
