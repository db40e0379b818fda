"""`redlatch serve`: console and enrolment, until it is stopped."""

from __future__ import annotations

import gc
import sys

from redlatch.cli.framework import command
from redlatch.cli.session import Session
from redlatch.errors import PassphraseNeeded


@command("serve", "redlatch serve", "sudo systemctl start redlatch")
def serve(session: Session) -> None:
    """Serve the console, and the pages by which devices get their keys.

    Where they listen is said by `redlatch console`; a root installation runs this by systemd, as the user
    redlatch. It logs to stderr. SIGTERM or ctrl-c ends it, and Node-RED stays locked.
    """
    from redlatch.operations.site import authority
    from redlatch.service import log
    from redlatch.service import serve as service

    gc.enable()
    log.to(terminal=sys.stderr.isatty())
    site = session.site()
    out = session.out
    try:
        authority(site, "device")  # asks for the passphrase now, not when the first phone is waiting
    except PassphraseNeeded as error:
        if session.interactive:
            raise
        # Nobody can be asked: devices can still be shut out and rules changed, which is what matters at night.
        out.warning(f"{error.message}: no device gets a key until it is given. {error.hint}")

    def told(url: str) -> None:
        out.document({"event": "serving", "console": url})
        out.line(f"The console: {url}", style="strong")
        out.line("It asks for an owner's or admin's key. Ctrl-c ends it.")

    service.run(site, told=told)
