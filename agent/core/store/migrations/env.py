"""Alembic's entry: run the migrations on the connection that `migrate` hands over."""

from __future__ import annotations

from alembic import context

from agent.core.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,  # SQLite can; alembic does not assume it
)
with context.begin_transaction():
    context.run_migrations()
