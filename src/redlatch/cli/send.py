"""`redlatch device send`, and the first device of `redlatch up`: a link, a QR code, a fingerprint to compare."""

from __future__ import annotations

import gc
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.device import device_document, print_force
from redlatch.cli.framework import command
from redlatch.cli.link import link_hosts, show_link
from redlatch.cli.output import Output, day, quoted
from redlatch.cli.session import Session
from redlatch.errors import EngineError, NotFound
from redlatch.operations.handing import FORMATS, pack

if TYPE_CHECKING:
    from redlatch.operations.devices import Issued
    from redlatch.operations.site import Site
    from redlatch.service.handover import Outcome, Parcel

_MEDIA_TYPES = {
    ".p12": "application/x-pkcs12",
    ".pem": "application/x-pem-file",
    ".crt": "application/x-x509-ca-cert",
}


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
        from redlatch.service import listener

        if self.addresses:
            return listener.bind(self.addresses, self.port, told=True)
        return listener.bind([str(one) for one in machine.private_addresses()], self.port)


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

    A new device is added when it takes its key; one that exists gets a further key. With --json there is one
    document a line: the link, then how it ended.
    """
    site = session.site()
    hand_over(session, site, name, role=role, owner=owner, days=days, where=Listen(listen, listen_port))


def hand_over(
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
) -> Issued:
    """Serves one link until its end and prints what a person must know. NotHandedOver when nobody took the key.

    `next_url` is where the device tries its key, `afterwards` the last line for whoever takes the way by ssh.
    """
    from redlatch.enrolment import TOKEN_BYTES, new_link
    from redlatch.operations import devices, roles
    from redlatch.operations.site import authority
    from redlatch.pki import names as pki_names
    from redlatch.service import handover, listener

    gc.enable()
    name = pki_names.device_name(name)
    with site.store.read() as view:
        try:
            known = devices.find(view, name)
        except NotFound:
            known = None
            roles.base_of(view, role)  # now, not when the phone is waiting
    if known is not None:
        name, role = known.name, known.role
    authority(site, "device")  # asks for the passphrase now, not when the phone is waiting
    issued: list[Issued] = []

    def issue(kind: str) -> Parcel:
        made = (
            devices.add(site, name, role=role, owner=owner, days=days)
            if known is None
            else devices.renew(site, name, days=days)
        )
        issued.append(made)
        return _parcel(made, kind, next_url)

    config = site.config()
    pem = site.settings.published / "server.pem"
    context = listener.server_context(pem)
    clock = handover.steady_clock()
    link, token = new_link(name, role, now=clock(), randomness=secrets.token_bytes(TOKEN_BYTES))
    sockets = where.bind()
    try:
        hosts = link_hosts(site, sockets)
        port = sockets[0].getsockname()[1]
        urls = [f"https://{host}:{port}/#{token}" for host in hosts]
        fingerprint = handover.fingerprint(pem.read_bytes())
        show_link(session.out, site, name, urls, hosts, fingerprint, link.expires, afterwards)
        outcome = handover.run(
            link, issue, names=config.hosts, formats=FORMATS, sockets=sockets, context=context, clock=clock
        )
    finally:
        for sock in sockets:
            sock.close()
    return _ended(session.out, site, outcome, issued)


def _parcel(issued: Issued, kind: str, next_url: str | None) -> Parcel:
    from cryptography.hazmat.primitives.serialization import Encoding

    from redlatch.service.handover import File, Parcel

    bundle = pack(issued, kind)
    files = [File(name, _MEDIA_TYPES[Path(name).suffix], content) for name, content in bundle.files.items()]
    if bundle.password is not None and issued.server_ca is not None:
        # DER, which every phone takes; inside the .p12 it is not trusted everywhere.
        der = issued.server_ca.public_bytes(Encoding.DER)
        files.append(File("server-ca.crt", _MEDIA_TYPES[".crt"], der))
    return Parcel(
        device=issued.device.name,
        files=tuple(files),
        password=bundle.password,
        fingerprint=issued.fingerprint,
        not_after=issued.not_after,
        next_url=next_url,
    )


def _ended(out: Output, site: Site, outcome: Outcome, issued: Sequence[Issued]) -> Issued:
    from redlatch.operations import devices
    from redlatch.service.handover import State

    if not issued:
        out.document({"event": "ended", "state": outcome.state.value, "wrong_tokens": outcome.wrong_tokens})
        raise NotHandedOver(
            "the link has expired, nobody took the key"
            if outcome.state is State.EXPIRED
            else "the link was closed: too many wrong ones were tried",
            hint="nothing was issued; run the command again",
        )
    made = issued[0]
    fresh = (
        made.device.created_at >= made.certificate.not_valid_before_utc
        and len(devices.show(site, made.device.name).certificates) == 1
    )
    if outcome.state is State.LOST:
        if fresh:
            devices.revoke(site, made.device.name, reason="the connection broke while its key was handed over")
        out.document({"event": "ended", "state": "lost", "fingerprint": made.fingerprint})
        raise NotHandedOver(
            f"the connection broke before {made.device.name} had its key",
            hint="the device was revoked again; run the command again"
            if fresh
            else "its earlier keys are untouched; run the command again",
        )
    confirmed = outcome.state is State.DELIVERED
    devices.sent(site, made, to=outcome.peer or "", confirmed=confirmed)
    out.document(
        {"event": "ended", "state": outcome.state.value, "from": outcome.peer}
        | device_document(made.device)
        | {
            "fingerprint": made.fingerprint,
            "serial": made.serial,
            "not_after": made.not_after,
            "force": made.force.as_dict(),
        }
    )
    said = "and the page confirmed it" if confirmed else "but the page did not confirm that it arrived"
    out.line(
        f"The key of {made.device.name} was sent to {outcome.peer}, {said}.", style="good" if confirmed else "warn"
    )
    if not confirmed:
        out.line(f"If that was not you: redlatch device revoke {quoted(made.device.name)}")
    out.line(f"Role {made.device.role}, good until {day(made.not_after)}, fingerprint {made.fingerprint}")
    print_force(out, made.force)
    return made
