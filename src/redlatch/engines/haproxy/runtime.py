"""HAProxy's Runtime API through the master's socket: every worker is reached by its pid, old ones too.

A connection for each round: it is a tenth of a millisecond. What HAProxy does not take it says in words, and what
is too long for its buffer it does not answer at all (measured with 2.6): so an answer that is not empty counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redlatch.errors import EngineError

#: Bytes of a payload in one command; tune.bufsize is 16,384, and from there on the answer is empty.
CHUNK: Final = 14_000
_NO_WORKER: Final = b"Can't find the target"
_BATCH: Final = 100  # commands in one connection
_SECONDS: Final = 5.0
_PATH: Final = 100  # bytes in a socket's name: sun_path holds 107
_WORD: Final = re.compile(r"[!-~]+", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z0-9._~%|:/@,=*+-]+", re.ASCII)  # nothing that the command line gives a meaning
_MAP: Final = re.compile(r"^(\d+) \((.*?)\) pattern loaded from file .* used by map ", re.MULTILINE)
_SESSION: Final = re.compile(
    r"^(0x[0-9a-f]+): \[[^\]]*\] id=(\d+) proto=\S+(?: source=(\S+))?.*\n.*\n  frontend=(\S+).*? listener=(\S+)",
    re.MULTILINE,
)
_ENTRY: Final = re.compile(r"^0x[0-9a-f]+: key=(\S+) (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker; `old` once a reload has replaced it: it goes on with the connections that it has."""

    pid: int
    old: bool


@dataclass(frozen=True, slots=True)
class Processes:
    """The master, how often it was told to reload, how often in vain, and its workers, the present one first."""

    master: int
    reloads: int
    failed: int
    workers: tuple[Worker, ...]

    @property
    def present(self) -> Worker | None:
        """The worker that takes new connections."""
        return next((one for one in self.workers if not one.old), None)


@dataclass(frozen=True, slots=True)
class Session:
    """One open stream of a client's: `id` is what the log calls %rt, `source` its address and `port`."""

    pointer: str
    id: int
    source: str
    port: int
    frontend: str
    listener: str


class Gone(EngineError):
    """There is no such worker, or no HAProxy, any more."""


class Refused(EngineError):
    """HAProxy answered, and did not do it."""


