"""Keeps an HAProxy running that enforces what is published, and tells what it does."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from redlatch.engines.haproxy import compile as tables
from redlatch.engines.haproxy import live, metrics
from redlatch.engines.haproxy.accesslog import AccessLog
from redlatch.engines.haproxy.cutting import Cutter
from redlatch.engines.haproxy.daemon import Daemon
from redlatch.engines.haproxy.folders import Folders, try_out
from redlatch.engines.haproxy.knocks import Knocks
from redlatch.engines.haproxy.listing import Listing
from redlatch.engines.haproxy.model import listener
from redlatch.engines.haproxy.program import Program
from redlatch.engines.haproxy.published import Published, Setting
from redlatch.engines.haproxy.render import Places, render
from redlatch.engines.haproxy.report import Claims, State, say
from redlatch.engines.haproxy.streams import Streams
from redlatch.engines.haproxy.tree import Changed
from redlatch.engines.haproxy.workers import Workers
from redlatch.errors import EngineError, RedlatchError
from redlatch.files import make_dir
from redlatch.policy.model import Snapshot
from redlatch.settings import Settings

#: The descriptor that HAProxy writes its log to: the same number in every `run`, since it outlives one.
LOG_FD: Final = 50
_BACK_OFF: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)  # s before a start after one that failed
_STEADY: Final = 30.0  # s of life after which an end is the first one again
_RETRY: Final = (1.0, 2.0, 5.0, 10.0, 30.0)  # s until what could not be done is tried again
_LINGER: Final = 2.0  # s for the last requests to an old worker that knows the same snapshot


class Supervisor:
    """One gateway. `look` and `tick` never raise for what a file, a disk or HAProxy can cause."""

    def __init__(self, settings: Settings, program: Program) -> None:
        """Raises FileProblem where the spool cannot be written."""
        root = settings.spool / "haproxy"
        make_dir(root, mode=0o700)
        self._root = root
        self._log = AccessLog(settings.spool, root / "log", descriptor=LOG_FD)
        self._folders = Folders(root)
        self._published = Published(settings)
        self.daemon = Daemon(program, self._folders, log_fd=LOG_FD)
        self._streams = Streams()
        self._cutter = Cutter(self.daemon.runtime, self._streams, self._read_log)
        self._knocks = Knocks(root / "knocks.json")
        self._counted = metrics.Counted()
        self.claims = Claims(settings.spool, State(f"haproxy/{program.short}"))
        self._listing = Listing(self.daemon.runtime, self._streams, self.claims)
        self.answering = metrics.Answering(root / "metrics.sock", self._figures)
        self._workers = Workers(self.daemon)
        self._stale_due: float | None = None
        # What is published, as far as it can be read, and what of it is in force
        self._seen: tuple[object, ...] = ()
        self._setting_seen: tuple[object, ...] = ()
        self._candidate: Setting | None = None
        self._snapshot: tuple[Snapshot, str] | None = None
        self._changed: Changed = {}
        self._setting: Setting | None = None
        self._refused: Setting | None = None
        self._told: live.Told | None = None
        self._is_closed = False  # refuses everybody, for want of a snapshot
        self._problems: dict[str, str] = {}
        self._tries = 0
        self._retry_at: float | None = None
        self._starts = 0
        self._start_at = 0.0
        self._started = 0.0

    # --- for the loop

    def begin(self) -> None:
        """Takes over what an earlier `run` left, or starts HAProxy."""
        self._streams.feed(self._log.start())
        if self.daemon.adopt():
            if self._log.is_that_of(self.daemon.pid):
                self._started = time.monotonic()
                self.claims.recall()  # until something newer is in force
                say("info", "haproxy is taken over", pid=self.daemon.pid)
            else:  # its lines would go where nobody reads them
                say("warning", "haproxy is started anew", why="the pipe to the access log was removed")
                self.daemon.stop()
        if not self.daemon.is_running():
            self._folders.tidy()
        self.look()
        self.claims.in_force()

    def due(self) -> float:
        """When something is to be done at the latest (time.monotonic)."""
        times = [self._cutter.due(), self._stale_due, self._retry_at]
        if not self.daemon.is_running():
            times.append(self._start_at)
        return min((one for one in times if one is not None), default=float("inf"))

    def look(self) -> None:
        """Brings into force what is published, where it has changed, or could not be brought before."""
        noticed = time.monotonic()
        state = self._published.state()
        again = self._retry_at is not None and noticed >= self._retry_at
        if state == self._seen and not again and (self.daemon.is_running() or noticed < self._start_at):
            return
        self._retry_at = None
        if again:
            self._refused = None
        if state != self._seen:
            self._seen, self._tries = state, 0
            self._read_published()
        elif self._problems.keys() & {"snapshot", "gateway"}:
            self._setting_seen = ()
            self._read_published()
        with self._trying("engine", again=True):
            self._bring(noticed)

    def look_again(self) -> None:
        """What is due between two ticks: streams that nobody knew, old workers' last requests, the log."""
        now = time.monotonic()
        self._read_log()
        self._problem("log", self._log.problem)
        due = self._cutter.due()
        if due is not None and now >= due and self._snapshot is not None:
            with self._trying("streams"):
                self._closed(self._cutter.again(self._snapshot[0]))
        if self._stale_due is not None and now >= self._stale_due:
            with self._trying("workers"):
                self._make_stale()

    def ended(self) -> None:
        """Takes note that HAProxy has ended; `look` starts it again."""
        lived = time.monotonic() - self._started
        self._problem("engine", f"haproxy has ended: {self.daemon.words()}")
        self.daemon.ended()
        self._told = None
        self._workers = Workers(self.daemon)
        if lived > _STEADY:
            self._starts = 0
        self._start_at = time.monotonic() + (0 if not self._starts else self._pause())
        self._starts += 1

    def tick(self) -> None:
        """Each second: what expired, and what is told."""
        if self.daemon.is_running():
            with self._trying("streams"):
                self._look_at_haproxy()
        self.claims.beat()

    def stop(self) -> None:
        """Ends HAProxy too."""
        self.daemon.stop()
        self._folders.clear()
        self.answering.close()
        self._read_log()
        self._log.close()
        self.claims.state.problem = "the gateway was stopped"
        self.claims.in_force()

    # --- what is published

    def _read_published(self) -> None:
        state = self._published.setting_state()
        if state != self._setting_seen:
            with self._trying("gateway", again=True):
                self._candidate = self._published.setting()
                self._setting_seen = state
        with self._trying("snapshot", again=True):
            snapshot, digest, changed = self._published.snapshot()
            self._changed.update(changed)
            self._snapshot = snapshot, digest

    # --- bringing it into force

    def _bring(self, noticed: float) -> None:
        running = self.daemon.is_running()
        if running and self._told is None and self._snapshot is None and not self._is_closed:
            self._keep()  # taken over, with an older snapshot that was a good one
            return
        candidate = self._candidate
        if candidate is None:
            if self._setting is None:
                return
            candidate = self._setting
        if candidate == self._setting:
            self._problem("setting", None)
        same_setting = candidate in (self._setting, self._refused)
        if running and same_setting:
            if self._told is not None and self._snapshot is not None:
                if self._is_in_force():
                    return
                step = live.plan(self._told, *self._snapshot, self._changed)
                if step is not None:
                    self._bring_live(step, noticed)
                    return
            elif self._snapshot is None and self._is_closed:
                return
        self._bring_anew(candidate, noticed)

    def _bring_live(self, step: live.Plan, noticed: float) -> None:
        folder = self._folders.current()
        present = self._workers.present()
        if folder is None or self._told is None:
            raise EngineError("haproxy's files are gone")
        live.write(folder, self._told, step)
        self._make_stale()
        before, self._told = self._told, None  # what is told in part is not known: only a reload follows
        try:
            live.tell(self.daemon.runtime, present, self._workers.maps(present), before, step)
        except EngineError as error:
            say("warning", "the runtime api failed; reloading", why=error.message)
            if self._setting is None:
                raise
            self._bring_anew(self._setting, noticed)
            return
        self._told, self._changed = step.next, {}
        self._done(noticed, self._cut(step.only) if step.takes else 0)

    def _bring_anew(self, setting: Setting, noticed: float) -> None:
        """By a start or a reload; where the new setting is not taken, with the one that was."""
        try:
            self._bring_setting(setting)
        except RedlatchError as error:
            if self._setting is None or setting == self._setting:
                raise
            self._refused = setting
            self._problem("setting", _told(error))
            self._retry_at = time.monotonic() + _RETRY[-1]
            if self.daemon.is_running() and self._is_in_force():
                return
            self._bring_setting(self._setting)
        else:
            self._refused = None
            self._problem("setting", None)
        self._done(noticed, self._cut(None))

    def _bring_setting(self, setting: Setting) -> None:
        snapshot = self._snapshot[0] if self._snapshot is not None else None
        compiled = tables.compile_tables(snapshot) if snapshot is not None else {}
        folder = self._folders.next()
        places = Places(
            folder=folder, pems=folder, log_fd=LOG_FD, metrics_socket=self._root / "metrics.sock", ipv6=_has_ipv6()
        )
        files = render(snapshot, setting.gateway, setting.secret, places)
        files |= {f"{name}.map": tables.text(rows) for name, rows in compiled.items()}
        self._folders.write(folder, files | dict(setting.pems))
        before = self._folders.current()
        try:
            try_out(self.daemon.program, folder, log_fd=LOG_FD)
            self._folders.switch(folder)
            if self.daemon.is_running():
                self._workers.know(self.daemon.reload())
                say("info", "haproxy has reloaded", pid=self.daemon.pid)
            else:
                self._workers.know(self.daemon.start())
                self._started = time.monotonic()
                say("info", "haproxy is started", pid=self.daemon.pid, version=self.daemon.program.name)
        except BaseException:
            if before is not None and self._folders.current() == folder:
                self._folders.switch(before)
            self._folders.remove(folder)
            raise
        same = self._is_in_force()
        self._setting, self._changed = setting, {}
        self._told = live.told(*self._snapshot, compiled) if self._snapshot is not None else None
        self._is_closed = self._snapshot is None
        self._folders.tidy()
        gc.collect()
        gc.freeze()  # what a hundred thousand devices take is not looked through again and again
        # Old workers know an older snapshot: they are to refuse every new request. Where it is the same one, the
        # last requests of their connections may still come.
        self._stale_due = time.monotonic() + _LINGER
        if not same:
            self._make_stale()

    def _is_in_force(self) -> bool:
        """Whether the present worker has been told of the snapshot that is published."""
        return self._told is not None and self._snapshot is not None and self._told.digest == self._snapshot[1]

    def _cut(self, only: frozenset[str] | None) -> int:
        if self._snapshot is None:
            return 0
        return self._cutter.after(self._snapshot[0], self._workers.all(), only)

    def _make_stale(self) -> None:
        self._stale_due = None
        self._workers.make_stale()

    def _keep(self) -> None:
        """Says that a HAProxy that was taken over enforces what an earlier `run` told it."""
        self._problem("kept", "what haproxy was told before stays in force")

    def _done(self, noticed: float, closed: int) -> None:
        state = self.claims.state
        self._starts = 0 if time.monotonic() - self._started > _STEADY else self._starts
        if self._snapshot is not None:
            snapshot, digest = self._snapshot
            state.site, state.version, state.digest = snapshot.site, snapshot.version, digest
        else:
            state.site, state.version, state.digest = "", 0, ""
        if self._setting is not None:
            ends = self._setting.server_not_after
            state.port = listener(self._setting.gateway.listen[0])[1]
            state.server_not_after = ends.timestamp() if ends is not None else None
        state.closed, state.ms = closed, round((time.monotonic() - noticed) * 1000, 1)
        for what in ("engine", "kept"):
            self._problems.pop(what, None)
        state.problem = "; ".join(self._problems.values()) or None
        self.claims.in_force()
        say("info", "in force", version=state.version, closed=closed, ms=state.ms)

    # --- each second

    def _look_at_haproxy(self) -> None:
        pids = {one.pid for one in self._workers.look().workers}
        if self._snapshot is not None and self._told is not None:
            self._closed(self._cutter.ended(self._snapshot[0], pids))
        self._log.append(self._knocks.fold(self._workers.table("knocks", "gpc0")))
        self._listing.look(pids)

    # --- small things

    def _read_log(self) -> None:
        self._feed(self._log.read())

    def _feed(self, lines: list[bytes]) -> None:
        if lines and self._streams.feed(lines):
            self._listing.changed()

    def _closed(self, count: int) -> None:
        if count:
            self._listing.changed()
            self.claims.state.closed += count
            self.claims.in_force()
            say("info", "streams are cut", count=count)

    def _pause(self) -> float:
        return _BACK_OFF[min(self._starts, len(_BACK_OFF)) - 1]

    @contextlib.contextmanager
    def _trying(self, what: str, *, again: bool = False) -> Iterator[None]:
        """Has a problem said, and (with `again`) tried once more later, instead of raised."""
        try:
            yield
        except (RedlatchError, OSError) as error:
            self._problem(what, _told(error))
            if again:
                self._retry_at = time.monotonic() + _RETRY[min(self._tries, len(_RETRY) - 1)]
                self._tries += 1
            if not self.daemon.is_running():
                self._start_at = max(self._start_at, self._retry_at or 0.0)
            self._workers.forget()
        else:
            self._problem(what, None)

    def _problem(self, what: str, message: str | None) -> None:
        if self._problems.get(what) == message:
            return
        if message is None:
            del self._problems[what]
        else:
            self._problems[what] = message
            say("error", "the gateway has a problem", what=what, why=message)
        self.claims.state.problem = "; ".join(self._problems.values()) or None
        self.claims.in_force()

    def _figures(self) -> str:
        snapshot = self._snapshot[0] if self._told is not None and self._snapshot is not None else None
        now = time.time()
        workers = []
        with contextlib.suppress(EngineError):
            workers = self._workers.all()
        decisions, dropped = self._counted.look(self.daemon.runtime, workers)
        devices, soonest, ending = self._counted.ends(snapshot.devices if snapshot is not None else {}, now)
        return metrics.shown(
            metrics.Figures(
                now=now,
                version=self.claims.state.version,
                time=snapshot.time if snapshot is not None else 0,
                devices=devices,
                soonest=soonest,
                ending=ending,
                decisions=decisions,
                dropped=dropped + self._log.dropped,
                streams=self._listing.count,
            )
        )


def _told(error: Exception) -> str:
    return error.message if isinstance(error, RedlatchError) else str(error).lower()


def _has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()
