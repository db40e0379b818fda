"""The one picture: accepted and refused over time, drawn here, so that it needs no script and obeys the CSP."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from redlatch.service.watch import Hour

STEP = 14.0  # units of the picture for one hour, of which the bar takes 11
_BAR = 11.0
HEIGHT = 70.0  # units of the highest bar of each half


class Bar(NamedTuple):
    """A rectangle, in units of the picture."""

    x: float
    y: float
    width: float
    height: float


class Chart(NamedTuple):
    """Accepted above the line, refused below it; each half has a scale of its own, and says what its highest bar
    is. `ticks` are (x, moment) every six hours.
    """

    width: float
    accepted: tuple[Bar, ...]
    refused: tuple[Bar, ...]
    most_accepted: int
    most_refused: int
    all_accepted: int
    all_refused: int
    ticks: tuple[tuple[float, datetime], ...]


def draw(hours: Sequence[Hour]) -> Chart:
    """The picture of these hours, the oldest at the left. What happened at all is at least a line."""
    most_accepted = max((one.accepted for one in hours), default=0)
    most_refused = max((one.refused for one in hours), default=0)
    accepted, refused = [], []
    for number, one in enumerate(hours):
        x = round(number * STEP + (STEP - _BAR) / 2, 1)
        if one.accepted:
            height = _height(one.accepted, most_accepted)
            accepted.append(Bar(x, round(HEIGHT - height, 1), _BAR, height))
        if one.refused:
            refused.append(Bar(x, 0.0, _BAR, _height(one.refused, most_refused)))
    local = [one.at.astimezone() for one in hours]
    return Chart(
        round(len(hours) * STEP, 1),
        tuple(accepted),
        tuple(refused),
        most_accepted,
        most_refused,
        sum(one.accepted for one in hours),
        sum(one.refused for one in hours),
        tuple((round(number * STEP, 1), at) for number, at in enumerate(local) if at.hour % 6 == 0),
    )


def _height(count: int, most: int) -> float:
    return round(max(2.0, HEIGHT * count / most), 1)
