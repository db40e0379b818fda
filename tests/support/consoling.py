"""The console behind real TLS on loopback, over a real store, with a device of every role."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from tests.support.clients import Connection, Response, request
from tests.support.home import small_site
from tests.support.loop import Loop

from redlatch.engines.nodered import publish
from redlatch.files import make_dir
from redlatch.operations import devices, hosts, service
from redlatch.operations.publishing import enforce
from redlatch.operations.site import Site, Target, authority, changing, set_config
from redlatch.pki.bundles import pem_files
from redlatch.pki.certificates import certificate_pem
from redlatch.service import sockets
from redlatch.service.console import create
from redlatch.service.context import Context
from redlatch.service.origin import Origin, server_context
from redlatch.service.security import Guarded
from redlatch.service.watch import Watch

ROLES: Final = ("owner", "admin", "viewer", "user", "thing")
#: What a browser says when a person uses the page.
PAGE: Final = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


@dataclass(frozen=True)
class Key:
    """A device with its key in one PEM file."""

    cert_file: Path
    issued: devices.Issued

    @property
    def id(self) -> str:
        return self.issued.device.id


@dataclass
class Consoling:
    """The console on `port`; `keys` has a device of each role."""

    site: Site
    watch: Watch
    context: Context
    folder: Path
    port: int = 0
    #: Ends the connections that are idle, as the service does after a change on trial.
    renew: Callable[[], None] = lambda: None
    keys: dict[str, Key] = field(default_factory=dict)

    def key(self, name: str, role: str = "user", **more: Any) -> Key:
        """A new device with its key."""
        return self.file(devices.add(self.site, name, role=role, **more))

    def file(self, issued: devices.Issued) -> Key:
        files = pem_files(issued.key, issued.certificate, issued.server_cas)
        path = self.folder / f"{issued.fingerprint[:16]}.pem"
        path.write_bytes(files["cert.pem"] + files["key.pem"])
        return Key(path, issued)

    def get(self, target: str, who: str | Key | None = "owner", **headers: str) -> Response:
        return request(self.port, "GET", target, self._who(who), headers=headers)

    def post(self, target: str, fields: Any = (), who: str | Key | None = "owner", **headers: str) -> Response:
        """A form, sent as a page of the console sends it."""
        sent = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"https://localhost:{self.port}",
            **PAGE,
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        body = urlencode(fields, doseq=True).encode()
        return request(self.port, "POST", target, self._who(who), headers=sent, body=body)

    def change(self, target: str, fields: Any = (), who: str | Key = "owner") -> str:
        """A change by a form, without script: the text of the page that it ends at."""
        answer = self.post(target, fields, who)
        assert answer.status == 303, (answer.status, text_of(answer))
        return text_of(self.get(answer.headers["location"], who))

    def connection(self, who: str | Key = "owner") -> Connection:
        return Connection(self.port, self._who(who))

    def _who(self, who: str | Key | None) -> Key | None:
        return self.keys[who] if isinstance(who, str) else who

    # --- the engine, and Node-RED's word

    def publish(self) -> None:
        """Publishes the present state, as `up` does; from now on every change is published too."""
        settings, group = self.site.settings, os.getgid()
        make_dir(settings.published, mode=0o700)
        publish.publish_guard(settings, group)
        publish.publish_file(settings, "server.pem", settings.service_pem.read_bytes(), group)
        enforce(self.site)

    def say(self, **entry: Any) -> None:
        """A line of Node-RED's access log."""
        line = {
            "at": datetime.now(UTC).timestamp(), "from": "192.168.1.20", "device": None, "fp": None,
            "method": "GET", "path": "/", "allow": True, "reason": "ok", "count": 1,
        } | {name.rstrip("_"): value for name, value in entry.items()}  # fmt: skip
        with (self.site.settings.spool / "access.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def connected(self, *ids: str) -> None:
        """Open connections of these devices, and a guard that is alive (this process)."""
        now = datetime.now(UTC).timestamp()
        with self.site.store.read() as view:
            version = view.site().revision
        claim = {"format": 1, "site": "x", "version": version, "digest": "x", "pid": os.getpid()}
        (self.site.settings.spool / "in-force.json").write_text(
            json.dumps(claim | {"started": now, "at": now, "node_red": "5.0.0"})
        )
        entries = [{"id": one, "from": "192.168.1.30", "since": now, "websocket": True} for one in ids]
        (self.site.settings.spool / "connections.json").write_text(
            json.dumps({"format": 1, "connections": entries})
        )


def text_of(answer: Response | str) -> str:
    """What a person reads: the page's words, one space between them."""
    import html

    source = answer if isinstance(answer, str) else answer.body.decode()
    source = re.sub(r"<(script|style|title)\b.*?</\1>", " ", source, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", source)).split())


def heading(answer: Response) -> str:
    """The first heading."""
    found = re.search(r"<h1[^>]*>(.*?)</h1>", answer.body.decode(), re.DOTALL)
    return text_of(found[1]) if found else ""


@contextlib.contextmanager
def consoling(root: Path, *, renew: Any = None) -> Iterator[Consoling]:
    """A site in `root` whose Node-RED is this very process, and the console for as long as the context lasts."""
    site = small_site(root)
    with closing(site.store):
        with changing(site) as tx:
            target = Target("me", os.getuid(), os.getgid(), "/nowhere", "/nowhere/settings.js", 1)
            set_config(tx, target=target, adopted=True)
            tx.record("site.changed")
        make_dir(site.settings.spool, mode=0o700)
        with serving(site, root, renew=renew) as served:
            served.keys |= {role: served.key(f"the {role}", role) for role in ROLES}
            yield served


@contextlib.contextmanager
def serving(site: Site, folder: Path, *, renew: Any = None) -> Iterator[Consoling]:
    """The console of a site that is there."""
    watch = Watch(site)
    with Loop() as loop:
        pem = str(service.server_pem(site))
        ca = certificate_pem(authority(site, "device", signing=False).certificate).decode()
        tls = server_context(pem, device_ca=ca)
        context = Context(
            site=site,
            watch=watch,
            work=loop.work,
            enrolment_url=lambda host: f"https://{host or 'localhost'}:1882",
            console_url=lambda host: f"https://{host or 'localhost'}:{served.port}",
            shown=lambda: hosts.enrolment_shows(site),
        )
        served = Consoling(site, watch, context, folder)

        def make() -> Origin:
            app = Guarded(
                create(context, renew),
                names=lambda: (*site.config().hosts, "pi.local"),
                ports=lambda: origin.ports,
            )
            origin = Origin(app, lambda: tls)
            origin.open(sockets.bind(["127.0.0.1"], 0, told=True))
            return origin

        origin = loop.call(make)
        served.port = next(iter(origin.ports))
        served.renew = lambda: loop.call(origin.renew)
        yield served
        loop.do(origin.close(1))
