"""The end of the audit chain, taken out of this machine's reach: noted, signed, and compared again later.

Who owns this machine can rewrite the whole chain with all of its hashes. A head that was noted elsewhere before
shows that: the event it names is no longer in the chain.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from redlatch import audit
from redlatch.errors import RedlatchError, StoreError
from redlatch.operations.site import Site, authority
from redlatch.store import Reader


class HeadMismatch(RedlatchError):
    """The audit chain is not the one of which a head was noted."""

    code = "head-mismatch"


def note(site: Site, *, sign: bool = False) -> audit.Noted:
    """The chain's present end; with `sign` signed by the device CA.

    Errors: PassphraseNeeded, NotPermitted, StoreError (the CA's key is not here).
    """
    with site.store.read() as view:
        noted = present(view)
    if not sign:
        return noted
    from redlatch.pki import statements

    ca = authority(site, "device")
    if ca.key is None:
        raise StoreError(
            "the key of the device CA is not on this machine", hint="leave --sign out; the head is good without it"
        )
    return replace(noted, signature=statements.sign(ca.key, noted.statement))


def note_unasked(site: Site) -> audit.Noted:
    """As `note`: signed where that needs nobody's passphrase."""
    try:
        return note(replace(site, passphrase=lambda: b""), sign=True)
    except RedlatchError:
        return note(site)


def present(view: Reader) -> audit.Noted:
    """The chain's end as it stands in the store, unsigned."""
    row, head = view.site(), view.audit_head()
    last = view.audit_before(None, 1)
    return audit.Noted(row.uuid, head.seq, last[0].event.at if last else row.created_at, head.hash)


def document(noted: audit.Noted) -> dict[str, Any]:
    """A head as JSON; `text` is all of it in one line."""
    return {
        "site": noted.site,
        "seq": noted.seq,
        "at": noted.at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "hash": noted.hash.hex(),
        "signature": noted.signature.hex() or None,
        "text": noted.text,
    }


def check(site: Site, noted: audit.Noted) -> audit.HeadCheck:
    """Proves that the chain still holds the noted event and is whole before and after it.

    HeadMismatch says what is wrong: the signature, the site, a chain that was rewritten or is shorter.
    """
    with site.store.read() as view:
        found = audit.check_head(view.audit_events(), site=view.site().uuid, head=view.audit_head(), noted=noted)
        if found.outcome != audit.OTHER_SITE and noted.signature and not _is_signed(view, noted):
            raise HeadMismatch(
                "the signature of this head is wrong: no device CA of this site made it",
                hint="the head was changed or mistyped, or the CA in the store is not the one that signed it",
            )
    if found.outcome != audit.CONTAINED:
        raise _mismatch(found, noted)
    return found


def _is_signed(view: Reader, noted: audit.Noted) -> bool:
    from cryptography import x509

    from redlatch.pki import statements

    return any(
        statements.is_signed(x509.load_der_x509_certificate(row.certificate), noted.statement, noted.signature)
        for row in view.authorities("device")
        if row.key_file  # one that came with an adopted certificate says nothing about this site
    )


def _mismatch(found: audit.HeadCheck, noted: audit.Noted) -> HeadMismatch:
    if found.outcome == audit.OTHER_SITE:
        return HeadMismatch(
            "this head is another site's", hint="redlatch audit --head shows which site this one is"
        )
    if found.outcome == audit.BROKEN:
        return HeadMismatch(
            f"the audit trail was tampered with: {found.chain.problem}",
            hint=f"the {found.chain.count} events before it are whole; compare with a backup",
        )
    hint = "somebody who may write the store did that, or the store was put back to an earlier state"
    if found.restored is not None:
        hint = (
            f"event {found.restored} says that the site was restored from a backup: heads that were noted after "
            "that backup, and before it was restored, are of a chain that is lost"
        )
    if found.outcome == audit.SHORTER:
        what = f"the audit trail is shorter than this head: it ends with event {found.chain.count}"
        return HeadMismatch(f"{what}, and event {noted.seq} had happened", hint=hint)
    return HeadMismatch(
        f"the audit trail was rewritten: event {noted.seq} or one before it is not what it was on"
        f" {noted.at:%Y-%m-%d %H:%M} UTC",
        hint=hint,
    )
