"""Notices: what ends soon is said once 30, 7 and 1 days before, to a log, a command or a web hook."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redlatch.errors import EngineError, InvalidInput
from redlatch.files import Owner
from redlatch.operations import heads
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Notify, Site, changing, set_config

#: Days before an end at which it is said, the earliest first.
DAYS = (30, 7, 1)
#: At most so many at a time: a house has a dozen devices, and a fleet reads the console.
_MOST = 500
_SECONDS = 20.0


def due(site: Site) -> list[dict[str, Any]]:
    """What has to be said now: (device, name, fingerprint, not_after, days) of what ends, each as it goes out."""
    now = site.clock()
    found: list[dict[str, Any]] = []
    with site.store.read() as view:
        for one in view.ending_between(now, now + timedelta(days=DAYS[0]), _MOST):
            days = min(limit for limit in DAYS if one.not_after - now <= timedelta(days=limit))
            if days not in view.noticed(one.fingerprint):
                found.append(
                    {
                        "device": one.device_id,
                        "name": one.name,
                        "fingerprint": one.fingerprint,
                        "not_after": _text(one.not_after),
                        "days": days,
                    }
                )
    return found


def send(site: Site) -> list[dict[str, Any]]:
    """Says what is due, and notes that it was said; what was said, as `due` gives it.

    EngineError when command or web hook fail: they are tried again at the next call.
    """
    found = due(site)
    if not found:
        return []
    notify = site.config().notify
    document = {"event": "certificates-ending", "machine": site.config().machine, "certificates": found}
    deliver(notify, document)
    with site.store.write(site.actor, site.clock()) as tx:
        for one in found:
            tx.notice(one["fingerprint"], one["days"])
    return found


def deliver(notify: Notify, document: dict[str, Any], *, owner: Owner | None = None) -> None:
    """Hands a notice to the command (JSON on its standard input) and the web hook (POST). EngineError. `owner`: as
    whom root runs the command.
    """
    data = json.dumps(document).encode()
    if notify.command is not None:
        _run(notify.command, data, owner)
    if notify.webhook is not None:
        _post(notify.webhook, data)


def send_head(site: Site) -> dict[str, Any] | None:
    """Sends the end of the audit chain to where this machine cannot take it back, where that was asked for; what
    was sent. Signed where the CA's key is under no passphrase. EngineError.
    """
    notify = site.config().notify
    if not notify.audit_head or (notify.command is None and notify.webhook is None):
        return None
    head = heads.document(heads.note_unasked(site))
    deliver(notify, {"event": "audit-head", "machine": site.config().machine, "head": head})
    return head


def configure(site: Site, *, command: str | None, webhook: str | None, audit_head: bool = False) -> Notify:
    """Chooses command (an executable file, run without arguments or shell) and web hook; None: none of it.
    `audit_head`: whether they get the end of the audit chain each day.

    InvalidInput for a command that cannot be run and a web hook that is no https URL. The audit trail names the
    hook's host only: its path often is a secret.
    """
    if command is not None and not (Path(command).is_absolute() and os.access(command, os.X_OK)):
        raise InvalidInput(
            f"{command} is no executable file", hint="give its whole path, as in /usr/local/bin/tell"
        )
    if webhook is not None and not is_webhook(webhook):
        raise InvalidInput(
            "a web hook is an https URL (http on this machine only)", hint="as in https://ntfy.example.org/topic"
        )
    if audit_head and command is None and webhook is None:
        raise InvalidInput(
            "there is nobody to whom the head of the audit chain could be sent",
            hint="name somebody too: redlatch notify --webhook URL --audit-head daily",
        )
    notify = Notify(command, webhook, audit_head)
    with changing(site) as tx:
        set_config(tx, notify=notify)
        host = urlsplit(webhook).hostname if webhook else None
        tx.record("site.changed", notify_command=command, notify_webhook=host, audit_head=audit_head)
    enforce(site)
    return notify


def is_webhook(url: str) -> bool:
    """Whether it is https to anywhere, or http to this machine."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    here = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    return (parts.scheme == "https" or here) and bool(parts.hostname) and port != 0 and url.isprintable()


def _run(command: str, data: bytes, owner: Owner | None) -> None:
    rights: dict[str, Any] = {}
    if owner is not None and owner.uid != os.geteuid():
        rights = {"user": owner.uid, "group": owner.gid, "extra_groups": [], "cwd": "/"}
    try:
        done = subprocess.run(
            [command], input=data, capture_output=True, timeout=_SECONDS, check=False, env={"PATH": os.defpath},
            **rights,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EngineError(f"the notice command {command} failed: {str(error).lower()}") from error
    if done.returncode:
        raise EngineError(f"the notice command {command} ended with {done.returncode}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A hook that sends us elsewhere is not the one that was chosen."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _post(url: str, data: bytes) -> None:
    # Root posts too, to what stands in files of redlatch's own user: file: would open any file as root.
    if not is_webhook(url):
        raise EngineError("the web hook is no https address", hint="name one: redlatch notify --webhook URL")
    request = urllib.request.Request(  # noqa: S310 - seen above
        url, data, {"Content-Type": "application/json", "User-Agent": "redlatch"}
    )
    host = urlsplit(url).hostname
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as answer:
            answer.read(4096)
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", None) or error
        raise EngineError(f"the web hook at {host} failed: {str(reason).lower()}") from error


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
