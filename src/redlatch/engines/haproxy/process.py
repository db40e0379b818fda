"""`redlatch gateway run`: the process that follows what is published and keeps HAProxy at it.

It is not in the way of any request. Killed, it leaves HAProxy enforcing, expiry included; the next one takes over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final, Self

from redlatch.engines.haproxy.program import find
from redlatch.engines.haproxy.report import notify, say
from redlatch.engines.haproxy.supervise import Supervisor
from redlatch.errors import Busy
from redlatch.files import explained, make_dir
from redlatch.settings import Settings

_POLL: Final = 0.25  # s between two looks at what is published, where no signal tells of a change
_TICK: Final = 1.0
_CHANGES: Final = fcntl.DN_CREATE | fcntl.DN_RENAME | fcntl.DN_MODIFY | fcntl.DN_DELETE | fcntl.DN_MULTISHOT


def run(settings: Settings, *, haproxy: Path | None = None) -> None:
    """Runs the gateway of this home (Settings.gateway) until SIGTERM or ctrl-c; then HAProxy ends too.

    For the main thread. `haproxy`: another one than the installed. Raises EngineError when there is no HAProxy, or
    none that is new enough, Busy when another one runs in this home, FileProblem when the spool cannot be written.
    Everything later is told in the claim and on stderr, and tried again.
    """
    program = find(haproxy)
    make_dir(settings.spool / "haproxy", mode=0o700)
    with _alone(settings.spool / "haproxy" / "lock"), _Signals() as signals:
        supervisor = Supervisor(settings, program)
        say("info", "the gateway begins", haproxy=program.name)
        supervisor.begin()
        notify("READY=1\nSTATUS=follows " + str(settings.published))
        try:
            _loop(supervisor, signals, settings.published)
        finally:
            notify("STOPPING=1")
            supervisor.stop()
            say("info", "the gateway has ended")


def _loop(supervisor: Supervisor, signals: _Signals, published: Path) -> None:
    ticked = 0.0
    with _Watch() as watch:
        while not signals.stopping:
            watch.keep(published)
            now = time.monotonic()
            if now >= ticked + _TICK:
                ticked = now
                supervisor.tick()
            supervisor.look()
            supervisor.look_again()
            left = max(0.0, min(_POLL, supervisor.due() - time.monotonic()))
            poll = select.poll()
            poll.register(signals.pipe, select.POLLIN)
            poll.register(supervisor.answering.fileno(), select.POLLIN)
            pidfd = supervisor.daemon.pidfd
            if pidfd >= 0:
                poll.register(pidfd, select.POLLIN)
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == signals.pipe:
                    signals.drain()
                elif descriptor == pidfd:
                    supervisor.ended()
                else:
                    supervisor.answering.answer()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One `run` in a home. Raises Busy."""
    with explained("open", path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy("this gateway runs already", hint="look with: systemctl status redlatch-gateway") from error
        yield
    finally:
        os.close(descriptor)


class _Signals:
    """Signals as something to poll: `pipe` is readable after one, `stopping` says that it was one to stop."""

    def __init__(self) -> None:
        self.stopping = False
        self.pipe = self._end = -1

    def __enter__(self) -> Self:
        self.pipe, self._end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        for number in (signal.SIGIO, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, self._awake)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGIO, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(self.pipe)
        os.close(self._end)

    def drain(self) -> None:
        """Takes note of them."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.pipe, 4096):
                pass

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _awake(self, _number: int, _frame: FrameType | None) -> None:
        """Ends a poll; that is all."""


class _Watch:
    """Asks the kernel for a signal (SIGIO) when something changes in a folder (dnotify, fcntl(2))."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._folder: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def keep(self, folder: Path) -> None:
        """Watches the folder, also when it is another one than before. Where that fails, the poll finds out."""
        with contextlib.suppress(OSError):
            state = folder.stat()
            if (state.st_dev, state.st_ino) == self._folder:
                return
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1
            self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.fcntl(self._descriptor, fcntl.F_NOTIFY, _CHANGES)
            self._folder = state.st_dev, state.st_ino
