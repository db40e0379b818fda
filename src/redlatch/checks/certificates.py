"""Certificates and their ends: CAs, server, console, devices, and whether somebody can still manage the keys."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redlatch.checks import keys
from redlatch.checks.model import Check, Found, Scene, Severity, Unknown
from redlatch.errors import InvalidInput, RedlatchError
from redlatch.files import read_own
from redlatch.operations import authorities, engines, server, service_key
from redlatch.operations.site import Config

if TYPE_CHECKING:
    from redlatch.pki.certificates import ServerPair
    from redlatch.store import Ending, Reader

#: A CA has to be replaced on every device, which takes time.
CA_SOON: Final = timedelta(days=365)
#: redlatch renews 30 days before the end: what is nearer did not get renewed.
SERVER_SOON: Final = timedelta(days=25)
DEVICE_SOON: Final = timedelta(days=30)
_MOST: Final = 500
_NAMED: Final = 5


def _ends(what: str, end: datetime, now: datetime) -> str:
    return f"{what} {'has ended' if end <= now else 'ends'} on {end:%Y-%m-%d}"


def _authorities(scene: Scene) -> Iterator[Found]:
    now = scene.site.clock()
    for row in keys.present(scene):
        end = authorities.end_of(row)
        if end - now < CA_SOON:
            yield Found(_ends(f"the {row.kind} CA", end, now), f"{row.kind} CA", f"redlatch ca rotate {row.kind}")


def _shown(scene: Scene) -> list[Path]:
    """Files with a server's key and certificate that something presents."""
    site = scene.site
    found = [one.settings.published / "server.pem" for one in engines.engines(site.settings, scene.config)]
    return [*found, *([site.settings.service_pem] if service_key.wanted(site) else [])]


def _pair(path: Path) -> ServerPair:
    """InvalidInput, OSError. Whether it has ended is another question."""
    from redlatch.pki.certificates import server_pair

    data = read_own(path)
    return server_pair(data, data, now=datetime.fromtimestamp(0, UTC))


def _pairs(scene: Scene) -> Iterator[Found]:
    for path in _shown(scene):
        try:
            _pair(path)
        except FileNotFoundError:
            yield Found(f"{path} is missing", str(path))
        except OSError as error:
            yield Found(f"{path} cannot be read: {(error.strerror or str(error)).lower()}", str(path))
        except RedlatchError as error:
            yield Found(f"{path}: {error.message}", str(path))


def _server_ending(scene: Scene) -> Iterator[Found]:
    now = scene.site.clock()
    for path in _shown(scene):
        try:
            leaf = _pair(path).leaf
        except (OSError, InvalidInput):  # server-pair tells
            continue
        if leaf.not_valid_after_utc - now < SERVER_SOON:
            yield Found(_ends(f"the certificate in {path}", leaf.not_valid_after_utc, now), str(path))


def _sources(scene: Scene) -> Iterator[Found]:
    config = scene.config
    for files in (config.server_files, config.service.server_files):
        if files is None:
            continue
        try:
            server.read_pair(*files)
        except RedlatchError as error:
            if (
                os.geteuid() != 0
                and scene.site.settings.system
                and not all(os.access(one, os.R_OK) for one in files)
            ):
                raise Unknown(f"only root may read {files[1]}") from error
            yield Found(f"{files[0]}: {error.message}", files[0], error.hint)


def _names(found: Sequence[Ending]) -> str:
    more = "" if len(found) <= _NAMED else f" and {len(found) - _NAMED} more"
    return ", ".join(one.name for one in found[:_NAMED]) + more


def _devices(scene: Scene) -> Iterator[Found]:
    now = scene.site.clock()
    with scene.site.store.read() as view:
        ended = view.ending_between(now - DEVICE_SOON, now, _MOST)
        ending = view.ending_between(now, now + DEVICE_SOON, _MOST)
    said = [f"{len(ended)} ended in the last 30 days ({_names(ended)})"] if ended else []
    said += [f"{len(ending)} end within 30 days ({_names(ending)})"] if ending else []
    if said:
        yield Found("; ".join(said), "devices")


def _somebody(view: Reader, at: datetime) -> bool:
    roles = ["owner", *(name for name, like in view.roles().items() if like == "owner")]
    return any(view.somebody_has(role, at) for role in roles)


def _no_owner(scene: Scene) -> Iterator[Found]:
    if not _is_in_use(scene.config):
        return
    with scene.site.store.read() as view:
        if not _somebody(view, scene.site.clock()):
            yield Found("no device with the role owner has a key that is in date")


def _last_owner(scene: Scene) -> Iterator[Found]:
    now = scene.site.clock()
    with scene.site.store.read() as view:
        if _somebody(view, now) and not _somebody(view, now + DEVICE_SOON):
            yield Found("the key of the last owner ends within 30 days")


def _is_in_use(config: Config) -> bool:
    return config.adopted or config.gateway is not None


CHECKS: tuple[Check, ...] = (
    Check(
        "ca-ending",
        "a CA ends",
        Severity.BROKEN,
        "When it has ended, every key that it made is refused, or every device refuses the server.",
        "redlatch ca rotate device (or server): both are trusted while devices move",
        _authorities,
        ("store-unusable", "clock-behind"),
    ),
    Check(
        "server-pair",
        "a server's key or certificate cannot be used",
        Severity.BROKEN,
        "Nobody can connect: there is no certificate to show, or not the key that belongs to it.",
        "redlatch refresh",
        _pairs,
        ("store-unusable", "file-link"),
    ),
    Check(
        "server-ending",
        "a server certificate ends and was not renewed",
        Severity.BROKEN,
        "When it has ended, browsers warn and scripts refuse to connect. redlatch renews it 30 days before its "
        "end: something kept it from doing so.",
        "redlatch refresh",
        _server_ending,
        ("store-unusable", "server-pair", "clock-behind"),
    ),
    Check(
        "server-files",
        "the certificate of your own cannot be taken over",
        Severity.BROKEN,
        "redlatch shows the copy that it has until that ends, and cannot take a renewed one over.",
        "redlatch up --server-cert FILE --server-key FILE",
        _sources,
        ("store-unusable",),
    ),
    Check(
        "devices-ending",
        "keys of devices end",
        Severity.BROKEN,
        "Who has no new key by then is refused.",
        "redlatch device list; redlatch device renew NAME",
        _devices,
        ("store-unusable", "clock-behind"),
    ),
    Check(
        "no-owner",
        "there is no owner",
        Severity.BROKEN,
        "Nobody can change anything in the console. On this machine everything can still be done.",
        'redlatch device send "My phone" --role owner',
        _no_owner,
        ("store-unusable", "clock-behind"),
    ),
    Check(
        "last-owner-ending",
        "the key of the last owner ends",
        Severity.BROKEN,
        "After that nobody can change anything in the console.",
        "redlatch device list; redlatch device renew NAME",
        _last_owner,
        ("store-unusable", "clock-behind"),
    ),
)
