"""A site as a person sets it up: a Node-RED that it locks, and `redlatch serve` as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.integration.operations.conftest import House
from tests.support.nodered import NodeRed, Version, free_port, write_settings
from tests.support.wait import until

from redlatch.engines.nodered import claims
from redlatch.operations import devices, service
from redlatch.operations.devices import Issued
from redlatch.operations.site import Site, authority
from redlatch.pki.bundles import generate_password, pem_files, pkcs12
from redlatch.pki.certificates import certificate_pem

#: Seconds in which the service opens or closes the enrolment port after a change.
FOLLOWS = 2.0


@dataclass(frozen=True)
class Key:
    """A device's key: `cert_file` holds certificate and key (PEM), `p12` what a browser imports, with password."""

    issued: Issued
    cert_file: Path
    p12: tuple[bytes, str]

    @property
    def id(self) -> str:
        return self.issued.device.id


@dataclass(frozen=True)
class Link:
    """What `device invite --json` says."""

    number: int
    url: str
    pin: str
    expires: str

    @property
    def token(self) -> str:
        return self.url.partition("#")[2]


class Served:
    """One site with its Node-RED in `root`, and its service; both run inside of `with`.

    `listen` is where console and enrolment listen: on loopback, where nobody outside of the test comes.
    """

    def __init__(
        self, root: Path, version: Version = "5.0", *, flows: Sequence[Mapping[str, Any]] = (), body: str = ""
    ) -> None:
        self.root = root
        self.house = House(root, version)
        write_settings(self.house.user_dir, flows=flows, body=body)
        self.house.up()
        self.console_port, self.enrolment_port = free_port(), free_port()
        service.configure(self.site, console_port=self.console_port, enrolment_port=self.enrolment_port)
        self.log_file = root / "serve.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.node_red: NodeRed = self.house.node_red()

    # --- what there is

    @property
    def site(self) -> Site:
        return self.house.open()

    @property
    def version(self) -> Version:
        return self.house.version

    @property
    def port(self) -> int:
        """Node-RED's."""
        return self.house.port

    @property
    def console(self) -> str:
        return f"https://localhost:{self.console_port}"

    @property
    def root_pem(self) -> bytes:
        """The server CA, which a person trusts by hand."""
        return certificate_pem(authority(self.site, "server", signing=False).certificate)

    @property
    def root_file(self) -> Path:
        path = self.root / "server-ca.pem"
        path.write_bytes(self.root_pem)
        return path

    def key(self, name: str, role: str = "owner", **more: Any) -> Key:
        """A device that got its key by a file."""
        issued = devices.add(self.site, name, role=role, **more)
        password = generate_password()
        files = pem_files(issued.key, issued.certificate, issued.server_cas)
        path = self.root / f"{issued.fingerprint[:16]}.pem"
        path.write_bytes(files["cert.pem"] + files["key.pem"])
        held = pkcs12(issued.key, issued.certificate, issued.server_cas, name, password)
        return Key(issued, path, (held, password))

    def websockets(self, name: str) -> list[claims.Connection]:
        """The open ones of the device of that name, by Node-RED's word."""
        found = claims.read_connections(self.house.settings, self.site.target().uid) or []
        with self.site.store.read() as view:
            (device,) = [one for one in view.devices() if one.name == name]
        return [one for one in found if one.device_id == device.id and one.websocket]

    # --- the command line

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
        home = str(self.house.settings.home)
        return {**self.house.environ, **kept, "REDLATCH_HOME": home, "LANG": "C.UTF-8", "TZ": "UTC"}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command; nobody sits there to answer."""
        return subprocess.run(
            [sys.executable, "-m", "redlatch", *arguments],
            cwd=self.root,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def invite(self, name: str, *options: str) -> Link:
        """A link; by default for somebody who may look at the editor, in a network that is trusted."""
        given = options or ("--role", "viewer", "--trust-lan")
        done = self.run("device", "invite", name, "--json", *given)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return Link(found["link"], found["url"], found["pin"], str(found["expires"]))

    # --- the processes

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts the service and does not wait."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                # A test run that is killed takes its service along.
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "redlatch", "serve", "--json"],
                cwd=self.root,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def start(self) -> None:
        """Starts the service, and waits until its console listens."""
        process = self.launch()

        def listens() -> bool:
            assert process.poll() is None, f"serve ended with {process.returncode}:\n{self.log()}"
            return is_open(self.console_port)

        try:
            until(listens, seconds=20, what="the console")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """Ends the service as systemd does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)

    def kill(self) -> None:
        """Ends the service as a power cut does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def enrolment_is(self, state: str) -> None:
        """Waits until the enrolment port is "open" or "closed", at most as long as it may take."""
        until(
            lambda: is_open(self.enrolment_port) == (state == "open"),
            seconds=FOLLOWS,
            what=f"that the enrolment port is {state}",
        )

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.node_red)
            self.start()
            stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process is not None and self.process.poll() is None:
                assert self.stop() == 0, self.log()
                assert "Traceback" not in self.log(), self.log()
        finally:
            self.kill()
            self.node_red.kill()
            self.site.store.close()


def is_open(port: int, address: str = "127.0.0.1") -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((address, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@contextlib.contextmanager
def served(root: Path, version: Version = "5.0", **more: Any) -> Iterator[Served]:
    """A site whose Node-RED and service run."""
    with Served(root, version, **more) as found:
        yield found
