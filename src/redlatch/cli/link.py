"""What a person sees of a link: how the device may call us, the QR code, the fingerprint, the way by ssh."""

from __future__ import annotations

import os
import pwd
import socket
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from redlatch.cli.output import Output, quoted

if TYPE_CHECKING:
    from redlatch.operations.site import Site


def link_hosts(site: Site, sockets: Sequence[socket.socket]) -> list[str]:
    """How a device in the network may call us, best first: a name the public certificate has, then addresses."""
    from redlatch.operations import hosts, server

    found = hosts.likely([str(sock.getsockname()[0]) for sock in sockets])
    leaf = server.published_leaf(site) if site.config().server_files is not None else None
    return found if leaf is None else [*hosts.dns_names(leaf), *found]


def show_link(
    out: Output,
    site: Site,
    name: str,
    urls: Sequence[str],
    hosts: Sequence[str],
    fingerprint: str,
    expires: datetime,
    afterwards: str,
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
        show_code(out, urls[0])
        out.line()
    out.line("It works once, for 15 minutes, and only in your network.")
    if not public:
        out.line("The browser will warn, because it does not know this server yet. Before you go on, open the")
        out.line("certificate's details in that warning, and compare its SHA-256 fingerprint with this one:")
    else:
        out.line("The SHA-256 fingerprint of the server's certificate, for comparison:")
    out.line()
    show_fingerprint(out, fingerprint)
    out.line()
    if not public:
        out.line(
            "If they differ, press ctrl-c: somebody in your network stands in between and could take the link."
        )
        out.line()
    out.line("The other way, by ssh (ctrl-c first):")
    out.line(f"redlatch device add {quoted(name)}", indent=2)
    out.line(
        f"scp {_ssh_target(hosts[-1] if public else hosts[0])}:{_slug(name)}.p12 .   (on the other computer)",
        indent=2,
    )
    if afterwards:
        out.line(afterwards, indent=2)
    out.line()
    out.line(f"Waiting for the device until {expires.astimezone():%H:%M}; ctrl-c ends it.")


def show_fingerprint(out: Output, fingerprint: str) -> None:
    """A fingerprint (AB:CD:...) in two lines, to be compared by eye."""
    half = len(fingerprint) // 2
    out.line(fingerprint[:half].rstrip(":"), indent=2, style="strong")
    out.line(fingerprint[half:].strip(":"), indent=2, style="strong")


def _ssh_target(host: str) -> str:
    try:
        user = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = "pi"
    return f"{user}@{host}"


def _slug(name: str) -> str:
    from redlatch.pki.names import slug

    return slug(name)


def show_code(out: Output, url: str) -> None:
    """The QR code in half blocks; its colours are set, so that it is right on dark and on light terminals."""
    import segno

    modules = [list(row) for row in segno.make(url, error="l", micro=False).matrix_iter(border=2)]
    if len(modules) % 2:
        modules.append([0] * len(modules[0]))
    for upper, lower in zip(modules[::2], modules[1::2], strict=True):
        # Light modules are drawn, dark ones left out: without colour that is right on a dark terminal.
        text = "".join(" ▄▀█"[(not up) * 2 + (not low)] for up, low in zip(upper, lower, strict=True))
        print(f"  \x1b[97;40m{text}\x1b[0m" if out.coloured else f"  {text}")
