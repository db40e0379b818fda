"""Whether figures that were taken minute by minute stay as they are, or grow: the judge of bench/soak.py.

The first quarter of the run is held against the last one, after a warm-up. A figure grows when the medians
differ by more than what is allowed, and the slope over all minutes (Theil-Sen: the median of the slopes of all
pairs, which single bad minutes do not move) says so too. Both: the first alone is also true of a saw-tooth that
was cut at a bad moment, the second alone of a difference that is too small to mean anything.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Allowed:
    """How much more the last quarter may have: `share` of the first one's, and at least `least`."""

    share: float
    least: float

    def of(self, begin: float) -> float:
        return max(self.share * begin, self.least)


#: By what stands behind the dot of a series' name. Memory in MiB, times in ms.
ALLOWED: Final = {
    "rss": Allowed(0.10, 4.0),
    "fds": Allowed(0.0, 3.0),
    "threads": Allowed(0.0, 1.0),
    "p50": Allowed(0.5, 2.0),
    "p99": Allowed(1.0, 25.0),
}


@dataclass(frozen=True)
class Verdict:
    """One series: its first and last quarter's medians, its slope over the whole run, and whether it grows."""

    name: str
    begin: float
    end: float
    slope: float  # what it gains from the first to the last minute
    grows: bool


def slope(values: Sequence[float]) -> float:
    """The median of the slopes of all pairs, a minute; NaN is left out (a minute without a figure)."""
    kept = [(at, value) for at, value in enumerate(values) if not math.isnan(value)]
    found = [(two - one) / (at_two - at_one) for (at_one, one), (at_two, two) in itertools.combinations(kept, 2)]
    return statistics.median(found) if found else 0.0


def warm_up(minutes: int) -> int:
    """How many minutes do not count: a tenth, at most five."""
    return min(5, minutes // 10)


def judge(name: str, values: Sequence[float], yardstick: Sequence[float] | None = None) -> Verdict:
    """Judges one figure a minute. `yardstick`: a time of the same minutes that has nothing to do with redlatch; a
    latency that grew no more than it did has only seen a busier machine.
    """
    values = values[warm_up(len(values)) :]
    begin, end = _quarters(values)
    gain = slope(values) * (len(values) - 1)
    allowed = ALLOWED[name.rpartition(".")[2]].of(begin)
    grows = end - begin > allowed and gain > allowed
    if grows and yardstick is not None:
        before, after = _quarters(yardstick[warm_up(len(yardstick)) :])
        busier = after / before if before > 0 else 1.0
        grows = end > begin * max(busier, 1.0) + allowed
    return Verdict(name, begin, end, gain, grows)


def _quarters(values: Sequence[float]) -> tuple[float, float]:
    """The medians of the first and the last quarter."""
    size = max(1, len(values) // 4)
    first, last = ([one for one in part if not math.isnan(one)] for part in (values[:size], values[-size:]))
    return _median(first), _median(last)


def judge_all(series: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """Every series that has something allowed; "yardstick.p50" is what the latencies are held against."""
    yardstick = series.get("yardstick.p50")
    found = []
    for name, values in sorted(series.items()):
        place, _, kind = name.rpartition(".")
        if place != "yardstick" and kind in ALLOWED:
            found.append(judge(name, values, yardstick if kind in ("p50", "p99") else None))
    return found


def table(verdicts: Sequence[Verdict]) -> str:
    """Markdown."""
    units = {"rss": "MiB", "p50": "ms", "p99": "ms", "fds": "", "threads": ""}
    lines = [
        "| figure | first quarter | last quarter | slope over the run | verdict |",
        "|---|---:|---:|---:|---|",
    ]
    for one in verdicts:
        unit = units[one.name.rpartition(".")[2]]
        figures = [f"{value:.1f} {unit}".strip() for value in (one.begin, one.end)]
        gained = f"{one.slope:+.1f} {unit}".strip()
        lines.append(
            f"| {one.name} | {figures[0]} | {figures[1]} | {gained} | {'**grows**' if one.grows else 'flat'} |"
        )
    return "\n".join(lines) + "\n"


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else math.nan
