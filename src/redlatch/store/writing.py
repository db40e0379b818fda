"""Changing the store: rows, audit event and revision in one transaction, or none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from redlatch.audit import KINDS, Event, canonical_json, chain_hash
from redlatch.errors import Conflict, NotFound
from redlatch.policy.model import Rule
from redlatch.store import statements as sql
from redlatch.store.reading import Connection, Reader, Rows
from redlatch.store.records import AuthorityRow, Certificate, Device, NetworkRow


class Transaction(Reader):
    """One change by `actor` at `now`. Sees its own writes.

    Every change is followed by the `record` of its audit event (one event may stand for several changes before
    it); a transaction that ends with a change nobody recorded is rolled back with RuntimeError, for it is a
    mistake in the program. Certificates, roles, revocations, rules, networks and the configuration are what
    engines enforce: changing them raises the site's revision by itself, once per transaction; `touch` does it for
    anything else.
    """

    def __init__(self, connection: Connection, *, actor: str, now: datetime) -> None:
        super().__init__(connection)
        # Names from the environment may hold bytes that are no text (PEP 383); no database takes those.
        self.actor = actor.encode("utf-8", "backslashreplace").decode()
        self.now = _seconds(now)
        self._unrecorded = ""
        self._touched = False
        #: The events of this transaction, in their order.
        self.recorded: list[Event] = []
        self._revision, self._seq, self._hash = self._only(sql.LOCK_HEAD, _head)

    def record(self, kind: str, /, **data: object) -> Event:
        """Writes the audit event for the changes made since the last one. `data` is what JSON can say."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is no kind of audit event; redlatch.audit.KINDS lists them")
        event = Event(self._seq + 1, self.now, self.actor, kind, data)
        digest = chain_hash(self._hash, event)
        self._connection.execute(
            sql.ADD_EVENT,
            {
                "seq": event.seq,
                "at": _unix(event.at),
                "actor": event.actor,
                "kind": kind,
                "data": canonical_json(data),
                "hash": digest,
            },
        )
        self._seq, self._hash = event.seq, digest
        self.recorded.append(event)
        self._unrecorded = ""
        return event

    def touch(self) -> None:
        """Says that what engines enforce has changed: the revision grows by one with this transaction."""
        self._touched = True

    def raise_revision(self, above: int) -> None:
        """Has the revision of this transaction be above that one too: engines take no older snapshot."""
        self._revision = max(self._revision, above)
        self.touch()

    @property
    def revision(self) -> int:
        """The site's revision once this transaction is committed."""
        return self._revision + self._touched

    def set_config(self, config: Mapping[str, object]) -> None:
        """Replaces the site's configuration."""
        self._change("set_config", sql.SET_CONFIG, {"config": canonical_json(config)})
        self.touch()

    def add_authority(
        self, kind: str, *, certificate: bytes, key_file: str, chain: bytes = b"", signing: bool = True
    ) -> AuthorityRow:
        """Adds an authority of `kind` ("server" or "device"); what the rest means stands at AuthorityRow."""
        row = self._change(
            "add_authority",
            sql.ADD_AUTHORITY,
            {
                "kind": kind,
                "certificate": certificate,
                "key_file": key_file,
                "created_at": _unix(self.now),
                "chain": chain or None,
                "signing": signing,
            },
        ).fetchone()
        return AuthorityRow(row[0], kind, certificate, key_file, self.now, None, chain, signing)

    def retire_authority(self, authority_id: int, at: datetime) -> None:
        """Takes an authority out of use. NotFound when there is none in use by that number."""
        if not self._change(
            "retire_authority", sql.RETIRE_AUTHORITY, {"id": authority_id, "at": _unix(at)}
        ).rowcount:
            raise NotFound(f"there is no authority {authority_id} in use")
        self.touch()

    def set_signing(self, authority_id: int, signing: bool) -> None:
        """Says whether new certificates may come from an authority in use. NotFound."""
        if not self._change("set_signing", sql.SET_SIGNING, {"id": authority_id, "signing": signing}).rowcount:
            raise NotFound(f"there is no authority {authority_id} in use")

    def revoke_by_authority(self, authority_id: int, at: datetime, reason: str) -> int:
        """Shuts out every certificate of an authority; returns how many."""
        return self._change(
            "revoke_by_authority",
            sql.REVOKE_BY_AUTHORITY,
            {"id": authority_id, "at": _unix(at), "reason": reason, "changed": self._touching()},
        ).rowcount

    def move_certificates(self, before: int, authority_id: int) -> int:
        """Has another row stand for the authority that issued these, with the same key; returns how many."""
        return self._change(
            "move_certificates", sql.MOVE_CERTIFICATES, {"before": before, "id": authority_id}
        ).rowcount

    def add_device(
        self, device_id: str, *, name: str, name_key: str, role: str, owner: str | None, user_slug: str
    ) -> Device:
        """Adds a device. Conflict when a device in use has that name."""
        done = self._change(
            "add_device",
            sql.ADD_DEVICE,
            {
                "id": device_id,
                "name": name,
                "name_key": name_key,
                "role": role,
                "owner": owner,
                "user_slug": user_slug,
                "created_at": _unix(self.now),
            },
        )
        if not done.rowcount:
            raise self._taken(name, name_key)
        return Device(device_id, name, role, owner, user_slug, self.now, None, None)

    def rename_device(self, device_id: str, *, name: str, name_key: str) -> None:
        """Gives a device another name. Conflict when another device in use has it; NotFound."""
        other = self.device_by_name(name_key)
        if other is not None and other.id != device_id:
            raise self._taken(name, name_key)
        self._change_device(
            "rename_device", sql.RENAME_DEVICE, {"id": device_id, "name": name, "name_key": name_key}
        )

    def set_role(self, device_id: str, role: str) -> None:
        """Gives a device another role. NotFound; Conflict when it is revoked."""
        self._change_device("set_role", sql.SET_ROLE, {"id": device_id, "role": role})
        self._change("set_role", sql.CHANGE_CERTIFICATES, {"device_id": device_id, "changed": self._touching()})

    def revoke_device(self, device_id: str, at: datetime, reason: str | None) -> int:
        """Shuts a device out, with all of its certificates; returns how many. NotFound; Conflict when revoked."""
        self._change_device(
            "revoke_device", sql.REVOKE_DEVICE, {"id": device_id, "at": _unix(at), "reason": reason}
        )
        return self._change(
            "revoke_device",
            sql.REVOKE_CERTIFICATES,
            {"device_id": device_id, "at": _unix(at), "reason": reason, "changed": self._touching()},
        ).rowcount

    def add_certificate(
        self,
        *,
        fingerprint: str,
        device_id: str,
        authority_id: int,
        serial: str,
        not_before: datetime,
        not_after: datetime,
        der: bytes,
    ) -> Certificate:
        """Adds a certificate to a device in use. NotFound; Conflict when it is revoked, or known."""
        done = self._change(
            "add_certificate",
            sql.ADD_CERTIFICATE,
            {
                "fingerprint": fingerprint,
                "device_id": device_id,
                "authority_id": authority_id,
                "serial": serial,
                "not_before": _unix(not_before),
                "not_after": _unix(not_after),
                "issued_at": _unix(self.now),
                "der": der,
                "changed": self._touching(),
            },
        )
        if not done.rowcount:
            self._in_use(device_id)
            raise Conflict(f"the certificate {serial} is recorded already")
        return Certificate(
            fingerprint, device_id, authority_id, serial, _seconds(not_before), _seconds(not_after), self.now,
            None, None, der,
        )  # fmt: skip

    def revoke_certificate(self, fingerprint: str, at: datetime, reason: str | None) -> None:
        """Shuts one certificate out. NotFound; Conflict when it is revoked already."""
        done = self._change(
            "revoke_certificate",
            sql.REVOKE_CERTIFICATE,
            {"fingerprint": fingerprint, "at": _unix(at), "reason": reason, "changed": self._touching()},
        )
        if not done.rowcount:
            if self.certificate(fingerprint) is None:
                raise NotFound(f"there is no certificate {fingerprint}")
            raise Conflict(f"the certificate {fingerprint} is revoked already")

    def add_link(
        self,
        *,
        digest: bytes,
        device_id: str | None,
        name: str,
        role: str,
        owner: str | None,
        days: int,
        remote: bool,
        pinned: bool,
        compared: bool,
        expires: datetime,
    ) -> int:
        """Adds an enrolment link by the digest of its token; returns its number."""
        row = self._change(
            "add_link",
            sql.ADD_LINK,
            {
                "digest": digest,
                "device_id": device_id,
                "name": name,
                "role": role,
                "owner": owner,
                "days": days,
                "remote": remote,
                "pinned": pinned,
                "compared": compared,
                "created_at": _unix(self.now),
                "created_by": self.actor,
                "expires_at": _unix(expires),
            },
        ).fetchone()
        return int(row[0])

    def redeem_link(self, digest: bytes, at: datetime, *, used_from: str) -> int | None:
        """Uses up the link of that digest; its number, or None when it is unknown, used, over or withdrawn.

        Of any number of calls for one link, exactly one gets the number.
        """
        parameters = {"digest": digest, "at": _unix(at), "used_from": used_from}
        row = self._connection.execute(sql.REDEEM_LINK, parameters).fetchone()
        if row is None:
            return None
        self._unrecorded = "redeem_link"
        return int(row[0])

    def issued_by_link(self, link_id: int, *, device_id: str, fingerprint: str) -> None:
        """Notes what a redeemed link was good for."""
        self._change(
            "issued_by_link",
            sql.ISSUED_BY_LINK,
            {"id": link_id, "device_id": device_id, "fingerprint": fingerprint},
        )

    def confirm_link(self, link_id: int, at: datetime) -> bool:
        """Notes that the page of a redeemed link said that it holds its files; False when it had said so."""
        done = self._connection.execute(sql.CONFIRM_LINK, {"id": link_id, "at": _unix(at)}).rowcount
        if done:
            self._unrecorded = "confirm_link"
        return bool(done)

    def withdraw_link(self, link_id: int, at: datetime) -> None:
        """Ends a link that nobody has used. NotFound; Conflict when it is used, over or withdrawn."""
        if self._change("withdraw_link", sql.WITHDRAW_LINK, {"id": link_id, "at": _unix(at)}).rowcount:
            return
        link = self.link(link_id)
        if link is None:
            raise NotFound(f"there is no link {link_id}", hint="redlatch device links shows all of them")
        state = "withdrawn already" if link.withdrawn_at else "used already" if link.used_at else "over"
        raise Conflict(
            f"the link for {link.name!r} is {state}",
            hint="a device that came by it is shut out with: redlatch device revoke" if link.used_at else "",
        )

    def forget_links(self, before: datetime) -> None:
        """Removes links that ended before then; the audit trail keeps what came of them. Needs no event."""
        self._connection.execute(sql.FORGET_LINKS, {"before": _unix(before)})

    def see(self, device_id: str, at: datetime, address: str) -> None:
        """Notes when a device was seen, by Node-RED's word: nobody's change, so it needs no event."""
        self._connection.execute(sql.SEE, {"device_id": device_id, "at": _unix(at), "address": address})

    def notice(self, fingerprint: str, days: int) -> None:
        """Notes that something was said about a certificate's end, so many days before it. Needs no event."""
        self._connection.execute(sql.NOTICE, {"fingerprint": fingerprint, "days": days, "at": _unix(self.now)})

    def add_role(self, name: str, base: str) -> None:
        """Adds a role of the operator's own that is like the built-in `base`. Conflict when there is one."""
        if not self._change("add_role", sql.ADD_ROLE, {"name": name, "base": base}).rowcount:
            raise Conflict(f"there is a role {name!r} already", hint="choose another name")
        self.touch()

    def remove_role(self, name: str) -> None:
        """Removes a role of the operator's own. NotFound. Who has it must be asked before."""
        if not self._change("remove_role", sql.REMOVE_ROLE, {"name": name}).rowcount:
            raise NotFound(f"there is no role {name!r} of your own")
        self.touch()

    def put_network(self, row: NetworkRow, table: bytes) -> None:
        """Adds a network, or replaces the one of its name; `table` as `policy.networks.encode` made it."""
        self._change(
            "put_network",
            sql.PUT_NETWORK,
            {
                "name": row.name,
                "intervals": row.intervals,
                "digest": row.digest,
                "resolved": canonical_json(row.resolved),
                "entries": row.entries,
                "addresses_table": table,
            },
        )
        self.touch()

    def remove_network(self, name: str) -> None:
        """Removes a network of the operator's own. NotFound. Which rules use it must be asked before."""
        if not self._change("remove_network", sql.REMOVE_NETWORK, {"name": name}).rowcount:
            raise NotFound(f"there is no network {name!r} of your own")
        self.touch()

    def add_rule(self, rule: Rule) -> Rule:
        """Adds a rule; returns it with its number, which no rule had before (its `id` is not looked at)."""
        body = {key: value for key, value in asdict(rule).items() if key != "id"}
        number = self._change("add_rule", sql.NEXT_RULE, {}).fetchone()[0]
        self._change("add_rule", sql.ADD_RULE, {"id": number, "body": canonical_json(body)})
        self.touch()
        return replace(rule, id=number)

    def restore_rule(self, rule: Rule) -> None:
        """Puts a rule back under the number that it had; no other rule ever gets that number."""
        body = {key: value for key, value in asdict(rule).items() if key != "id"}
        self._change("restore_rule", sql.ADD_RULE, {"id": rule.id, "body": canonical_json(body)})
        self.touch()

    def begin_trial(
        self, *, before: str, what: str, begun: datetime, until: datetime, actor: str, connection: str
    ) -> None:
        """Notes that this transaction's change is on trial. Conflict when another one is."""
        parameters = {
            "before": before,
            "what": what,
            "begun_at": _unix(begun),
            "until": _unix(until),
            "actor": actor,
            "connection": connection,
        }
        if not self._change("begin_trial", sql.BEGIN_TRIAL, parameters).rowcount:
            raise Conflict("a change is on trial already", hint="redlatch trial show says which")

    def end_trial(self) -> None:
        """Forgets the change on trial: it was kept, or taken back. NotFound when there is none."""
        if not self._change("end_trial", sql.END_TRIAL, {}).rowcount:
            raise NotFound("no change is on trial", hint="what became of the last one: redlatch audit")

    def remove_rule(self, rule_id: int) -> None:
        """Removes a rule. NotFound."""
        if not self._change("remove_rule", sql.REMOVE_RULE, {"id": rule_id}).rowcount:
            raise NotFound(f"there is no rule {rule_id}", hint="redlatch rule list shows all of them")
        self.touch()

    def finish(self) -> None:
        """Writes the new revision and the chain's new end; called by `Store.write` just before the commit."""
        if self._unrecorded:
            raise RuntimeError(f"{self._unrecorded} without an audit event: call record() after the change")
        self._connection.execute(
            sql.SET_HEAD, {"revision": self.revision, "audit_seq": self._seq, "audit_hash": self._hash}
        )

    def _touching(self) -> int:
        """As `touch`; the revision that this transaction commits."""
        self.touch()
        return self.revision

    def _change(self, what: str, statement: str, parameters: Mapping[str, object]) -> Rows:
        """The only way to change rows: remembers that an audit event is due."""
        self._unrecorded = what
        return self._connection.execute(statement, parameters)

    def _change_device(self, what: str, statement: str, parameters: Mapping[str, object]) -> None:
        if not self._change(what, statement, parameters).rowcount:
            self._in_use(str(parameters["id"]))

    def _in_use(self, device_id: str) -> None:
        device = self.device_by_id(device_id)
        if device is None:
            raise NotFound("there is no such device", hint="redlatch device list shows all of them")
        if device.revoked_at is not None:
            raise Conflict(
                f"the device {device.name!r} is revoked",
                hint="add it anew: its name is free; a revoked key stays out",
            )

    def _taken(self, name: str, name_key: str) -> Conflict:
        other = self.device_by_name(name_key)
        if other is None:
            return Conflict("a device with this id is recorded already")
        return Conflict(
            f"there is a device {other.name!r} already",
            hint="choose another name; renew that device for a new key, or revoke it to free its name",
        )


def _head(row: Any) -> tuple[int, int, bytes]:
    revision, seq, digest = row
    if not (isinstance(revision, int) and isinstance(seq, int) and isinstance(digest, bytes)):
        raise TypeError("the end of the audit chain is no number and hash")
    return revision, seq, digest


def _unix(time: datetime) -> int:
    return int(time.timestamp())


def _seconds(time: datetime) -> datetime:
    """The time as it comes back from the store: whole seconds."""
    return time.replace(microsecond=0)
