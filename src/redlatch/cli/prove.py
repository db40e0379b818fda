"""`redlatch prove`: knock at the door as a stranger and as a device, and show what came back."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import click

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import EngineError

if TYPE_CHECKING:
    from redlatch.checks.probe import Identity
    from redlatch.operations.site import Site


_HERE = "127.0.0.1"


class NotProven(EngineError):
    """Some knock at the door was not answered as it should be."""

    code = "not-proven"


@command("prove", "sudo redlatch prove", "sudo redlatch prove --wait 120 --json")
@click.option(
    "--wait", type=click.IntRange(0), default=60, show_default=True, help="Seconds for Node-RED to listen."
)
def prove(session: Session, wait: int) -> None:
    """Knock at Node-RED's door as a stranger and as a device, and show what came back.

    What should come back is what the rules say of this machine's own address, with and without a key. The device
    is one of its own, with the role admin: it is added for this, and revoked at the end. Both are in the audit
    trail.
    """
    from redlatch.checks import probe
    from redlatch.operations import reach

    site = session.site()
    host, port = _door(site)
    deadline = time.monotonic() + wait
    while not probe.is_listening(host, port):
        if time.monotonic() >= deadline:
            raise NotProven(
                f"nothing listens on port {port}",
                hint="start Node-RED, then run redlatch prove again",
            )
        time.sleep(0.2)
    with _test_device(site) as (name, identity):

        def admits(knock: probe.Knock) -> bool:
            asked = reach.Asked(
                "GET",
                knock.path,
                device=name if knock.with_key else None,
                address=host,
                host=host,
                websocket=knock.websocket,
            )
            return reach.explain(site, asked).decision.allow

        proofs = probe.prove(host, port, admin_root=site.config().admin_root, identity=identity, admits=admits)
    out = session.out
    if all(one.ok for one in proofs):
        out.document({"ok": True, "proofs": [asdict(one) for one in proofs]})
    out.table(
        ("WHAT", "WITH", "EXPECTED", "SEEN", "RESULT"),
        [(one.what, one.key, one.expected, one.seen, "right" if one.ok else "WRONG") for one in proofs],
    )
    wrong = [one for one in proofs if not one.ok]
    if wrong:
        raise NotProven(
            "; ".join(f"{one.what} with {one.key}: {one.seen} instead of {one.expected}" for one in wrong),
            hint="was Node-RED restarted since `redlatch up`? redlatch status says what is wrong",
        )


def _door(site: Site) -> tuple[str, int]:
    """Where devices come in on this machine: at the gateway where there is one, else at Node-RED itself."""
    from redlatch.engines.haproxy.model import listener

    config = site.config()
    if config.gateway is not None:
        host, port = listener(config.gateway.listen[0])
        return host or _HERE, port
    return _HERE, site.target().listen_port


@contextmanager
def _test_device(site: Site) -> Iterator[tuple[str, Identity]]:
    """Name and key of a device that lives as long as the test; the key is in memory only."""
    from redlatch.checks.probe import Identity
    from redlatch.operations import devices

    name = f"redlatch prove {secrets.token_hex(4)}"
    issued = devices.add(site, name, role="admin", days=1)
    try:
        if issued.key is None:  # only with a CSR
            raise EngineError("the test device has no key")
        yield name, Identity(issued.key, issued.certificate)
    finally:
        # nobody is locked out by it: it was nobody's, although there may be no other one yet
        devices.revoke(replace(site, insist=True), name, reason="it was for a test only")
