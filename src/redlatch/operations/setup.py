"""Setting a site up and taking it down: say what will change, prepare everything, lock last; undo exactly that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.engines.nodered import dropin, edit, locate, publish, scan, users
from redlatch.engines.nodered.flows import read_flows
from redlatch.engines.nodered.inspection import Inspection, inspect_settings, not_adoptable
from redlatch.errors import Conflict, InvalidInput, NotPermitted, NotSetUp, UsageError
from redlatch.files import Owner, make_dir, own_user
from redlatch.operations import authorities, layout, machine, server
from redlatch.operations.publishing import Force, enforce
from redlatch.operations.site import Config, Site, Target, changing, check_clock, exclusive, set_config
from redlatch.pki import names as pki_names
from redlatch.policy.model import MODES
from redlatch.settings import Settings

if TYPE_CHECKING:
    from redlatch.store import Store


@dataclass(frozen=True, slots=True)
class Options:
    """What `redlatch up` was told; None where the present choice, or the default, stays."""

    user_dir: Path | None = None
    settings_file: Path | None = None
    port: int | None = None
    names: tuple[str, ...] = ()
    server_cert: Path | None = None
    server_key: Path | None = None
    mode: str | None = None
    keep_auth: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that `apply` will do, and what the operator should know first; making it changed nothing."""

    settings: Settings
    node_red: locate.NodeRed
    inspection: Inspection
    config: Config
    first_time: bool
    changes: tuple[str, ...]
    findings: tuple[scan.Finding, ...]
    warnings: tuple[str, ...]
    found_certificates: tuple[tuple[str, str], ...] = ()
    addresses: tuple[str, ...] = field(default=())


def plan(settings: Settings, options: Options, environ: Mapping[str, str], present: Config | None) -> Plan:
    """Looks at this machine and Node-RED and says what would change. `present` is the site's configuration.

    Errors: UsageError, InvalidInput (options), NodeRedNotFound, NotAdoptable.
    """
    if options.mode is not None and options.mode not in MODES:
        raise UsageError(f"there is no mode {options.mode!r}", hint="modes are: " + ", ".join(MODES))
    if (options.server_cert is None) != (options.server_key is None):
        raise UsageError("--server-cert and --server-key belong together", hint="name both files")
    if options.port is not None and not 1 <= options.port <= 65535:
        raise InvalidInput(f"{options.port} is no port", hint="a number from 1 to 65535")
    if present is not None and present.behind:
        raise Conflict(
            "this Node-RED stands behind the gateway already",
            hint="redlatch gateway down takes that away first; redlatch gateway status shows it",
        )
    user_dir, settings_file = options.user_dir, options.settings_file
    if user_dir is None and settings_file is None and present is not None and present.target is not None:
        user_dir, settings_file = Path(present.target.user_dir), Path(present.target.settings_file)
    node_red = locate.locate(user_dir=user_dir, settings_file=settings_file, environ=environ)
    edit.refuse_other_guard(node_red, settings.published)
    inspection = _inspect(node_red)
    config = _config(options, node_red, inspection, present)
    return Plan(
        settings=settings,
        node_red=node_red,
        inspection=inspection,
        config=config,
        first_time=present is None,
        changes=tuple(_changes(settings, node_red, inspection, config, present)),
        findings=tuple(_findings(node_red, inspection, config)),
        warnings=tuple(_warnings(settings, node_red, inspection, config)),
        found_certificates=tuple(server.found_public_certificates()) if config.server_files is None else (),
        addresses=tuple(str(one) for one in machine.private_addresses()),
    )


def _inspect(node_red: locate.NodeRed) -> Inspection:
    """What Node-RED would load; where there is no settings.js yet, what its own default says."""
    if not node_red.settings_exist and node_red.program is not None:
        return Inspection(ok=True)
    inspection = inspect_settings(node_red)
    if not inspection.ok:
        raise not_adoptable(node_red.settings_file, inspection)
    return inspection


def _findings(node_red: locate.NodeRed, inspection: Inspection, config: Config) -> list[scan.Finding]:
    flows = read_flows(node_red, user_dir=inspection.user_dir, flow_file=inspection.flow_file)
    own = (*config.hosts, *(str(one) for one in machine.private_addresses()))
    return scan.what_will_break(inspection, flows, names=own)