def _runs(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Runtime:
    """What can be asked of a running HAProxy. Every method: EngineError when it cannot be asked, or refuses."""

    def __init__(self, path: Path, *, seconds: float = _SECONDS) -> None:
        """`path`: the master's socket; `seconds`: how long one answer may take."""
        self._path = path
        self._seconds = seconds

    # --- asking

    def ask(self, *commands: str, worker: int | None = None, seconds: float | None = None) -> str:
        """The answer to commands in one connection, to the master or to the worker of that pid.

        A worker that has ended is not asked: of some hundred such questions 2.8 leaves one without an answer, and
        the connection open, of which its master has few.
        """
        if worker is not None and not _runs(worker):
            raise Gone(f"haproxy has no worker {worker} any more")
        prefix = "" if worker is None else f"@!{worker} "
        data = "".join(f"{prefix}{one}\n" for one in commands).encode("ascii")
        deadline = time.monotonic() + (self._seconds if seconds is None else seconds)
        found = bytearray()
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(self._seconds)
                with _within_reach(self._path) as path:
                    sock.connect(path)
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)  # else the master waits for more, and so do we
                while True:
                    sock.settimeout(max(0.001, deadline - time.monotonic()))
                    chunk = sock.recv(1 << 18)
                    if not chunk:
                        break
                    found += chunk
                    if found.startswith(_NO_WORKER) and found.endswith(b"\n"):
                        break  # 2.8 sometimes says it and does not hang up
        except TimeoutError as error:
            if worker is not None and not _runs(worker):  # it has ended just now
                raise Gone(f"haproxy has no worker {worker} any more") from error
            raise EngineError("haproxy does not answer") from error
        except OSError as error:
            raise Gone(f"haproxy cannot be asked: {(error.strerror or str(error)).lower()}") from error
        if found.startswith(_NO_WORKER):
            raise Gone(f"haproxy has no worker {worker} any more")
        return found.decode("utf-8", "replace")

    def _do(self, worker: int, *commands: str) -> None:
        """Commands that answer with nothing but blank lines when all is well."""
        for begin in range(0, len(commands), _BATCH):
            answer = self.ask(*commands[begin : begin + _BATCH], worker=worker)
            if answer.strip() or not answer:
                raise Refused(f"haproxy refuses: {_first_line(answer)}")

    # --- processes

    def processes(self) -> Processes:
        """`show proc`."""
        master, reloads, failed, old = 0, 0, 0, False
        workers: list[Worker] = []
        for line in self.ask("show proc").splitlines():
            words = line.split()
            if line.startswith("#"):
                old = "old" in words
            elif len(words) > 2 and words[0].isdecimal():
                if words[1] == "master":
                    found = re.search(r"failed: (\d+)", line)
                    master, reloads, failed = int(words[0]), int(words[2]), int(found[1]) if found else 0
                elif words[1] == "worker":
                    workers.append(Worker(int(words[0]), old))
        if not master:
            raise EngineError("haproxy does not say which processes it has")
        return Processes(master, reloads, failed, tuple(workers))

    def reload(self, *, seconds: float = 60, alive: Callable[[], bool] = lambda: True) -> Processes:
        """Has the master read its configuration anew; returns once the new worker answers.

        The old one keeps its connections. 2.6 says nothing and closes its socket for some 30 ms while the master
        starts itself anew, so `show proc` is asked until it tells of one more attempt. Refused: the new
        configuration was not taken, and the old worker goes on as before. Gone: the master is not `alive`.
        """
        before = self.processes()
        deadline = time.monotonic() + seconds
        with contextlib.suppress(Gone):  # its end may come before its answer
            self.ask("reload", seconds=seconds)
        while True:
            with contextlib.suppress(Gone):
                after = self.processes()
                if after.failed > before.failed:
                    raise Refused("haproxy did not take its new configuration")
                new = after.present
                if after.reloads != before.reloads and new is not None and new not in before.workers:
                    self.ask("show map", worker=new.pid, seconds=max(0.1, deadline - time.monotonic()))
                    return after
            if not alive():
                raise Gone("haproxy has ended")
            if time.monotonic() > deadline:
                raise EngineError(f"haproxy has not reloaded within {seconds:.0f} s")
            time.sleep(0.003)  # a reload takes some 60 ms, and 2.6 closes its socket meanwhile

    # --- maps

    def maps(self, worker: int) -> dict[str, str]:
        """Name of a map's file without folder and `.map` -> how commands call it (`#0`)."""
        return {
            Path(path).stem: f"#{number}" for number, path in _MAP.findall(self.ask("show map", worker=worker))
        }

    def replace(self, worker: int, which: str, rows: Mapping[str, str]) -> None:
        """Replaces a whole map in one step: whoever looks something up sees the old one or the new one."""
        answer = self.ask(f"prepare map {which}", worker=worker)
        found = re.match(r"New version created: (\d+)", answer)
        if found is None:
            raise Refused(f"haproxy refuses: {_first_line(answer)}")
        version = f"@{found[1]}"
        try:
            self._do(worker, *(f"add map {version} {which} <<\n{chunk}" for chunk in _payloads(rows)))
            self._do(worker, f"commit map {version} {which}")
        except EngineError:
            with contextlib.suppress(EngineError):
                self.ask(f"clear map {version} {which}", worker=worker)
            raise

    def put(self, worker: int, which: str, key: str, value: str) -> None:
        """Sets one key's value, a new key's too."""
        _check(_PLAIN, key, value)
        answer = self.ask(f"set map {which} {key} {value}", worker=worker)
        if answer.startswith("entry not found"):
            self._do(worker, f"add map {which} {key} {value}")
        elif answer.strip() or not answer:
            raise Refused(f"haproxy refuses: {_first_line(answer)}")

    def remove(self, worker: int, which: str, key: str) -> None:
        """Removes one key; nothing where there is none."""
        _check(_PLAIN, key)
        answer = self.ask(f"del map {which} {key}", worker=worker)
        if not answer or (answer.strip() and not answer.startswith("Key not found")):
            raise Refused(f"haproxy refuses: {_first_line(answer)}")

    # --- streams

    def sessions(self, worker: int) -> list[Session]:
        """The open streams of clients; those of its own command line are left out."""
        return list(parse_sessions(self.ask("show sess all", worker=worker, seconds=4 * self._seconds)))

    def session(self, worker: int, pointer: str) -> Session | None:
        """The stream that is at that place now; None where there is none."""
        return next(parse_sessions(self.ask(f"show sess {pointer}", worker=worker)), None)

    def shut(self, worker: int, pointers: Sequence[str]) -> None:
        """Ends streams. One that is gone already is none to worry about."""
        for begin in range(0, len(pointers), _BATCH):
            commands = [f"shutdown session {one}" for one in pointers[begin : begin + _BATCH]]
            answer = self.ask(*commands, worker=worker)
            odd = [line for line in answer.splitlines() if line and not line.startswith("No such session")]
            if odd or not answer:
                raise Refused(f"haproxy refuses: {_first_line(' '.join(odd))}")

    # --- figures

    def info(self, worker: int) -> dict[str, str]:
        """`show info`: name -> value."""
        lines = self.ask("show info", worker=worker).splitlines()
        return {name: value.strip() for name, found, value in (line.partition(":") for line in lines) if found}

    def table(self, worker: int, name: str, counter: str) -> dict[str, int]:
        """Key -> `counter` (as `gpc0`, `http_req_cnt`) of a stick table's entries where it is above 0."""
        answer = self.ask(f"show table {name} data.{counter} gt 0", worker=worker)
        if answer.startswith("No such table"):
            return {}
        found = {}
        for key, rest in _ENTRY.findall(answer):
            count = re.search(rf"\b{counter}=(\d+)", rest)
            if count:
                found[key] = int(count[1])
        return found


def parse_sessions(text: str) -> Iterator[Session]:
    """What `show sess` tells of clients."""
    for pointer, number, source, frontend, name in _SESSION.findall(text):
        if frontend != "GLOBAL":
            address, _, port = source.rpartition(":")
            shown = int(port) if port.isdecimal() else 0
            yield Session(pointer, int(number), address.strip("[]"), shown, frontend, name)


def _payloads(rows: Mapping[str, str]) -> Iterator[str]:
    lines: list[str] = []
    size = 0
    for line in _lines(rows.items()):
        if lines and size + len(line) > CHUNK:
            yield "".join(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield "".join(lines)


def _lines(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, value in rows:
        _check(_WORD, key, value)
        if len(key) + len(value) > CHUNK - 2:
            raise EngineError("a row is too long for haproxy")
        yield f"{key} {value}\n"


def _check(form: re.Pattern[str], *words: str) -> None:
    """What would mean something else to HAProxy never gets there, whatever it came from."""
    for word in words:
        if form.fullmatch(word) is None:
            raise EngineError(f"{word[:60]!r} cannot be told to haproxy")


def _first_line(answer: str) -> str:
    return next((line for line in answer.splitlines() if line.strip()), "no answer")[:200]


@contextlib.contextmanager
def _within_reach(path: Path) -> Iterator[str]:
    """A name of the socket that is short enough for connect(2)."""
    if len(os.fsencode(path)) <= _PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
