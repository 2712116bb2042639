"""Versions of lookup tables, the diff and the file of every version, and how a switched flow is raised."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Additive: a process of the version before goes on reading `lookups.rows` and `flow_versions.text`."""
    op.add_column("flows", sa.Column("remap", sa.Text(), server_default="changed", nullable=False))
    op.add_column("flow_versions", sa.Column("file", sa.Text(), server_default="", nullable=False))
    op.add_column(
        "flow_versions",
        sa.Column(
            "diff",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
    )
    op.add_column("flow_versions", sa.Column("checker", sa.Integer(), server_default="1", nullable=False))
    op.add_column("lookups", sa.Column("active_version", sa.Integer(), nullable=True))
    op.create_table(
        "lookup_versions",
        sa.Column("lookup", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), server_default="", nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "diff",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'::jsonb"),
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["lookup"], ["lookups.lookup"], name=op.f("lookup_versions_lookup_fkey")),
        sa.PrimaryKeyConstraint("lookup", "version", name=op.f("lookup_versions_pkey")),
    )
    op.execute("GRANT SELECT, INSERT ON lookup_versions TO ipaas_app")