def _config(options: Options, node_red: locate.NodeRed, inspection: Inspection, present: Config | None) -> Config:
    base = present or Config(machine=machine.machine_name())
    names = tuple(dict.fromkeys((*base.names, *(pki_names.host_name(name) for name in options.names))))
    server_files = base.server_files
    leaf = None
    if options.server_cert is not None and options.server_key is not None:
        server_files = (str(options.server_cert.absolute()), str(options.server_key.absolute()))
    if server_files is not None:
        leaf = server.read_pair(*server_files).leaf
    port = options.port if options.port is not None else base.port
    config = replace(
        base,
        names=names,
        mode=options.mode or base.mode,
        port=port,
        keep_auth=options.keep_auth or base.keep_auth,
        admin_root=inspection.admin_root,
        areas=inspection.areas,
        server_files=server_files,
        target=Target(
            user=node_red.user.name,
            uid=node_red.user.uid,
            gid=node_red.user.gid,
            user_dir=str(node_red.user_dir),
            settings_file=str(node_red.settings_file),
            listen_port=port or inspection.port,
            unit=node_red.unit,
        ),
    )
    return replace(config, hosts=server.allowed_hosts(config, leaf))


def _changes(
    settings: Settings, node_red: locate.NodeRed, inspection: Inspection, config: Config, present: Config | None
) -> list[str]:
    changes = []
    if present is None:
        changes.append(f"make two CAs, one for the devices and one for the server, in {settings.authority}")
    elif present != replace(config, adopted=present.adopted):
        changes.append("change the configuration of this site")
    if not node_red.settings_exist:
        changes.append(f"create {node_red.settings_file} from Node-RED's own default")
    if not inspection.locked_inside:
        changes.append(f"publish the guard, the server key and the list of devices to {settings.published}")
        changes.append(f"add three marked lines at the end of {node_red.settings_file}")
        if inspection.https != "none":
            changes.append(f"override its https setting ({inspection.https_summary}); the lines stay in the file")
        if inspection.admin_auth != "none" and not config.keep_auth:
            changes.append("override its adminAuth: the certificate's role decides (--keep-auth leaves it)")
    if present is not None and layout.is_of_before(settings):
        changes.append(layout.change(settings))
    planned = dropin.plan_dropin(node_red, settings)
    if planned is not None and not dropin.dropin_present(planned):
        changes.append(f"add {planned.path}: systemd then refuses to start Node-RED without the guard")
    return changes


def _warnings(settings: Settings, node_red: locate.NodeRed, inspection: Inspection, config: Config) -> list[str]:
    warnings = [*node_red.warnings, *inspection.warnings, *users.root_powers(node_red.user)]
    service, port = config.service, config.target.listen_port if config.target else None
    if port in (service.console_port, service.enrolment_port):
        warnings.append(
            f"port {port} is Node-RED's and redlatch's too; give redlatch others: redlatch console --help"
        )
    planned = dropin.plan_dropin(node_red, settings)
    if planned is not None:
        warnings += planned.warnings
    if settings.system:
        warnings += [
            f"{folder} can be changed by others than root, who could put a guard of theirs in its place"
            for folder in publish.untrusted_ancestors(settings.home)
        ]
    if not settings.system:
        warnings.append(
            "without root, flows run as the user who owns the CA keys; run it with sudo to give these a user "
            "of their own"
        )
    if not node_red.unit:
        warnings.append(
            "systemd does not start this Node-RED: when its settings.js is replaced, the lock falls off until "
            "redlatch up is run again; redlatch status tells"
        )
    return warnings


def prepare(
    plan: Plan,
    *,
    actor: str,
    clock: Callable[[], datetime],
    passphrase: Callable[[], bytes],
    protect: bool,
    create: Callable[[], Store],
    open_: Callable[[], Store],
) -> Site:
    """Everything but the lock itself: folders, store, CAs, server certificate, guard, snapshot.

    With `protect` new CA keys are put under the passphrase. Each step can be repeated: a run that was killed
    goes on where it was.
    """
    settings = plan.settings
    site = make_site(
        settings, plan.config, actor=actor, clock=clock, passphrase=passphrase, protect=protect, create=create,
        open_=open_,
    )  # fmt: skip
    target = plan.config.target
    if target is None:  # plan() always names one
        raise NotSetUp("the plan names no Node-RED", hint="run: redlatch up")
    with exclusive(settings):
        publish.prepare(settings, plan.node_red.user)
        layout.bring(settings, target)
        publish.publish_guard(settings, target.gid)
        with site.store.read() as view:
            publish.publish_device_ca(settings, authorities.device_cas(view), target.gid)
    if not users.may_reach(plan.node_red.user, settings.published / "guard.js"):
        raise NotPermitted(
            f"Node-RED's user {target.user} cannot reach {settings.published}",
            hint="every folder above it must let that user through (chmod o+x), or choose another --home",
        )
    server.refresh(site)
    return site


