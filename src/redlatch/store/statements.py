"""Every statement of the store, as SQL that SQLite (from 3.35) and PostgreSQL both understand.

Parameters are `:name`, the form that both sqlite3 and sqlalchemy.text() take. Plain text on purpose: importing
SQLAlchemy alone takes a command 13 times as long as starting Python (180 ms against 14, version 2.1), so
SQLAlchemy and Alembic describe and migrate the schema (schema.py, migrations/) and ordinary commands never load
them. A test compiles all of these for PostgreSQL; another runs them there.
"""

from __future__ import annotations

SCHEMA_VERSION = "SELECT version_num FROM alembic_version"

SITE = "SELECT uuid, created_at, revision, config FROM site WHERE id = 1"
NEW_SITE = (
    "INSERT INTO site (id, uuid, created_at, revision, config, audit_seq, audit_hash)"
    " VALUES (1, :uuid, :created_at, 0, '{}', 0, :audit_hash)"
)
SET_CONFIG = "UPDATE site SET config = :config WHERE id = 1"
# An UPDATE that changes nothing instead of SELECT ... FOR UPDATE, which SQLite does not know: on PostgreSQL it
# locks the row that every writer needs, so that two writers never continue the chain from the same head.
LOCK_HEAD = "UPDATE site SET revision = revision WHERE id = 1 RETURNING revision, audit_seq, audit_hash"
SET_HEAD = "UPDATE site SET revision = :revision, audit_seq = :audit_seq, audit_hash = :audit_hash WHERE id = 1"
HEAD = "SELECT uuid, audit_seq, audit_hash FROM site WHERE id = 1"

ADD_EVENT = "INSERT INTO audit (seq, at, actor, kind, data, hash) VALUES (:seq, :at, :actor, :kind, :data, :hash)"
EVENTS = "SELECT seq, at, actor, kind, data, hash FROM audit WHERE seq > :after ORDER BY seq"

_AUTHORITY = "SELECT id, kind, certificate, key_file, created_at, retired_at, chain, signing FROM authorities"
AUTHORITIES = f"{_AUTHORITY} WHERE kind = :kind ORDER BY id"
ADD_AUTHORITY = (
    "INSERT INTO authorities (kind, certificate, key_file, created_at, chain, signing)"
    " VALUES (:kind, :certificate, :key_file, :created_at, :chain, :signing) RETURNING id"
)
RETIRE_AUTHORITY = "UPDATE authorities SET retired_at = :at WHERE id = :id AND retired_at IS NULL"
SET_SIGNING = "UPDATE authorities SET signing = :signing WHERE id = :id AND retired_at IS NULL"
MOVE_CERTIFICATES = "UPDATE certificates SET authority_id = :id WHERE authority_id = :before"
# How many devices in use have certificates in use of each authority; and how many it has issued, ever.
DEVICES_BY_AUTHORITY = (
    "SELECT c.authority_id, COUNT(DISTINCT c.device_id) FROM certificates c JOIN devices d ON d.id = c.device_id"
    " WHERE c.revoked_at IS NULL AND d.revoked_at IS NULL AND c.not_after > :at GROUP BY c.authority_id"
)
DEVICES_WITH_CERTIFICATES = (
    "SELECT COUNT(DISTINCT c.device_id) FROM certificates c JOIN devices d ON d.id = c.device_id"
    " WHERE c.revoked_at IS NULL AND d.revoked_at IS NULL AND c.not_after > :at"
)
ISSUED_BY_AUTHORITY = "SELECT COUNT(*) FROM certificates WHERE authority_id = :id"
# Devices in use that would have nothing left without this authority.
ONLY_OF_AUTHORITY = (
    "SELECT d.id, d.name, MAX(c.not_after), s.at FROM devices d JOIN certificates c ON c.device_id = d.id"
    " LEFT JOIN sightings s ON s.device_id = d.id"
    " WHERE d.revoked_at IS NULL AND c.revoked_at IS NULL AND c.not_after > :at AND c.authority_id = :id"
    " AND NOT EXISTS (SELECT 1 FROM certificates n WHERE n.device_id = d.id AND n.revoked_at IS NULL"
    " AND n.not_after > :at AND n.authority_id <> :id)"
    " GROUP BY d.id, d.name, d.name_key, s.at ORDER BY d.name_key"
)
# Devices in use that got nothing from here after that time: what was adopted came from elsewhere.
NOTHING_SINCE = (
    "SELECT d.id, d.name, MAX(c.not_after), s.at FROM devices d JOIN certificates c ON c.device_id = d.id"
    " LEFT JOIN sightings s ON s.device_id = d.id"
    " WHERE d.revoked_at IS NULL AND c.revoked_at IS NULL AND c.not_after > :at"
    " AND NOT EXISTS (SELECT 1 FROM certificates n JOIN authorities a ON a.id = n.authority_id"
    " WHERE n.device_id = d.id AND n.revoked_at IS NULL AND n.issued_at > :since AND a.key_file <> '')"
    " GROUP BY d.id, d.name, d.name_key, s.at ORDER BY d.name_key"
)

