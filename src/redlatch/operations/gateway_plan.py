"""What `redlatch gateway up` will do, found by looking: at what it was told, at this machine, at the Node-RED on
it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy import program
from redlatch.engines.haproxy.model import Gateway, Upstream, checked, listener
from redlatch.engines.haproxy.render import Places, render
from redlatch.engines.nodered import dropin, edit, locate, publish, users
from redlatch.engines.nodered.adopt import block_path
from redlatch.engines.nodered.inspection import Inspection, inspect_settings, not_adoptable, read_settings
from redlatch.errors import Conflict, EngineError, InvalidInput, NotPermitted, RedlatchError, UsageError
from redlatch.operations import engines, gateway_unit, machine, ports, server
from redlatch.operations.gateway_standing import is_here
from redlatch.operations.site import Config, Target
from redlatch.pki import names as pki_names
from redlatch.policy.model import MODES
from redlatch.policy.paths import is_canonical
from redlatch.settings import Settings

_SOCKET_PATH: Final = 107  # bytes, unix(7)
_OWN_SERVICE: Final = "haproxy.service"  # the distribution's


@dataclass(frozen=True, slots=True)
class Options:
    """What `redlatch gateway up` was told; None and () where the present choice, or the default, stays."""

    listen: tuple[str, ...] = ()
    to: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    accept_proxy: bool | None = None
    trusted_proxies: tuple[str, ...] = ()
    metrics: int | None = None
    user_dir: Path | None = None
    settings_file: Path | None = None
    admin_root: str | None = None
    mode: str | None = None
    keep_auth: bool = False
    server_cert: Path | None = None
    server_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `put_up` will do; making it changed nothing. `node_red` is the one on this machine that
    will be bound to loopback, None where there is none.
    """

    settings: Settings
    config: Config
    gateway: Gateway
    program: program.Program
    node_red: locate.NodeRed | None
    first_time: bool
    changes: tuple[str, ...]
    warnings: tuple[str, ...]


def plan(settings: Settings, options: Options, environ: Mapping[str, str], present: Config | None) -> Plan:
    """Looks at this machine and says what would change. `present` is the site's configuration.

    Errors: UsageError, InvalidInput (options), EngineError (no HAProxy, one that is too old), Conflict (a port is
    taken, a Node-RED is locked already), NodeRedNotFound and NotAdoptable (one that was named).
    """
    if options.mode is not None and options.mode not in MODES:
        raise UsageError(f"there is no mode {options.mode!r}", hint="modes are: " + ", ".join(MODES))
    if (options.server_cert is None) != (options.server_key is None):
        raise UsageError("--server-cert and --server-key belong together", hint="name both files")
    if options.admin_root is not None and not is_canonical(options.admin_root):
        raise InvalidInput(
            f"{options.admin_root[:100]!r} is no path of an editor", hint="as in --admin-root /admin"
        )
    found = _gateway(options, present)
    haproxy = program.find()
    _check_home(settings, found)
    _check_ports(settings, found, present)
    node_red, inspection, warnings = _local(settings, options, found, environ, present)
    config = _config(options, found, node_red, inspection, present)
    warnings += _warnings(settings, found, config, node_red)
    return Plan(
        settings=settings,
        config=config,
        gateway=found,
        program=haproxy,
        node_red=node_red,
        first_time=present is None,
        changes=tuple(_changes(settings, config, node_red, present)),
        warnings=tuple(warnings),
    )


def upstream(text: str) -> Upstream:
    """Reads `URL`, `HOST=URL` or `/PATH=URL`."""
    asked, found, url = text.partition("=")
    if not found or "://" in asked:
        return Upstream(text.rstrip("/"))
    url = url.rstrip("/")
    return Upstream(url, path=asked) if asked.startswith("/") else Upstream(url, host=pki_names.host_name(asked))


def _gateway(options: Options, present: Config | None) -> Gateway:
    base = present.gateway if present is not None and present.gateway is not None else Gateway((), ())
    if not (options.to or base.upstreams):
        raise UsageError(
            "say which Node-RED the gateway stands in front of", hint="as in --to http://127.0.0.1:1880"
        )
    return checked(
        replace(
            base,
            listen=options.listen or base.listen or (":443",),
            upstreams=tuple(upstream(one) for one in options.to) or base.upstreams,
            accept_proxy=base.accept_proxy if options.accept_proxy is None else options.accept_proxy,
            trusted_proxies=options.trusted_proxies or base.trusted_proxies,
            metrics=base.metrics if options.metrics is None else options.metrics or None,
        )
    )


def _check_home(settings: Settings, found: Gateway) -> None:
    """Whether HAProxy can be told of the places in this home: in its configuration, and as names of sockets."""
    folder = settings.gateway.spool / "haproxy"
    render(None, found, "0" * 64, Places(folder=folder, pems=settings.gateway.published))
    if len(os.fsencode(folder / "metrics.sock")) > _SOCKET_PATH:
        raise InvalidInput(
            f"the folder {folder} has too long a name for a socket in it", hint="choose a shorter home with --home"
        )


