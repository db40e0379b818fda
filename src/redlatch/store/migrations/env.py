"""Alembic's entry: runs the migrations on the connection that `redlatch.store.migrate` hands in."""

from __future__ import annotations

from alembic import context

from redlatch.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    # SQLite can roll DDL back; Alembic takes the opposite for granted and would leave half a migration behind.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
