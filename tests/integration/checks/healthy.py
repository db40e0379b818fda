"""A healthy site of root's, with real users, for the inside checks; and what breaks it in one way."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import socket
import socketserver
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.engine.conftest import account
from tests.integration.engine.test_service_user import Home, up
from tests.support.nodered import free_port, node

from redlatch import bootstrap
from redlatch.checks import certificates, clock, enforcement, files, keys, service, store
from redlatch.checks.model import Check, Scene
from redlatch.checks.run import Report, run
from redlatch.engines.nodered import dropin
from redlatch.engines.nodered.users import User
from redlatch.operations import backup, devices
from redlatch.operations import service as services
from redlatch.operations.service_key import server_pem
from redlatch.operations.site import Site
from redlatch.settings import Settings

INSIDE: tuple[Check, ...] = (
    *store.CHECKS,
    *files.CHECKS,
    *keys.CHECKS,
    *clock.CHECKS,
    *certificates.CHECKS,
    *enforcement.CHECKS,
    *service.CHECKS,
)
UNITS = ("redlatch.service", "redlatch-refresh.timer", "redlatch-resolve.timer")


@dataclass
class Healthy:
    """A locked site with an owner, in the place of the system-wide one, on a machine where all runs that should.

    `clock` is what the site takes for the time. `tools` holds the programs that are asked: systemctl and
    timedatectl that say what stands in files beside them.
    """

    home: Home
    etc: Path
    tools: Path
    ahead: timedelta = timedelta()
    closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def settings(self) -> Settings:
        return self.home.settings

    def clock(self) -> datetime:
        return bootstrap.now() + self.ahead

    def site(self) -> Site:
        return replace(bootstrap.site_to_check(self.settings, actor="test"), clock=self.clock)

    def look(self) -> Report:
        """All inside checks, from a new look at the store."""
        with self.opened() as scene:
            return run(INSIDE, scene)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Scene]:
        """What checks look at."""
        site = self.site()
        try:
            yield Scene(site, {"PATH": f"{self.tools}:/usr/bin:/bin"})
        finally:
            site.store.close()

    def says(self, unit: str, state: str) -> None:
        """What systemctl says of a unit's ActiveState."""
        (self.tools / f"{unit}.state").write_text(state)


def seen(report: Report) -> list[tuple[str, str]]:
    """(code, subject) of what was found; what only is not known here must not be among it."""
    return sorted(one.key for one in report.findings)


@dataclass(frozen=True)
class Break:
    """One way in which a site breaks. `do` breaks it; leaving it mends what no fix does. `subject` is what the
    finding must name; `also` are codes of other things that are wrong by the same deed. `mends`: --fix does.
    """

    code: str
    do: Callable[[Healthy], AbstractContextManager[object]]
    subject: Callable[[Healthy], str]
    mends: bool = False
    also: tuple[str, ...] = ()
    name: str = ""

    @property
    def id(self) -> str:
        return f"{self.code}{f'-{self.name}' if self.name else ''}"


@contextlib.contextmanager
def healthy(patch: pytest.MonkeyPatch) -> Iterator[Healthy]:
    """The site, gone afterwards with its users. Nothing answers at Node-RED's port."""
    folder = Path("/var/tmp") / f"redlatch-check-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        pi = stack.enter_context(account("--create-home", "--shell", "/bin/sh"))
        own = stack.enter_context(
            account("--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin")
        )
        etc, tools = folder / "etc", folder / "tools"
        etc.mkdir()
        tools.mkdir()
        home = _home(folder, pi, own)
        found = Healthy(home, etc, tools, closing=stack)
        for module in (service, services):
            patch.setattr(module, "SYSTEM_HOME", home.settings.home)
        patch.setattr(dropin, "ETC", etc)
        patch.setattr(dropin, "systemd_runs", lambda: True)
        for unit in UNITS:
            (etc / unit).write_text("# Written by redlatch's install.sh.\n")
            found.says(unit, "active")
        _tool(tools / "systemctl", f'cat "{tools}/$2.state" 2>/dev/null || echo inactive')
        _tool(tools / "timedatectl", "echo yes")
        site = home.site()
        devices.add(site, "Bart's phone", role="owner")
        port = stack.enter_context(_console())
        services.configure(site, console_port=port, enrolment_port=free_port())
        server_pem(site)
        backup.make(site, seal=bytes, how={}, deliver=lambda _: None)
        site.store.close()
        gc.collect()  # what else has the store open would keep its log, and tests put the file back
        yield found


def _home(folder: Path, pi: User, own: User) -> Home:
    """As `redlatch up` of root's lays it out."""
    user_dir = folder / "node-red"
    user_dir.mkdir()
    (user_dir / "settings.js").write_text(f"module.exports = {{uiPort: {free_port()}}};\n")
    for path in (user_dir, user_dir / "settings.js"):
        os.chown(path, pi.uid, pi.gid)
    public = folder / "node"
    shutil.copy(node("4.1"), public)
    public.chmod(0o755)
    (pi.home / ".local/bin").mkdir(parents=True)
    (pi.home / ".local/bin/node").symlink_to(public)
    home = Home(Settings(folder / "redlatch", system=True, user=own.name), pi, own, public, user_dir)
    up(home)
    return home


def _tool(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)


@contextlib.contextmanager
def _console() -> Iterator[int]:
    """Something that accepts connections at loopback, as the service does; its port."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler))
        port: int = first.server_address[1]
        _serve(first, stack)
        with contextlib.suppress(OSError):
            second = stack.enter_context(_Six(("::1", port), socketserver.BaseRequestHandler))
            _serve(second, stack)
        yield port


class _Six(socketserver.TCPServer):
    address_family = socket.AF_INET6


def _serve(server: socketserver.TCPServer, stack: contextlib.ExitStack) -> None:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)
