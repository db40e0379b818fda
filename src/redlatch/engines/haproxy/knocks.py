"""Who is turned away before HTTP: HAProxy counts them by address and reason, and each second makes lines of it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from redlatch.errors import RedlatchError
from redlatch.files import read_own, write_soft

_MOST: Final = 2000  # lines a second


class Knocks:
    """What was counted before, kept in a file so that the next `run` tells nothing twice."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, dict[str, int]] = {}  # worker -> "address|reason" -> count
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            self._seen = {
                str(pid): {str(key): int(count) for key, count in counts.items()}
                for pid, counts in json.loads(read_own(path)).items()
            }

    def fold(self, counted: Mapping[int, Mapping[str, int]]) -> list[dict[str, Any]]:
        """Lines of the access log for what came since, one for each address and reason; `counted` by worker."""
        after = {str(pid): dict(counts) for pid, counts in counted.items() if counts}
        lines = list(self._lines(after))[:_MOST]
        if after != self._seen:
            self._seen = after
            with contextlib.suppress(RedlatchError):
                write_soft(self._path, json.dumps(after).encode(), mode=0o600)
        return lines

    def _lines(self, after: Mapping[str, Mapping[str, int]]) -> Iterator[dict[str, Any]]:
        for pid, counts in after.items():
            before = self._seen.get(pid, {})
            for key, count in counts.items():
                # An entry that expired begins anew
                more = count - before.get(key, 0) if count >= before.get(key, 0) else count
                address, _, reason = key.rpartition("|")
                if more and address:
                    yield {
                        "at": round(time.time(), 3),
                        "from": address,
                        "device": None,
                        "fp": None,
                        "method": None,
                        "path": None,
                        "allow": False,
                        "reason": reason,
                        "upgrade": False,
                        "count": more,
                    }
