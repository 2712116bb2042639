"""The tables of the live lane: records to read, who works, which systems are left alone, what Dagster is to be told."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from ipaas_resources.store.metadata import metadata

_now = sa.text("now()")
_time = sa.DateTime(timezone=True)

hints = sa.Table(
    "hints",
    metadata,
    # "Read this record": one row per record, so that several events of it cost one read. Gone once it was read.
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("entity", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("record", sa.Text, primary_key=True),
    sa.Column("state", sa.Text, nullable=False, server_default="due"),  # due | dead
    sa.Column("generation", sa.BigInteger, nullable=False, server_default="1"),
    sa.Column("raised_at", _time, nullable=False, server_default=_now),
    sa.Column("due_at", _time, nullable=False, server_default=_now),
    sa.Column("lease_token", sa.BigInteger),
    sa.Column("lease_until", _time),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("trace_ids", ARRAY(sa.Text), nullable=False),
    sa.Column("error_code", sa.Text),
    sa.Column("error", sa.Text),
    # A claim must not walk through 100,000 hints that wait; it changes none of these columns.
    sa.Index(
        "hints_due_idx",
        "system",
        "entity",
        "scope",
        "due_at",
        postgresql_where=sa.text("state = 'due'"),
    ),
    postgresql_with={
        "fillfactor": "60",
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_cost_delay": "1",
    },
)

workers = sa.Table(
    "workers",
    metadata,
    # Every process of the live lane with its last sign of life, by the clock of the database.
    sa.Column("worker", sa.Text, primary_key=True),  # host/process id/start, see core/platform.py
    sa.Column("role", sa.Text, nullable=False),  # worker | ingress | reporter
    sa.Column("lane", sa.Text),  # of a worker: realtime | polling | batch
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", _time, nullable=False, server_default=_now),
    sa.Column("beat_at", _time, nullable=False, server_default=_now),
    sa.Column("details", JSONB, nullable=False, server_default=sa.text("'{}'::jsonb")),
    postgresql_with={"fillfactor": "50"},
)

breakers = sa.Table(
    "breakers",
    metadata,
    # The circuit breaker of a system, shared by all processes. No row, or failures 0: closed.
    sa.Column("system", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False, server_default="0"),  # consecutive
    sa.Column("opened_at", _time),
    sa.Column("open_until", _time),  # not null: open, or half open once it has passed
    sa.Column("probe_until", _time),  # one request is tried; another one only after this moment
    sa.Column("error", sa.Text),
    postgresql_with={"fillfactor": "50"},
)

report_due = sa.Table(
    "report_due",
    metadata,
    # What live settlements did and Dagster has not been told; the reporter sums the rows and takes them away.
    sa.Column("report", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("flow", sa.Text, nullable=False),
    sa.Column("target", sa.Text, nullable=False),
    sa.Column("flow_version", sa.Integer, nullable=False),
    sa.Column("counts", JSONB, nullable=False),  # outcome -> how many
    sa.Column("trace_id", sa.Text, nullable=False),
    sa.Column("at", _time, nullable=False, server_default=_now),
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0.02",
        "autovacuum_vacuum_threshold": "1000",
        "autovacuum_vacuum_cost_delay": "1",
    },
)
