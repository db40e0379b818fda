"""Rules, networks and roles of the operator's own; and what one change costs no longer grows with the devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels = None
depends_on = None

# What the roles were allowed before there were rules, word for word as schema 0002 keeps it.
_RULES = tuple(
    f'{{"any_device":false,"anyone":false,"area":"{area}","devices":[],"methods":[],"networks":[],"path":null,'
    f'"roles":["{role}"]}}'
    for role, area in (("owner", "all"), ("admin", "all"), ("viewer", "editor-read"), ("user", "dashboards"))
)


def upgrade() -> None:
    """Adds tables, columns and indexes, and the rules that say what every role could do so far."""
    op.add_column("site", sa.Column("rules_made", sa.BigInteger, nullable=False, server_default=str(len(_RULES))))
    op.add_column("certificates", sa.Column("changed", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_certificates_changed", "certificates", ["changed"])
    in_use = sa.text("revoked_at IS NULL")
    op.create_index(
        "ix_certificates_in_use", "certificates", ["fingerprint"], sqlite_where=in_use, postgresql_where=in_use
    )
    op.create_index("ix_devices_role", "devices", ["role"], sqlite_where=in_use, postgresql_where=in_use)
    op.create_table(
        "roles",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("base", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_roles"),
    )
    rules = op.create_table(
        "rules",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_rules"),
    )
    op.bulk_insert(rules, [{"id": number, "body": body} for number, body in enumerate(_RULES, 1)])
    op.create_table(
        "networks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("intervals", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.CHAR(64), nullable=False),
        sa.Column("resolved", sa.Text, nullable=False),
        sa.Column("entries", sa.Text, nullable=False),
        sa.Column("addresses_table", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_networks"),
    )