def make_site(
    settings: Settings,
    config: Config,
    *,
    actor: str,
    clock: Callable[[], datetime],
    passphrase: Callable[[], bytes],
    protect: bool,
    create: Callable[[], Store],
    open_: Callable[[], Store],
) -> Site:
    """The site itself, whatever will enforce it: folders, store, CAs, configuration. As `prepare` otherwise."""
    check_clock(clock())  # before anything is made with a date of 1970
    owner = own_user(settings)
    # root's: whoever may rename in there could put another folder in the place of each
    make_dir(settings.home, mode=0o755 if settings.system else 0o700, owner=Owner(0, 0) if owner else None)
    make_dir(settings.authority, mode=0o700, owner=owner)
    with exclusive(settings):
        make_dir(settings.keys, mode=0o700, owner=owner)
        store = open_() if settings.database.exists() else create()
    site = Site(settings, store, actor, clock, passphrase)
    _ensure_authorities(site, config, protect=protect)
    authorities.remove_orphans(site)
    wanted = replace(config, adopted=site.config().adopted)
    if wanted != site.config():
        with changing(site) as tx:
            tx.set_config(wanted.stored())
            of = {"settings": wanted.target.settings_file} if wanted.target is not None else {}
            tx.record("site.changed", names=list(wanted.names), mode=wanted.mode, **of)
    return site


def _ensure_authorities(site: Site, config: Config, *, protect: bool) -> None:
    with site.store.read() as view:
        missing = [kind for kind in ("server", "device") if not view.authorities(kind)]
    if not missing:
        return
    secret = site.passphrase() if protect else None
    with changing(site) as tx:
        if len(missing) == 2:
            tx.set_config(config.stored())
            tx.record("site.created", machine=config.machine)
        for kind in missing:
            authorities.create(site, tx, kind, authorities.names_of(config), secret)


@dataclass(frozen=True, slots=True)
class Locked:
    """`changed` is false when the lock stood already; `dropin` whether systemd refuses to start without it."""

    changed: bool
    dropin: bool
    force: Force


def lock(site: Site, plan: Plan) -> Locked:
    """Puts the block into settings.js, proves that it takes effect, and has systemd insist on it."""
    with exclusive(site.settings):
        changed = edit.adopt(plan.node_red, site.settings.published).changed
        planned = dropin.plan_dropin(plan.node_red, site.settings)
        if planned is not None:
            changed = dropin.install_dropin(planned) or changed
    if changed or not site.config().adopted:
        with changing(site) as tx:
            set_config(tx, adopted=True)
            tx.record("node-red.adopted", settings=str(plan.node_red.settings_file), user=plan.node_red.user.name)
    return Locked(changed, planned is not None, enforce(site))


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What `down` took away, in words."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]


def down_plan(site: Site, environ: Mapping[str, str]) -> tuple[locate.NodeRed, tuple[str, ...]]:
    """The Node-RED that would be unlocked, and what would be removed; changes nothing."""
    target = site.target()
    node_red = locate.locate(
        user_dir=Path(target.user_dir), settings_file=Path(target.settings_file), environ=environ, for_release=True
    )
    removed = [f"redlatch's lines in {target.settings_file} (every other line stays)"]
    removed += [f"the drop-in of {unit}" for unit in own_dropins(site)]
    removed += [f"{site.settings.published}", f"{site.settings.spool}"]
    return node_red, tuple(removed)


def own_dropins(site: Site) -> list[str]:
    """Units with a drop-in that loads this home's preload, whatever the unit's Node-RED is by now."""
    return dropin.dropins_installed(site.settings.published) if site.settings.system else []


def down(site: Site, environ: Mapping[str, str]) -> Unlocked:
    """Removes exactly what `up` added to Node-RED; devices and CAs stay, so that `up` can lock again."""
    node_red, removed = down_plan(site, environ)
    with exclusive(site.settings):
        for unit in own_dropins(site):
            dropin.remove_dropin(unit)
        edit.release(node_red)
    with changing(site) as tx:
        set_config(tx, adopted=False)
        tx.record("node-red.released", settings=str(node_red.settings_file))
    with exclusive(site.settings):
        publish.unpublish(site.settings)
    return Unlocked(removed, (f"devices, CAs and audit trail in {site.settings.authority}",))