_DEVICE = "SELECT id, name, role, owner, user_slug, created_at, revoked_at, reason FROM devices"
DEVICE_BY_NAME = f"{_DEVICE} WHERE name_key = :name_key AND revoked_at IS NULL"
DEVICE_BY_ID = f"{_DEVICE} WHERE id = :id"
DEVICES_BY_SLUG = f"{_DEVICE} WHERE user_slug = :user_slug ORDER BY id LIMIT 100"
DEVICES = f"{_DEVICE} ORDER BY name_key, id LIMIT :limit"
DEVICES_AFTER = (
    f"{_DEVICE} WHERE (name_key, id) > (SELECT d.name_key, d.id FROM devices d WHERE d.id = :after)"  # noqa: S608
    " ORDER BY name_key, id LIMIT :limit"
)
ADD_DEVICE = (
    "INSERT INTO devices (id, name, name_key, role, owner, user_slug, created_at)"
    " VALUES (:id, :name, :name_key, :role, :owner, :user_slug, :created_at) ON CONFLICT DO NOTHING"
)
RENAME_DEVICE = "UPDATE devices SET name = :name, name_key = :name_key WHERE id = :id AND revoked_at IS NULL"
SET_ROLE = "UPDATE devices SET role = :role WHERE id = :id AND revoked_at IS NULL"
REVOKE_DEVICE = "UPDATE devices SET revoked_at = :at, reason = :reason WHERE id = :id AND revoked_at IS NULL"

_CERTIFICATE = (
    "SELECT fingerprint, device_id, authority_id, serial, not_before, not_after, issued_at, revoked_at, reason,"
    " der FROM certificates"
)
CERTIFICATES = f"{_CERTIFICATE} WHERE device_id = :device_id ORDER BY issued_at, fingerprint"
CERTIFICATE = f"{_CERTIFICATE} WHERE fingerprint = :fingerprint"
ACTIVE_CERTIFICATES = (
    "SELECT c.fingerprint, c.device_id, d.role, d.user_slug, c.not_before, c.not_after"
    " FROM certificates c JOIN devices d ON d.id = c.device_id"
    " WHERE c.revoked_at IS NULL AND d.revoked_at IS NULL ORDER BY c.fingerprint"
)
# CROSS JOIN: SQLite then keeps the order of the tables, and so reads no more than it gives back.
ENTRIES_BETWEEN = (
    "SELECT c.fingerprint, c.device_id, d.role, d.user_slug, c.not_before, c.not_after"
    " FROM certificates c CROSS JOIN devices d"
    " WHERE c.revoked_at IS NULL AND c.fingerprint >= :first AND c.fingerprint < :beyond"
    " AND d.id = c.device_id AND d.revoked_at IS NULL ORDER BY c.fingerprint LIMIT :limit"
)
CHANGED_SINCE = "SELECT fingerprint FROM certificates WHERE changed > :revision"
COUNT_BY_ROLE = "SELECT role, COUNT(*) FROM devices WHERE revoked_at IS NULL GROUP BY role"
SOMEBODY = (
    "SELECT 1 FROM devices d CROSS JOIN certificates c"
    " WHERE d.role = :role AND d.revoked_at IS NULL"
    " AND c.device_id = d.id AND c.revoked_at IS NULL AND c.not_after > :at LIMIT 1"
)
ENDING = (
    "SELECT d.name, MAX(c.not_after) FROM devices d JOIN certificates c ON c.device_id = d.id"
    " WHERE d.revoked_at IS NULL AND c.revoked_at IS NULL"
    " GROUP BY d.id, d.name, d.name_key HAVING MAX(c.not_after) < :before ORDER BY d.name_key"
)
# From the device's row, so that a certificate cannot be given to a device that is unknown or revoked.
ADD_CERTIFICATE = (
    "INSERT INTO certificates"
    " (fingerprint, device_id, authority_id, serial, not_before, not_after, issued_at, der, changed)"
    " SELECT :fingerprint, id, :authority_id, :serial, :not_before, :not_after, :issued_at, :der, :changed"
    " FROM devices WHERE id = :device_id AND revoked_at IS NULL ON CONFLICT DO NOTHING"
)
REVOKE_CERTIFICATE = (
    "UPDATE certificates SET revoked_at = :at, reason = :reason, changed = :changed"
    " WHERE fingerprint = :fingerprint AND revoked_at IS NULL"
)
REVOKE_CERTIFICATES = (
    "UPDATE certificates SET revoked_at = :at, reason = :reason, changed = :changed"
    " WHERE device_id = :device_id AND revoked_at IS NULL"
)
REVOKE_BY_AUTHORITY = (
    "UPDATE certificates SET revoked_at = :at, reason = :reason, changed = :changed"
    " WHERE authority_id = :id AND revoked_at IS NULL"
)
CHANGE_CERTIFICATES = (
    "UPDATE certificates SET changed = :changed WHERE device_id = :device_id AND revoked_at IS NULL"
)
# Along the index by end: what ended long ago is not read.
ENDING_BETWEEN = (
    "SELECT d.id, d.name, c.fingerprint, c.not_after FROM certificates c JOIN devices d ON d.id = c.device_id"
    " WHERE c.revoked_at IS NULL AND c.not_after >= :first AND c.not_after < :before AND d.revoked_at IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM certificates n WHERE n.device_id = c.device_id AND n.revoked_at IS NULL"
    " AND n.not_after > c.not_after) ORDER BY c.not_after, c.fingerprint LIMIT :limit"
)

