"""The keys of the CAs under a passphrase, under another one, or under none.

Each file is replaced as a whole. Killed in between, some keys are under the old passphrase and some under the new
one: the same command, run again, takes either, and finishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.errors import NotSetUp, PassphraseNeeded
from redlatch.files import explained, read_own
from redlatch.operations import authorities, credentials
from redlatch.operations.site import Site, changing

if TYPE_CHECKING:
    from redlatch.pki.keys import Key


@dataclass(frozen=True, slots=True)
class Keys:
    """The key files that there are, those of them that are under a passphrase, and the files by which systemd
    hands that to redlatch's units.
    """

    files: tuple[str, ...]
    locked: tuple[str, ...]
    handed_over: tuple[Path, ...] = ()


def look(site: Site) -> Keys:
    """Which keys are locked. FileProblem for one that may not be read; NotSetUp where there is none."""
    files = tuple(authorities.key_files(site))
    if not files:
        raise NotSetUp("there is no CA key here", hint="run: redlatch up")
    locked = tuple(name for name in files if authorities.is_locked(_read(site, name)))
    return Keys(files, locked, credentials.handed_over() if site.settings.system else ())


def lock(site: Site, new: bytes, *, program: str | None = None) -> tuple[Path, ...]:
    """Puts every key under `new`; those that are under a passphrase already open by `site.passphrase` or by `new`.

    With `program` (systemd-creds) redlatch's units are handed the passphrase; what was written for them is
    returned. The credential comes first: keys that are locked while no unit can open them yet would be worse than
    the reverse. Errors: PassphraseNeeded (the old one is missing or wrong), FileProblem, EngineError; then no key
    was changed.
    """
    with changing(site, enforced=False) as tx:
        keys = {name: _opened(site, name, new) for name in authorities.key_files(site)}
        written = credentials.put(new, program) if program is not None else ()
        tx.record("ca.locked", keys=sorted(keys), handed_over=bool(written))
        for name, key in keys.items():
            authorities.write_key(site, name, key, new)
    return written


def unlock(site: Site) -> tuple[Path, ...]:
    """Takes the passphrase off every key, and away from redlatch's units; what was removed there.

    Errors: as `lock`.
    """
    with changing(site, enforced=False) as tx:
        keys = {name: _opened(site, name, b"") for name in authorities.key_files(site)}
        tx.record("ca.unlocked", keys=sorted(keys))
        for name, key in keys.items():
            authorities.write_key(site, name, key, None)
    return credentials.take_away() if site.settings.system else ()


def _opened(site: Site, name: str, other: bytes) -> Key:
    """A key, by no passphrase, the present one or the `other` (a run before this one may have got that far)."""
    from redlatch.pki.keys import load_private_key

    data = _read(site, name)
    if not authorities.is_locked(data):
        return load_private_key(data, None)
    if other:
        try:
            return load_private_key(data, other)
        except PassphraseNeeded:
            pass
    passphrase = site.passphrase()
    if not passphrase:
        raise PassphraseNeeded(
            "the CA keys are under a passphrase", hint="run the command on a terminal, where it can ask for it"
        )
    return load_private_key(data, passphrase)


def _read(site: Site, name: str) -> bytes:
    path = site.settings.keys / name
    with explained("read", path):
        return read_own(path)
