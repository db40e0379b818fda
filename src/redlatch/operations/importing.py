"""A CA that a person already has takes over: by its key, or by a request that was signed elsewhere.

From then on it is as if it had been made here: the old one stays trusted until the rotation is ended.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from redlatch.errors import Conflict, InvalidInput
from redlatch.operations import authorities, opening, rotation
from redlatch.operations.rotation import Kind
from redlatch.operations.site import Config, Site, changing, signing_key

if TYPE_CHECKING:
    from redlatch.operations.opening import Opened
    from redlatch.pki.authority import Authority
    from redlatch.pki.keys import Key
    from redlatch.store import AuthorityRow, Reader

#: What an administrator adds to the roots of a Debian machine; the rest of these came with the system.
LOCAL_ROOTS = Path("/usr/local/share/ca-certificates")


@dataclass(frozen=True, slots=True)
class Plan:
    """An authority from elsewhere, checked. `request` is the file of the key that was made here for it ("": its
    key came along); `remarks` are what a person should know first.
    """

    kind: Kind
    authority: Authority
    request: str
    remarks: tuple[str, ...]


def plan(site: Site, kind: Kind, files: Sequence[Path], ask: Callable[[Path], bytes]) -> Plan:
    """Reads the files and judges what is in them; changes nothing. `ask` as for `opening.read`.

    Errors: FileProblem, InvalidInput, PassphraseNeeded, Conflict (it is in use here already).
    """
    from redlatch.pki import foreign

    opened = opening.read(files, ask)
    key, request = _key(site, kind, opened)
    found = foreign.authority(kind, opened.certificates, key, now=site.clock(), public=public_roots())
    with site.store.read() as view:
        authorities.refuse_under_way(view, kind)
        _present(view, kind, found)
        config = Config.of(view.site().config)
    return Plan(kind, found, request, tuple(_remarks(kind, found, config, opened)))


def carry_out(site: Site, made: Plan) -> rotation.Done:
    """Takes it into use; its key is kept under the same passphrase as the others. Conflict, PassphraseNeeded."""
    from redlatch.pki.certificates import fingerprint

    passphrase = authorities.passphrase_of_keys(site)
    with changing(site) as tx:
        authorities.refuse_under_way(tx, made.kind)
        authorities.refuse_changed_lock(site, passphrase)
        adopted = _present(tx, made.kind, made.authority)
        row = authorities.keep(site, tx, made.kind, made.authority, passphrase, signing=made.kind == "device")
        if adopted is not None:
            # One row for one certificate: else it would be trusted still when the one that signs is taken out. A
            # new row, because of those that may sign the newest does.
            tx.move_certificates(adopted.id, row.id)
            tx.retire_authority(adopted.id, site.clock())
        tx.record(
            "ca.imported",
            kind=made.kind,
            fingerprint=fingerprint(made.authority.certificate),
            subject=authorities.name_of(made.authority.certificate),
            by="request" if made.request else "key",
            above=[fingerprint(one) for one in made.authority.chain],
        )
    authorities.remove_keys(site, [made.request])
    return rotation.settled(site, made.kind)


def request(site: Site, kind: Kind) -> bytes:
    """The request (PEM) for a CA's certificate that is signed elsewhere. Its key is made here and stays here;
    asked again before it was signed, the request is for the same key.
    """
    from redlatch.pki.csr import authority_request
    from redlatch.pki.keys import generate_key

    label = site.config().machine
    for waiting in authorities.requests(site, kind):
        return authority_request(signing_key(site, site.settings.keys / waiting.key_file), label, kind)
    passphrase = authorities.passphrase_of_keys(site)
    key = generate_key("p256")
    digest = authorities.public_digest(key.public_key())
    with changing(site, enforced=False) as tx:
        authorities.refuse_changed_lock(site, passphrase)
        authorities.write_key(site, f"{kind}-ca-request-{digest}.pem", key, passphrase)
        tx.record("ca.requested", kind=kind, key=digest)
    return authority_request(key, label, kind)


def forget_request(site: Site, kind: Kind) -> int:
    """Removes the keys of requests that will not be signed; how many there were."""
    found = authorities.requests(site, kind)
    if found:
        with changing(site, enforced=False) as tx:
            tx.record("ca.requested", kind=kind, forgotten=len(found))
        authorities.remove_keys(site, [one.key_file for one in found])
    return len(found)


def public_roots() -> frozenset[bytes]:
    """The DER of the roots that this machine's system trusts, without those that its administrator added."""
    context = ssl.create_default_context()
    found = set(context.get_ca_certs(binary_form=True))
    own = set()
    for path in LOCAL_ROOTS.glob("**/*.crt"):
        try:
            own.add(ssl.PEM_cert_to_DER_cert(path.read_text("ascii").strip()))
        except (OSError, ValueError):
            continue
    return frozenset(found - own)


def _present(view: Reader, kind: Kind, found: Authority) -> AuthorityRow | None:
    """The row that trusts this CA already, since a certificate of it was adopted. Conflict where it signs."""
    der = authorities.der_of(found.certificate)
    rows = [row for row in authorities.trusted(view, kind) if row.certificate == der]
    if any(row.signing for row in rows):
        raise Conflict(f"this is a {kind} CA of this site already")
    return rows[0] if rows else None


def _key(site: Site, kind: Kind, opened: Opened) -> tuple[Key, str]:
    if len(opened.keys) > 1:
        raise InvalidInput("there is more than one private key in these files", hint="name the CA's own only")
    if opened.keys:
        return opened.keys[0], ""
    waiting = authorities.requests(site, kind)
    for one in waiting:
        key = signing_key(site, site.settings.keys / one.key_file)
        if any(key.public_key() == found.public_key() for found in opened.certificates):
            return key, one.key_file
    if waiting:
        raise InvalidInput(
            "none of these certificates is for the key of the request that is out",
            hint=f"redlatch ca import {kind} --request OUT.csr writes that request again",
        )
    raise InvalidInput(
        "the CA's private key is missing, and without it nothing can be issued here",
        hint="name its file with --key; with no key at all: --request, or redlatch device adopt",
    )


def _remarks(kind: Kind, found: Authority, config: Config, opened: Opened) -> list[str]:
    said = []
    if kind == "server":
        uncovered = [one for one in config.hosts if not found.covers(one)]
        if len(uncovered) == len(config.hosts):
            raise InvalidInput(
                "its name constraints allow none of this site's names: " + ", ".join(config.hosts),
                hint="use a CA that may name them",
            )
        if uncovered:
            said.append(f"its name constraints do not allow {', '.join(uncovered)}")
        if not found.is_constrained:
            said.append(
                "it has no name constraints: whoever gets its key can imitate any site to devices that trust it"
            )
    elif found.chain:
        said.append(
            f"other certificates of {authorities.name_of(found.root)} get through the TLS handshake, and no "
            "further: they are not on this site's list"
        )
    left = len(opened.certificates) - 1 - len(found.chain)
    if left > 0:
        said.append(f"{left} other certificate{'s' if left > 1 else ''} in the files are of no use here")
    return said
