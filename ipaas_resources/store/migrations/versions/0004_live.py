"""The live lane: hints, live workers, circuit breakers, adaptive polling, subscriptions at the products, reports."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"

_now = sa.text("now()")
_time = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Additive: every new column has a default or may be null, so a process of the version before works on."""
    op.add_column("inbox", sa.Column("error_code", sa.Text()))
    op.add_column("inbox", sa.Column("error", sa.Text()))
    op.create_index("inbox_keys_received_at_idx", "inbox_keys", ["received_at"], postgresql_using="brin")
    op.create_table(
        "hints",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="due", nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("raised_at", _time, server_default=_now, nullable=False),
        sa.Column("due_at", _time, server_default=_now, nullable=False),
        sa.Column("lease_token", sa.BigInteger()),
        sa.Column("lease_until", _time),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("trace_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("error_code", sa.Text()),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("system", "entity", "scope", "record", name=op.f("hints_pkey")),
        postgresql_with={
            "fillfactor": "60",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "hints_due_idx",
        "hints",
        ["system", "entity", "scope", "due_at"],
        postgresql_where=sa.text("state = 'due'"),
    )
    op.create_table(
        "workers",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text()),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("started_at", _time, server_default=_now, nullable=False),
        sa.Column("beat_at", _time, server_default=_now, nullable=False),
        sa.Column(
            "details",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("worker", name=op.f("workers_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "breakers",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("opened_at", _time),
        sa.Column("open_until", _time),
        sa.Column("probe_until", _time),
        sa.Column("error", sa.Text()),
        sa.PrimaryKeyConstraint("system", name=op.f("breakers_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.add_column("concurrency_permits", sa.Column("lane", sa.Text(), server_default="batch", nullable=False))
    op.add_column("entity_state", sa.Column("poll_interval", sa.Double()))
    op.add_column("entity_state", sa.Column("poll_due_at", _time))
    op.add_column(
        "entity_state", sa.Column("poll_failures", sa.Integer(), server_default="0", nullable=False)
    )
    op.add_column("entity_state", sa.Column("poll_reason", sa.Text()))
    op.add_column(
        "entity_state", sa.Column("poll_full", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("subscriptions", sa.Column("product_id", sa.Text()))
    op.add_column("subscriptions", sa.Column("resource", sa.Text()))
    op.add_column("subscriptions", sa.Column("etag", sa.Text()))
    op.add_column("subscriptions", sa.Column("expires_at", _time))
    op.add_column("subscriptions", sa.Column("checked_at", _time))
    op.add_column("subscriptions", sa.Column("error", sa.Text()))
    op.add_column(
        "subscriptions", sa.Column("managed", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("work_items", sa.Column("parked_since", _time))
    op.add_column("work_items", sa.Column("waits_key", sa.Text()))
    op.drop_index("work_items_waits_for_idx", table_name="work_items")
    op.create_index(
        "work_items_waits_for_idx",
        "work_items",
        ["waits_for", "waits_key"],
        postgresql_where=sa.text("waits_for IS NOT NULL"),
    )
    op.create_table(
        "report_due",
        sa.Column("report", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("flow_version", sa.Integer(), nullable=False),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("at", _time, server_default=_now, nullable=False),
        sa.PrimaryKeyConstraint("report", name=op.f("report_due_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON hints, workers, breakers TO ipaas_app")
    # A report is written once and taken away once.
    op.execute("GRANT SELECT, INSERT, DELETE ON report_due TO ipaas_app")