# --- ports


def _check_ports(settings: Settings, found: Gateway, present: Config | None) -> None:
    wanted = [listener(one) for one in found.listen]
    if found.metrics is not None:
        wanted.append(("127.0.0.1", found.metrics))
    numbers = [port for _, port in wanted]
    if found.metrics is not None and numbers.count(found.metrics) > 1:
        raise InvalidInput(f"port {found.metrics} cannot be the gateway's and its metrics'", hint="name two ports")
    service = present.service if present is not None else None
    for host, port in wanted:
        if service is not None and port in (service.console_port, service.enrolment_port):
            raise Conflict(f"port {port} is redlatch's own, of console or enrolment", hint="name another one")
        for one in found.upstreams:
            if one.address[1] == port and is_here(one.address[0]) and not host:
                raise Conflict(
                    f"port {port} is the one of {one.url}, which the gateway is to stand in front of",
                    hint="name another one, as in --listen :443",
                )
        _check_port(settings, host, port, present)


def _check_port(settings: Settings, host: str, port: int, present: Config | None) -> None:
    number = ports.trial(host, port)
    where = f"{host}:{port}" if host else f"port {port}"
    if number == errno.EADDRINUSE:
        holder = ports.holder(port)
        if _is_own(settings, holder, present):
            return
        name = str(holder) if holder is not None else "another process"
        hint = "end it, or choose another port: --listen :8443"
        if holder is not None and holder.unit == _OWN_SERVICE:
            hint = (
                "that is the distribution's own HAProxy, which redlatch leaves alone: take the port out of "
                "/etc/haproxy/haproxy.cfg, or choose another one: --listen :8443"
            )
        raise Conflict(f"{where} is taken by {name}", hint=hint)
    if number == errno.EADDRNOTAVAIL:
        raise InvalidInput(
            f"{host} is no address of this machine", hint="leave it out to listen on all: --listen :443"
        )
    if number in (errno.EACCES, errno.EPERM):
        raise NotPermitted(
            f"only root may listen on port {port} here",
            hint=f"run it with sudo, or choose a port from {ports.first_unprivileged()} on: --listen :8443",
        )
    if number:
        raise EngineError(f"nothing can listen on {where}: {os.strerror(number).lower()}")


def _is_own(settings: Settings, holder: ports.Holder | None, present: Config | None) -> bool:
    """Whether a port is taken by the gateway that is there already, whichever process drives it now."""
    if present is None or holder is None:
        return False
    engine = engines.gateway(settings, present)
    return engine is not None and holder.uid == engine.uid and holder.name.startswith("haproxy")


# --- the Node-RED on this machine


def _local(
    settings: Settings, options: Options, found: Gateway, environ: Mapping[str, str], present: Config | None
) -> tuple[locate.NodeRed | None, Inspection | None, list[str]]:
    """The Node-RED of this machine that the gateway stands in front of, as its settings describe it; and warnings.

    One that was named must be such a one; one that is merely found and is not is left alone.
    """
    target = present.target if present is not None else None
    here = {one.address[1] for one in found.upstreams if is_here(one.address[0])}
    named = options.user_dir is not None or options.settings_file is not None
    if present is not None and target is not None and present.adopted:
        if target.listen_port in here:
            raise Conflict(
                f"the Node-RED on port {target.listen_port} is locked already, by the guard inside it",
                hint="take that lock off first (redlatch down), then put the gateway up and restart Node-RED",
            )
        return None, None, []
    user_dir, settings_file = options.user_dir, options.settings_file
    if not named and present is not None and present.behind and target is not None:
        user_dir, settings_file = Path(target.user_dir), Path(target.settings_file)
    elif not named and not here:
        return None, None, []
    try:
        node_red = locate.locate(user_dir=user_dir, settings_file=settings_file, environ=environ)
        inspection = _inspect(node_red)
    except RedlatchError as error:
        if named:
            raise
        return None, None, [f"no Node-RED on this machine could be looked at: {error.message}"]
    if inspection.port not in here:
        if named:
            raise InvalidInput(
                f"{node_red.settings_file} is of a Node-RED on port {inspection.port}, and no --to leads there",
                hint=f"as in --to http://127.0.0.1:{inspection.port}",
            )
        return None, None, []
    edit.refuse_other_guard(node_red, settings.published)
    _refuse_other_ways(found, inspection.port)
    planned = dropin.plan_dropin(node_red, settings)
    told = planned.warnings if planned is not None else ()
    return node_red, inspection, [*node_red.warnings, *told, *users.root_powers(node_red.user)]


def _refuse_other_ways(found: Gateway, port: int) -> None:
    """Behind the gateway Node-RED listens on one address, and speaks no TLS: other ways lead nowhere."""
    for one in found.upstreams:
        host, number = one.address
        if number == port and is_here(host) and (host not in ("127.0.0.1", "localhost") or one.is_https):
            raise InvalidInput(
                f"{one.url} will not answer: behind the gateway this Node-RED listens on 127.0.0.1, without TLS",
                hint=f"as in --to http://127.0.0.1:{port}",
            )


