"""What a settings.js says, found by loading it: in a node of the user's own, bounded in time and output."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from redlatch.engines.nodered.flows import Endpoint, areas, canonical_prefix, endpoints, read_flows
from redlatch.engines.nodered.locate import NodeRed, parse_arguments
from redlatch.engines.nodered.users import Completed, call_as, read_regular, run_as
from redlatch.errors import FileProblem, NotAdoptable, RedlatchError
from redlatch.policy.model import Areas

TIMEOUT = 20.0  # a Raspberry Pi Zero needs 6 s to start node and load a settings.js
_MAX_BYTES = 4 << 20


HttpsKind = Literal["none", "object", "function", "promise", "other"]
_KINDS: tuple[HttpsKind, ...] = ("none", "object", "function", "promise")


@dataclass(frozen=True, slots=True)
class Https:
    """The person's own https block. Never holds a key; `files` are what its source reads."""

    kind: HttpsKind = "none"
    client_ca: bool = False
    request_cert: bool = False
    reject_unauthorized: bool | None = None
    passphrase: bool = False
    certificate: Mapping[str, Any] | None = None
    files: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One line for a person: what there is now."""
        if self.kind == "none":
            return "no https (plain http)"
        parts = [f"an https {'block' if self.kind == 'object' else self.kind} of your own"]
        if self.certificate:
            names = str(self.certificate.get("names") or self.certificate.get("subject") or "").replace("DNS:", "")
            parts.append(
                f"a certificate for {names.replace(chr(10), ', ')} until {self.certificate.get('not_after')}"
            )
        if self.client_ca or self.request_cert:
            strict = self.request_cert and self.reject_unauthorized
            parts.append("client certificates " + ("required" if strict else "configured, not required"))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A settings.js as Node-RED would get it. What a person set is described as it is without redlatch's block.

    `ok` false: `code` and `error` say why it cannot be loaded (syntax, throws, exits, timeout, module, promise,
    no-settings, unreadable, node), `line` where. `guarded`: the block is there and takes effect; `behind`: it is
    the one for a Node-RED behind the gateway, and with `bound` that listens on loopback only.
    `admin_root`/`node_root` are None when switched off. `ui_port` None: Node-RED's default, 1880. `static` are
    folders with the paths at which they are served; `endpoints` all of the flows', also those that are in no area.
    """

    ok: bool
    code: str = ""
    error: str = ""
    line: int | None = None
    guarded: bool = False
    behind: bool = False
    bound: bool = False
    guard_site: str | None = None
    guard_version: int | None = None
    ui_port: int | None = None
    ui_host: str | None = None
    admin_root: str | None = "/"
    node_root: str | None = "/"
    static: tuple[tuple[str, str], ...] = ()
    areas: Areas = field(default_factory=Areas)
    endpoints: tuple[Endpoint, ...] = ()
    https: HttpsKind = "none"
    https_block: Https = field(default_factory=Https)
    client_ca: bool = False
    admin_auth: Literal["none", "credentials", "strategy", "module", "function", "other"] = "none"
    node_auth: bool = False
    static_auth: bool = False
    middleware: tuple[str, ...] = ()
    disable_editor: bool = False
    flow_file: str | None = None
    user_dir: str | None = None
    credential_secret: bool = False
    projects: bool = False
    trust_proxy: bool = False
    node_version: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def locked_inside(self) -> bool:
        """Whether it is the guard that the block loads."""
        return self.guarded and not self.behind

    @property
    def port(self) -> int:
        """The port Node-RED opens."""
        return 1880 if self.ui_port is None else self.ui_port

    @property
    def https_summary(self) -> str:
        """One line about the person's own https."""
        return self.https_block.summary

    @property
    def https_files(self) -> tuple[str, ...]:
        """Files the person's own https block reads."""
        return self.https_block.files


def read_settings(nodered: NodeRed, file: Path | None = None) -> bytes:
    """The bytes of the settings file, read with the user's rights. Raises FileProblem when that is
    not possible.
    """
    return bytes(call_as(nodered.user, read_bytes, str(file or nodered.settings_file)))


