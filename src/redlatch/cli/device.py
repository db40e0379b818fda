"""`redlatch device ...`: who holds a key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from redlatch.cli.framework import PATH, LazyGroup, command
from redlatch.cli.handing import Delivery, chosen_format, read_csr
from redlatch.cli.output import Output, day
from redlatch.cli.session import Session
from redlatch.cli.weighing import hold, on_trial, only_rehearse, options, prepared
from redlatch.errors import UsageError
from redlatch.operations.handing import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from redlatch.operations.devices import Issued, Shown
    from redlatch.operations.publishing import Force
    from redlatch.operations.site import Site
    from redlatch.pki.keys import KeyKind
    from redlatch.store import Certificate, Device

device = LazyGroup(
    "device",
    help="Give devices their keys and take them back.",
    examples=(
        'redlatch device add "Bart\'s phone"',
        'redlatch device send "Ada\'s tablet" --role viewer',
        'redlatch device revoke "Bart\'s phone" --reason "lost on the train"',
    ),
    lazy={
        "add": ("redlatch.cli.device:add", "add a device and write its key to a file"),
        "adopt": ("redlatch.cli.adopt:adopt", "let a device in by a certificate that it has from elsewhere"),
        "send": ("redlatch.cli.send:send", "add a device and hand its key over here and now, by a link"),
        "invite": ("redlatch.cli.invite:invite", "make a link by which a device gets its key from the service"),
        "links": ("redlatch.cli.invite:links_", "show such links and what came of them"),
        "withdraw": ("redlatch.cli.invite:withdraw", "end such a link before anybody uses it"),
        "list": ("redlatch.cli.device:list_", "show all devices"),
        "show": ("redlatch.cli.device:show", "show one device and its certificates"),
        "renew": ("redlatch.cli.device:renew", "give a device a new key"),
        "revoke": ("redlatch.cli.device:revoke", "shut a device out, at once"),
        "rename": ("redlatch.cli.device:rename", "give a device another name"),
        "role": ("redlatch.cli.device:role", "give a device another role"),
    },
)


_DAYS = 365


def key_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `add` and `renew` share: which key, and where it goes."""
    for option in reversed(
        (
            click.option("--format", "kind", type=click.Choice(FORMATS), help="File format. Default: p12."),
            click.option("--out", type=PATH, metavar="PATH", help="File (.p12) or folder (PEM) to write."),
            click.option("--csr", type=PATH, metavar="FILE", help="A request of a device that made its own key."),
            click.option("--days", type=int, default=_DAYS, show_default=True, help="How long it is good."),
            click.option("--key", "key_kind", type=click.Choice(["p256", "rsa2048"]), default="p256",
                         show_default=True, help="Kind of key; rsa2048 for Androids that hide others."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


@command(
    "add",
    'redlatch device add "Bart\'s phone" --role owner',
    'redlatch device add "Ada\'s laptop" --owner Ada --format p12-modern --out ada.p12',
    "redlatch device add backup-script --role viewer --format pem --out backup/",
    "redlatch device add sensor --csr sensor.csr --out sensor/",
    "sudo redlatch device add Ada-again --emergency",
)
@click.argument("name")
@click.option("--role", metavar="ROLE", default="admin", show_default=True, help="What it may do.")
@click.option("--owner", metavar="PERSON", help="Whose it is: their devices share one Node-RED user.")
@key_options
@click.option("--emergency", is_flag=True, help="You are locked out: an owner's key for at most 7 days.")
@click.option("--yes", is_flag=True, help="With --emergency: do not ask.")
def add(
    session: Session,
    name: str,
    *,
    role: str,
    owner: str | None,
    kind: str | None,
    out: Path | None,
    csr: Path | None,
    days: int,
    key_kind: KeyKind,
    emergency: bool,
    yes: bool,
) -> None:
    """Add a device and write its key to a file.

    The password of a .p12 is printed once; the device asks for it when the file is installed. With --emergency the
    rules are set aside: see "I locked myself out" in the documentation.
    """
    from redlatch.operations import devices

    delivery = Delivery(name, chosen_format(kind, csr), out)
    if emergency:
        _open_emergency(session, delivery, role, owner, days, key_kind, csr, yes=yes)
        return
    _hand_out(
        session,
        f"{name} has a key, with the role {role}",
        delivery,
        partial(devices.add, role=role, owner=owner, key_kind=key_kind, days=days, csr=read_csr(csr)),
    )


def _open_emergency(
    session: Session,
    delivery: Delivery,
    role: str,
    owner: str | None,
    days: int,
    key_kind: KeyKind,
    csr: Path | None,
    *,
    yes: bool,
) -> None:
    """The way back in: says what it does, asks, and does it."""
    from redlatch.operations import emergency

    if role not in ("admin", "owner") or owner is not None:
        raise UsageError(
            "a device for an emergency is an owner's for a few days", hint="leave --role and --owner out"
        )
    days = emergency.DAYS if days == _DAYS else days
    delivery.check()
    site = session.site()
    for text in emergency.plan(site, delivery.name, days=days):
        session.out.line(text)
    session.confirm("Open this way in?", yes=yes)

    def operation(site: Site, name: str, *, deliver: Any) -> Issued:
        request = read_csr(csr)
        return emergency.open_(site, name, days=days, key_kind=key_kind, csr=request, deliver=deliver).issued

    _hand_out(session, f"{delivery.name} is an owner's device for {days} days", delivery, operation)


@command(
    "renew",
    'redlatch device renew "Bart\'s phone"',
    "redlatch device renew backup-script --format pem --out backup-2027/",
)
@click.argument("name")
@key_options
def renew(
    session: Session,
    name: str,
    kind: str | None,
    out: Path | None,
    csr: Path | None,
    days: int,
    key_kind: KeyKind,
) -> None:
    """Give a device a new key. The one it has stays good until its end."""
    from redlatch.operations import devices

    delivery = Delivery(name, chosen_format(kind, csr), out)
    _hand_out(
        session,
        f"{name} has a new key",
        delivery,
        partial(devices.renew, key_kind=key_kind, days=days, csr=read_csr(csr)),
    )


def _hand_out(session: Session, sentence: str, delivery: Delivery, operation: Callable[..., Issued]) -> None:
    """Runs the operation and prints what it made. Interrupted after its change was recorded (ctrl-c while waiting
    for Node-RED), the key is still good: file and password stay. Before that, nothing is left of it.
    """
    delivery.check()
    site = session.site()
    try:
        issued = operation(site, delivery.name, deliver=delivery.write)
    except BaseException:
        if delivery.issued is not None and _is_recorded(site, delivery.issued.fingerprint):
            delivery.finish()
            _handed_out(session.out, sentence, delivery.issued, delivery)
        else:
            delivery.undo()
        raise
    delivery.finish()
    _handed_out(session.out, sentence, issued, delivery)


def _is_recorded(site: Site, fingerprint: str) -> bool:
    with site.store.read() as view:
        return view.certificate(fingerprint) is not None


def _handed_out(out: Output, sentence: str, issued: Issued, delivery: Delivery) -> None:
    password = delivery.bundle.password if delivery.bundle is not None else None
    out.document(
        device_document(issued.device)
        | {
            "fingerprint": issued.fingerprint,
            "serial": issued.serial,
            "not_after": issued.not_after,
            "files": delivery.written,
            "password": password,
            "force": issued.force.as_dict(),
        }
    )
    out.line(f"{sentence}, until {day(issued.not_after)}", style="strong")
    rows = [("file", str(path)) for path in delivery.written]
    if password is not None:
        rows.append(("password", f"{password} (shown this once; the device asks for it)"))
    out.fields([*rows, ("fingerprint", issued.fingerprint)])
    print_force(out, issued.force)


@command("list", "redlatch device list", "redlatch device list --all --json")
@click.option("--all", "everything", is_flag=True, help="Revoked devices too.")
def list_(session: Session, everything: bool) -> None:
    """Show all devices."""
    from redlatch.operations import devices

    site = session.site()
    now = site.clock()
    shown = [one for one in devices.list_devices(site) if everything or one.device.revoked_at is None]
    session.out.document({"devices": [_shown_document(one, now) for one in shown]})
    if not shown:
        session.out.line("no devices yet; give the first one a key: redlatch device add NAME")
        return
    rows = [
        (
            one.device.name,
            one.device.role,
            one.device.owner or "",
            _until(one.certificates),
            _state(one, now),
        )
        for one in shown
    ]
    session.out.table(("NAME", "ROLE", "OWNER", "UNTIL", "STATE"), rows)


@command("show", 'redlatch device show "Bart\'s phone"')
@click.argument("name")
def show(session: Session, name: str) -> None:
    """Show one device and its certificates."""
    from redlatch.operations import devices, roles

    site = session.site()
    now = site.clock()
    shown = devices.show(site, name)
    one = shown.device
    out = session.out
    out.document(_shown_document(shown, now))
    out.fields(
        [
            ("name", one.name),
            ("role", f"{one.role}: {roles.described(site, one.role)}"),
            ("owner", one.owner or "nobody named"),
            ("Node-RED user", one.user_slug),
            ("added", day(one.created_at)),
            ("state", _state(shown, now)),
        ]
    )
    out.line()
    out.table(
        ("CERTIFICATE", "SERIAL", "FROM", "UNTIL", "STATE"),
        [
            (
                certificate.fingerprint[:16],
                certificate.serial,
                day(certificate.not_before),
                day(certificate.not_after),
                _certificate_state(certificate, now),
            )
            for certificate in shown.certificates
        ],
    )


@command(
    "revoke",
    'redlatch device revoke "Bart\'s phone"',
    'redlatch device revoke "Bart\'s phone" --reason "lost on the train"',
    'redlatch device revoke "Bart\'s phone" --dry-run',
)
@click.argument("name")
@click.option("--reason", metavar="TEXT", help="Why; kept in the audit trail.")
@options("dry_run", "force")
def revoke(session: Session, name: str, *, reason: str | None, dry_run: bool, force: bool) -> None:
    """Shut a device out, at once: all its keys, and the connections it has open.

    Says how far it got: recorded, published, or in force (Node-RED's own word). It is for good, so there is no
    --try. The last owner, and the last device that changes flows, go with --force only.
    """
    from redlatch.operations import devices

    site = prepared(session, "", force=force)
    if dry_run:
        only_rehearse(session, site, lambda one: devices.revoke(one, name, reason=reason))
        return
    changed = devices.revoke(site, name, reason=reason)
    session.out.document(
        device_document(changed.device) | {"certificates": changed.certificates, "force": changed.force.as_dict()}
    )
    many = "1 certificate" if changed.certificates == 1 else f"{changed.certificates} certificates"
    session.out.line(f"{changed.device.name} is revoked, with {many}", style="strong")
    print_force(session.out, changed.force)


@command("rename", 'redlatch device rename "Bart\'s phone" "Bart\'s old phone"')
@click.argument("name")
@click.argument("new")
def rename(session: Session, name: str, new: str) -> None:
    """Give a device another name. Its key stays as it is."""
    from redlatch.operations import devices

    changed = devices.rename(session.site(), name, new)
    session.out.document(device_document(changed.device) | {"force": changed.force.as_dict()})
    session.out.line(f"{name} is now called {changed.device.name}", style="strong")
    print_force(session.out, changed.force)


@command(
    "role",
    'redlatch device role "Ada\'s tablet" viewer',
    'redlatch device role "Ada\'s tablet" viewer --try 2m',
)
@click.argument("name")
@click.argument("role")
@options("dry_run", "force", "trial")
def role(session: Session, name: str, role: str, *, dry_run: bool, force: bool, trial: timedelta | None) -> None:
    r"""Give a device another role, built-in or your own; what it has open is judged anew.

    \b
    owner   manages keys and deploys
    admin   deploys
    viewer  reads the editor
    user    uses the dashboards
    thing   nothing without a rule
    """
    from redlatch.operations import devices, roles

    site = prepared(session, f"gave {name} the role {role}", force=force, trial=trial)
    if dry_run:
        only_rehearse(session, site, lambda one: devices.set_role(one, name, role))
        return
    changed = devices.set_role(site, name, role)
    session.out.document(device_document(changed.device) | {"force": changed.force.as_dict()} | on_trial(site))
    session.out.line(f"{changed.device.name} has the role {role}: {roles.described(site, role)}", style="strong")
    print_force(session.out, changed.force)
    hold(session, site)


def print_force(out: Output, force: Force) -> None:
    """How far a change got, in a sentence; never further than it was seen."""
    note = f": {force.note}" if force.note else ""
    if force.state != "in-force":
        out.line(f"{force.state}{note}", style="warn")
    elif force.closed and force.ms is not None:
        many = "1 connection" if force.closed == 1 else f"{force.closed} connections"
        out.line(f"in force, says {force.by}: {many} closed {force.ms:.0f} ms later{note}", style="good")
    else:
        out.line(f"in force, says {force.by}{note}", style="good")


def device_document(one: Device) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "role": one.role,
        "owner": one.owner,
        "user": one.user_slug,
        "created_at": one.created_at,
        "revoked_at": one.revoked_at,
        "reason": one.reason,
    }


def _shown_document(shown: Shown, now: datetime) -> dict[str, Any]:
    return device_document(shown.device) | {
        "state": _state(shown, now),
        "certificates": [
            {
                "fingerprint": one.fingerprint,
                "serial": one.serial,
                "not_before": one.not_before,
                "not_after": one.not_after,
                "issued_at": one.issued_at,
                "revoked_at": one.revoked_at,
                "state": _certificate_state(one, now),
            }
            for one in shown.certificates
        ],
    }


def _certificate_state(one: Certificate, now: datetime) -> str:
    if one.revoked_at is not None:
        return "revoked"
    return "active" if one.not_before <= now <= one.not_after else "expired" if now > one.not_after else "not yet"


def _state(shown: Shown, now: datetime) -> str:
    if shown.device.revoked_at is not None:
        return "revoked"
    states = {_certificate_state(one, now) for one in shown.certificates}
    return next((state for state in ("active", "not yet", "expired") if state in states), "without a key")


def _until(certificates: tuple[Certificate, ...]) -> str:
    ends = [one.not_after for one in certificates if one.revoked_at is None]
    return day(max(ends, default=datetime(1970, 1, 1, tzinfo=UTC))) if ends else ""
