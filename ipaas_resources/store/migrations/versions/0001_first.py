"""The tables of the foundation: registry, state, queue, history, budgets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Every change must work beside the version before it: both run during an upgrade."""
    _sequences()
    op.create_table(
        "concurrency_permits",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("permits", sa.Integer(), nullable=False),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("served_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "system", "credential", "scope", "holder", name=op.f("concurrency_permits_pkey")
        ),
        postgresql_with={"fillfactor": "20", "autovacuum_vacuum_threshold": "200"},
    )
    op.create_table(
        "entity_state",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("cursor", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("scan_number", sa.BigInteger(), nullable=True),
        sa.Column("scan_full", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_pull_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_complete_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("system", "scope", "entity", name=op.f("entity_state_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "flows",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("active_version", sa.Integer(), nullable=True),
        sa.Column("raised_version", sa.Integer(), nullable=True),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("source_system", sa.Text(), nullable=False),
        sa.Column("source_entity", sa.Text(), nullable=False),
        sa.Column("exclusive_group", sa.Text(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("flow", name=op.f("flows_pkey")),
    )
    op.create_table(
        "intents",
        sa.Column("intent", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("flow_version", sa.Integer(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("writes", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("intent", name=op.f("intents_pkey")),
        postgresql_with={
            "fillfactor": "70",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "intents_open_idx",
        "intents",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index(
        "intents_unknown_idx",
        "intents",
        ["intent"],
        unique=False,
        postgresql_where=sa.text("state = 'unknown'"),
    )
    op.create_table(
        "links",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("target_scope", sa.Text(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=True),
        sa.Column("target_key", sa.Text(), nullable=True),
        sa.Column(
            "sent", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.Column("read_back", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("lines", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("flow_version", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("flow", "target", "scope", "record", name=op.f("links_pkey")),
        postgresql_with={
            "fillfactor": "80",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "links_target_idx",
        "links",
        ["flow", "target", "target_scope", "target_id"],
        unique=True,
        postgresql_where=sa.text("target_id IS NOT NULL"),
    )
    op.create_index(
        "links_target_key_idx",
        "links",
        ["flow", "target", "target_scope", "target_key"],
        unique=True,
        postgresql_where=sa.text("target_key IS NOT NULL"),
    )
    op.create_table(
        "lookups",
        sa.Column("lookup", sa.Text(), nullable=False),
        sa.Column("rows", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("lookup", name=op.f("lookups_pkey")),
    )
    op.create_table(
        "mirror",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("hash", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("etag", sa.Text(), nullable=True),
        sa.Column("ordering", sa.BigInteger(), nullable=False),
        sa.Column("read_number", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("bad_code", sa.Text(), nullable=True),
        sa.Column("bad_error", sa.Text(), nullable=True),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("system", "entity", "scope", "record", name=op.f("mirror_pkey")),
        postgresql_with={
            "fillfactor": "85",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_table(
        "rate_budgets",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("tokens", sa.Double(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("system", "credential", "scope", name=op.f("rate_budgets_pkey")),
        postgresql_with={"fillfactor": "20", "autovacuum_vacuum_threshold": "200"},
    )
    op.create_table(
        "runs",
        sa.Column("run", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("trace_id", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("run", name=op.f("runs_pkey")),
    )
    op.create_index("runs_flow_started_at_idx", "runs", ["flow", "started_at"], unique=False)
    op.create_table(
        "scan_keys",
        sa.Column("scan", sa.BigInteger(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        prefixes=["UNLOGGED"],
    )
    op.create_index(
        "scan_keys_scan_key_idx",
        "scan_keys",
        ["scan", "key"],
        unique=False,
        postgresql_where=sa.text("key IS NOT NULL"),
    )
    op.create_index("scan_keys_scan_record_idx", "scan_keys", ["scan", "record"], unique=False)
    op.create_table(
        "schema_snapshots",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("entity", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("schema", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("fingerprint", sa.UUID(as_uuid=False), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("system", "entity", "version", name=op.f("schema_snapshots_pkey")),
    )
    op.create_table(
        "sync_events",
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("flow_version", sa.Integer(), nullable=False),
        sa.Column("target_id", sa.Text(), nullable=True),
        sa.Column("intent", sa.BigInteger(), nullable=True),
        sa.Column("run", sa.BigInteger(), nullable=True),
        sa.Column("trace_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("changes", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        postgresql_partition_by="RANGE (at)",
    )
    op.create_index("sync_events_record_idx", "sync_events", ["flow", "scope", "record", "at"], unique=False)
    op.create_table(
        "systems",
        sa.Column("system", sa.Text(), nullable=False),
        sa.Column("connector", sa.Text(), nullable=False),
        sa.Column("document", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("system", name=op.f("systems_pkey")),
    )
    op.create_table(
        "work_items",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("target_system", sa.Text(), nullable=False),
        sa.Column("target_entity", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="due", nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_expiries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("verify_target", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("intent", sa.BigInteger(), nullable=True),
        sa.Column("waits_for", sa.Text(), nullable=True),
        sa.Column("trace_ids", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("flow", "target", "scope", "record", name=op.f("work_items_pkey")),
        postgresql_with={
            "fillfactor": "60",
            "autovacuum_vacuum_scale_factor": "0.02",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_cost_delay": "1",
        },
    )
    op.create_index(
        "work_items_due_idx",
        "work_items",
        ["flow", "target", "lane", "due_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('due', 'parked')"),
    )
    op.create_index(
        "work_items_waits_for_idx",
        "work_items",
        ["waits_for"],
        unique=False,
        postgresql_where=sa.text("waits_for IS NOT NULL"),
    )
    op.create_table(
        "flow_versions",
        sa.Column("flow", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["flow"], ["flows.flow"], name=op.f("flow_versions_flow_fkey")),
        sa.PrimaryKeyConstraint("flow", "version", name=op.f("flow_versions_pkey")),
    )
    _partitions()
    _append_only()
    _grants()


def _sequences() -> None:
    op.execute("CREATE SEQUENCE read_numbers")
    op.execute("CREATE SEQUENCE fencing_tokens")


def _partitions() -> None:
    """Sync events stand in one partition a month. The default one takes what no month fits, so no insert ever fails."""
    op.execute("CREATE TABLE sync_events_default PARTITION OF sync_events DEFAULT")
    op.execute(
        """
        CREATE FUNCTION ipaas_make_partitions(months integer) RETURNS void LANGUAGE plpgsql AS $body$
        DECLARE first date := date_trunc('month', now() AT TIME ZONE 'UTC');
        BEGIN
            FOR ahead IN 0..months LOOP
                EXECUTE format(
                    'CREATE TABLE IF NOT EXISTS %I PARTITION OF sync_events FOR VALUES FROM (%L) TO (%L)',
                    'sync_events_' || to_char(first + make_interval(months => ahead), 'YYYY_MM'),
                    (first + make_interval(months => ahead))::date::text || ' 00:00:00+00',
                    (first + make_interval(months => ahead + 1))::date::text || ' 00:00:00+00');
            END LOOP;
        END $body$
        """
    )
    op.execute(
        """
        CREATE FUNCTION ipaas_drop_partitions(keep_months integer) RETURNS SETOF text LANGUAGE plpgsql AS $body$
        DECLARE
            name text;
            oldest text := 'sync_events_' || to_char(
                (now() AT TIME ZONE 'UTC') - make_interval(months => keep_months), 'YYYY_MM');
        BEGIN
            FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                         WHERE i.inhparent = 'sync_events'::regclass AND c.relname ~ '^sync_events_[0-9]{4}_[0-9]{2}$'
                           AND c.relname < oldest ORDER BY 1 LOOP
                EXECUTE format('DROP TABLE %I', name);
                RETURN NEXT name;
            END LOOP;
        END $body$
        """
    )


def _append_only() -> None:
    """The second line behind the privileges: not even the owner changes a sync event by mistake."""
    op.execute(
        """
        CREATE FUNCTION ipaas_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $body$
        BEGIN
            RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = '42501';
        END $body$
        """
    )
    op.execute(
        "CREATE TRIGGER sync_events_append_only BEFORE UPDATE OR DELETE ON sync_events "
        "FOR EACH ROW EXECUTE FUNCTION ipaas_refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER sync_events_no_truncate BEFORE TRUNCATE ON sync_events "
        "FOR EACH STATEMENT EXECUTE FUNCTION ipaas_refuse_change()"
    )


def _grants() -> None:
    """The run-time role works on rows and owns nothing; sync events and flow versions it only adds to."""
    op.execute("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC")
    op.execute("REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON systems, flows, lookups, schema_snapshots, entity_state, mirror, "
        "scan_keys, links, work_items, intents, runs, rate_budgets, concurrency_permits TO ipaas_app"
    )
    op.execute("GRANT SELECT, INSERT ON sync_events, flow_versions TO ipaas_app")
    op.execute("GRANT SELECT ON alembic_version TO ipaas_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO ipaas_app")
