"""Checks on who comes in and who does not, by what the probe from outside saw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from redlatch.checks import doors, looking, outside
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.checks.outside import Probed, Row
from redlatch.operations.throwaways import left, revoke_left

_NAMED: Final = 4


def probed(scene: Scene) -> Probed:
    """What one run saw, for all checks of this scene and for whoever shows the table. Errors as `probe`."""
    known: Probed | None = scene.__dict__.get("outside")
    if known is None:
        known = scene.__dict__["outside"] = outside.probe(scene.site, scene.environ, with_devices=scene.devices)
    return known


def _look_open(scene: Scene) -> Iterator[Found]:
    for place, words in _by_place(row for row in _rows(scene) if row.is_open):
        yield Found(f"{place} lets in who should be refused: {words}", place)
    _all_judged(scene)


def _look_shut(scene: Scene) -> Iterator[Found]:
    shut = [row for row in _rows(scene) if not row.ok and not row.is_open]
    if not shut and not scene.devices:
        raise Unknown("only strangers knocked; by hand, redlatch check knocks with devices too")
    for place, words in _by_place(shut):
        yield Found(f"{place} refuses who should come in: {words}", place)
    _all_judged(scene)


def _by_place(rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    """(surface of a door, what came with which keys): a door that stands open is one finding for each of them."""
    found: dict[str, list[str]] = {}
    for row in rows:
        trick = f" ({row.trick}: {row.path})" if row.trick else ""
        place = f"{row.surface} at {row.door}"
        found.setdefault(place, []).append(f"{row.key}{trick}: {row.seen}")
    for place, words in found.items():
        more = f" and {len(words) - _NAMED} more" if len(words) > _NAMED else ""
        yield place, "; ".join(words[:_NAMED]) + more


def _all_judged(scene: Scene) -> None:
    """Unknown where something could not be looked at: that nothing was found says nothing of it."""
    if missing := probed(scene).unjudged:
        raise Unknown("; ".join(missing))


def _rows(scene: Scene) -> tuple[Row, ...]:
    found = probed(scene)
    if not found.rows:
        raise Unknown("; ".join(found.left_out) or "this site has no door yet")
    return found.rows


def _look_door(scene: Scene) -> Iterator[Found]:
    claim = looking.guard(scene)
    for name, port in doors.shut_doors(scene.site):
        words = f"nothing listens on port {port}, at which devices come in ({name})"
        if name == doors.NODE_RED and claim is not None and claim.port not in (None, port):
            yield Found(f"{words}: it listens on port {claim.port} by now", name, "redlatch up")
        else:
            yield Found(words, name)


def _look_left(scene: Scene) -> Iterator[Found]:
    for name in left(scene.site):
        yield Found(f"{name!r} was left by a check that was killed", name, fix=lambda: revoke_left(scene.site))


CHECKS: Final = (
    Check(
        "door-shut",
        "nothing listens at a door",
        Severity.BROKEN,
        "Where nothing listens nobody gets in, no device either.",
        "start what should listen there; redlatch status says more",
        _look_door,
        ("store-unusable", "gateway-stopped"),
    ),
    Check(
        "outside-open",
        "somebody was let in who should not be",
        Severity.OPEN,
        "From outside, over real TLS, a request was answered that the rules refuse. A stranger could do the same.",
        "take Node-RED off the network, then run: redlatch up, and restart Node-RED (or: redlatch gateway up)",
        _look_open,
        ("store-unusable", "door-shut"),
    ),
    Check(
        "outside-shut",
        "a device was refused that should come in",
        Severity.BROKEN,
        "From outside, over real TLS, a good certificate was refused where the rules let it in.",
        "redlatch refresh publishes everything anew; redlatch log shows the reason that the engine gave",
        _look_shut,
        ("store-unusable", "door-shut"),
    ),
    Check(
        "test-device-left",
        "a check left a device behind",
        Severity.WEAK,
        "A check adds devices for its knocks and revokes them at its end. One was killed before that; the keys "
        "are gone with it.",
        "redlatch check --fix, or: redlatch device revoke NAME",
        _look_left,
    ),
)
