"""What several checks look at, looked at once for each scene."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from redlatch.checks.model import Scene, Unknown

if TYPE_CHECKING:
    from redlatch.engines.nodered.claims import InForce
    from redlatch.engines.nodered.inspection import Inspection
    from redlatch.engines.nodered.locate import NodeRed
    from redlatch.operations.site import Target

_T = TypeVar("_T")


def once(scene: Scene, make: Callable[[Scene], _T]) -> _T:
    """What `make` says of this scene, asked the first time only. It may raise: then it is asked again."""
    known = scene.__dict__.setdefault("looked", {})
    if make not in known:
        known[make] = make(scene)
    found: _T = known[make]
    return found


def target(scene: Scene) -> Target:
    """The Node-RED of this machine; Unknown where there is none."""
    found = scene.config.target
    if found is None:
        raise Unknown("this site has no Node-RED on this machine")
    return found


def node_red(scene: Scene) -> NodeRed:
    """The same as it is started. Errors: Unknown, NodeRedNotFound, NotPermitted, NotAdoptable."""
    return once(scene, _node_red)


def _node_red(scene: Scene) -> NodeRed:
    from redlatch.engines.nodered import locate

    found = target(scene)
    return locate.locate(
        user_dir=Path(found.user_dir), settings_file=Path(found.settings_file), environ=scene.environ
    )


def settings(scene: Scene) -> Inspection:
    """Its settings.js, loaded as its user. Errors as `node_red`."""
    return once(scene, _settings)


def _settings(scene: Scene) -> Inspection:
    from redlatch.engines.nodered.inspection import inspect_settings

    return inspect_settings(node_red(scene))


def loaded(scene: Scene) -> Inspection:
    """The same; Unknown where it cannot be loaded."""
    found = settings(scene)
    if not found.ok:
        raise Unknown(f"{target(scene).settings_file} cannot be loaded")
    return found


def guard(scene: Scene) -> InForce | None:
    """What the guard inside Node-RED says, None while it does not run or is not what locks this site."""
    from redlatch.operations import engines
    from redlatch.operations.publishing import running

    engine = engines.node_red(scene.site.settings, scene.config)
    return running(engine) if engine is not None and engine.is_on else None


def is_locked_inside(scene: Scene) -> bool:
    """Whether it is the guard inside Node-RED that locks this site, or should."""
    config = scene.config
    return config.target is not None and config.adopted and not config.behind
