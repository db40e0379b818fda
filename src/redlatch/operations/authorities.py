"""The site's authorities: which sign, which are trusted beside them, and what of them is handed out.

More than one of a kind is trusted while a new one takes over (operations.rotation), and where certificates from
elsewhere were adopted (operations.adopting). Which of their certificates get in is decided by the list of
fingerprints alone; trust only gets a certificate through the handshake.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from redlatch.errors import Conflict, NotFound, PassphraseNeeded, StoreError
from redlatch.files import explained, names_in, own_user, read_own, remove_from, write_atomic
from redlatch.operations import machine
from redlatch.operations.site import Config, Site, exclusive, signer, signing_key

if TYPE_CHECKING:
    from cryptography import x509

    from redlatch.pki.authority import Authority
    from redlatch.pki.keys import Key
    from redlatch.store import AuthorityRow, Reader, Transaction

KINDS = ("device", "server")
#: The key of a CA whose certificate is still to be signed elsewhere, named by its public key's digest.
REQUEST = re.compile(r"(device|server)-ca-request-([0-9a-f]{12})\.pem")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)


def trusted(view: Reader, kind: str) -> list[AuthorityRow]:
    """Those that were not taken out of use, oldest first."""
    return [row for row in view.authorities(kind) if row.retired_at is None]


def anchors(view: Reader, kind: str) -> tuple[bytes, ...]:
    """The DER of all trusted authorities and of what stands above them, each once: engines build whole chains
    (Node.js before 22.9 and HAProxy's OpenSSL take no chain that ends before a root).
    """
    found: list[bytes] = []
    for row in trusted(view, kind):
        found += [row.certificate, *(base64.b64decode(one) for one in _PEM.findall(row.chain))]
    return tuple(dict.fromkeys(found))


def device_cas(view: Reader) -> bytes:
    """What engines and console trust at the handshake, as PEM."""
    return "".join(map(pem, anchors(view, "device"))).encode()


def pem(der: bytes) -> str:
    """A certificate's DER as PEM. By hand: what publishes does not wait for `cryptography` to be loaded."""
    text = base64.b64encode(der).decode("ascii")
    lines = (text[start : start + 64] for start in range(0, len(text), 64))
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def roots(view: Reader) -> tuple[x509.Certificate, ...]:
    """What a device must trust to recognise this Node-RED: the root that the server's certificate comes from
    first, then that of another authority which is to take over, or was taken over from.
    """
    present = signer(view, "server")
    rows = [row for row in trusted(view, "server") if present is None or row.id != present.id]
    made = [made_of(row).root for row in ([present] if present is not None else []) + rows]
    return tuple(dict.fromkeys(made))


def made_of(row: AuthorityRow) -> Authority:
    """An authority as pki has it, without its key. InvalidInput for an adopted certificate that is no CA's."""
    from cryptography import x509

    from redlatch.pki.authority import Authority

    chain = tuple(x509.load_pem_x509_certificates(row.chain)) if row.chain else ()
    return Authority(x509.load_der_x509_certificate(row.certificate), None, chain)


def end_of(row: AuthorityRow) -> datetime:
    """When an authority ends: as its certificate says, or earlier with one above it."""
    from cryptography import x509

    above = x509.load_pem_x509_certificates(row.chain) if row.chain else []
    return min(one.not_valid_after_utc for one in (x509.load_der_x509_certificate(row.certificate), *above))


def create(
    site: Site,
    tx: Transaction,
    kind: str,
    names: tuple[str, ...],
    passphrase: bytes | None,
    *,
    signing: bool = True,
) -> AuthorityRow:
    """Makes a CA: the key's file first, then its row; a key without a row is an orphan (see `remove_orphans`)."""
    from redlatch.pki.authority import Authority
    from redlatch.pki.keys import generate_key

    label = Config.of(tx.site().config).machine  # what a person reads in a trust store
    now = site.clock()
    key = generate_key("p256")
    made = (
        Authority.create_server(label, names, now=now, key=key)
        if kind == "server"
        else Authority.create_device(label, now=now, key=key)
    )
    row = keep(site, tx, kind, made, passphrase, signing=signing)
    tx.record("ca.created", kind=kind, fingerprint=fingerprint(row))
    return row


def keep(
    site: Site, tx: Transaction, kind: str, made: Authority, passphrase: bytes | None, *, signing: bool
) -> AuthorityRow:
    """Writes an authority's key and adds its row; the caller records it."""
    from redlatch.pki import certificates

    if made.key is None:
        raise StoreError("an authority without its key cannot be kept as one that signs")
    key_file = f"{kind}-ca-{certificates.fingerprint(made.certificate)[:12]}.pem"
    write_key(site, key_file, made.key, passphrase)
    return tx.add_authority(
        kind,
        certificate=der_of(made.certificate),
        key_file=key_file,
        chain=b"".join(map(certificates.certificate_pem, made.chain)),
        signing=signing,
    )


def overtaken(view: Reader, kind: str) -> list[AuthorityRow]:
    """Authorities of which new certificates came before another one took over, and which are still trusted."""
    present = signer(view, kind)
    return [row for row in trusted(view, kind) if row.signing and present is not None and row.id != present.id]


def waiting(view: Reader) -> AuthorityRow | None:
    """The server CA that is handed out and does not sign yet."""
    return next((row for row in trusted(view, "server") if not row.signing), None)


def refuse_under_way(view: Reader, kind: str) -> None:
    """Conflict while one authority of that kind is taking over from another."""
    if overtaken(view, kind) or (kind == "server" and waiting(view) is not None):
        raise Conflict(
            f"a new {kind} CA is taking over already",
            hint=f"redlatch ca rotate {kind} --status shows how far that is; --end or --cancel ends it",
        )


def names_of(config: Config, *more: str) -> tuple[str, ...]:
    """What a new server CA may name, besides private names and addresses."""
    return (*machine.names(config.machine), *config.names, *more)


def remove_keys(site: Site, names: Iterable[str]) -> None:
    """Removes key files that nothing signs with any more."""
    remove_from(site.settings.keys, [name for name in names if name])


def remove_orphans(site: Site) -> None:
    """CA keys whose transaction never happened (killed in between), and those of CAs that were taken out of use,
    are of no use to anybody but a thief. A command that is at work may have written one that it has yet to record.
    """
    if names_in(site.settings.keys) - set(key_files(site)):
        with exclusive(site.settings):
            remove_keys(site, names_in(site.settings.keys) - set(key_files(site)))


def write_key(site: Site, name: str, key: Key, passphrase: bytes | None) -> None:
    """Writes the key of a CA, for redlatch's own user only."""
    from redlatch.pki.keys import private_key_pem

    data = private_key_pem(key, passphrase)
    write_atomic(site.settings.keys / name, data, mode=0o600, owner=own_user(site.settings))


def key_files(site: Site) -> list[str]:
    """The names of the key files that there are: of authorities in use, and of requests that are out."""
    with site.store.read() as view:
        known = {row.key_file for kind in KINDS for row in trusted(view, kind) if row.key_file}
    found = names_in(site.settings.keys)
    return sorted((known & found) | {name for name in found if REQUEST.fullmatch(name)})


def passphrase_of_keys(site: Site) -> bytes | None:
    """The passphrase that new keys are put under: that of the present ones, proved on one of them; None where
    these are under none. PassphraseNeeded when it is missing or wrong.
    """
    for name in key_files(site):
        path = site.settings.keys / name
        with explained("read", path):
            locked = is_locked(read_own(path))
        if locked:
            signing_key(site, path)
            return site.passphrase()
    return None


def refuse_changed_lock(site: Site, passphrase: bytes | None) -> None:
    """Conflict where the present keys are not under `passphrase` any more, asked for before (passphrase_of_keys).
    To be called within `changing`, before a new key is written: `ca lock` may have ended in between.
    """
    from redlatch.pki.keys import load_private_key

    locked = []
    for name in key_files(site):
        path = site.settings.keys / name
        with explained("read", path):
            data = read_own(path)
        if is_locked(data):
            locked.append(data)
    same = bool(locked) == (passphrase is not None)
    if same and locked:
        try:
            load_private_key(locked[0], passphrase)
        except PassphraseNeeded:
            same = False
    if not same:
        raise Conflict("the passphrase of the CA keys was changed meanwhile", hint="run the command again")


def are_locked(site: Site) -> bool:
    """Whether some key of a CA is under a passphrase; True where that cannot be seen."""
    for name in key_files(site):
        try:
            if is_locked(read_own(site.settings.keys / name)):
                return True
        except OSError:
            return True
    return False


def is_locked(data: bytes) -> bool:
    """Whether a key file is under a passphrase."""
    return b"ENCRYPTED" in data


def fingerprint(row: AuthorityRow) -> str:
    """The SHA-256 of the certificate, 64 hex digits."""
    return hashlib.sha256(row.certificate).hexdigest()


# --- what there is, for people


@dataclass(frozen=True, slots=True)
class Listed:
    """An authority as `redlatch ca list` shows it.

    `state` is one of "signs", "waits" (a server CA that is to take over), "trusted", "ended"; `key` is "here",
    "here, under a passphrase", "missing", "removed" or "elsewhere"; `devices` in use have certificates of it that
    are in use (None: it names the server).
    """

    kind: str
    subject: str
    fingerprint: str
    not_before: datetime
    not_after: datetime
    state: str
    key: str
    devices: int | None
    retired_at: datetime | None
    pem: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request whose certificate has not come yet: the key is here."""

    kind: str
    key_file: str


def listed(site: Site) -> tuple[list[Listed], list[Waiting]]:
    """All authorities, device CAs first, the oldest of each kind first; and requests that are out."""
    from cryptography import x509

    found, keys = [], set()
    with site.store.read() as view:
        counted = view.devices_by_authority(site.clock())
        for kind in KINDS:
            present = signer(view, kind)
            for row in view.authorities(kind):
                certificate = x509.load_der_x509_certificate(row.certificate)
                keys.add(public_digest(certificate.public_key()))
                found.append(
                    Listed(
                        kind=kind,
                        subject=name_of(certificate),
                        fingerprint=fingerprint(row),
                        not_before=certificate.not_valid_before_utc,
                        not_after=end_of(row),
                        state=_state(row, present),
                        key=_where_key(site, row),
                        devices=counted.get(row.id, 0) if kind == "device" else None,
                        retired_at=row.retired_at,
                        pem=pem(row.certificate),
                    )
                )
    return found, [one for one in requests(site) if REQUEST.fullmatch(one.key_file)[2] not in keys]  # type: ignore[index]


def requests(site: Site, kind: str | None = None) -> list[Waiting]:
    """Keys that were made for a certificate that is signed elsewhere."""
    found = [match for match in map(REQUEST.fullmatch, sorted(names_in(site.settings.keys))) if match]
    return [Waiting(match[1], match[0]) for match in found if kind in (None, match[1])]


def public_digest(key: object) -> str:
    """12 hex digits of a public key's SHA-256, which name a request's file."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return hashlib.sha256(der).hexdigest()[:12]


def der_of(certificate: x509.Certificate) -> bytes:
    """The certificate's DER."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.DER)


def name_of(certificate: x509.Certificate) -> str:
    """A certificate's subject for people: its CN, else all of it."""
    from cryptography.x509.oid import NameOID

    found = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else certificate.subject.rfc4514_string() or "without a name"


def find(view: Reader, wanted: str) -> AuthorityRow:
    """A trusted authority by its fingerprint or the first digits of it (at least 8). NotFound."""
    wanted = wanted.replace(":", "").lower()
    rows = [row for kind in KINDS for row in trusted(view, kind)]
    found = [row for row in rows if fingerprint(row).startswith(wanted)] if len(wanted) >= 8 else []
    if len(found) != 1:
        raise NotFound(
            f"there is no authority in use with the fingerprint {wanted[:64]!r}",
            hint="redlatch ca list shows all of them; 8 digits are enough",
        )
    return found[0]


def _state(row: AuthorityRow, present: AuthorityRow | None) -> str:
    if row.retired_at is not None:
        return "ended"
    if present is not None and row.id == present.id:
        return "signs"
    waits = row.kind == "server" and not row.signing
    return "waits" if waits else "trusted"


def _where_key(site: Site, row: AuthorityRow) -> str:
    if not row.key_file:
        return "elsewhere"
    try:
        data = read_own(site.settings.keys / row.key_file)
    except FileNotFoundError:
        return "missing" if row.retired_at is None else "removed"
    except OSError:
        return "here"
    return "here, under a passphrase" if is_locked(data) else "here"
