"""`redlatch device send`, and the first device of `redlatch up`: a link, a QR code, a fingerprint to compare."""

from __future__ import annotations

import gc
import os
import pwd
import secrets
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from redlatch.cli.device import device_document, print_force
from redlatch.cli.framework import command
from redlatch.cli.handing import pack
from redlatch.cli.output import Output, day, quoted
from redlatch.cli.session import Session
from redlatch.errors import EngineError, NotFound
from redlatch.policy.model import ROLES

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
@click.option(
    "--role", type=click.Choice(list(ROLES)), default="admin", show_default=True, help="Of a new device."
)
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
) -> Issued:
    """Serves one link until its end and prints what a person must know. NotHandedOver when nobody took the key."""
    from redlatch.enrolment import TOKEN_BYTES, new_link
    from redlatch.operations import devices
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
        _show_link(session.out, site, name, urls, hosts, handover.fingerprint(pem.read_bytes()), link.expires)
        outcome = handover.run(link, issue, names=config.hosts, sockets=sockets, context=context, clock=clock)
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


def link_hosts(site: Site, sockets: Sequence[socket.socket]) -> list[str]:
    """How a device in the network may call us, best first: a name the public certificate has, then the address
    over which the person came by ssh, then the one towards the router.
    """
    addresses = [str(sock.getsockname()[0]) for sock in sockets]
    ssh = os.environ.get("SSH_CONNECTION", "").split()
    likely = [ssh[2]] if len(ssh) == 4 else []
    likely += [
        found
        for found in (_towards(socket.AF_INET, "192.0.2.1"), _towards(socket.AF_INET6, "2001:db8::1"))
        if found
    ]
    ordered = sorted(addresses, key=lambda one: likely.index(one) if one in likely else len(likely))
    hosts = [f"[{one}]" if ":" in one else one for one in ordered]
    if site.config().server_files is not None:
        hosts = [*_public_names(site), *hosts]
    return hosts


def _public_names(site: Site) -> list[str]:
    from cryptography import x509

    from redlatch.operations import server

    leaf = server.published_leaf(site)
    if leaf is None:
        return []
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in names.get_values_for_type(x509.DNSName) if "*" not in name]


def _towards(family: int, address: str) -> str | None:
    """Our own address on the way to `address` (of a documentation block, RFC 5737); sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return None


def _show_link(
    out: Output,
    site: Site,
    name: str,
    urls: Sequence[str],
    hosts: Sequence[str],
    fingerprint: str,
    expires: datetime,
) -> None:
    public = site.config().server_files is not None
    out.document({"event": "link", "device": name, "urls": urls, "expires": expires, "fingerprint": fingerprint})
    out.line()
    out.line(f"A key for {name}. Open this on the device that shall have it:", style="strong")
    out.line()
    for url in urls[:2]:
        out.line(url, indent=2, style="strong")
    out.line()
    if sys.stdout.isatty() and not out.as_json:
        _show_code(out, urls[0])
        out.line()
    out.line("It works once, for 15 minutes, and only in your network.")
    if not public:
        out.line("The browser will warn, because it does not know this server yet. Before you go on, open the")
        out.line("certificate's details in that warning, and compare its SHA-256 fingerprint with this one:")
    else:
        out.line("The SHA-256 fingerprint of the server's certificate, for comparison:")
    out.line()
    half = len(fingerprint) // 2
    out.line(fingerprint[:half].rstrip(":"), indent=2, style="strong")
    out.line(fingerprint[half:].strip(":"), indent=2, style="strong")
    out.line()
    if not public:
        out.line(
            "If they differ, press ctrl-c: somebody in your network stands in between and could take the link."
        )
        out.line()
    out.line("The other way, by ssh:")
    out.line(f"redlatch device add {quoted(name)}", indent=2)
    out.line(
        f"scp {_ssh_target(hosts[-1] if public else hosts[0])}:{_slug(name)}.p12 .   (on the other computer)",
        indent=2,
    )
    out.line()
    out.line(f"Waiting for the device until {expires.astimezone():%H:%M}; ctrl-c ends it.")


def _ssh_target(host: str) -> str:
    try:
        user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = "pi"
    return f"{user}@{host}"


def _slug(name: str) -> str:
    from redlatch.pki.names import slug

    return slug(name)


def _show_code(out: Output, url: str) -> None:
    """The QR code in half blocks; its colours are set, so that it is right on dark and on light terminals."""
    import segno

    modules = [list(row) for row in segno.make(url, error="l", micro=False).matrix_iter(border=2)]
    if len(modules) % 2:
        modules.append([0] * len(modules[0]))
    for upper, lower in zip(modules[::2], modules[1::2], strict=True):
        # Light modules are drawn, dark ones left out: without colour that is right on a dark terminal.
        text = "".join(" ▄▀█"[(not up) * 2 + (not low)] for up, low in zip(upper, lower, strict=True))
        print(f"  \x1b[97;40m{text}\x1b[0m" if out.coloured else f"  {text}")


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
