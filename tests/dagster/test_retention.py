from __future__ import annotations

import datetime as dt

import dagster as dg
import pytest

from ipaas_assets.resources import RESOURCE, platform_resource
from ipaas_resources.store.migrate import MONTHS_AHEAD
from schedules.dagster_events import remove_old_events, remove_old_runs
from schedules.retention import partitions, retention_job
from tests.dagster.rig import Installation

LATER = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)


@dg.asset
def counted() -> dg.MaterializeResult:
    return dg.MaterializeResult(metadata={"n": 1})


def count(instance: dg.DagsterInstance, table: str) -> int:
    with instance.event_log_storage.index_connection() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()


def test_old_runs_leave_with_their_events_but_not_the_one_an_asset_shows(stored: dg.DagsterInstance) -> None:
    runs = [dg.materialize([counted], instance=stored).run_id for _ in range(3)]
    going_on = stored.create_run_for_job(job_def=retention_job, status=dg.DagsterRunStatus.STARTED)

    removed = remove_old_runs(stored, before=LATER)

    assert str(removed) == "2 runs removed"
    assert stored.get_run_by_id(runs[0]) is None
    assert stored.get_run_by_id(going_on.run_id) is not None
    assert stored.all_logs(runs[0]) == []
    assert stored.get_latest_materialization_event(dg.AssetKey("counted")).run_id == runs[2]
    # A second night finds nothing more, and ends.
    assert remove_old_runs(stored, before=LATER).many == 0


def test_runs_of_today_stay(stored: dg.DagsterInstance) -> None:
    run = dg.materialize([counted], instance=stored).run_id

    assert remove_old_runs(stored, before=dt.datetime.now(dt.UTC) - dt.timedelta(days=30)).many == 0
    assert stored.get_run_by_id(run) is not None


def test_old_events_without_a_run_leave_except_the_newest_of_each_kind(stored: dg.DagsterInstance) -> None:
    for number in range(3):
        stored.report_runless_asset_event(dg.AssetMaterialization("live", metadata={"n": number}))
        stored.report_runless_asset_event(dg.AssetObservation("live", metadata={"n": number}))
        stored.report_runless_asset_event(
            dg.AssetCheckEvaluation(asset_key=dg.AssetKey("live"), check_name="fresh", passed=True)
        )
    before = count(stored, "event_logs")
    assert count(stored, "asset_check_executions") == 3

    assert remove_old_events(stored, before=dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).many == 0
    assert count(stored, "event_logs") == before
    remove_old_events(stored, before=LATER)

    assert count(stored, "event_logs") < before
    assert count(stored, "asset_check_executions") == 1
    assert stored.get_latest_materialization_event(dg.AssetKey("live")).asset_materialization.metadata[
        "n"
    ] == dg.MetadataValue.int(2)
    key = dg.AssetCheckKey(dg.AssetKey("live"), "fresh")
    assert (
        stored.event_log_storage.get_latest_asset_check_execution_by_key([key])[key].status.value
        == "SUCCEEDED"
    )


def test_the_nightly_job_shortens_everything_and_tells_what_it_did(
    stored: dg.DagsterInstance, installation: Installation
) -> None:
    installation.sql(
        "INSERT INTO runs (flow, mode, trace_id, started_at) VALUES ('f', 'full', 't', now() - interval '91 days'),"
        " ('f', 'full', 't', now())",
        "INSERT INTO intents (flow, target, flow_version, lease_token, lease_until, state, writes, opened_at) SELECT"
        " 'f', 't', 1, 1, now(), state, '[]', now() - interval '31 days'"
        " FROM unnest(ARRAY['settled', 'resolved', 'open', 'unknown']) AS state",
        "CREATE TABLE sync_events_2001_01 PARTITION OF sync_events FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
    )

    result = retention_job.execute_in_process(
        instance=stored, resources={RESOURCE: platform_resource(installation)}
    )

    assert result.success
    assert installation.sql("SELECT count(*) FROM runs") == [(1,)]
    assert installation.sql("SELECT state FROM intents ORDER BY state") == [("open",), ("unknown",)]
    assert installation.sql("SELECT to_regclass('sync_events_2001_01')") == [(None,)]


def test_deliveries_that_were_dealt_with_leave_and_keys_outlive_the_longest_repeat(
    stored: dg.DagsterInstance, installation: Installation
) -> None:
    installation.sql(
        "INSERT INTO inbox (subscription, body, headers, trace_id, state, received_at) SELECT 's', '', '{}', 't', state,"
        " now() - make_interval(days => age) FROM unnest(ARRAY['due', 'done', 'ignored', 'dead']) AS state,"
        " unnest(ARRAY[29, 31]) AS age",
        "INSERT INTO inbox_keys (subscription, key, received_at) SELECT 's', decode(lpad(to_hex(hours), 32, '0'), 'hex'),"
        " now() - make_interval(hours => hours) FROM unnest(ARRAY[1, 76, 95, 97]) AS hours",
        "INSERT INTO hints (system, entity, scope, record, state, raised_at, trace_ids) VALUES ('s', 'e', '', 'r', 'dead',"
        " now() - interval '99 days', '{}')",
    )

    result = retention_job.execute_in_process(
        instance=stored, resources={RESOURCE: platform_resource(installation)}
    )

    assert result.success
    assert installation.sql("SELECT state, count(*) FROM inbox GROUP BY 1 ORDER BY 1") == [
        ("dead", 1),
        ("done", 1),
        ("due", 2),
        ("ignored", 1),
    ]
    assert installation.sql("SELECT count(*) FROM inbox_keys") == [(3,)]
    assert installation.sql("SELECT count(*) FROM hints") == [(1,)]


def test_partitions_are_made_ahead(installation: Installation) -> None:
    ahead = (
        "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent ="
        " 'sync_events'::regclass AND c.relname ~ '[0-9]$'"
    )
    installation.sql(
        "DO $$ DECLARE name text; BEGIN FOR name IN SELECT relname FROM pg_class WHERE relname ~"
        " '^sync_events_[0-9]+_[0-9]+$' ORDER BY 1 OFFSET 2 LOOP EXECUTE 'DROP TABLE ' || name; END LOOP; END $$"
    )
    assert installation.sql(ahead) == [(2,)]

    partitions(installation, keep_months=24)

    assert installation.sql(ahead) == [(MONTHS_AHEAD + 1,)]


def test_one_part_that_fails_does_not_stop_the_others(
    stored: dg.DagsterInstance, installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.sql(
        "INSERT INTO runs (flow, mode, trace_id, started_at) VALUES ('f', 'full', 't', now() - interval '91 days')"
    )

    def broken(*_: object, **__: object) -> None:
        raise ValueError("canary-2b1c")

    monkeypatch.setattr("schedules.retention.partitions", broken)
    result = retention_job.execute_in_process(
        instance=stored, resources={RESOURCE: platform_resource(installation)}, raise_on_error=False
    )

    assert not result.success
    assert (
        "Removing old sync events met a ValueError"
        in result.failure_data_for_node("remove_old").user_failure_data.description
    )
    assert installation.sql("SELECT count(*) FROM runs") == [(0,)]
