"""Who reaches what: everything that this Node-RED serves, and what a single request would get."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from redlatch.engines.nodered.inspection import Inspection
from redlatch.engines.nodered.reasons import reason
from redlatch.errors import Conflict, InvalidInput, NotFound
from redlatch.operations import areas, networks
from redlatch.operations.publishing import outline
from redlatch.operations.rules import device_names
from redlatch.operations.site import Config, Site
from redlatch.pki import names as pki_names
from redlatch.policy import rules as policy
from redlatch.policy.decide import allows_method, decide
from redlatch.policy.model import ALL, Area, Decision, Entry, Facts, Rule, Snapshot
from redlatch.policy.paths import below, classify, is_editors

if TYPE_CHECKING:
    from redlatch.store import Reader

# --- one request


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to explain: `device` by name (None: no certificate), `address` it comes from ("": not said)."""

    method: str
    target: str
    device: str | None = None
    address: str = ""
    websocket: bool = False
    origin: str | None = None
    host: str | None = None
    open_port: bool = False


@dataclass(frozen=True, slots=True)
class Explained:
    """The decision in words. `rules` are (id, sentence) of those that admit it, or would from elsewhere or with
    another method; `area` is what the path counts as.
    """

    decision: Decision
    text: str
    next: str
    area: str
    host: str
    rules: tuple[tuple[int, str], ...]


def explain(site: Site, asked: Asked) -> Explained:
    """What a request would get and why: policy.decide on what the store says, with that one device.

    Errors: NotFound (device), InvalidInput (address), Conflict (there is no open port).
    """
    if asked.address:
        try:
            ipaddress.ip_address(asked.address)
        except ValueError:
            raise InvalidInput(
                f"{asked.address!r} is no address", hint="as in 192.168.1.20 or 2001:db8::1"
            ) from None
    with site.store.read() as view:
        config = Config.of(view.site().config)
        if asked.open_port and config.open_port is None:
            raise Conflict("there is no open port", hint="redlatch rule open-port PORT opens one")
        fingerprint, entries = _entry(view, asked.device)
        made = replace(
            outline(view, config, spool=site.settings.spool),
            devices=entries,
            networks={name: networks.network(view, name) for name in _named(view.rules())},
        )
        names = device_names(view, made.rules)
    host = asked.host or (config.hosts[1] if len(config.hosts) > 1 else config.machine)
    facts = Facts(
        method="GET" if asked.websocket else asked.method.upper(),
        target=asked.target,
        host=host,
        certificate=fingerprint,
        verified=fingerprint is not None,
        now=int(site.clock().timestamp()),
        origin=asked.origin,
        upgrade="websocket" if asked.websocket else None,
        peer=asked.address,
        by_open_port=asked.open_port,
    )
    decision = decide(facts, made)
    said = reason(decision.reason)
    sentences = {rule.id: policy.sentence(rule, names) for rule in made.rules}
    return Explained(
        decision,
        said.text,
        said.next,
        classify(asked.target, websocket=asked.websocket, admin_root=made.admin_root, areas=made.areas),
        host,
        tuple((one, sentences[one]) for one in decision.rules),
    )


def _entry(view: Reader, name: str | None) -> tuple[str | None, dict[str, Entry]]:
    """The newest certificate of a device that is not revoked, as the snapshot has it."""
    if name is None:
        return None, {}
    device = view.device_by_name(pki_names.name_key(name))
    if device is None:
        known = [one.name for one in view.devices() if one.revoked_at is None]
        raise policy.unknown("device named", name, known, hint="redlatch device list shows all of them")
    found = [one for one in view.certificates(device.id) if one.revoked_at is None]
    if not found:
        raise NotFound(f"{device.name} has no certificate in use", hint="give it one: redlatch device renew NAME")
    newest = max(found, key=lambda one: (one.not_after, one.issued_at))
    entry = Entry(
        device.id,
        device.role,
        device.user_slug,
        int(newest.not_before.timestamp()),
        int(newest.not_after.timestamp()),
    )
    return newest.fingerprint, {newest.fingerprint: entry}


def _named(rules: Iterable[Rule]) -> set[str]:
    return {name for rule in rules for name in rule.networks}


