"""Alembic's entry: runs the migrations on the connection that `redlatch.store.migrate` hands in."""

from __future__ import annotations

from alembic import context

from redlatch.store.schema import metadata

# All of it in the transaction that the connection is in already: half a migration never remains.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
