"""Alembic's entry: migrations run on the connection that ``scoreboard.store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from scoreboard.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