# --- everything


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that can be reached. `kind`: editor, dashboard, http-in, static, websocket, path or port.

    `area` is what it counts as for rules ("" for what the lock does not cover), `who` may reach it, from where, a
    line for each rule; `note` what else to know.
    """

    kind: str
    method: str
    path: str
    area: str
    who: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Map:
    """All things, the words of what flows changed since they were last read, and the open port."""

    things: tuple[Thing, ...]
    stale: tuple[str, ...]
    open_port: int | None


def survey(site: Site, environ: Mapping[str, str]) -> Map:
    """Everything that this Node-RED serves now, with whom the rules in the store let in.

    Errors: NotSetUp, NodeRedNotFound, EngineError.
    """
    if site.config().target is None:  # behind a gateway, on another machine
        return known(site)
    found, ports = areas.look(site, environ)
    with site.store.read() as view:
        config = Config.of(view.site().config)
        made = outline(view, config, spool=site.settings.spool)
        names = device_names(view, made.rules)
    things = [_thing(made, names, *one) for one in _served(found, made)]
    things += [
        Thing("port", "", port, "", ("whoever reaches it",), f"not behind redlatch: opened by a node ({kind})")
        for kind, port in ports
    ]
    stale = areas.differences(config.areas, found.areas)
    if found.admin_root != config.admin_root:
        stale.append(f"editor: {found.admin_root or 'switched off'}")
    return Map(tuple(things), tuple(stale), config.open_port)


def known(site: Site) -> Map:
    """As `survey`, of what Node-RED's settings and flows were last known to serve: by who may not look at them.

    It knows neither the methods of http-in endpoints, nor the folders of static files, nor ports that nodes open.
    """
    with site.store.read() as view:
        config = Config.of(view.site().config)
        made = outline(view, config, spool=site.settings.spool)
        names = device_names(view, made.rules)
    things = [("editor", "", config.admin_root, "")] if config.admin_root is not None else []
    things += [("dashboard", "", path, "") for path in config.areas.dashboards]
    things += [("http-in", "", path, "") for path in config.areas.http_in]
    things += [("websocket", "", path, "") for path in config.areas.websockets]
    things += [("static", "", path, "") for path in config.areas.static]
    things += _paths_of_rules(made, {path for _, _, path, _ in things})
    return Map(tuple(_thing(made, names, *one) for one in things), (), config.open_port)


def _served(found: Inspection, made: Snapshot) -> list[tuple[str, str, str, str]]:
    """(kind, method, path, note) of everything, the editor first."""
    things = [("editor", "", found.admin_root, "")] if found.admin_root is not None else []
    things += [("dashboard", "", path, "") for path in found.areas.dashboards]
    things += [
        (one.kind, "" if one.kind == "websocket" else one.method, one.path, "" if one.own else "no literal path")
        for one in found.endpoints
    ]
    things += [
        ("static", "", mount, folder if mount in found.areas.static else f"{folder}, at no path of its own")
        for folder, mount in found.static
    ]
    return things + _paths_of_rules(made, {path for _, _, path, _ in things})


def _paths_of_rules(made: Snapshot, served: set[str]) -> list[tuple[str, str, str, str]]:
    """(kind, method, path, note) of the paths that only rules name."""
    paths = sorted({rule.path for rule in made.rules if rule.path is not None} - served)
    return [("path", "", path, "a path of yours, with what lies below it") for path in paths]


def _thing(made: Snapshot, names: Mapping[str, str], kind: str, method: str, path: str, note: str) -> Thing:
    plain = path.replace("/:", "/x") if kind == "http-in" else path
    area = Area.EDITOR
    if kind != "editor":
        area = classify(plain, websocket=kind == "websocket", admin_root=made.admin_root, areas=made.areas)
        if area in (Area.EDITOR, Area.EDITOR_READ):
            area = Area.EDITOR
            if kind != "path":
                note = "counts as editor" + (f": {note}" if note else "")
    asked = None if method in ("", "ALL") else method
    rules = [rule for rule in made.rules if _speaks_of(rule, kind, area, plain, made.admin_root)]
    admitting = [rule for rule in rules if asked is None or allows_method(rule, asked)]
    who = tuple(_whom(rule, names, asked) for rule in admitting)
    return Thing(kind, method, path, area, who or ("nobody",), note)


def _speaks_of(rule: Rule, kind: str, area: Area, path: str, admin_root: str | None) -> bool:
    if rule.path is not None:
        return kind != "editor" and below(path, rule.path) and not is_editors(path, admin_root)
    if area == Area.EDITOR:
        return rule.area in (ALL, Area.EDITOR) or (kind == "editor" and rule.area == Area.EDITOR_READ)
    return rule.area in (ALL, area)


def _whom(rule: Rule, names: Mapping[str, str], method: str | None) -> str:
    text = f"{policy.who(rule, names)}, {policy.where(rule)}"
    if rule.area == Area.EDITOR_READ:
        return f"{text} (reading only)"
    return f"{text} ({', '.join(rule.methods)})" if rule.methods and method is None else text
