"""Authorities from elsewhere and those that only trust still lies in; a change on trial."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds two columns and a table."""
    op.add_column("authorities", sa.Column("chain", sa.LargeBinary))
    op.add_column("authorities", sa.Column("signing", sa.Boolean, nullable=False, server_default=sa.text("true")))
    op.create_table(
        "trial",
        sa.Column("id", sa.Integer, autoincrement=False),
        sa.Column("before", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trial"),
        sa.CheckConstraint("id = 1", name="ck_trial_one"),
    )
