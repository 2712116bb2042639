"""Inbound webhooks: subscriptions, the inbox, and the keys of deliveries that were seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Additive: a process of the version before knows none of these tables."""
    op.create_table(
        "subscriptions",
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), server_default="", nullable=False),
        sa.Column("scope", sa.Text(), server_default="", nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("secret_old", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="active", nullable=False),
        sa.Column("handshake_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("subscription", name=op.f("subscriptions_pkey")),
    )
    op.create_table(
        "inbox",
        sa.Column("delivery", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("state", sa.Text(), server_default="due", nullable=False),
        sa.PrimaryKeyConstraint("delivery", name=op.f("inbox_pkey")),
        postgresql_with={
            "fillfactor": "90",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_insert_scale_factor": "0.05",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "inbox_due_idx", "inbox", ["delivery"], unique=False, postgresql_where=sa.text("state = 'due'")
    )
    op.create_table(
        "inbox_keys",
        sa.Column("subscription", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("octet_length(key) = 16", name=op.f("inbox_keys_key_size_check")),
        sa.PrimaryKeyConstraint("subscription", "key", name=op.f("inbox_keys_pkey")),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON subscriptions, inbox TO ipaas_app")
    # A key is written once; retention takes it away.
    op.execute("GRANT SELECT, INSERT, DELETE ON inbox_keys TO ipaas_app")
