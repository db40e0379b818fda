"""How a device in the network may call this machine, and by which certificate it knows the service."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.operations import service, service_key
from redlatch.operations.site import LAN, LOOPBACK, Site

if TYPE_CHECKING:
    from cryptography import x509


def likely(addresses: Sequence[str]) -> list[str]:
    """`addresses` as hosts of URLs, the likeliest first: the one over which a person came by ssh, the one towards
    the router, then the others; loopback last.
    """
    ssh = os.environ.get("SSH_CONNECTION", "").split()
    first = [ssh[2]] if len(ssh) == 4 else []
    towards = (_towards(socket.AF_INET, "192.0.2.1"), _towards(socket.AF_INET6, "2001:db8::1"))
    first += [found for found in towards if found]

    def rank(address: str) -> tuple[bool, int]:
        place = first.index(address) if address in first else len(first)
        return address.startswith("127.") or address == "::1", place

    return [f"[{one}]" if ":" in one else one for one in sorted(addresses, key=rank)]


def dns_names(leaf: x509.Certificate) -> list[str]:
    """The host names that a server's certificate stands for, wildcards left out."""
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [name for name in names.get_values_for_type(x509.DNSName) if "*" not in name]


@dataclass(frozen=True, slots=True)
class Shown:
    """What an origin presents: the file with key and certificate, and the names under which every device knows it
    already (none: only the site's own CA vouches for it).
    """

    pem: Path
    known_as: tuple[str, ...]


def console_shows(site: Site) -> Shown:
    """What the console presents: the service's own."""
    return Shown(site.settings.service_pem, service_key.public_names(site))


def enrolment_shows(site: Site) -> Shown:
    """What the enrolment page presents: the service's own certificate; Node-RED's where only that one is known to
    every device.

    Node-RED's user can read that key. A flow could so stand in for this page while no link is open, and gain
    nothing: no token is about then, and the port is ours while one is. The console never uses it.
    """
    own = console_shows(site)
    if own.known_as:
        return own
    node_red = node_red_shows(site)
    return node_red if node_red.known_as else own


def node_red_shows(site: Site) -> Shown:
    """What Node-RED presents."""
    pem, config = site.settings.published / "server.pem", site.config()
    return Shown(pem, () if config.server_files is None else service_key.trusted_names(pem, config.hosts))


def enrolment_url(site: Site, host: str | None = None) -> str:
    """Where links are opened: by `host`, else a name that is known, else the likeliest address, which works where
    names do not. As https://host:port, without port where it is 443.
    """
    chosen = site.config().service
    known = enrolment_shows(site).known_as
    return _url(host or (*known, *likely(service.addresses(chosen.enrolment)))[0], chosen.enrolment_port)


def console_url(site: Site, host: str | None = None) -> str:
    """Where the console is: by `host`, else a name that is known, else one that stays when addresses change."""
    config = site.config()
    chosen = config.service
    words = {LOOPBACK: "localhost", LAN: config.hosts[1] if len(config.hosts) > 1 else config.machine}
    named = [words[one] for one in chosen.console if one in words] or likely(chosen.console)
    return _url(host or (*console_shows(site).known_as, *named)[0], chosen.console_port)


def pin(pem: Path) -> str:
    """The pin of a server's key, sha256//BASE64 of its SubjectPublicKeyInfo, as curl's --pinnedpubkey takes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _leaf(pem).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(key).digest()).decode()


def fingerprint(pem: Path) -> str:
    """SHA-256 of the first certificate in a file, as browsers show it: AB:CD:..."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return _leaf(pem).fingerprint(SHA256()).hex(":").upper()


def _leaf(pem: Path) -> x509.Certificate:
    from cryptography import x509

    begin = b"-----BEGIN CERTIFICATE-----"
    return x509.load_pem_x509_certificate(begin + pem.read_bytes().split(begin)[1])


def _url(host: str, port: int) -> str:
    return f"https://{host}" if port == 443 else f"https://{host}:{port}"


def _towards(family: int, address: str) -> str | None:
    """Our own address on the way to `address` (of a documentation block, RFC 5737); sends nothing."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 9))
            return str(sock.getsockname()[0])
    except OSError:
        return None