# A page of the devices in use, whose names are unique; and of the revoked ones, the latest first. LIKE reads on
# until the page is full: what is rare costs a walk along the index.
_LISTED = (
    "SELECT d.id, d.name, d.role, d.owner, d.user_slug, d.created_at, d.revoked_at, d.reason, d.name_key,"
    " (SELECT MAX(c.not_after) FROM certificates c WHERE c.device_id = d.id AND c.revoked_at IS NULL),"
    " s.at, s.address FROM devices d LEFT JOIN sightings s ON s.device_id = d.id"
)
DEVICE_PAGE = f"{_LISTED} WHERE d.revoked_at IS NULL AND d.name_key > :after ORDER BY d.name_key LIMIT :limit"
_MATCHING = "(d.name_key LIKE :like ESCAPE '!' OR LOWER(d.owner) LIKE :like ESCAPE '!' OR d.role = :role)"
DEVICE_PAGE_MATCHING = (
    f"{_LISTED} WHERE d.revoked_at IS NULL AND d.name_key > :after AND {_MATCHING}"
    " ORDER BY d.name_key LIMIT :limit"
)
REVOKED_PAGE = (
    f"{_LISTED} WHERE d.revoked_at IS NOT NULL AND (d.name_key, d.id) > (:after, :after_id) AND {_MATCHING}"
    " ORDER BY d.name_key, d.id LIMIT :limit"
)

_LINK = (
    "SELECT id, device_id, name, role, owner, days, remote, pinned, compared, created_at, created_by, expires_at,"
    " withdrawn_at, used_at, used_from, fingerprint, confirmed_at FROM links"
)
ADD_LINK = (
    "INSERT INTO links (digest, device_id, name, role, owner, days, remote, pinned, compared, created_at,"
    " created_by, expires_at) VALUES (:digest, :device_id, :name, :role, :owner, :days, :remote, :pinned,"
    " :compared, :created_at, :created_by, :expires_at) RETURNING id"
)
LINK_BY_DIGEST = f"{_LINK} WHERE digest = :digest"
LINK_BY_ID = f"{_LINK} WHERE id = :id"
LINKS = f"{_LINK} WHERE expires_at > :since ORDER BY id DESC LIMIT :limit"
# One statement decides, so that of two redemptions at the same instant exactly one gets a row back.
REDEEM_LINK = (
    "UPDATE links SET used_at = :at, used_from = :used_from"
    " WHERE digest = :digest AND used_at IS NULL AND withdrawn_at IS NULL AND expires_at > :at RETURNING id"
)
ISSUED_BY_LINK = "UPDATE links SET fingerprint = :fingerprint, device_id = :device_id WHERE id = :id"
CONFIRM_LINK = "UPDATE links SET confirmed_at = :at WHERE id = :id AND confirmed_at IS NULL"
WITHDRAW_LINK = (
    "UPDATE links SET withdrawn_at = :at WHERE id = :id AND used_at IS NULL AND withdrawn_at IS NULL"
    " AND expires_at > :at"
)
FORGET_LINKS = "DELETE FROM links WHERE expires_at < :before"

