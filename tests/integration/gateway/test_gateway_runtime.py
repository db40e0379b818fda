"""The Runtime API against the real HAProxy: maps, streams, workers, reloads that go well and that do not."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.haproxy import version
from tests.support.nodered import free_port
from tests.support.running_gateway import PROGRAMS
from tests.support.wait import until

from redlatch.engines.haproxy.program import find
from redlatch.engines.haproxy.runtime import CHUNK, Gone, Refused, Runtime
from redlatch.errors import EngineError

CONFIG = """
global
  hard-stop-after 60s
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend door
  bind 127.0.0.1:{port} name main
  http-request set-var(txn.found) path,map_str({folder}/some.map,none)
  http-request return status 200 content-type text/plain lf-string %[var(txn.found)] if {{ path_beg /m }}
  http-request track-sc0 path table seen
  default_backend behind
backend behind
  server one 127.0.0.1:{upstream}
backend seen
  stick-table type string len 32 size 100 store gpc0,http_req_cnt
"""


class Bare:
    """HAProxy with a configuration of its own, below `folder`."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.behind: list[socket.socket] = []
        self.config = folder / "haproxy.cfg"
        (folder / "some.map").write_text("/m1 one\n/m2 two\n")
        self.write()
        self.process = subprocess.Popen(
            [program, "-W", "-S", "unix@master.sock,mode,600,level,admin", "-f", self.config],
            cwd=folder,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.runtime = Runtime(folder / "master.sock")
        self.worker = until(self._ready, what="HAProxy's start")

    def write(self, more: str = "") -> None:
        text = CONFIG.format(port=self.port, folder=self.folder, upstream=self.listening.getsockname()[1])
        self.config.write_text(text + more)

    def _ready(self) -> int | None:
        try:
            present = self.runtime.processes().present
        except EngineError:
            return None
        return present.pid if present else None

    def get(self, path: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port)) as sock:
            sock.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            data = b""
            while chunk := sock.recv(4096):
                data += chunk
        return data.partition(b"\r\n\r\n")[2].decode()

    def waiting(self) -> socket.socket:
        """A client whose request nobody answers."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.sendall(b"GET /w HTTP/1.1\r\nHost: x\r\n\r\n")
        self.behind.append(self.listening.accept()[0])
        return sock


@pytest.fixture(params=PROGRAMS)
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bare]:
    made = Bare(PROGRAMS[request.param], tmp_path)
    yield made
    if made.process.poll() is None:
        made.process.terminate()
    made.process.wait(10)
    for one in (made.listening, *made.behind):
        one.close()


def test_keys_are_set_added_and_removed(bare: Bare) -> None:
    which = bare.runtime.maps(bare.worker)["some"]
    assert bare.get("/m1") == "one"
    bare.runtime.put(bare.worker, which, "/m1", "1|r:x%20y|-")
    bare.runtime.put(bare.worker, which, "/m3", "new")
    bare.runtime.put(bare.worker, which, "/m3", "newer")
    bare.runtime.remove(bare.worker, which, "/m2")
    bare.runtime.remove(bare.worker, which, "/m2")
    assert [bare.get(f"/m{number}") for number in (1, 2, 3)] == ["1|r:x%20y|-", "none", "newer"]


@pytest.mark.parametrize("key", ["", "a b", "a\nb", "a;b", "a\\b", "x <<", "#1", "é"])
def test_what_would_mean_something_else_is_not_told(bare: Bare, key: str) -> None:
    which = bare.runtime.maps(bare.worker)["some"]
    for tell in (
        lambda: bare.runtime.put(bare.worker, which, key, "x"),
        lambda: bare.runtime.put(bare.worker, which, "/m1", key),
        lambda: bare.runtime.remove(bare.worker, which, key),
    ):
        with pytest.raises(EngineError):
            tell()
    assert bare.get("/m1") == "one"


def test_a_whole_map_is_replaced_in_one_step(bare: Bare) -> None:
    which = bare.runtime.maps(bare.worker)["some"]
    rows = {f"/m{number}": f"value-{number}-{'x' * 40}" for number in range(3000)}
    bare.runtime.replace(bare.worker, which, {**rows, "/m;y\\z": "a;b\\c<<"})
    assert bare.get("/m2999") == rows["/m2999"]
    assert bare.get("/m1") == rows["/m1"]
    assert bare.get("/m;y\\z") == "a;b\\c<<"
    bare.runtime.replace(bare.worker, which, {})
    assert bare.get("/m1") == "none"
    bare.runtime.replace(bare.worker, which, {"/m1": "y" * (CHUNK - 10)})
    for row in ({"/m1": "two words"}, {"/m1": "x\ny z"}, {"": "x"}, {"/m1": "z" * CHUNK}):
        with pytest.raises(EngineError):
            bare.runtime.replace(bare.worker, which, {"/m5": "five", **row})
        assert bare.get("/m5") == "none"  # nothing half-way


def test_a_map_and_a_worker_that_are_not_there(bare: Bare) -> None:
    with pytest.raises(Refused):
        bare.runtime.put(bare.worker, "#77", "a", "b")
    with pytest.raises(Refused):
        bare.runtime.replace(bare.worker, "#77", {"a": "b"})
    # HAProxy is not asked, for 2.8 leaves some without an answer: without a socket it is said all the same
    with pytest.raises(Gone, match="no worker"):
        Runtime(Path("/nonexistent")).maps(4_194_305)  # beyond what Linux gives
    with pytest.raises(EngineError, match=r"no worker|does not answer"):
        bare.runtime.maps(os.getpid())


def test_streams_are_found_and_cut_one_by_one(bare: Bare) -> None:
    clients = [bare.waiting() for _ in range(5)]
    found = bare.runtime.sessions(bare.worker)
    ports = {one.port: one for one in found}
    assert set(ports) == {one.getsockname()[1] for one in clients}
    assert {(one.source, one.frontend, one.listener) for one in found} == {("127.0.0.1", "door", "main")}
    assert len({one.id for one in found}) == 5
    bare.runtime.shut(bare.worker, [ports[clients[2].getsockname()[1]].pointer, "0x1"])
    clients[2].settimeout(5)
    assert b"HTTP/1.1 200" not in clients[2].recv(4096)
    left = {one.port for one in bare.runtime.sessions(bare.worker)}
    assert left == {clients[at].getsockname()[1] for at in (0, 1, 3, 4)}
    for one in clients:
        one.close()


def test_a_reload_leaves_the_old_worker_within_reach(bare: Bare) -> None:
    client = bare.waiting()
    (bare.folder / "some.map").write_text("/m1 first\n")
    after = bare.runtime.reload()
    assert after.present is not None
    assert after.present.pid != bare.worker
    assert [one.pid for one in after.workers if one.old] == [bare.worker]
    assert bare.get("/m1") == "first"
    (one,) = bare.runtime.sessions(bare.worker)
    assert bare.runtime.sessions(after.present.pid) == []
    bare.runtime.put(bare.worker, bare.runtime.maps(bare.worker)["some"], "/m1", "old")
    assert bare.get("/m1") == "first"
    bare.runtime.shut(bare.worker, [one.pointer])
    until(lambda: len(bare.runtime.processes().workers) == 1, what="the old worker's end")
    client.close()


def test_a_reload_that_fails_leaves_the_worker_as_it_was(bare: Bare) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for more in ("garbage here\n", f"frontend x\n  bind 127.0.0.1:{taken.getsockname()[1]}\n"):
            bare.write(more)
            with pytest.raises(Refused):
                bare.runtime.reload()
            present = bare.runtime.processes().present
            assert present is not None
            assert present.pid == bare.worker
            bare.runtime.put(bare.worker, bare.runtime.maps(bare.worker)["some"], "/m1", "still")
            assert bare.get("/m1") == "still"
    bare.write()
    present = bare.runtime.reload().present
    assert present is not None
    assert present.pid != bare.worker
    assert bare.get("/m1") == "one"


def test_counters_and_figures(bare: Bare) -> None:
    for path in ("/m1", "/m1", "/m2"):
        bare.get(path)
    bare.waiting().close()
    assert bare.runtime.table(bare.worker, "seen", "http_req_cnt") == {"/w": 1}
    assert bare.runtime.table(bare.worker, "seen", "gpc0") == {}
    assert bare.runtime.table(bare.worker, "no-such", "gpc0") == {}
    assert int(bare.runtime.info(bare.worker)["Pid"]) == bare.worker


def test_haproxy_that_does_not_answer_or_is_gone(bare: Bare) -> None:
    os.kill(bare.process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(EngineError, match="does not answer"):
            Runtime(bare.folder / "master.sock", seconds=0.3).processes()
    finally:
        os.kill(bare.process.pid, signal.SIGCONT)
    bare.process.kill()
    bare.process.wait()
    with pytest.raises(Gone):
        bare.runtime.processes()
    with pytest.raises(Gone):
        Runtime(bare.folder / "nowhere.sock").processes()


def test_a_socket_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    made = Bare(PROGRAMS["2.6"], folder)
    assert made.runtime.processes().present is not None
    made.process.terminate()
    made.process.wait(10)
    made.listening.close()


def test_the_program_is_found_and_judged(tmp_path: Path) -> None:
    for name, path in PROGRAMS.items():
        assert find(path).version == version(name)
    assert find().short.startswith("{}.{}.".format(*version("2.6")))
    for text in ("HA-Proxy version 2.2.9-2 2021/01/01", "HAProxy version 1.8.30", "Usage: something else"):
        old = tmp_path / "haproxy"
        old.write_text(f"#!/bin/sh\necho '{text}'\n")
        old.chmod(0o755)
        with pytest.raises(EngineError) as caught:
            find(old)
        assert "apt-get install haproxy" in caught.value.hint
    with pytest.raises(EngineError, match="cannot be run"):
        find(tmp_path / "nothing")


def test_no_haproxy_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("redlatch.engines.haproxy.program.PLACES", str(tmp_path))
    with pytest.raises(EngineError) as caught:
        find()
    assert "apt-get install haproxy" in caught.value.hint
