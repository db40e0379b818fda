"""A site with a gateway and no Node-RED of its own: all of it one person's, in a folder of the test's."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.nodered import NodeRed, free_port, node, red_js, write_settings
from tests.support.wait import until

from redlatch import bootstrap
from redlatch.operations import devices, engines, gateway, gateway_plan, setup
from redlatch.operations.publishing import running
from redlatch.operations.site import Site
from redlatch.pki.bundles import pem_files
from redlatch.settings import Settings

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Key:
    """A device's certificate and key in one PEM file."""

    cert_file: Path
    issued: devices.Issued


class Gate:
    """One home with one gateway, listening on `port` of loopback, in front of whatever is on `behind`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.port, self.behind = free_port(), free_port()
        self.settings = Settings(root / "h", system=False)  # short: names of sockets are
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(root)}
        self.site: Site | None = None

    def options(self, **more: Any) -> gateway_plan.Options:
        told = {"listen": (f"127.0.0.1:{self.port}",), "to": (f"http://127.0.0.1:{self.behind}",), **more}
        return gateway_plan.Options(**told)

    def plan(self, **more: Any) -> gateway_plan.Plan:
        return gateway_plan.plan(
            self.settings, self.options(**more), self.environ, bootstrap.present_config(self.settings)
        )

    def up(self, **more: Any) -> gateway.Up:
        self.site, done = bootstrap.put_gateway_up(self.plan(**more), actor="test")
        return done

    def open(self) -> Site:
        if self.site is None:
            self.site = bootstrap.open_site(self.settings, actor="test")
        # Most houses have one device only; what locks that out is what the guard's own tests are about.
        return replace(self.site, insist=True)

    def key(self, name: str, **more: Any) -> Key:
        issued = devices.add(self.open(), name, **more)
        files = pem_files(issued.key, issued.certificate, issued.server_cas)
        path = self.root / f"{issued.fingerprint[:16]}.pem"
        path.write_bytes(files["cert.pem"] + files["key.pem"])
        return Key(path, issued)

    @contextlib.contextmanager
    def run(self) -> Iterator[subprocess.Popen[bytes]]:
        """`redlatch gateway run`, once what is published is in force."""
        log = (self.root / "run.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "redlatch", "--home", self.settings.home, "gateway", "run"],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(self.root), "PYTHONPATH": str(ROOT / "src")},
        )  # fmt: skip
        engine = engines.gateway(self.settings, self.open().config())
        assert engine is not None
        try:
            with self.open().store.read() as view:
                version = view.site().revision

            def tells() -> bool:
                assert process.poll() is None, (self.root / "run.log").read_text()[-2000:]
                claim = running(engine)
                return claim is not None and claim.version >= version

            until(tells, seconds=20, what="a gateway in force")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)
            log.close()


class Both(Gate):
    """A gate whose site has locked a Node-RED of version 5.0, too; with `locked` false it may still do so."""

    def __init__(self, root: Path, *, locked: bool = True) -> None:
        super().__init__(root)
        self.node_red_port = free_port()
        self.user_dir = root / "user"
        self.settings_file = write_settings(self.user_dir)
        program = red_js("5.0").parents[1] / ".bin"
        self.environ = {**self.environ, "PATH": f"{node('5.0').parent}:{program}:{self.environ['PATH']}"}
        if locked:
            self.lock()

    def lock(self, **more: Any) -> None:
        options = setup.Options(user_dir=self.user_dir, port=self.node_red_port, **more)
        plan = setup.plan(self.settings, options, self.environ, bootstrap.present_config(self.settings))
        self.site = bootstrap.prepare_site(plan, actor="test")
        setup.lock(self.site, plan)

    def node_red(self) -> NodeRed:
        return NodeRed("5.0", self.user_dir, port=self.node_red_port)


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = "".join(f"{name.lower()}: {value}\n" for name, value in self.headers.items()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def web(port: int, address: str = "127.0.0.1") -> Iterator[None]:
    """Something that answers on that port with the headers it got, in place of a Node-RED."""
    with http.server.ThreadingHTTPServer((address, port), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
