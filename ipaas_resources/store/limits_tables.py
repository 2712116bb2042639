"""Where all processes meet to share one system's budget: `store/limits.py` reads and writes these two tables."""

from __future__ import annotations

import sqlalchemy as sa

from ipaas_resources.store.metadata import metadata

# Rewritten several times a second and never growing: room for HOT updates, so that no index is ever touched.
_HOT = {"fillfactor": "20", "autovacuum_vacuum_threshold": "200"}


def _key() -> list[sa.Column[str]]:
    """The three parts of a core.limits.BudgetKey."""
    return [
        sa.Column("system", sa.Text, primary_key=True),
        sa.Column("credential", sa.Text, primary_key=True),
        sa.Column("scope", sa.Text, primary_key=True),
    ]


rate_budgets = sa.Table(
    "rate_budgets",
    metadata,
    *_key(),
    # Requests that may be granted now; blocks that processes hold are already taken off.
    sa.Column("tokens", sa.Double, nullable=False),
    # When `tokens` was last counted, by the clock of this database.
    sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
    # The system asked for a pause: nobody sends before.
    sa.Column("not_before", sa.DateTime(timezone=True)),
    postgresql_with=_HOT,
)

concurrency_permits = sa.Table(
    "concurrency_permits",
    metadata,
    *_key(),
    # One row per process that holds or wants permits; a dead process's row lapses at `expires_at`.
    sa.Column("holder", sa.Text, primary_key=True),
    sa.Column("permits", sa.Integer, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False),
    # What the process works for: realtime | polling | batch. A share of each budget is kept for realtime.
    sa.Column("lane", sa.Text, nullable=False, server_default="batch"),
    # When the holder last got a permit: who has waited longest is served first.
    sa.Column("served_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
    postgresql_with=_HOT,
)