SEE = (
    "INSERT INTO sightings (device_id, at, address) SELECT id, :at, :address FROM devices WHERE id = :device_id"
    " ON CONFLICT (device_id) DO UPDATE SET at = excluded.at, address = excluded.address"
    " WHERE excluded.at >= sightings.at"
)
SIGHTING = "SELECT at, address FROM sightings WHERE device_id = :device_id"
NOTICED = "SELECT days FROM notices WHERE fingerprint = :fingerprint"
NOTICE = "INSERT INTO notices (fingerprint, days, at) VALUES (:fingerprint, :days, :at) ON CONFLICT DO NOTHING"

EVENTS_BEFORE = (
    "SELECT seq, at, actor, kind, data, hash FROM audit WHERE seq < :before ORDER BY seq DESC LIMIT :limit"
)

ROLES = "SELECT name, base FROM roles"
ADD_ROLE = "INSERT INTO roles (name, base) VALUES (:name, :base) ON CONFLICT DO NOTHING"
REMOVE_ROLE = "DELETE FROM roles WHERE name = :name"

RULES = "SELECT id, body FROM rules ORDER BY id"
# A number is never given again: whoever removes rule 5 shall not remove what somebody else has added since.
NEXT_RULE = "UPDATE site SET rules_made = rules_made + 1 WHERE id = 1 RETURNING rules_made"
ADD_RULE = "INSERT INTO rules (id, body) VALUES (:id, :body)"
REMOVE_RULE = "DELETE FROM rules WHERE id = :id"

TRIAL = "SELECT before, what, begun_at, until, actor, connection FROM trial WHERE id = 1"
BEGIN_TRIAL = (
    "INSERT INTO trial (id, before, what, begun_at, until, actor, connection)"
    " VALUES (1, :before, :what, :begun_at, :until, :actor, :connection) ON CONFLICT DO NOTHING"
)
END_TRIAL = "DELETE FROM trial WHERE id = 1"

_NETWORK = "SELECT name, entries, resolved, intervals, digest FROM networks"
NETWORKS = f"{_NETWORK} ORDER BY name"
NETWORK = f"{_NETWORK} WHERE name = :name"
NETWORK_DIGESTS = "SELECT name, digest FROM networks ORDER BY name"
NETWORK_TABLE = "SELECT addresses_table FROM networks WHERE name = :name"
PUT_NETWORK = (
    "INSERT INTO networks (name, intervals, digest, resolved, entries, addresses_table)"
    " VALUES (:name, :intervals, :digest, :resolved, :entries, :addresses_table)"
    " ON CONFLICT (name) DO UPDATE SET intervals = excluded.intervals, digest = excluded.digest,"
    " resolved = excluded.resolved, entries = excluded.entries, addresses_table = excluded.addresses_table"
)
REMOVE_NETWORK = "DELETE FROM networks WHERE name = :name"

# For the sidebar, with every change: SQLite counts all rows by their pages, and those in use only one by one.
DEVICES_IN_USE = (
    "SELECT (SELECT COUNT(*) FROM devices) - (SELECT COUNT(*) FROM devices WHERE revoked_at IS NOT NULL)"
)
_SIDEBAR = "SELECT d.id, d.name, d.role, d.owner,"
SIDEBAR_DEVICES = (
    f"{_SIDEBAR} (SELECT MAX(c.not_after) FROM certificates c WHERE c.device_id = d.id AND c.revoked_at IS NULL)"  # noqa: S608
    " FROM devices d WHERE d.revoked_at IS NULL ORDER BY d.name_key LIMIT :limit"
)
# The earliest ends first, and no more of them than that: after a renewal of everything, all are superseded.
SIDEBAR_ENDING = (
    f"{_SIDEBAR} c.not_after FROM (SELECT device_id, not_after FROM certificates WHERE revoked_at IS NULL"  # noqa: S608
    " AND not_after >= :first AND not_after < :before ORDER BY not_after LIMIT :look) c"
    " JOIN devices d ON d.id = c.device_id WHERE d.revoked_at IS NULL"
    " AND NOT EXISTS (SELECT 1 FROM certificates n WHERE n.device_id = c.device_id AND n.revoked_at IS NULL"
    " AND n.not_after > c.not_after) ORDER BY c.not_after, d.id LIMIT :limit"
)
