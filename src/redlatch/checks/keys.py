"""The keys of both CAs: are they there, are they the right ones, and out of reach of whoever runs flows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.checks import files
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.engines.nodered import users
from redlatch.engines.nodered.users import User
from redlatch.errors import RedlatchError
from redlatch.files import names_in, own_user, read_own
from redlatch.operations import authorities, engines
from redlatch.operations.engines import Engine

if TYPE_CHECKING:
    from redlatch.store import AuthorityRow


def present(scene: Scene) -> list[AuthorityRow]:
    """The CAs that are in use."""
    with scene.site.store.read() as view:
        return [row for kind in authorities.KINDS for row in authorities.trusted(view, kind)]


def _files(scene: Scene) -> list[tuple[AuthorityRow, Path]]:
    """Those whose key is here, each with its file."""
    return [(row, scene.site.settings.keys / row.key_file) for row in present(scene) if row.key_file]


def _missing(scene: Scene) -> Iterator[Found]:
    for row, path in _files(scene):
        if not os.path.lexists(path):
            yield Found(f"the key of the {row.kind} CA, {path}, is missing", str(path))


def _other(scene: Scene) -> Iterator[Found]:
    from cryptography import x509

    from redlatch.pki.keys import load_private_key

    locked = []
    for row, path in _files(scene):
        try:
            data = read_own(path)
        except OSError:  # missing, or something else in its place: others tell
            continue
        if authorities.is_locked(data):
            locked.append(path.name)
            continue
        try:
            key = load_private_key(data, None)
        except RedlatchError as error:
            yield Found(f"{path} cannot be used: {error.message}", str(path))
            continue
        if key.public_key() != x509.load_der_x509_certificate(row.certificate).public_key():
            yield Found(f"{path} is not the key that the certificate of the {row.kind} CA names", str(path))
    if locked:
        raise Unknown(f"{', '.join(locked)}: under a passphrase, for which nobody is asked here")


def _orphan(scene: Scene) -> Iterator[Found]:
    folder = scene.site.settings.keys
    for name in sorted(names_in(folder) - set(authorities.key_files(scene.site))):
        yield Found(f"{folder / name} is the key of no CA that is in use", str(folder / name))


def _engines(scene: Scene) -> list[tuple[Engine, User]]:
    """Whatever enforces this site, with the user it runs as; one behind the gateway too."""
    found = list(engines.configured(scene.site.settings, scene.config))
    pairs = [(one, user) for one in found if (user := users.user_by_uid(one.uid)) is not None]
    target = scene.config.target
    if target is not None and scene.config.behind and pairs:
        behind = users.user_by_uid(target.uid)
        pairs += [(pairs[0][0], behind)] if behind is not None else []
    return pairs


def _own_uid(scene: Scene) -> int:
    own = own_user(scene.site.settings)
    return own.uid if own is not None else scene.site.settings.authority.stat().st_uid


def _reach(scene: Scene) -> Iterator[Found]:
    settings = scene.site.settings
    secret = [settings.database, settings.service_pem, *(settings.keys / name for name in names_in(settings.keys))]
    for _, user in _engines(scene):
        if user.uid in (0, _own_uid(scene)):  # told of by others
            continue
        if os.geteuid() not in (0, user.uid):
            raise Unknown(f"only root can try it as the user {user.name}")
        for path in users.reachable(user, secret):
            yield Found(f"the user {user.name} can read or write {path}", path, fix=files.mending(scene))


def _same_user(scene: Scene) -> Iterator[Found]:
    """Whoever may read what the engine's user reads has the keys, unless a passphrase protects them."""
    plain = []
    for row, path in _files(scene):
        try:
            if not authorities.is_locked(read_own(path)):
                plain.append(row.kind)
        except OSError:
            continue
    for engine, user in _engines(scene):
        if plain and user.uid == _own_uid(scene) != 0:
            yield Found(
                f"{engine.by} runs as {user.name}, whose the keys of the CAs are, and they have no passphrase "
                f"({' and '.join(plain)} CA)",
                user.name,
            )
            return


def _root(scene: Scene) -> Iterator[Found]:
    seen: set[int] = set()
    for engine, user in _engines(scene):
        if user.uid in seen:
            continue
        seen.add(user.uid)
        if engine.is_gateway and user.uid == 0:
            yield Found("the gateway runs as root", user.name, "sudo redlatch gateway up")
            continue
        for words in users.root_powers(user):
            text, _, remedy = words.partition(". ")
            yield Found(text, user.name, remedy)
        if user.uid and os.geteuid() not in (0, user.uid):
            raise Unknown(f"only root can try sudo as the user {user.name}")
    if not users.sudo_can_be_tried():
        raise Unknown(
            "sudo cannot be tried from here: this process may gain no rights (systemd's NoNewPrivileges)"
        )


CHECKS: tuple[Check, ...] = (
    Check(
        "key-missing",
        "the key of a CA is missing",
        Severity.BROKEN,
        "Nothing can be issued any more: no new device, no renewed server certificate.",
        "redlatch restore FILE",
        _missing,
        ("store-unusable",),
    ),
    Check(
        "key-other",
        "the key of a CA is not its own",
        Severity.BROKEN,
        "What it signs nobody accepts, and redlatch does not use it.",
        "redlatch restore FILE",
        _other,
        ("store-unusable", "key-missing"),
    ),
    Check(
        "key-orphan",
        "a key lies about that belongs to no CA",
        Severity.WEAK,
        "Nobody needs it but a thief: a command that was interrupted left it, or somebody put it there.",
        "redlatch up",
        _orphan,
        ("store-unusable",),
    ),
    Check(
        "flows-are-root",
        "flows can become root",
        Severity.OPEN,
        "Flows run whatever their author likes as Node-RED's user. If that user can become root, so can every "
        "flow, and whoever deploys one: it can read the CA keys and take the lock off.",
        "run Node-RED as a user that has no such rights",
        _root,
    ),
    Check(
        "keys-in-reach",
        "who runs flows can reach the CA keys",
        Severity.OPEN,
        "Flows run as Node-RED's user. Whoever can read the key of the device CA can make a key to this Node-RED "
        "for anybody, at home and in secret.",
        "redlatch check --fix",
        _reach,
        ("store-unusable", "flows-are-root"),
    ),
    Check(
        "keys-unprotected",
        "flows can read the CA keys",
        Severity.OPEN,
        "Flows run as the user whose the keys of the CAs are, and no passphrase protects these: whoever deploys a "
        "flow can make a key for anybody.",
        "redlatch ca lock",
        _same_user,
        ("store-unusable",),
    ),
)
