"""A backup: what cannot be made anew, in one file. The store and the CA keys; everything else is issued or
published again by `redlatch up`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redlatch import __version__
from redlatch.errors import NotPermitted, StoreError
from redlatch.files import read_own
from redlatch.operations.archive import KEYS, MOST_BYTES, Archive, BadBackup, Manifest, pack, unpack
from redlatch.operations.site import FROM_BACKUP, Config, Site, changing, exclusive
from redlatch.store import AuthorityRow, Store

if TYPE_CHECKING:
    from redlatch.store import Reader

_KINDS = ("server", "device")


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was made: what it says of itself, and its file's SHA-256 (64 hex digits)."""

    manifest: Manifest
    sha256: str


def make(
    site: Site, *, seal: Callable[[bytes], bytes], how: dict[str, Any], deliver: Callable[[bytes], None]
) -> Made:
    """Copies store and keys, proves the copy, seals it and hands it to `deliver`; audited when `deliver` has not
    raised. `how` names the kind of encryption in the audit trail.

    Other commands wait while the keys are read only: the copy is of that moment, whatever they change meanwhile.
    Errors: StoreError (a key is missing, the store is damaged), NotPermitted.
    """
    import hashlib

    archive = collect(site)
    prove(archive, site.settings.database).close()  # a backup that cannot be restored is none
    data = seal(pack(archive))
    digest = hashlib.sha256(data).hexdigest()
    with changing(site, enforced=False) as tx:
        tx.record("backup.made", **how, sha256=digest, head=archive.manifest.head.seq)
        deliver(data)
    return Made(archive.manifest, digest)


def collect(site: Site) -> Archive:
    """Store and keys as they belong together, in memory."""
    with contextlib.ExitStack() as stack:
        with exclusive(site.settings):
            view = stack.enter_context(site.store.read())
            row, head = view.site(), view.audit_head()
            keys = {one.key_file: _key(site, one) for one in _with_keys(view)}
        data = site.store.copy()
    if len(data) > MOST_BYTES:
        raise StoreError(
            f"the store is larger than a backup may be ({len(data) >> 20} MiB)",
            hint="stop the service and copy the authority folder",
        )
    return Archive(
        Manifest(
            redlatch=__version__,
            site=row.uuid,
            schema=site.store.schema(),
            at=site.clock().replace(microsecond=0),
            machine=Config.of(row.config).machine,
            head=head,
        ),
        data,
        keys,
    )


def _with_keys(view: Reader) -> list[AuthorityRow]:
    """The authorities that cannot do without their key; one that is out of use can."""
    rows = [row for kind in _KINDS for row in view.authorities(kind)]
    return [row for row in rows if row.key_file and row.retired_at is None]


def _key(site: Site, row: AuthorityRow) -> bytes:
    path = site.settings.keys / row.key_file
    try:
        return read_own(path, most=1 << 16)
    except FileNotFoundError:
        raise StoreError(
            f"the CA key {path} is missing, and a backup without it would be worth little",
            hint=FROM_BACKUP,
        ) from None
    except OSError as error:
        raise NotPermitted(
            f"the CA key {path} cannot be read: {(error.strerror or str(error)).lower()}",
            hint="run the command with sudo, or as the user who ran redlatch up",
        ) from None


@dataclass(frozen=True, slots=True)
class Proved:
    """A backup of which everything was looked at. `store` is in memory, brought to this redlatch's schema;
    `locked` are the keys under a passphrase of their own, which nobody has opened. `devices` are those in use.
    """

    manifest: Manifest
    store: Store
    keys: dict[str, bytes]
    locked: tuple[str, ...]
    authorities: tuple[tuple[str, str], ...]  # kind, fingerprint
    events: int
    devices: int

    def close(self) -> None:
        self.store.close()


def prove(archive: Archive, name: Path) -> Proved:
    """Proves that a site can be made of it again: the store is whole and readable, its audit chain unbroken and as
    long as the manifest says, and each CA in use has the key that its certificate names. `name` is for messages.

    Errors: BadBackup, StoreError (damaged), StoreTooNew.
    """
    store = Store.loaded(archive.store, name)
    try:
        with store.read() as view:
            return _proved(archive, store, view)
    except (TypeError, ValueError, KeyError) as error:
        store.close()
        raise BadBackup("the configuration in the backup is garbled") from error
    except BaseException:
        store.close()
        raise


def _proved(archive: Archive, store: Store, view: Reader) -> Proved:
    said, row = archive.manifest, view.site()
    if row.uuid != said.site or view.audit_head() != said.head:
        raise BadBackup("the store in the backup is not the one that its manifest names")
    verified = view.verify_audit()
    if not verified.ok:
        raise BadBackup(f"the audit trail in the backup was tampered with: {verified.problem}")
    Config.of(row.config)
    _read_all(view)
    found = [(one, _matching(one, archive.keys.get(one.key_file))) for one in _with_keys(view)]
    if archive.keys.keys() - {one.key_file for kind in _KINDS for one in view.authorities(kind)}:
        raise BadBackup("the backup holds a key that belongs to none of its CAs")
    return Proved(
        said,
        store,
        dict(archive.keys),
        tuple(KEYS + one.key_file for one, (_, locked) in found if locked),
        tuple((one.kind, fingerprint) for one, (fingerprint, _) in found),
        verified.count,
        sum(view.device_count_by_role().values()),
    )


def _read_all(view: Reader) -> None:
    """Every row can be read; StoreError for content that no redlatch wrote."""
    for device in view.devices():
        view.certificates(device.id)
    view.rules()
    view.networks()
    view.roles()
    view.links(datetime.fromtimestamp(0, UTC))


def _matching(row: AuthorityRow, key: bytes | None) -> tuple[str, bool]:
    """The fingerprint of a CA whose key is there, and whether that is under a passphrase. BadBackup."""
    from cryptography import x509

    from redlatch.errors import RedlatchError
    from redlatch.pki.certificates import fingerprint
    from redlatch.pki.keys import load_private_key

    if key is None:
        raise BadBackup(f"the backup lacks the key of the {row.kind} CA")
    try:
        certificate = x509.load_der_x509_certificate(row.certificate)
        if b"ENCRYPTED" in key:
            return fingerprint(certificate), True
        matches = load_private_key(key, None).public_key() == certificate.public_key()
    except (ValueError, RedlatchError) as error:
        raise BadBackup(f"the key or the certificate of the {row.kind} CA cannot be read") from error
    if not matches:
        raise BadBackup(f"the key of the {row.kind} CA is not the one that its certificate names")
    return fingerprint(certificate), False


def read(data: bytes, name: Path) -> Proved:
    """As `unpack` and `prove`, of a tar that was decrypted."""
    return prove(unpack(data), name)
