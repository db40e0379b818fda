"""Devices: the list, one device, and what an owner does with it. Always by id: a name may be another's by now."""

from __future__ import annotations

import base64
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from redlatch.errors import InvalidInput, NotFound
from redlatch.operations import devices, handing, roles
from redlatch.pki import names as pki_names
from redlatch.policy.model import ROLES
from redlatch.service.console import weighing, words
from redlatch.service.console.asking import Ask, Begin, Outcome, Page, Way

if TYPE_CHECKING:
    from datetime import datetime

    from redlatch.operations.devices import Issued
    from redlatch.operations.site import Site
    from redlatch.policy.model import Rule
    from redlatch.store import Device, Listed

PAGE = 50
_ACCESSES = 20
_TYPES = {".p12": "application/x-pkcs12", ".pem": "application/x-pem-file"}
FORMATS = {
    "p12": "a .p12 that every phone and computer opens",
    "p12-modern": "a .p12 with newer encryption: Firefox, Chrome, Windows 10 and later",
    "pem": "PEM files, for curl, scripts and microcontrollers",
}


# --- the list


class Row(NamedTuple):
    """A line of the list."""

    device: Device
    state: words.State
    until: datetime | None
    seen: tuple[datetime, str] | None
    connections: int


def show_all(ask: Ask) -> Page:
    """Devices in use by name, 50 a page, or the revoked ones. Costs the same however many there are."""
    text = ask.query.get("q")[:100]
    revoked = ask.query.has("revoked")
    matching = pki_names.name_key(text)
    after, after_id = ask.query.get("after"), ask.query.get("id")
    with ask.site.store.read() as view:
        if revoked:
            found = view.revoked_page(matching=matching, after=(after, after_id), limit=PAGE + 1)
        else:
            found = view.device_page(matching=matching, after=after, limit=PAGE + 1)
    open_now = Counter(one.device_id for one in ask.context.watch.connections())
    kept = {"q": text, "revoked": "1" if revoked else ""}
    more = None
    if len(found) > PAGE:
        last = found[PAGE - 1]
        more = kept | {"after": last.name_key} | ({"id": last.device.id} if revoked else {})
    return Page(
        "devices.html",
        {
            "rows": [_row(ask, one, open_now[one.device.id]) for one in found[:PAGE]],
            "q": text,
            "revoked": revoked,
            "more": None if more is None else {name: value for name, value in more.items() if value},
            "first": not after,
        },
    )


def _row(ask: Ask, one: Listed, connections: int) -> Row:
    known = (one.seen_at, one.seen_from or "") if one.seen_at is not None else None
    return Row(
        one.device,
        words.device_state(one.device.revoked_at, one.not_after, ask.now),
        one.not_after,
        ask.context.watch.seen(one.device.id) or known,
        connections,
    )


# --- one device


def reference(ask: Ask) -> uuid.UUID:
    """The device that the address names; NotFound for what is no id."""
    try:
        return uuid.UUID(ask.values["device"])
    except ValueError:
        raise NotFound("there is no such device", hint="the list shows all of them") from None


def show(ask: Ask) -> Page:
    """Everything about one device."""
    shown = devices.show(ask.site, reference(ask))
    one = shown.device
    watch = ask.context.watch
    names = words.Names(ask.site)
    ends = [certificate.not_after for certificate in shown.certificates if certificate.revoked_at is None]
    with ask.site.store.read() as view:
        seen = watch.seen(one.id) or view.sighting(one.id)
        named = [rule.id for rule in view.rules() if _speaks_of(rule, one)]
    return Page(
        "device.html",
        {
            "device": one,
            "state": words.device_state(one.revoked_at, max(ends, default=None), ask.now),
            "role_words": roles.described(ask.site, one.role),
            "certificates": [(each, words.certificate_state(each, ask.now)) for each in shown.certificates],
            "seen": seen,
            "connections": watch.connections(one.id),
            "accesses": [words.line(each, names) for each in reversed(watch.recent()) if each.device_id == one.id][
                :_ACCESSES
            ],
            "rules": named,
        },
    )


