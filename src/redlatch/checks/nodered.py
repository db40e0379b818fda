"""Node-RED itself: is the lock in its settings.js, in its process and in its unit, and does nothing stand beside
it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from redlatch.checks import knocking, looking
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.engines.nodered import credentials, dropin, processes, publish, units
from redlatch.operations import gateway_standing, ports

_UP: Final = "redlatch up"
_RESTART: Final = "restart Node-RED (sudo systemctl restart nodered)"
_SECONDS: Final = 30.0  # for all ports of other Node-REDs: a silent one takes ten, and the unit has 15 minutes


def _not_locked(scene: Scene) -> Iterator[Found]:
    config = scene.config
    if config.target is not None and not config.adopted and not config.behind and config.gateway is None:
        yield Found("this site is set up and no Node-RED is locked", config.target.settings_file)


def _broken(scene: Scene) -> Iterator[Found]:
    found = looking.settings(scene)
    if not found.ok:
        file = looking.target(scene).settings_file
        where = f", line {found.line}" if found.line else ""
        yield Found(f"{file} cannot be loaded{where}: {found.error}", file)


def _fallen_off(scene: Scene) -> Iterator[Found]:
    """Loaded and asked, as its user: what stands in the file is not believed."""
    config, found = scene.config, looking.loaded(scene)
    file = looking.target(scene).settings_file
    if config.behind:
        if not (found.guarded and found.behind):
            yield Found(
                f"{file} has no lines of the gateway's any more: Node-RED asks nobody for its secret",
                file,
                "redlatch gateway up",
            )
    elif config.adopted and not found.locked_inside:
        yield Found(f"{file} was replaced or changed: the guard is not loaded by it", file)


def _outdated(scene: Scene) -> Iterator[Found]:
    if not looking.is_locked_inside(scene):
        return
    published, ours = publish.published_guard(scene.site.settings), publish.guard_hash()
    if published != ours:
        yield Found(f"the published guard is {published or 'missing'}, this redlatch's is {ours}")


def _not_restarted(scene: Scene) -> Iterator[Found]:
    claim = looking.guard(scene)
    published = publish.published_guard(scene.site.settings)
    if claim is not None and published is not None and claim.guard != published:
        yield Found(f"Node-RED says that it runs the guard {claim.guard}, published is {published}")


def _plan(scene: Scene) -> dropin.DropIn:
    if not looking.is_locked_inside(scene):
        raise Unknown("the lock is not in this Node-RED")
    planned = dropin.plan_dropin(
        looking.node_red(scene), scene.site.settings, etc=dropin.ETC, unit_dirs=units.UNIT_DIRS
    )
    if planned is None:
        raise Unknown("no systemd unit of root's runs this Node-RED")
    return planned


def _dropin_gone(scene: Scene) -> Iterator[Found]:
    planned = _plan(scene)
    if not dropin.dropin_present(planned):
        there = planned.path.exists() and planned.environment_path.exists()
        yield Found(f"{planned.path} {'was changed' if there else 'is gone'}", str(planned.path))


def _dropin_beaten(scene: Scene) -> Iterator[Found]:
    """Another drop-in, or the unit itself, takes away what ours says."""
    planned = _plan(scene)
    unit = units.load_unit(planned.unit, units.UNIT_DIRS, locked=True)
    if unit is None or planned.path not in unit.dropins:
        yield Found(f"systemd does not read {planned.path}", str(planned.path), "sudo systemctl daemon-reload")
        return
    files = unit.all("EnvironmentFile")
    ours = str(planned.environment_path)
    if ours not in (name.removeprefix("-") for name in files):
        yield Found(f"{planned.unit}: a later drop-in takes redlatch's EnvironmentFile= away", planned.unit)
    elif files[-1].removeprefix("-") != ours:
        yield Found(
            f"{planned.unit} reads {files[-1]} after redlatch's file, and the last one counts", planned.unit
        )
    for words in planned.warnings:
        yield Found(words, planned.unit)


def _no_guard(scene: Scene) -> Iterator[Found]:
    if not looking.is_locked_inside(scene) or looking.guard(scene) is not None:
        return
    port = looking.target(scene).listen_port
    if ports.listeners(port):
        who = ports.holder(port)
        yield Found(f"something answers on port {port} and no guard speaks for it: {who}", f"port {port}")


def _plain(scene: Scene) -> Iterator[Found]:
    if not looking.is_locked_inside(scene):
        return
    port = looking.target(scene).listen_port
    for address in _reached_at(port):
        if knocking.plain(knocking.Place(address, port), "/") == knocking.ADMITTED:
            yield Found(f"port {port} of {address} answers plain http", f"port {port}")
            return


def _reached_at(port: int) -> list[str]:
    """One address of this machine for each socket that listens there."""
    found = []
    for one in ports.listeners(port):
        loopback = "127.0.0.1" if one.address.version == 4 else "::1"
        found.append(loopback if one.address.is_unspecified else str(one.address))
    return list(dict.fromkeys(found))


def _second(scene: Scene) -> Iterator[Found]:
    """Another Node-RED of the same user, which strangers reach: whoever gets into it is that user here too, and
    may write settings.js. Which folder it has cannot be seen once it runs (its title takes the place of its
    arguments).
    """
    target, config = looking.target(scene), scene.config
    claim = looking.guard(scene)
    known = {target.listen_port, config.open_port}
    deadline = time.monotonic() + _SECONDS
    for process in processes.find_processes():
        if process.uid != target.uid or process.container or (claim is not None and process.pid == claim.pid):
            continue
        held = ports.held_by(process.pid)
        for one in ports.listening():
            if held is None or one.inode not in held or one.port in known or not one.beyond_loopback:
                continue
            if time.monotonic() > deadline:
                raise Unknown(f"it took longer than {_SECONDS:.0f} seconds: not all ports were looked at")
            at = "127.0.0.1" if one.address.is_unspecified else str(one.address)
            place = knocking.Place(at, one.port)
            answers = knocking.plain(place, "/"), knocking.ask(place, knocking.client(None), knocking.Request("/"))
            if knocking.ADMITTED in answers:
                yield Found(
                    f"another Node-RED of the user {target.user} (process {process.pid}) lets everybody in at "
                    f"port {one.port}",
                    f"port {one.port}",
                )


def _past_gateway(scene: Scene) -> Iterator[Found]:
    config = scene.config
    if config.gateway is None:
        return
    for upstream in config.gateway.upstreams:
        seen = gateway_standing.reached(upstream, config, scene.environ)
        if seen.closed is False and seen.runs:
            yield Found(seen.words, upstream.url)


def _far_gateway(scene: Scene) -> Iterator[Found]:
    config = scene.config
    for upstream in config.gateway.upstreams if config.gateway is not None else ():
        if not gateway_standing.is_here(upstream.address[0]):
            seen = gateway_standing.reached(upstream, config, scene.environ)
            yield Found(seen.words, upstream.url)


def _own_auth(scene: Scene) -> Iterator[Found]:
    found = looking.loaded(scene)
    file = looking.target(scene).settings_file
    if scene.config.keep_auth and found.admin_auth != "none":
        yield Found(f"the adminAuth of {file} ({found.admin_auth}) is asked after the certificate", file)
    for is_set, name in ((found.node_auth, "httpNodeAuth"), (found.static_auth, "httpStaticAuth")):
        if is_set:
            yield Found(f"the {name} of {file} is asked after the certificate", file)


def _credentials(scene: Scene) -> credentials.Credentials:
    found = looking.loaded(scene)
    return credentials.look(looking.node_red(scene), user_dir=found.user_dir, flow_file=found.flow_file)


def _plain_credentials(scene: Scene) -> Iterator[Found]:
    kept = looking.once(scene, _credentials)
    if kept.plain and kept.file is not None:
        yield Found(f"{kept.file} keeps passwords and tokens in plain", kept.file)


def _key_beside(scene: Scene) -> Iterator[Found]:
    found, kept = looking.loaded(scene), looking.once(scene, _credentials)
    if found.credential_secret:
        return
    file = looking.target(scene).settings_file
    if kept.key_beside and kept.file is not None:
        yield Found(f"the key of {kept.file} lies beside it, in plain: {file} has no credentialSecret", kept.file)
    elif kept.file is None and not kept.key_beside:
        yield Found(
            f"{file} has no credentialSecret: what nodes are told in secret will be kept without one", file
        )


CHECKS: Final = (
    Check(
        "not-locked",
        "Node-RED is not locked",
        Severity.OPEN,
        "Whoever reaches its port can run code here.",
        _UP,
        _not_locked,
        ("store-unusable",),
    ),
    Check(
        "settings-broken",
        "settings.js cannot be loaded",
        Severity.BROKEN,
        "Node-RED will not start with it.",
        "correct the line that is named, then restart Node-RED",
        _broken,
        ("store-unusable",),
    ),
    Check(
        "lock-fallen-off",
        "the lock has fallen off settings.js",
        Severity.OPEN,
        "An editor's save, an update or `node-red admin init` replaced the file. From its next start on Node-RED "
        "is open, or stopped by the drop-in.",
        f"{_UP}, then {_RESTART}",
        _fallen_off,
        ("store-unusable", "settings-broken"),
    ),
    Check(
        "no-guard",
        "something answers on Node-RED's port without a guard",
        Severity.OPEN,
        "A Node-RED that was started before redlatch up, or by somebody else, stays open until it is restarted.",
        _RESTART,
        _no_guard,
        ("store-unusable", "lock-fallen-off"),
    ),
    Check(
        "plain-http",
        "Node-RED's port answers plain http",
        Severity.OPEN,
        "Everybody reads what passes there, and nobody is asked for a certificate.",
        f"{_UP}, then {_RESTART}",
        _plain,
        ("store-unusable", "lock-fallen-off", "no-guard"),
    ),
    Check(
        "second-node-red",
        "another Node-RED of the same user is open",
        Severity.OPEN,
        "Whoever gets into it may write the settings.js of the locked one.",
        "stop it, lock it too (redlatch --home DIR up --user-dir DIR), or give it a user of its own",
        _second,
        ("store-unusable",),
    ),
    Check(
        "past-gateway",
        "Node-RED can be reached past the gateway",
        Severity.OPEN,
        "Whoever connects there is asked for no certificate.",
        'set uiHost: "127.0.0.1" in its settings.js and restart it',
        _past_gateway,
        ("store-unusable",),
    ),
    Check(
        "gateway-to-elsewhere",
        "a Node-RED behind the gateway is on another machine",
        Severity.NOTE,
        "What goes there crosses the network, and redlatch cannot see who else reaches it.",
        "let its firewall admit this machine only",
        _far_gateway,
        ("store-unusable",),
    ),
    Check(
        "guard-outdated",
        "the published guard is not this redlatch's",
        Severity.WEAK,
        "Node-RED runs the guard of another version, without what was put right since.",
        f"{_UP}, then {_RESTART}",
        _outdated,
        ("store-unusable", "not-locked"),
    ),
    Check(
        "guard-not-restarted",
        "Node-RED was not restarted since the guard changed",
        Severity.WEAK,
        "It runs the guard that it was started with; a newer one is published.",
        _RESTART,
        _not_restarted,
        ("store-unusable", "guard-outdated"),
    ),
    Check(
        "drop-in-gone",
        "the systemd drop-in is gone or changed",
        Severity.WEAK,
        "It stops a Node-RED whose settings.js lost the guard. Without it such a Node-RED would open its port.",
        _UP,
        _dropin_gone,
        ("store-unusable", "not-locked"),
    ),
    Check(
        "drop-in-beaten",
        "something takes the effect of the systemd drop-in away",
        Severity.WEAK,
        "A replaced settings.js would open Node-RED instead of stopping it.",
        "sudo systemctl cat nodered shows which file says so; take NODE_OPTIONS out of it",
        _dropin_beaten,
        ("store-unusable", "not-locked", "drop-in-gone"),
    ),
    Check(
        "own-password",
        "Node-RED asks for a password of its own as well",
        Severity.NOTE,
        "It is asked after the certificate, and is yours to keep.",
        "nothing to do; redlatch up without --keep-auth lets the certificate log in instead",
        _own_auth,
        ("store-unusable", "settings-broken"),
    ),
    Check(
        "credentials-plain",
        "passwords in the flows are kept in plain",
        Severity.WEAK,
        "Who reads that file, or a backup of it, has them.",
        "set credentialSecret to a long text in settings.js, restart Node-RED and deploy once",
        _plain_credentials,
        ("store-unusable", "settings-broken"),
    ),
    Check(
        "credentials-key",
        "the key of the flows' passwords lies beside them",
        Severity.WEAK,
        "Who gets a copy of Node-RED's folder can read them.",
        "set credentialSecret to a long text in settings.js, restart Node-RED and deploy once",
        _key_beside,
        ("store-unusable", "settings-broken", "credentials-plain"),
    ),
)
