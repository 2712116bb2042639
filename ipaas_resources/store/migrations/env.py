"""Alembic's entry: runs on the connection that `store/migrate.py` opened and locked."""

from __future__ import annotations

from alembic import context

from ipaas_resources.store import tables
from ipaas_resources.store.metadata import metadata

_ = tables  # its import fills the metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=True,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