def _speaks_of(rule: Rule, one: Device) -> bool:
    return one.id in rule.devices or one.role in rule.roles or rule.any_device or rule.anyone


def _found(ask: Ask) -> Device:
    """The device, in use."""
    with ask.site.store.read() as view:
        return devices.find(view, reference(ask))


def _back(one: Device) -> tuple[str, str]:
    return f"/devices/{one.id}", one.name


def revoke_form(ask: Ask) -> Page:
    one = _found(ask)
    would = weighing.look(ask, lambda site: devices.revoke(site, uuid.UUID(one.id)), triable=False)
    return _revoke_form(ask, one, would)


def _revoke_form(ask: Ask, one: Device, would: dict[str, Any], status: int = 200) -> Page:
    open_now = len(ask.context.watch.connections(one.id))
    own = one.id == ask.visitor.device.id
    return Page("device_revoke.html", {"device": one, "connections": open_now, "own": own, **would}, status)


def revoke(ask: Ask) -> Page | Begin:
    """Shuts a device out, at once. Your own, or the last owner's, only when you insist."""
    one, reason = _found(ask), ask.form.get("reason")[:300] or None
    would = weighing.refused(ask, lambda site: devices.revoke(site, uuid.UUID(one.id)), triable=False)
    if would is not None:
        return _revoke_form(ask, one, would, 409)

    def operation(site: Site) -> Outcome:
        changed = devices.revoke(site, uuid.UUID(one.id), reason=reason)
        many = "1 certificate" if changed.certificates == 1 else f"{changed.certificates} certificates"
        return Outcome(f"{changed.device.name} is revoked, with {many}", changed.force)

    return weighing.begin(ask, f"Revoke {one.name}", operation, _back(one), triable=False)


def rename_form(ask: Ask) -> Page:
    return Page("device_rename.html", {"device": _found(ask)})


def rename(ask: Ask) -> Begin:
    one, new = _found(ask), pki_names.device_name(ask.form.get("name"))

    def operation(site: Site) -> Outcome:
        changed = devices.rename(site, uuid.UUID(one.id), new)
        return Outcome(f"{one.name} is now called {changed.device.name}", changed.force)

    return Begin(f"Rename {one.name}", operation, (f"/devices/{one.id}", "the device"))


def role_form(ask: Ask) -> Page:
    """The form; asked about a role (by GET, which changes nothing) it says what that would do."""
    one, new = _found(ask), ask.query.get("role") if ask.query.has("look") else ""
    would: dict[str, Any] = {"weighed": None, **weighing.choices()}
    if new:
        would = weighing.look(ask, lambda site: devices.set_role(site, uuid.UUID(one.id), new))
    return _role_form(ask, one, new or one.role, would)


def _role_form(ask: Ask, one: Device, chosen: str, would: dict[str, Any], status: int = 200) -> Page:
    data = {"device": one, "roles": role_choices(ask), "chosen": chosen, **would}
    return Page("device_role.html", data, status)


def role(ask: Ask) -> Page | Begin:
    """Gives a device another role. What locks somebody out is shown first, and wants its box ticked."""
    one, new = _found(ask), ask.form.get("role")
    with ask.site.store.read() as view:
        roles.base_of(view, new)  # that there is no such role is said at once
    would = weighing.refused(ask, lambda site: devices.set_role(site, uuid.UUID(one.id), new))
    if would is not None:
        return _role_form(ask, one, new, would, 409)

    def operation(site: Site) -> Outcome:
        changed = devices.set_role(site, uuid.UUID(one.id), new)
        sentence = f"{changed.device.name} has the role {new}: {roles.described(site, new)}"
        return Outcome(sentence, changed.force)

    return weighing.begin(ask, f"Give {one.name} the role {new}", operation, _back(one))


