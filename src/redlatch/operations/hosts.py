"""How a device in the network may call this machine, and by which certificate it knows the service."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.operations import service
from redlatch.operations.site import Config, Site

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


def enrolment_pem(site: Site, config: Config) -> Path:
    """The certificate of the enrolment page: the service's own, or Node-RED's where only that one is known to
    every device.

    Node-RED's user can read that key. A flow could so stand in for this page while no link is open, and gain
    nothing: no token is about then, and the port is ours while one is. The console never uses it.
    """
    if config.service.server_files is None and config.server_files is not None:
        return site.settings.published / "server.pem"
    return site.settings.service_pem


def enrolment_url(site: Site, config: Config, host: str | None = None) -> str:
    """Where links are opened, by `host` or the best there is; as https://host:port (no port where it is 443)."""
    chosen = config.service
    return _url(host or _best(config, chosen.enrolment, enrolment_pem(site, config)), chosen.enrolment_port)


def console_url(site: Site, config: Config, host: str | None = None) -> str:
    """Where the console is, likewise."""
    chosen = config.service
    return _url(host or _best(config, chosen.console, site.settings.service_pem), chosen.console_port)


def pin(pem: Path) -> str:
    """The pin of a server's key, sha256//BASE64 of its SubjectPublicKeyInfo, as curl's --pinnedpubkey takes it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = _leaf(pem).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "sha256//" + base64.b64encode(hashlib.sha256(key).digest()).decode()


def _best(config: Config, listening: Sequence[str], pem: Path) -> str:
    found = likely(service.addresses(listening))
    known = config.service.server_files is not None or config.server_files is not None
    names = dns_names(_leaf(pem)) if known and pem.exists() else []
    return (names or found)[0]


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
