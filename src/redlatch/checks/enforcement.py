"""What is enforced: is it what the store says, is it whole, and does the engine say so."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from redlatch.checks.model import Check, Found, Scene, Severity
from redlatch.engines.nodered import claims, publish
from redlatch.errors import EngineError, FileProblem
from redlatch.files import names_in, read_own
from redlatch.operations import authorities, engines, publishing
from redlatch.operations.engines import Engine
from redlatch.operations.site import exclusive
from redlatch.policy.snapshot import digest

_NAMED: Final = 3


def _on(scene: Scene) -> tuple[Engine, ...]:
    """The engines that something is published for, and that count."""
    return tuple(one for one in engines.configured(scene.site.settings, scene.config) if one.is_on)


def _head_file(engine: Engine) -> str:
    return str(engine.settings.published / "snapshot.json")


def _publish(scene: Scene, *, anew: bool) -> Callable[[], None]:
    def mend() -> None:
        force = publishing.enforce(scene.site, anew=anew)
        if force.state == "recorded":
            raise EngineError(force.note or "it could not be published")

    return mend


def _unpublished(scene: Scene) -> Iterator[Found]:
    for engine in _on(scene):
        if publish.published_head(engine.settings) is None:
            yield Found(
                f"{_head_file(engine)} is missing or garbled", _head_file(engine), fix=_publish(scene, anew=True)
            )


def _behind(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        recorded = view.site()
    for engine in _on(scene):
        head = publish.published_head(engine.settings)
        if head is None:
            continue
        if head["site"] != recorded.uuid:
            yield Found(
                f"{_head_file(engine)} is another site's", _head_file(engine), fix=_publish(scene, anew=True)
            )
        elif head["version"] != recorded.revision:
            yield Found(
                f"version {recorded.revision} is recorded and {head['version']} is published for {engine.by}",
                _head_file(engine),
                fix=_publish(scene, anew=True),
            )


def _parts(scene: Scene) -> Iterator[Found]:
    for engine in _on(scene):
        if publish.published_head(engine.settings) is not None and not publishing.is_whole(engine.settings):
            yield Found(
                f"parts of the list in {engine.settings.published / 'snapshot'} are missing or garbled",
                str(engine.settings.published / "snapshot"),
                fix=_publish(scene, anew=True),
            )


def _left(scene: Scene) -> Iterator[Found]:
    for engine in _on(scene):
        used = publishing.parts_in_use(engine.settings)
        left = publish.parts(engine.settings) - used if used is not None else set()
        if left:
            yield Found(
                f"{len(left)} parts in {engine.settings.published / 'snapshot'} belong to no list",
                str(engine.settings.published / "snapshot"),
                fix=_publish(scene, anew=True),
            )


def _device_ca(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        wanted = authorities.device_cas(view)
    for engine in _on(scene):
        path = engine.settings.published / "device-ca.pem"
        try:
            same = read_own(path) == wanted
        except OSError:
            same = False
        if not same:
            yield Found(
                f"{path} is not what the store says of the device CA",
                str(path),
                fix=partial(_put_ca, scene, engine),
            )


def _put_ca(scene: Scene, engine: Engine) -> None:
    with exclusive(scene.site.settings), scene.site.store.read() as view:
        publish.publish_device_ca(engine.settings, authorities.device_cas(view), engine.gid)


def _in_force(scene: Scene) -> Iterator[Found]:
    with scene.site.store.read() as view:
        recorded = view.site().revision
    for engine in _on(scene):
        claim = publishing.running(engine)
        if claim is None:
            continue
        published = publish.published_head(engine.settings)
        expected = digest(read_own(engine.settings.published / "snapshot.json")) if published else claim.digest
        if claim.version < recorded:
            yield Found(
                f"{engine.by} says that it enforces version {claim.version}; recorded is {recorded}", engine.name
            )
        elif published and claim.version == published["version"] and claim.digest != expected:
            yield Found(
                f"{engine.by} says that it enforces another version {claim.version} than this", engine.name
            )


def _problem(scene: Scene) -> Iterator[Found]:
    for engine in _on(scene):
        claim = publishing.running(engine)
        if claim is not None and claim.problem:
            yield Found(f"{engine.word} reports a problem: {claim.problem}", engine.name)


def _silent(scene: Scene) -> Iterator[Found]:
    for engine in _on(scene):
        claim = publishing.running(engine)
        if claim is not None and not claim.fresh(datetime.now(UTC)):
            yield Found(f"{engine.word} has said nothing since {claim.at:%Y-%m-%d %H:%M} UTC", engine.name)


def _planted(scene: Scene) -> Iterator[Found]:
    """What lies among the claims and is not a plain file of the engine's user."""
    for engine in _on(scene):
        spool = engine.settings.spool
        try:
            claims.read_in_force(engine.settings, engine.uid)
        except FileProblem as error:
            yield Found(error.message, str(spool / "in-force.json"), error.hint)
        for name in sorted(names_in(spool)):
            path = spool / name
            try:
                state = path.lstat()
            except OSError:
                continue
            if name == "in-force.json" or (engine.is_gateway and not stat.S_ISREG(state.st_mode)):
                continue  # told of above; HAProxy's folders and sockets
            if state.st_uid != engine.uid or not stat.S_ISREG(state.st_mode) or state.st_nlink > 1:
                yield Found(f"{path} is no plain file of the user {engine.user}", str(path), f"ls -li {path}")