def read_bytes(path: str) -> bytes:
    """A whole settings file; runs as its user."""
    data = read_regular(path, _MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise FileProblem(f"{path} is larger than {_MAX_BYTES >> 20} MiB", hint="this cannot be a settings.js")
    return data


def inspect_settings(nodered: NodeRed) -> Inspection:
    """Loads the settings file as its user does. One that does not exist yet: Node-RED's default.

    A settings.js that cannot be loaded is an answer (`ok` false), not an error.
    """
    file = nodered.settings_file
    if not nodered.settings_exist:
        if nodered.program is None:
            return Inspection(False, "unreadable", f"there is no {file} and no Node-RED to take its default from")
        file = nodered.program.parent / "settings.js"
    return inspect_file(nodered, file)


def inspect_file(nodered: NodeRed, file: Path) -> Inspection:
    """Like inspect_settings, for any file: a candidate is proven before it becomes settings.js."""
    if not nodered.node:
        return Inspection(False, "node", "no node was found to load it with")
    word = f"redlatch-{secrets.token_hex(8)}:"
    script = resources.files("redlatch.engines.nodered").joinpath("guard/inspect.js").read_bytes()
    environment = {k: v for k, v in nodered.environ.items() if _passes(k)}
    node = Path(nodered.node[0])
    environment["PATH"] = f"{node.parent}:{environment.get('PATH') or '/usr/local/bin:/usr/bin:/bin'}"
    # The script comes by stdin: redlatch's own folder need not be readable for Node-RED's user.
    run = run_as(
        nodered.user,
        [*nodered.node, "-", word, file, *([nodered.program] if nodered.program else [])],
        input=script,
        env=environment,
        timeout=TIMEOUT,
        cwd=next((place for place in (nodered.cwd, nodered.user_dir) if place and place.is_dir()), None),
    )
    return _understand(nodered, file, run, word)


def _passes(name: str) -> bool:
    """NODE_OPTIONS would load the preload here; everything else the unit gives Node-RED, settings.js may read."""
    return (
        name not in ("NODE_OPTIONS", "NODE_CHANNEL_FD", "REDLATCH_PRELOAD_PID")
        and "\0" not in name
        and "=" not in name
    )


def _understand(nodered: NodeRed, file: Path, run: Completed, word: str) -> Inspection:
    answer: Any = None
    for line in reversed(run.stdout.decode("utf-8", "replace").splitlines()):
        if line.startswith(word):
            try:
                answer = json.loads(line[len(word) :])
            except (ValueError, RecursionError):
                answer = None
            break
    if not isinstance(answer, dict):
        if run.timed_out:
            return Inspection(False, "timeout", f"it did not finish loading within {TIMEOUT:g} seconds")
        if run.truncated:
            return Inspection(False, "throws", "it prints without end while it is being loaded")
        tail = run.stderr.decode("utf-8", "replace").strip().splitlines()[:1]
        return Inspection(
            False, "throws", f"it ends node while it is being loaded {_clean(tail[0]) if tail else ''}".strip()
        )
    if answer.get("ok") is not True:
        line_number = answer.get("line")
        error = _clean(str(answer.get("error") or "unknown error"))
        code = str(answer.get("code"))
        if str(file) in error and ("Cannot find module" in error or "EACCES" in error):
            code = "unreadable"
        return Inspection(False, code, error, line_number if isinstance(line_number, int) else None)
    node = str(answer.get("node"))
    if not re.match(r"(1[89]|[2-9]\d)\.", node):
        return Inspection(
            False, "node", f"Node.js {_clean(node)} is too old for the guard, which needs 18 or newer"
        )
    return _build(nodered, file, answer)


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def _text(value: object) -> str | None:
    return _clean(value) if isinstance(value, str) else None


def _root(value: object) -> str | None:
    """`httpAdminRoot` as Node-RED formats it, without the slash at the end; None when switched off."""
    return None if value is False else "/" + str(value or "/").strip("/")


def _build(nodered: NodeRed, file: Path, answer: dict[str, Any]) -> Inspection:
    said = answer.get("settings")
    said = said if isinstance(said, dict) else {}
    guard = answer.get("guard")
    guard = guard if isinstance(guard, dict) else {}
    arguments = parse_arguments(nodered.argv)
    port = said.get("ui_port") if isinstance(said.get("ui_port"), int) else None
    if arguments.port and arguments.port.isdigit():
        port = int(arguments.port)
    raw = said.get("https")
    raw = raw if isinstance(raw, dict) else {}
    certificate = raw.get("certificate")
    https = Https(
        kind=next((kind for kind in _KINDS if kind == raw.get("kind")), "other"),
        client_ca=raw.get("client_ca") is True,
        request_cert=raw.get("request_cert") is True,
        reject_unauthorized=raw.get("reject_unauthorized")
        if isinstance(raw.get("reject_unauthorized"), bool)
        else None,
        passphrase=raw.get("passphrase") is True,
        certificate={k: _text(v) if isinstance(v, str) else bool(v) for k, v in certificate.items()}
        if isinstance(certificate, dict)
        else None,
        files=_files(nodered, file) if raw.get("kind") != "none" else (),
    )
    admin_root, node_root = _root(said.get("admin_root")), _root(said.get("node_root"))
    user_dir, flow_file = _text(said.get("user_dir")), _text(said.get("flow_file"))
    nodes = read_flows(nodered, user_dir=user_dir, flow_file=flow_file) or []
    static = tuple(
        (str(entry.get("path")), canonical_prefix(_text(said.get("static_root")), str(entry.get("root"))))
        for entry in said.get("static", [])
        if isinstance(entry, dict)
    )
    auth = said.get("admin_auth")
    return Inspection(
        ok=True,
        guarded=answer.get("guarded") is True,
        behind=answer.get("behind") is True,
        bound=answer.get("behind") is True and answer.get("bound") is True,
        guard_site=_text(guard.get("site")),
        guard_version=guard.get("version") if isinstance(guard.get("version"), int) else None,
        ui_port=port,
        ui_host=_text(said.get("ui_host")),
        admin_root=admin_root,
        node_root=node_root,
        static=static,
        areas=areas(
            nodes,
            node_root=node_root,
            admin_root=admin_root,
            settings_path=_text(said.get("dashboard_path")),
            static=[mount for _, mount in static],
        ),
        endpoints=tuple(endpoints(nodes, node_root=node_root, admin_root=admin_root)),
        https=https.kind,
        https_block=https,
        client_ca=https.client_ca,
        admin_auth=auth if auth in ("none", "credentials", "strategy", "module", "function") else "other",
        node_auth=said.get("node_auth") is True,
        static_auth=said.get("static_auth") is True,
        middleware=tuple(str(name) for name in said.get("middleware", []) if isinstance(name, str)),
        disable_editor=said.get("disable_editor") is True,
        flow_file=flow_file,
        user_dir=user_dir,
        credential_secret=said.get("credential_secret") is True,
        projects=said.get("projects") is True,
        trust_proxy=said.get("trust_proxy") is True,
        node_version=_text(answer.get("node")),
        warnings=tuple(_warnings(said, https, arguments.defines, user_dir, nodered)),
    )


def _files(nodered: NodeRed, file: Path) -> tuple[str, ...]:
    """Paths that the source reads with readFileSync outside of comments: where the person's certificate lies."""
    try:
        text = read_settings(nodered, file).decode("utf-8", "replace")
    except RedlatchError:
        return ()
    text = re.sub(r"/\*.*?\*/|^\s*//[^\n]*", "", text, flags=re.S | re.M)
    return tuple(
        dict.fromkeys(_clean(m) for m in re.findall(r"readFileSync\(\s*['\"]([^'\"\n]{1,400})['\"]", text))
    )


def _warnings(
    said: Mapping[str, Any], https: Https, defines: tuple[str, ...], user_dir: str | None, nodered: NodeRed
) -> list[str]:
    found = [*nodered.warnings]
    if https.client_ca:
        found.append(
            "your https block asks for client certificates of a CA of your own: they stop working, "
            "because redlatch's own device CA takes its place"
        )
    if said.get("refresh_interval") is True:
        found.append(
            "httpsRefreshInterval has no effect under redlatch: certificates are reloaded when they change"
        )
    if said.get("ui_port_odd") is True:
        found.append("uiPort is no port number (a pipe or a socket?): redlatch guards TCP ports")
    for define in defines:
        name = re.split(r"[.\[=]", define.lstrip())[0]
        if name in ("https", "adminAuth", "httpsRefreshInterval") or define.startswith("@"):
            found.append(
                f"Node-RED is started with -D {name}: that changes settings after the guard; take it "
                f"out of the command"
            )
    if user_dir and Path(user_dir) != nodered.user_dir:
        found.append(f"settings.js sets userDir to {user_dir}: the flows are there")
    return found


def not_adoptable(file: Path, found: Inspection) -> NotAdoptable:
    """The error for a settings.js that cannot be locked safely: the reason and the way on; the file
    is untouched.
    """
    where = f", line {found.line}" if found.line else ""
    way = {
        "syntax": "correct it (node --check names the place), see that Node-RED starts, then run the "
        "command again",
        "throws": "correct it, see that Node-RED starts with it, then run the command again",
        "exits": "take the process.exit() out: Node-RED would end there too",
        "timeout": "something in it waits or loops while it is being loaded; take that out and run "
        "the command again",
        "module": "write it as CommonJS (module.exports = {...}), as Node-RED's own default is",
        "promise": "export the object itself (module.exports = {...}), not a promise of it",
        "no-settings": "end it with module.exports = {...}, as Node-RED's own default does",
        "unreadable": "start Node-RED once so that it writes its default, or name the file with --settings",
        "node": "install Node.js 18 or newer for Node-RED's user, or start Node-RED before this command",
    }.get(found.code, "correct it, see that Node-RED starts with it, then run the command again")
    return NotAdoptable(
        f"{file} cannot be locked safely{where}: {found.error}", hint=f"{way}; nothing was changed"
    )
