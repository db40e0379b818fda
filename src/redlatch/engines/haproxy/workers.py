"""The workers of a running HAProxy: the present one, which is told of changes, and old ones, which shall end."""

from __future__ import annotations

import contextlib

from redlatch.engines.haproxy.daemon import Daemon
from redlatch.engines.haproxy.report import say
from redlatch.engines.haproxy.runtime import Gone, Processes
from redlatch.errors import EngineError


class Workers:
    """What is known of them until `forget`. Methods raise EngineError where HAProxy cannot be asked."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._found: Processes | None = None
        self._maps: dict[int, dict[str, str]] = {}
        self._stale: set[int] = set()

    def forget(self) -> None:
        """They may be others now."""
        self._found = None

    def know(self, found: Processes) -> None:
        """They are these."""
        self._found = found

    def look(self) -> Processes:
        """Asks anew, and notes what was found for a later `run`."""
        self._found = found = self._daemon.runtime.processes()
        self._daemon.note(found)
        pids = {one.pid for one in found.workers}
        self._maps = {pid: one for pid, one in self._maps.items() if pid in pids}
        self._stale &= pids
        return found

    def all(self) -> list[int]:
        """The pids of all workers, the present one first."""
        return [one.pid for one in self._processes().workers]

    def present(self) -> int:
        """The one that takes new connections."""
        present = self._processes().present
        if present is None:
            raise EngineError("haproxy has no worker")
        return present.pid

    def maps(self, pid: int) -> dict[str, str]:
        """As Runtime.maps."""
        if pid not in self._maps:
            self._maps[pid] = self._daemon.runtime.maps(pid)
        return self._maps[pid]

    def table(self, name: str, counter: str) -> dict[int, dict[str, int]]:
        """As Runtime.table, of each of them."""
        found = {}
        for pid in self.all():
            with contextlib.suppress(Gone):
                found[pid] = self._daemon.runtime.table(pid, name, counter)
        return found

    def make_stale(self) -> None:
        """Has old workers refuse every new request; one that cannot be told so is ended."""
        present = self.present()
        for pid in self.all():
            if pid == present or pid in self._stale:
                continue
            try:
                which = self.maps(pid).get("state")
                if which is not None:  # else it refuses everybody anyway
                    self._daemon.runtime.put(pid, which, "stale", "1")
            except Gone:
                continue
            except EngineError as error:
                say("warning", "an old worker is ended", pid=pid, why=error.message)
                self._daemon.end_worker(pid)
            self._stale.add(pid)

    def _processes(self) -> Processes:
        if self._found is None:
            self._found = self._daemon.runtime.processes()
        return self._found