def _unreadable(scene: Scene) -> Iterator[Found]:
    """Published files that the engine's user cannot read, tried as that user."""
    from redlatch.engines.nodered import users

    for engine in _on(scene):
        user = users.user_by_uid(engine.uid)
        if user is None or os.geteuid() not in (0, user.uid):
            continue
        names = [engine.settings.published / name for name in ("server.pem", "device-ca.pem", "snapshot.json")]
        there = [path for path in names if path.exists()]
        refused = {str(path) for path in there} - set(users.reachable(user, there))
        for path in sorted(refused):
            yield Found(f"the user {user.name} cannot read {path}", path)


CHECKS: tuple[Check, ...] = (
    Check(
        "not-published",
        "the list of devices is not published",
        Severity.BROKEN,
        "Without it the engine lets nobody in.",
        "redlatch check --fix",
        _unpublished,
        ("store-unusable", "file-link"),
    ),
    Check(
        "published-behind",
        "what is published is not what is recorded",
        Severity.OPEN,
        "A device that was shut out may still get in.",
        "redlatch check --fix",
        _behind,
        ("store-unusable", "not-published"),
    ),
    Check(
        "parts-missing",
        "parts of the published list are missing",
        Severity.BROKEN,
        "The engine goes on with what it has, and after its next start lets nobody in.",
        "redlatch check --fix",
        _parts,
        ("store-unusable", "not-published"),
    ),
    Check(
        "parts-left",
        "parts of an earlier list were left behind",
        Severity.NOTE,
        "They take space and harm nobody.",
        "redlatch check --fix",
        _left,
        ("store-unusable", "not-published", "parts-missing"),
    ),
    Check(
        "device-ca-differs",
        "the published device CA is not the site's",
        Severity.OPEN,
        "The engine asks for keys of that CA at the door. One that is not the site's cuts everybody off, or "
        "somebody put it there.",
        "redlatch check --fix",
        _device_ca,
        ("store-unusable", "file-link"),
    ),
    Check(
        "published-unreadable",
        "the engine cannot read what is published",
        Severity.BROKEN,
        "It keeps what it read last, and after its next start lets nobody in.",
        "redlatch check --fix; ls -ld each folder above it",
        _unreadable,
        ("store-unusable", "file-shut", "file-open", "file-link", "not-published"),
    ),
    Check(
        "in-force-behind",
        "the engine enforces something else than what is recorded",
        Severity.OPEN,
        "A device that was shut out may still get in.",
        "redlatch refresh; then restart Node-RED if it stays",
        _in_force,
        ("store-unusable", "not-published", "published-behind", "parts-missing", "published-unreadable"),
    ),
    Check(
        "engine-problem",
        "the engine reports a problem",
        Severity.BROKEN,
        "It enforces what it could read last.",
        "redlatch status",
        _problem,
        ("not-published", "parts-missing", "published-unreadable", "server-pair", "device-ca-differs"),
    ),
    Check(
        "engine-silent",
        "the engine has fallen silent",
        Severity.BROKEN,
        "It runs and says nothing any more: it hangs, or cannot write its claims. Changes may not reach it.",
        "restart Node-RED, or the gateway",
        _silent,
        ("file-shut", "file-open", "disk-full"),
    ),
    Check(
        "claims-planted",
        "something strange lies among the engine's claims",
        Severity.OPEN,
        "Only the engine's user writes there. A link, or somebody else's file, is an attempt to lead redlatch "
        "astray; it reads none of them.",
        "look who made it, then remove it",
        _planted,
        ("store-unusable",),
    ),
)
