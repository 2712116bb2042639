"""The migrations make what the tables say, and the run-time role can only add to the history."""

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import make_url

from ipaas_resources.store import migrate, tables
from ipaas_resources.store.metadata import metadata

_ = tables


def _plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def test_an_upgrade_from_empty_makes_exactly_the_tables_of_the_metadata(empty_database):
    migrate.upgrade(empty_database.owner)
    engine = sa.create_engine(empty_database.owner, poolclass=sa.NullPool)
    with engine.connect() as connection:

        def ours(_object, name, kind, _reflected, _other):
            return not (kind == "table" and name.startswith("sync_events_"))

        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_object": ours}
        )
        difference = compare_metadata(context, metadata)
        unlogged = connection.execute(
            sa.text("SELECT relname FROM pg_class WHERE relpersistence = 'u' AND relkind = 'r'")
        ).scalars()
        sequences = set(
            connection.execute(
                sa.text("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'")
            ).scalars()
        )
        assert difference == []
        assert list(unlogged) == ["scan_keys"]
        assert {"read_numbers", "fencing_tokens"} <= sequences
    engine.dispose()


def test_an_upgrade_of_a_current_database_changes_nothing(fresh_database):
    assert migrate.is_current(fresh_database.owner)
    migrate.upgrade(fresh_database.owner)
    assert migrate.is_current(fresh_database.app)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sync_events SET outcome = 'created'",
        "DELETE FROM sync_events",
        "TRUNCATE sync_events",
        "UPDATE flow_versions SET text = ''",
        "DELETE FROM flow_versions",
        "UPDATE lookup_versions SET text = ''",
        "DELETE FROM lookup_versions",
        "DROP TABLE sync_events",
        "ALTER TABLE sync_events DISABLE TRIGGER ALL",
        "CREATE TABLE mine (id integer)",
    ],
)
def test_the_run_time_role_cannot_change_the_history(fresh_database, statement):
    with psycopg.connect(_plain(fresh_database.app)) as connection:
        connection.execute(
            "INSERT INTO sync_events (flow, target, scope, record, outcome, flow_version, trace_ids) "
            "VALUES ('f', 't', '', '1', 'created', 1, '{}')"
        )
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement", ["UPDATE sync_events SET outcome = 'x'", "DELETE FROM sync_events", "TRUNCATE sync_events"]
)
def test_even_the_owner_is_stopped_by_the_trigger(fresh_database, statement):
    with psycopg.connect(_plain(fresh_database.owner)) as connection:
        connection.execute(
            "INSERT INTO sync_events (flow, target, scope, record, outcome, flow_version, trace_ids) "
            "VALUES ('f', 't', '', '1', 'created', 1, '{}')"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
            connection.execute(statement)


def test_partitions_are_made_a_year_ahead_and_old_ones_are_dropped(fresh_database):
    engine = sa.create_engine(fresh_database.owner, poolclass=sa.NullPool)
    with engine.begin() as connection:
        names = set(
            connection.execute(
                sa.text(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'sync_events'::regclass"
                )
            ).scalars()
        )
        assert len(names) == migrate.MONTHS_AHEAD + 2  # this month, those ahead, the default one
        connection.execute(
            sa.text(
                "CREATE TABLE sync_events_2020_01 PARTITION OF sync_events FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
            )
        )
        assert migrate.drop_partitions(connection, keep_months=12) == ["sync_events_2020_01"]
        assert migrate.drop_partitions(connection, keep_months=12) == []
    engine.dispose()


def test_the_run_time_role_is_no_superuser(fresh_database):
    with psycopg.connect(_plain(fresh_database.app)) as connection:
        row = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = current_user"
        )
        assert row.fetchone() == (False, False, False)
