"""Rules in sentences; what a change brings is said before it is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from redlatch.errors import Conflict, InvalidInput
from redlatch.operations import rules
from redlatch.policy.builtin import BUILTIN
from redlatch.policy.model import AREAS, METHODS, ROLES
from redlatch.service.console import weighing
from redlatch.service.console.asking import Ask, Begin, Fields, Outcome, Page, Way

if TYPE_CHECKING:
    from redlatch.operations.rules import Change
    from redlatch.operations.site import Site

_BACK = ("/rules", "all rules")


def show_all(ask: Ask) -> Page:
    return Page("rules.html", {"rules": rules.list_rules(ask.site), "open_port": ask.site.config().open_port})


def new_form(ask: Ask) -> Page:
    """The form of a rule; filled in (by GET, which changes nothing) it says what the rule would do."""
    said = _said(ask.query)
    if not ask.query.has("look"):
        return _form(ask, said)
    return _looked(ask, said)


def _form(ask: Ask, said: dict[str, Any], **more: Any) -> Page:
    with ask.site.store.read() as view:
        role_names = (*ROLES, *view.roles())
        network_names = (*BUILTIN, *view.network_digests())
    data: dict[str, Any] = {
        "said": said,
        "areas": AREAS,
        "methods": METHODS,
        "roles": role_names,
        "networks": network_names,
        "open_port": ask.site.config().open_port,
        "error": None,
        "change": None,
        "forced": False,
        "fields": _fields(said),
        "weighed": None,
        "lengths": (),
    }
    return Page("rule_new.html", data | more, 200 if more.get("error") is None else 409)


def _looked(ask: Ask, said: dict[str, Any]) -> Page:
    try:
        change = rules.add(ask.site, _wanted(said), dry_run=True)
    except Conflict as error:
        try:  # some refusals an operator may overrule, by saying so
            change = rules.add(ask.site, _wanted(said), dry_run=True, force=True)
        except Conflict:
            return _form(ask, said, error=error)
        would = weighing.look(ask, lambda site: rules.add(site, _wanted(said), force=True))
        return _form(ask, said, error=error, change=change, forced=True, **would)
    if not change.changed:
        return _form(ask, said, change=change)
    return _form(ask, said, change=change, **weighing.look(ask, lambda site: rules.add(site, _wanted(said))))


def add(ask: Ask) -> Page | Begin:
    """Adds the rule. What needs a yes gets it by a box that somebody ticked."""
    said = _said(ask.form)
    wanted, force = _wanted(said), ask.form.has("force")
    change = rules.add(ask.site, wanted, force=force, dry_run=True)
    _agreed(ask, change)
    if not change.changed:
        raise Conflict("the rule is there already", hint="the list of rules shows it")

    def operation(site: Site) -> Outcome:
        done = rules.add(site, wanted, force=force)
        sentence = done.shown.sentence if done.shown is not None else ""
        return Outcome(f"added: {sentence}", done.force, done.remarks)

    return weighing.begin(ask, "Add a rule", operation, _BACK)


def remove_form(ask: Ask) -> Page:
    number = ask.number("rule")
    change = rules.remove(ask.site, number, dry_run=True)
    would = weighing.look(ask, lambda site: rules.remove(site, number))
    return Page("rule_remove.html", {"change": change, **would})


def remove(ask: Ask) -> Page | Begin:
    number = ask.number("rule")
    change = rules.remove(ask.site, number, dry_run=True)
    would = weighing.refused(ask, lambda site: rules.remove(site, number))
    if would is not None:
        return Page("rule_remove.html", {"change": change, **would}, 409)

    def operation(site: Site) -> Outcome:
        done = rules.remove(site, number)
        sentence = done.shown.sentence if done.shown is not None else ""
        return Outcome(f"removed: {sentence}", done.force, done.remarks)

    return weighing.begin(ask, f"Remove rule {number}", operation, _BACK)


def port_form(ask: Ask) -> Page:
    """The second port, and what another one would do."""
    present = ask.site.config().open_port
    change, wanted = None, ask.query.get("port")
    if ask.query.has("look"):
        change = rules.set_open_port(ask.site, _port(wanted), dry_run=True)
    would: dict[str, Any] = {"weighed": None, "lengths": ()}
    if change is not None and change.changed:
        would = weighing.look(ask, lambda site: rules.set_open_port(site, _port(wanted)))
    return Page("rule_port.html", {"open_port": present, "change": change, "wanted": wanted, **would})


def port(ask: Ask) -> Begin:
    wanted = _port(ask.form.get("port"))
    change = rules.set_open_port(ask.site, wanted, dry_run=True)
    _agreed(ask, change)
    if not change.changed:
        raise Conflict("it is so already", hint="the list of rules says which port it is")

    def operation(site: Site) -> Outcome:
        done = rules.set_open_port(site, wanted)
        return Outcome("the open port is closed" if wanted is None else f"port {wanted} is open", done.force)

    title = "Close the open port" if wanted is None else f"Open port {wanted}"
    return weighing.begin(ask, title, operation, _BACK)


def _agreed(ask: Ask, change: Change) -> None:
    if change.question and not ask.form.has("sure"):
        raise Conflict(change.question, hint="go back, and tick the box if that is what you want")


def _port(text: str) -> int | None:
    if text in ("", "off"):
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise InvalidInput(f"{text[:40]!r} is no port", hint="a number from 1 to 65535, or off")
    return int(text)


def _said(fields: Fields) -> dict[str, Any]:
    return {
        "what": fields.get("what", "area"),
        "area": fields.get("area"),
        "path": fields.get("path"),
        "methods": fields.all("method"),
        "who": fields.get("who", "named"),
        "roles": fields.all("role"),
        "devices": tuple(one for text in fields.all("device") for one in text.splitlines() if one.strip()),
        "networks": fields.all("network"),
        "port": fields.get("port"),
    }


def _wanted(said: dict[str, Any]) -> rules.Wanted:
    named = said["who"] == "named"
    if named and not (said["roles"] or said["devices"]):
        raise InvalidInput("the rule names nobody", hint="name roles or devices, any device, or anyone")
    return rules.Wanted(
        area=said["area"] or None if said["what"] == "area" else None,
        path=said["path"] or None if said["what"] == "path" else None,
        methods=said["methods"],
        roles=said["roles"] if named else (),
        devices=said["devices"] if named else (),
        anyone=said["who"] == "anyone",
        networks=said["networks"],
        open_port=_port(said["port"]),
    )


def _fields(said: dict[str, Any]) -> list[tuple[str, str]]:
    """The filled-in form as hidden fields of the next one."""
    found = [(name, said[name]) for name in ("what", "area", "path", "who", "port") if said[name]]
    for name, values in (("method", "methods"), ("role", "roles"), ("network", "networks")):
        found += [(name, value) for value in said[values]]
    return [*found, *(("device", value) for value in said["devices"])]


WAYS = (
    Way("/rules", show_all),
    Way("/rules/new", new_form, add, form=True),
    Way("/rules/open-port", port_form, port, form=True),
    Way("/rules/{rule}/remove", remove_form, remove, form=True),
)
