"""preload.js: Node-RED without the guard does not open its port; whatever else node runs is left alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.nodered import VERSIONS, NodeRed, Version, node, red_js, write_settings

from redlatch.engines.nodered.publish import guard_files

SERVER = (
    "const s = require('http').createServer(() => {{}}); "
    "s.listen({where}, () => {{ console.log('listening'); process.exit(0); }});"
)


@pytest.fixture
def preload(tmp_path: Path) -> Path:
    """The file as published, in a folder with a space in its name."""
    folder = tmp_path / "pub lished"
    folder.mkdir()
    (folder / "preload.js").write_bytes(guard_files()["preload.js"])
    return folder / "preload.js"


def run(preload: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "NODE_OPTIONS": f'--require="{preload}"', **env}
    return subprocess.run(
        [str(node()), *argv], env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_real_node_red_without_the_guard_ends_with_78(version: Version, preload: Path, tmp_path: Path) -> None:
    """Started with the drop-in's NODE_OPTIONS and a settings.js without the block, it never listens."""
    write_settings(tmp_path / "user")
    red = NodeRed(version, tmp_path / "user", env={"NODE_OPTIONS": f'--require="{preload}"'})
    red.launch()
    try:
        assert red.wait(60) == 78
        assert "now running" not in red.log()
        assert "redlatch up" in red.log()
        assert "redlatch down" in red.log()
    finally:
        red.kill()


def test_node_red_started_by_another_node_process_is_stopped_too(preload: Path, tmp_path: Path) -> None:
    """`npm start` and process managers are node as well; Node-RED below them is still recognised."""
    write_settings(tmp_path / "user")
    wrapper = tmp_path / "start.js"
    wrapper.write_text(
        "const {spawnSync} = require('child_process');"
        f"const r = spawnSync(process.execPath, ['{red_js('5.0')}', '-u', '{tmp_path / 'user'}', '-p', '0'],"
        " {stdio: 'inherit', timeout: 60000}); console.log('child ended with ' + r.status);"
    )
    done = run(preload, str(wrapper), HOME=str(tmp_path))
    assert "child ended with 78" in done.stdout


@pytest.mark.parametrize(
    "where", ["0", "{port: 0, host: '127.0.0.1'}", "'0'"], ids=["port", "options", "port as text"]
)
def test_first_process_may_not_listen_before_the_guard_stands(preload: Path, where: str) -> None:
    """Whatever the unit starts first counts as Node-RED: an http server of its own is refused."""
    done = run(preload, "-e", SERVER.format(where=where))
    assert (done.returncode, done.stdout) == (78, "")


def test_first_process_may_listen_once_the_guard_stands(preload: Path) -> None:
    """With the guard's mark set, other servers of the process open their ports as ever."""
    armed = "globalThis[Symbol.for('redlatch.guard')] = {armed: true};"
    done = run(preload, "-e", armed + SERVER.format(where="0"))
    assert (done.returncode, done.stdout) == (0, "listening\n")


@pytest.mark.parametrize("kind", ["net.createServer()", "dgram.createSocket('udp4')"])
def test_servers_that_are_no_web_servers_are_left_alone(preload: Path, kind: str) -> None:
    """tcp and udp nodes are outside the lock, guarded or not."""
    module = kind.split(".", maxsplit=1)[0]
    start = "listen(0" if module == "net" else "bind(0"
    made = f"const s = require('{module}').{kind.split('.', 1)[1]};"
    code = f"{made} s.{start}, () => {{console.log('open'); s.close()}})"
    done = run(preload, "-e", code)
    assert (done.returncode, done.stdout) == (0, "open\n")


def test_children_that_are_not_node_red_are_left_alone(preload: Path, tmp_path: Path) -> None:
    """npm and node programs that flows start inherit NODE_OPTIONS; they listen as they like."""
    child = tmp_path / "child.js"
    child.write_text(SERVER.format(where="0"))
    code = f"console.log(require('child_process').execFileSync(process.execPath, ['{child}']).toString())"
    done = run(preload, "-e", code)
    assert "listening" in done.stdout
    assert done.returncode == 0


def test_worker_threads_of_the_first_process_are_left_alone(preload: Path) -> None:
    """A node that runs a web server in a worker thread is not Node-RED's door."""
    worker = SERVER.format(where="0").replace("process.exit(0)", "s.close()")
    code = f"new (require('worker_threads').Worker)({worker!r}, {{eval: true}}).on('error', (e) => {{ throw e }})"
    done = run(preload, "-e", code)
    assert (done.returncode, done.stdout) == (0, "listening\n")


def test_unix_sockets_are_left_alone(preload: Path, tmp_path: Path) -> None:
    """A local socket is no door to the network."""
    done = run(preload, "-e", SERVER.format(where=f"'{tmp_path}/socket'"))
    assert (done.returncode, done.stdout) == (0, "listening\n")