def role_choices(ask: Ask) -> list[tuple[str, str]]:
    """(name, what it may do) of every role."""
    with ask.site.store.read() as view:
        names = (*ROLES, *view.roles())
    return [(name, roles.described(ask.site, name)) for name in names]


# --- a key in a file


def add_form(ask: Ask) -> Page:
    """A device that gets its key by a file."""
    said = {"name": ask.query.get("name"), "role": ask.query.get("role") or "user", "owner": "", "days": 365}
    return _add_form(ask, said | {"format": "p12", "key": "p256"})


def _add_form(ask: Ask, said: dict[str, Any]) -> Page:
    choices = {"roles": role_choices(ask), "formats": FORMATS, "mark": ask.memory.new_form()}
    return Page("device_add.html", choices | {"said": said})


def add(ask: Ask) -> Page:
    """Adds a device. Its file and password are in this answer and nowhere else."""
    form = ask.form
    return _handed_out(
        ask,
        lambda deliver: devices.add(
            ask.site,
            form.get("name"),
            role=form.get("role") or "user",
            owner=form.get("owner") or None,
            key_kind=_key_kind(form.get("key")),
            days=form.number("days", devices.DEFAULT_DAYS),
            deliver=deliver,
        ),
    )


def renew_form(ask: Ask) -> Page:
    """A further key for a device, by a link or by a file."""
    one = _found(ask)
    return Page("device_renew.html", {"device": one, "formats": FORMATS, "mark": ask.memory.new_form()})


def renew(ask: Ask) -> Page:
    """A further key by a file; the earlier ones stay good."""
    one = _found(ask)
    return _handed_out(
        ask,
        lambda deliver: devices.renew(
            ask.site,
            uuid.UUID(one.id),
            key_kind=_key_kind(ask.form.get("key")),
            days=ask.form.number("days", devices.DEFAULT_DAYS),
            deliver=deliver,
        ),
    )


def _handed_out(ask: Ask, operation: Any) -> Page:
    kind = ask.form.get("format", "p12")
    if kind not in handing.FORMATS:
        raise InvalidInput(f"there is no format {kind[:40]!r}", hint="one of " + ", ".join(handing.FORMATS))
    mark = ask.form.get("mark")
    if not ask.memory.first_time(mark):
        return Page("gone.html", {"what": "This key was shown once, and it is kept nowhere."}, 410)
    packed: list[handing.Bundle] = []
    try:
        issued: Issued = operation(lambda made: packed.append(handing.pack(made, kind)))
    except BaseException:
        if not packed:
            ask.memory.not_used(mark)
        raise
    ask.memory.forget_health()
    return Page(
        "handed_out.html",
        {
            "device": issued.device,
            "not_after": issued.not_after,
            "fingerprint": issued.fingerprint,
            "password": packed[0].password,
            "files": [_file(name, content) for name, content in packed[0].files.items()],
            "outcome": words.force(issued.force),
            "good": issued.force.state == "in-force",
        },
    )


def _file(name: str, content: bytes) -> tuple[str, str, int]:
    """(name, data: URL, bytes). The name is a slug of the device's, or fixed: safe on every system."""
    kind = _TYPES.get("." + name.rpartition(".")[2], "application/octet-stream")
    return name, f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}", len(content)


def _key_kind(text: str) -> devices.KeyKind:
    if text in ("", "p256"):
        return "p256"
    if text == "rsa2048":
        return "rsa2048"
    raise InvalidInput(f"there is no kind of key {text[:40]!r}", hint="p256 or rsa2048")


WAYS = (
    Way("/devices", show_all),
    Way("/devices/new", add_form, add, form=True),
    Way("/devices/{device}", show),
    Way("/devices/{device}/revoke", revoke_form, revoke, form=True),
    Way("/devices/{device}/rename", rename_form, rename, form=True),
    Way("/devices/{device}/role", role_form, role, form=True),
    Way("/devices/{device}/renew", renew_form, renew, form=True),
)