def _inspect(node_red: locate.NodeRed) -> Inspection:
    if not node_red.settings_exist and node_red.program is not None:
        return Inspection(ok=True)
    inspection = inspect_settings(node_red)
    if not inspection.ok:
        raise not_adoptable(node_red.settings_file, inspection)
    return inspection


def _config(
    options: Options,
    found: Gateway,
    node_red: locate.NodeRed | None,
    inspection: Inspection | None,
    present: Config | None,
) -> Config:
    base = present or Config(machine=machine.machine_name())
    hosts = [one.host for one in found.upstreams if one.host is not None]
    own = machine.names(base.machine)
    added = [pki_names.host_name(one) for one in (*options.names, *hosts)]
    names = tuple(dict.fromkeys((*base.names, *(one for one in added if one not in own))))
    server_files = base.server_files
    if options.server_cert is not None and options.server_key is not None:
        server_files = (str(options.server_cert.absolute()), str(options.server_key.absolute()))
    leaf = server.read_pair(*server_files).leaf if server_files is not None else None
    config = replace(
        base,
        names=names,
        mode=options.mode or base.mode,
        keep_auth=options.keep_auth or base.keep_auth,
        server_files=server_files,
        gateway=found,
    )
    if options.admin_root is not None:
        config = replace(config, admin_root=options.admin_root)
    if node_red is not None and inspection is not None:
        config = replace(
            config,
            admin_root=options.admin_root or inspection.admin_root,
            areas=inspection.areas,
            behind=True,
            target=Target(
                user=node_red.user.name,
                uid=node_red.user.uid,
                gid=node_red.user.gid,
                user_dir=str(node_red.user_dir),
                settings_file=str(node_red.settings_file),
                listen_port=inspection.port,
                unit=node_red.unit,
            ),
        )
    return replace(config, hosts=server.allowed_hosts(config, leaf))


def _changes(
    settings: Settings, config: Config, node_red: locate.NodeRed | None, present: Config | None
) -> list[str]:
    changes = []
    place = settings.gateway
    if present is None:
        changes.append(f"make two CAs, one for the devices and one for the server, in {settings.authority}")
    if settings.system and not gateway_unit.has_user():
        changes.append(f"make a system user {engines.GATEWAY_USER}, as whom HAProxy runs")
    if not place.published.is_dir():
        changes.append(f"publish a server key, the list of devices and the rules to {place.published}")
    if present is not None and present != config:
        changes.append("change the configuration of this site")
    if node_red is not None and not is_bound(node_red, settings):
        changes.append(
            f"add three marked lines at the end of {node_red.settings_file}: Node-RED then listens on this "
            "machine's "
            "loopback only, and believes nobody but the gateway who a device is"
        )
    elif node_red is not None and publish.published_guard(settings) != publish.guard_hash():
        changes.append(f"publish what these lines load anew to {settings.published}")
    planned = dropin.plan_dropin(node_red, settings) if node_red is not None else None
    if planned is not None and not dropin.dropin_present(planned):
        changes.append(f"add {planned.path}: systemd then refuses to start Node-RED without these lines")
    if gateway_unit.is_wanted(settings) and not gateway_unit.is_installed(settings):
        changes.append(f"let systemd start it: {gateway_unit.path()}")
    return changes


def _warnings(settings: Settings, found: Gateway, config: Config, node_red: locate.NodeRed | None) -> list[str]:
    warnings = []
    state = dropin.unit_state(_OWN_SERVICE)
    if state is not None and state.active == "active":
        warnings.append(
            f"the distribution's own {_OWN_SERVICE} runs too; redlatch leaves it alone and starts another one"
        )
    if not settings.system:
        warnings.append(
            "without root, HAProxy runs as the user who owns the CA keys; run it with sudo to give it a user of "
            "its own"
        )
    elsewhere = [one.url for one in found.upstreams if not is_here(one.address[0])]
    if elsewhere:
        warnings.append(f"redlatch cannot see who else reaches {', '.join(elsewhere)}: see docs/gateway.md")
    if node_red is None and len(elsewhere) < len(found.upstreams):
        warnings.append("settings.js of the Node-RED on this machine stays as it is: redlatch does not know it")
    if found.accept_proxy and not found.trusted_proxies:
        warnings.append("--accept-proxy believes nobody until --trusted-proxy names whom")
    return warnings


def is_bound(node_red: locate.NodeRed, settings: Settings) -> bool:
    """Whether settings.js, loaded as its user, has this site's lines that bind it to loopback."""
    found = inspect_settings(node_red) if node_red.settings_exist else None
    if found is None or not (found.ok and found.guarded and found.bound):
        return False
    return block_path(read_settings(node_red)) == settings.published
