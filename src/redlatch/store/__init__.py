"""The store: what redlatch knows, in one SQLite file, with its audit chain. One schema that PostgreSQL shares.

    with Store.create(path, site_uuid=..., now=..., owner=None) as store: ...   # Conflict when there is one
    with Store.open(path, patience=5.0) as store:                # NotSetUp, StoreTooNew, StoreError, Busy
        store.damages() -> lines of SQLite's, [] when the file is whole
        with store.read() as r: ...                              # consistent; inside a write, that write's view
        with store.write(actor, now) as tx: ...                  # one durable commit, or nothing
        store.copy() -> bytes                                    # all of it as one file, while others write
    Store.loaded(data, name)                                     # such a copy, in memory

Reads, of both `r` and `tx` (which sees its own writes):
    site() -> Site; authorities(kind) -> tuple[AuthorityRow, ...]
    device_by_name(name_key) -> Device | None (in use); device_by_id(id) -> Device | None
    devices(*, after=device_id | None, limit=None) -> tuple[Device, ...] by name, revoked ones too
    devices_by_slug(user_slug) -> tuple[Device, ...]
    certificates(device_id) -> tuple[Certificate, ...]; certificate(fingerprint) -> Certificate | None
    active_certificates() -> Iterator[ActiveCertificate]
    entries_below(prefix, limit) -> {fingerprint: policy.model.Entry}; changed_since(revision) -> fingerprints
    device_count_by_role() -> {role: devices in use}; somebody_has(role, at) -> bool
    device_page(*, matching="", after=name_key, limit) -> tuple[Listed, ...]; revoked_page(...)
    ending_between(first, before, limit) -> tuple[Ending, ...], the earliest first
    sighting(device_id) -> (at, address) | None; noticed(fingerprint) -> days
    link(id), link_by_digest(digest) -> LinkRow | None; links(since) -> tuple[LinkRow, ...], the newest first
    ending(before) -> (name, end) of the devices in use whose last certificate ends before then
    roles() -> {own role: built-in one}; rules() -> tuple[policy.model.Rule, ...] by number
    devices_in_use() -> int; sidebar_devices(limit), sidebar_ending(first, before, limit) -> tuple[SidebarRow, ...]
    networks() -> tuple[NetworkRow, ...]; network(name) -> NetworkRow | None; network_table(name) -> bytes | None
    network_digests() -> {name: digest}, without reading long lists
    trial() -> TrialRow | None, the change on trial
    audit_events(after=0) -> Iterator[audit.Entry(event, hash)]; audit_before(number, limit) -> the newest first
    audit_head() -> audit.Head(seq, hash)
    verify_audit() -> audit.Verification(ok, count, head, first_bad, problem)

Writes, each to be followed by `tx.record(kind, **data)` (else the transaction is rolled back, RuntimeError):
    set_config(mapping); add_authority(kind, *, certificate, key_file, chain, signing) -> AuthorityRow
    retire_authority(id, at); set_signing(id, bool); revoke_by_authority(id, at, reason) -> number of certificates
    move_certificates(before, id) -> number of certificates, between two rows of one authority
    add_device(id, *, name, name_key, role, owner, user_slug) -> Device; rename_device(id, *, name, name_key)
    set_role(id, role); revoke_device(id, at, reason) -> number of certificates
    add_certificate(*, fingerprint, device_id, authority_id, serial, not_before, not_after, der) -> Certificate
    revoke_certificate(fingerprint, at, reason)
    add_role(name, base); remove_role(name); add_rule(rule) -> Rule with its number; remove_rule(number)
    restore_rule(rule), under the number that it had
    begin_trial(before, what, begun, until, actor, connection); end_trial()
    put_network(NetworkRow, table), which adds or replaces; remove_network(name)
    add_link(...) -> number; redeem_link(digest, at, used_from=...) -> number | None; issued_by_link(...)
    confirm_link(number, at) -> bool; withdraw_link(number, at)
    forget_links(before), see(device_id, at, address), notice(fingerprint, days): nobody's change, no event
    raise_revision(above); touch() (what engines enforce changed; done by itself wherever a method changes that)
    revision: the site's revision once committed; recorded: the events so far

Times are aware UTC datetimes in whole seconds.
"""

from __future__ import annotations

from redlatch.store.database import Shut, Store
from redlatch.store.reading import Reader
from redlatch.store.records import (
    ActiveCertificate,
    AuthorityRow,
    Certificate,
    Device,
    Ending,
    LinkRow,
    Listed,
    NetworkRow,
    Site,
    TrialRow,
)
from redlatch.store.writing import Transaction

__all__ = [
    "ActiveCertificate",
    "AuthorityRow",
    "Certificate",
    "Device",
    "Ending",
    "LinkRow",
    "Listed",
    "NetworkRow",
    "Reader",
    "Shut",
    "Site",
    "Store",
    "Transaction",
    "TrialRow",
]
