"""`redlatch device send`, and the first device of `redlatch up`: a link, a QR code, a fingerprint to compare."""

from __future__ import annotations

import contextlib
import gc
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from redlatch.cli.device import device_document, print_force
from redlatch.cli.framework import command
from redlatch.cli.link import link_hosts, show_link
from redlatch.cli.output import Output, day, quoted
from redlatch.cli.session import Session
from redlatch.errors import EngineError

if TYPE_CHECKING:
    from redlatch.operations.links import Invited
    from redlatch.operations.site import Site
    from redlatch.service.sending import Outcome, Sending
    from redlatch.store import LinkRow


class NotHandedOver(EngineError):
    """The link ended without a device that holds its key."""

    code = "not-handed-over"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen: `addresses` as the operator named them (else all private ones), `port` 0 for a free one."""

    addresses: tuple[str, ...] = ()
    port: int = 0

    def bind(self) -> list[socket.socket]:
        from redlatch.operations import machine
        from redlatch.service import sockets

        if self.addresses:
            return sockets.bind(self.addresses, self.port, told=True)
        return sockets.bind([str(one) for one in machine.private_addresses()], self.port)


@command(
    "send",
    'redlatch device send "Bart\'s phone"',
    'redlatch device send "Ada\'s tablet" --role viewer --listen 192.168.1.5',
)
@click.argument("name")
@click.option("--role", metavar="ROLE", default="admin", show_default=True, help="Of a new device.")
@click.option("--owner", metavar="PERSON", help="Whose it is, of a new device.")
@click.option("--days", type=int, default=365, show_default=True, help="How long the key is good.")
@click.option(
    "--listen", multiple=True, metavar="ADDRESS", help="Listen here only. Default: all private addresses."
)
@click.option("--listen-port", type=click.IntRange(0, 65535), default=0, help="Default: a free one.")
def send(
    session: Session, name: str, role: str, owner: str | None, days: int, listen: tuple[str, ...], listen_port: int
) -> None:
    """Hand a key over by a link that works once, for 15 minutes, in your network.

    A new device is added when it takes its key; one that exists gets a further key. Its page stays for as long as
    it asks whether the device is in. With --json there is one document a line: the link, then how it ended.
    """
    site, where = session.site(), Listen(listen, listen_port)
    with (
        handing_over(session, site, name, role=role, owner=owner, days=days, where=where) as sending,
        contextlib.suppress(KeyboardInterrupt),  # the key is handed over, which ctrl-c does not change
    ):
        session.out.line("Its page stays for as long as it asks whether the device is in; ctrl-c ends that.")
        sending.linger()


@contextlib.contextmanager
def handing_over(
    session: Session,
    site: Site,
    name: str,
    *,
    role: str,
    owner: str | None = None,
    days: int = 365,
    where: Listen,
    next_url: str | None = None,
    afterwards: str = "",
) -> Iterator[Sending]:
    """Serves one link, prints what a person must know, and is entered when the key was taken; its page is served
    on inside. NotHandedOver when nobody took it.

    `next_url` is where the device tries its key, `afterwards` the last line for whoever takes the way by ssh.
    """
    from redlatch.operations import hosts, links
    from redlatch.operations.site import authority
    from redlatch.service import log
    from redlatch.service.origin import server_context
    from redlatch.service.sending import Sending

    gc.enable()
    log.to(terminal=True, quiet=True)
    wanted = [links.Wanted(name, role, owner)]
    links.check(site, name, role, remote=False, trust_lan=False, pinned=False, compared=True)
    authority(site, "device")  # asks for the passphrase now, not when the phone is waiting
    pem = hosts.node_red_shows(site).pem
    context, bound = server_context(pem), where.bind()
    try:
        (made,) = links.invite(site, wanted, days=days, compared=True)
        with Sending(site, made.link, bound, context, next_url=next_url) as sending:
            _show(session.out, site, made, bound, hosts.fingerprint(pem), afterwards)
            try:
                outcome = sending.wait()
            except KeyboardInterrupt:
                sending.close()
                _taken_meanwhile(session.out, links.get(site, made.link.id))
                raise
            _ended(session.out, site, outcome)
            yield sending
    finally:
        for sock in bound:
            sock.close()


def _show(
    out: Output, site: Site, made: Invited, bound: Sequence[socket.socket], fingerprint: str, afterwards: str
) -> None:
    names, port = link_hosts(site, bound), bound[0].getsockname()[1]
    urls = [f"https://{host}:{port}/#{made.token}" for host in names]
    show_link(out, site, made.link.name, urls, names, fingerprint, made.link.expires_at, afterwards)


def _taken_meanwhile(out: Output, link: LinkRow) -> None:
    if link.used_at is not None:
        out.warning(
            f"{link.used_from} took the key at this moment: if that was not you, redlatch device revoke "
            f"{quoted(link.name)}"
        )


def _ended(out: Output, site: Site, outcome: Outcome) -> None:
    from redlatch.operations import devices
    from redlatch.service.sending import State

    made, peer = outcome.issued, outcome.link.used_from
    if made is None:
        out.document({"event": "ended", "state": outcome.state.value})
        raise NotHandedOver(
            "the link has expired, nobody took the key"
            if outcome.state is State.EXPIRED
            else "the link was withdrawn before anybody took the key",
            hint="nothing was issued; run the command again",
        )
    fresh = (
        made.device.created_at >= made.certificate.not_valid_before_utc
        and len(devices.show(site, made.device.name).certificates) == 1
    )
    if outcome.state is State.LOST:
        if fresh:
            # nobody holds its key, so that nobody is locked out
            lost = replace(site, insist=True)
            devices.revoke(lost, made.device.name, reason="the connection broke while its key was handed over")
        out.document({"event": "ended", "state": "lost", "fingerprint": made.fingerprint})
        raise NotHandedOver(
            f"the connection broke before {made.device.name} had its key",
            hint="the device was revoked again; run the command again"
            if fresh
            else "its earlier keys are untouched; run the command again",
        )
    confirmed = outcome.state is State.DELIVERED
    out.document(
        {"event": "ended", "state": outcome.state.value, "from": peer}
        | device_document(made.device)
        | {
            "fingerprint": made.fingerprint,
            "serial": made.serial,
            "not_after": made.not_after,
            "force": made.force.as_dict(),
        }
    )
    said = "and the page confirmed it" if confirmed else "but nothing confirmed that it arrived"
    out.line(f"The key of {made.device.name} was sent to {peer}, {said}.", style="good" if confirmed else "warn")
    if not confirmed:
        out.line(f"If that was not you: redlatch device revoke {quoted(made.device.name)}")
    out.line(f"Role {made.device.role}, good until {day(made.not_after)}, fingerprint {made.fingerprint}")
    print_force(out, made.force)
