"""The HAProxy process: started in a session of its own, found again by a later `run`, noticed when it ends.

Its master outlives whoever started it (systemd: KillMode=process), so that a killed `run` opens nothing and cuts
nothing. A file says which process it is; its start time tells it from a later one of the same id.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from redlatch.engines.haproxy.folders import CONFIG, Folders, complaint
from redlatch.engines.haproxy.program import Program
from redlatch.engines.haproxy.runtime import Gone, Processes, Runtime
from redlatch.errors import EngineError, RedlatchError
from redlatch.files import explained, read_own, write_soft

_MESSAGES: Final = 1 << 20  # bytes of HAProxy's own words that are kept


class Daemon:
    """HAProxy, as it runs or not."""

    def __init__(self, program: Program, folders: Folders, *, log_fd: int) -> None:
        self.program = program
        self._folders = folders
        self._log_fd = log_fd
        self._socket = folders.root / "master.sock"
        self._note = folders.root / "haproxy.json"
        self._messages = folders.root / "messages"
        self._child: subprocess.Popen[bytes] | None = None
        self._workers: dict[int, int] = {}  # pid -> start time
        self._pidfd = -1
        self.pid = 0
        self.runtime = Runtime(self._socket)

    # --- whether it runs

    @property
    def pidfd(self) -> int:
        """Readable once the master has ended; -1 where none was started."""
        return self._pidfd

    def is_running(self) -> bool:
        """Whether the master lives."""
        if self._pidfd < 0:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    def adopt(self) -> bool:
        """Takes over an HAProxy that an earlier `run` started and that still answers."""
        try:
            note: dict[str, Any] = json.loads(read_own(self._note))
            pid, started = int(note["pid"]), int(note["started"])
            workers = {int(key): int(value) for key, value in note["workers"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False
        self._workers = workers
        try:
            self._hold(pid)
        except OSError:
            return False
        if _started(pid) != started:  # another process that got its id
            self._let_go()
            return False
        answers = False
        with contextlib.suppress(EngineError):
            answers = note.get("version") == self.program.name and self.runtime.processes().master == pid
        if not answers:  # it cannot be led, and would hold the ports
            self.stop()
            return False
        self.note()
        return True

    def start(self, *, seconds: float = 60) -> Processes:
        """Starts it with the current folder's configuration; returns once its worker answers.

        EngineError with HAProxy's own words when it ends before (a port is taken) or is not ready in time.
        """
        self._end_workers()
        with explained("remove", self._socket):
            self._socket.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with explained("write", self._messages):
            messages = os.open(self._messages, flags, 0o600)
        environ = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TZ")}
        arguments = [
            str(self.program.path),
            *("-W", "-S", f"unix@{self._socket.name},mode,600,level,admin"),
            *("-f", str(self._folders.link / CONFIG)),
        ]
        try:
            self._child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
                cwd=self._folders.root,  # its socket's name is relative: sun_path is short
                env=environ,
                pass_fds=(self._log_fd,),
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"haproxy cannot be started: {(error.strerror or str(error)).lower()}") from error
        finally:
            os.close(messages)
        self._hold(self._child.pid)
        deadline = time.monotonic() + seconds
        while True:
            try:
                found = self.runtime.processes()
                if found.present is not None and found.master == self.pid:
                    self.runtime.ask("show map", worker=found.present.pid, seconds=seconds)
                    self.note(found)
                    return found
            except Gone:
                pass
            if not self.is_running():
                self.ended()
                raise EngineError(f"haproxy does not start: {self.words()}")
            if time.monotonic() > deadline:
                self.stop()
                raise EngineError(f"haproxy is not ready within {seconds:.0f} s: {self.words()}")
            time.sleep(0.005)  # a start takes some 60 ms, and nothing tells when it is over

    def reload(self) -> Processes:
        """Has it read the current folder; see Runtime.reload."""
        with contextlib.suppress(OSError):
            if self._messages.lstat().st_size > _MESSAGES:
                os.truncate(self._messages, 0)
        found = self.runtime.reload(alive=self.is_running)
        self.note(found)
        return found

    def words(self) -> str:
        """What it complained of last."""
        try:
            return complaint(read_own(self._messages)[-8192:].decode("utf-8", "replace"))
        except OSError:
            return "it does not say why"

    def ended(self) -> None:
        """Takes note that it has ended: nothing of it is left running."""
        if self._child is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(1)
            self._child = None
        self._end_workers()
        self._let_go()

    def stop(self, *, seconds: float = 10) -> None:
        """Ends it, and all connections with it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not self.is_running():
                break
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, number)
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        self.ended()
        with contextlib.suppress(OSError):
            self._note.unlink()

    def note(self, found: Processes | None = None) -> None:
        """Writes down which processes it has."""
        try:
            found = found or self.runtime.processes()
            workers = {one.pid: _started(one.pid) for one in found.workers}
        except EngineError:
            return
        if workers == self._workers and self._note.exists():
            return
        self._workers = workers
        body = {
            "format": 1,
            "pid": self.pid,
            "started": _started(self.pid),
            "version": self.program.name,
            "workers": workers,
        }
        with contextlib.suppress(RedlatchError):
            write_soft(self._note, json.dumps(body).encode() + b"\n", mode=0o600)

    def end_worker(self, pid: int) -> None:
        """Ends one worker that cannot be told anything any more, with its connections."""
        if self._workers.get(pid) == _started(pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def _end_workers(self) -> None:
        """Ends workers whose master is gone: they hold the ports, and nobody tells them anything."""
        for pid, started in self._workers.items():
            if started and _started(pid) == started:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        self._workers = {}

    def _hold(self, pid: int) -> None:
        self._let_go()
        self._pidfd = os.pidfd_open(pid)
        self.pid = pid

    def _let_go(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd, self.pid = -1, 0


def _started(pid: int) -> int:
    """When a process was started (proc(5), clock ticks since boot); 0 where there is none."""
    try:
        data = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    fields = data.rpartition(b")")[2].split()
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
