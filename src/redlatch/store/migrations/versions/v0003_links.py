"""Enrolment links; when devices were last seen, and what was said about their ends; quick looks for a console."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds three tables and two indexes."""
    op.create_table(
        "links",
        sa.Column("id", sa.Integer),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("device_id", sa.String(36)),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("remote", sa.Boolean, nullable=False),
        sa.Column("pinned", sa.Boolean, nullable=False),
        sa.Column("compared", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("withdrawn_at", sa.BigInteger),
        sa.Column("used_at", sa.BigInteger),
        sa.Column("used_from", sa.Text),
        sa.Column("fingerprint", sa.String(64)),
        sa.Column("confirmed_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_links"),
        sa.UniqueConstraint("digest", name="uq_links_digest"),
    )
    op.create_index("ix_links_expires_at", "links", ["expires_at"])
    op.create_table(
        "sightings",
        sa.Column("device_id", sa.String(36), nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("device_id", name="pk_sightings"),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_sightings_device_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "notices",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("days", sa.Integer, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "days", name="pk_notices"),
    )
    in_use = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_certificates_not_after", "certificates", ["not_after"], sqlite_where=in_use, postgresql_where=in_use
    )
    revoked = sa.text("revoked_at IS NOT NULL")
    op.create_index(
        "ix_devices_revoked_at", "devices", ["revoked_at"], sqlite_where=revoked, postgresql_where=revoked
    )
