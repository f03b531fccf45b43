"""Alembic's environment: one connection from `storage.database.schema`, transactional DDL, no autogeneration."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()
