"""The one schema, for SQLite and PostgreSQL alike. Read by migrations and tests; ordinary commands never load it.

Only types that both write and read the same way without help: text, integers (times are Unix seconds, so a Pi's
SQLite and a fleet's PostgreSQL agree without time zones), bytes; JSON is text in its canonical form.
"""

from __future__ import annotations

from sqlalchemy import (
    CHAR,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# INTEGER PRIMARY KEY is SQLite's row number itself; BIGINT would cost a second index.
_row_number = BigInteger().with_variant(Integer, "sqlite")

site = Table(
    "site",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one"), primary_key=True, autoincrement=False),
    Column("uuid", String(36), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("config", Text, nullable=False),
    # The end of the audit chain, so that a tail cut off is noticed.
    Column("audit_seq", BigInteger, nullable=False),
    Column("audit_hash", LargeBinary, nullable=False),
    Column("rules_made", BigInteger, nullable=False, server_default="4"),  # the last number given to a rule
)

authorities = Table(
    "authorities",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("certificate", LargeBinary, nullable=False),
    Column("key_file", Text, nullable=False),  # empty: its key is not here
    Column("created_at", BigInteger, nullable=False),
    Column("retired_at", BigInteger),
    # Certificates above it as PEM, its issuer first; null: it is its own root.
    Column("chain", LargeBinary),
    # Whether new certificates may come from it; of those that may, the newest signs.
    Column("signing", Boolean, nullable=False, server_default=text("true")),
)

# Without SQLite's row number: one page less to write for each device (https://sqlite.org/withoutrowid.html).
devices = Table(
    "devices",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", Text, nullable=False),
    Column("name_key", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("owner", Text),
    Column("user_slug", Text, nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text),
    sqlite_with_rowid=False,
)
# The name of a revoked device is free again; pages go by (name_key, id).
_in_use = text("revoked_at IS NULL")
Index("uq_devices_name_key", devices.c.name_key, unique=True, sqlite_where=_in_use, postgresql_where=_in_use)
Index("ix_devices_name_key_id", devices.c.name_key, devices.c.id)
_revoked = text("revoked_at IS NOT NULL")
Index("ix_devices_revoked_at", devices.c.revoked_at, sqlite_where=_revoked, postgresql_where=_revoked)
Index("ix_devices_role", devices.c.role, sqlite_where=_in_use, postgresql_where=_in_use)

certificates = Table(
    "certificates",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("device_id", String(36), ForeignKey("devices.id"), nullable=False, index=True),
    Column("authority_id", Integer, ForeignKey("authorities.id"), nullable=False),
    Column("serial", String(40), nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column("reason", Text),
    Column("der", LargeBinary, nullable=False),
    # The site's revision with which its entry in the snapshot came, went or changed last.
    Column("changed", BigInteger, nullable=False, server_default="0", index=True),
)
# However many are revoked, those that are not lie side by side.
Index("ix_certificates_in_use", certificates.c.fingerprint, sqlite_where=_in_use, postgresql_where=_in_use)
Index("ix_certificates_not_after", certificates.c.not_after, sqlite_where=_in_use, postgresql_where=_in_use)

# Of a token only its digest is kept. `device_id` is set for a further key of a device that there is.
links = Table(
    "links",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False, unique=True),
    Column("device_id", String(36)),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("owner", Text),
    Column("days", Integer, nullable=False),
    Column("remote", Boolean, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("compared", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("withdrawn_at", BigInteger),
    Column("used_at", BigInteger),
    Column("used_from", Text),
    Column("fingerprint", String(64)),
    Column("confirmed_at", BigInteger),
)

# Node-RED's word, kept longer than its access log; one row a device.
sightings = Table(
    "sightings",
    metadata,
    Column("device_id", String(36), ForeignKey("devices.id"), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("address", Text, nullable=False),
    sqlite_with_rowid=False,
)

# What was said about a certificate's end, once for each number of days before it.
notices = Table(
    "notices",
    metadata,
    Column("fingerprint", String(64), primary_key=True),
    Column("days", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)

# At most one: a change that is taken back at `until` unless somebody keeps it. `before` is what stood before it
# (JSON, operations.trials), `connection` names the connection or process that made it.
trial = Table(
    "trial",
    metadata,
    Column("id", Integer, CheckConstraint("id = 1", name="one"), primary_key=True, autoincrement=False),
    Column("before", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("begun_at", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("connection", Text, nullable=False),
)

roles = Table("roles", metadata, Column("name", Text, primary_key=True), Column("base", Text, nullable=False))

rules = Table(
    "rules",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

# The long columns last: SQLite reads a row from its beginning, and lists of a million addresses are long.
networks = Table(
    "networks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("intervals", BigInteger, nullable=False),
    Column("digest", CHAR(64), nullable=False),
    Column("resolved", Text, nullable=False),
    Column("entries", Text, nullable=False),
    Column("addresses_table", LargeBinary, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", _row_number, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("data", Text, nullable=False),
    Column("hash", LargeBinary, nullable=False),
)
