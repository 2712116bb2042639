from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Sequence

import dagster as dg
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from ipaas_assets.registered import read_registered
from ipaas_assets.resources import RESOURCE, platform_resource
from ipaas_assets.steps import PULL_TAG, TRIGGER_TAG
from ipaas_assets.sync.polling import due_polls, poll
from ipaas_resources.core.platform import run_async
from mappings.spec import Poll
from sensors.asking import Seen, due
from sensors.watch import watch_sensor
from tests.dagster.rig import BACK, BROKEN, CUSTOMERS, Installation, materialize, put_customers
from tests.dagster.test_registered import nowhere
from tests.sync.product import Faults

SUCCESS, FAILURE, QUEUED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.QUEUED,
)
POLL = Poll(min=dt.timedelta(seconds=15), max=dt.timedelta(minutes=15))


def seen(*runs: dg.DagsterRunStatus, asked: float | None = 1000.0) -> Seen:
    return Seen(flow="f", poll=POLL, runs=runs, asked=asked)


# --- the decision ---------------------------------------------------------------------------------------------------


def test_a_flow_that_was_never_polled_is_due() -> None:
    assert due(seen(asked=None), 1000) == ""


def test_a_flow_is_due_again_after_its_interval() -> None:
    assert due(seen(SUCCESS), 1014) == "f: next in 1 s"
    assert due(seen(SUCCESS), 1015) == ""


@pytest.mark.parametrize("status", [QUEUED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING])
def test_a_flow_whose_run_is_going_on_is_not_asked_for_again(status: dg.DagsterRunStatus) -> None:
    assert "still going on" in due(seen(SUCCESS, status), 9999)


@pytest.mark.parametrize(("failures", "pause"), [(1, 30), (2, 60), (3, 120), (8, 900)])
def test_a_flow_that_keeps_failing_is_asked_for_less_and_less_often(failures: int, pause: int) -> None:
    runs: Sequence[dg.DagsterRunStatus] = [FAILURE] * failures

    assert f"after {failures} failures" in due(seen(*runs), 1000 + pause - 1)
    assert due(seen(*runs), 1000 + pause) == ""


def test_one_success_forgets_the_failures_before_it() -> None:
    assert due(seen(SUCCESS, FAILURE, FAILURE), 1015) == ""


def test_nobody_is_polled_more_often_than_the_daemon_looks() -> None:
    eager = Seen(
        flow="f", poll=Poll(min=dt.timedelta(seconds=1), max=dt.timedelta(seconds=1)), runs=[], asked=1000.0
    )
    assert due(eager, 1004) != ""
    assert due(eager, 1005) == ""


# --- the sensor -----------------------------------------------------------------------------------------------------


@pytest.fixture
def defs(installation: Installation) -> dg.Definitions:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BACK)
    return installation.definitions()


def evaluate(
    defs: dg.Definitions,
    installation: Installation,
    instance: dg.DagsterInstance,
    sensor: str,
    cursor: str | None = None,
) -> SensorExecutionData:
    definition = defs.resolve_sensor_def(sensor)
    with dg.build_sensor_context(
        instance=instance,
        cursor=cursor,
        resources={RESOURCE: platform_resource(installation)},
        definitions=defs,
    ) as context:
        return definition.evaluate_tick(context)


def own_tags(request: dg.RunRequest) -> dict[str, str]:
    """The tags that we gave it."""
    return {name: value for name, value in request.tags.items() if name.startswith("ipaas/")}


def test_there_is_one_polling_sensor_per_system_at_its_shortest_interval(defs: dg.Definitions) -> None:
    sensors = {sensor.name: sensor for sensor in defs.sensors or []}

    assert set(sensors) == {"poll_bc", "poll_crm", "watch"}
    assert sensors["poll_bc"].minimum_interval_seconds == 15
    assert sensors["poll_crm"].minimum_interval_seconds == 120
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_a_first_load_is_work_for_a_run_which_is_asked_for_once(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    first = evaluate(defs, installation, instance, "poll_bc")

    assert [request.job_name for request in first.run_requests] == ["customers_to_clients"]
    assert own_tags(first.run_requests[0]) == {TRIGGER_TAG: "poll"}
    assert first.run_requests[0].run_key == "customers_to_clients@0.000"
    assert installation.products["bc"].calls == []

    second = evaluate(defs, installation, instance, "poll_bc", first.cursor)
    assert not second.run_requests
    assert "next in" in second.skip_message

    long_ago = json.dumps({"customers_to_clients": time.time() - 60})
    third = evaluate(defs, installation, instance, "poll_bc", long_ago)
    assert len(third.run_requests) == 1
    assert third.run_requests[0].run_key != first.run_requests[0].run_key


def test_a_tick_that_died_or_is_evaluated_twice_asks_for_one_run(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    ticks = [evaluate(defs, installation, instance, "poll_bc", "{}") for _ in range(2)]

    assert len({request.run_key for tick in ticks for request in tick.run_requests}) == 1


def test_a_run_that_is_going_on_makes_the_sensor_skip(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    instance.create_run_for_job(
        job_def=defs.resolve_job_def("customers_to_clients"), status=dg.DagsterRunStatus.STARTED
    )

    result = evaluate(defs, installation, instance, "poll_bc")

    assert not result.run_requests
    assert "bc/salesCustomers: a run reads it" in result.skip_message


def test_paused_systems_and_disabled_flows_are_skipped_without_a_reload(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.enable("clients_to_customers", enabled=False)
    installation.pause("bc")

    crm = evaluate(defs, installation, instance, "poll_crm")
    bc = evaluate(defs, installation, instance, "poll_bc")

    assert "clients_to_customers: it is disabled" in crm.skip_message
    assert "customers_to_clients: bc is paused" in bc.skip_message
    assert installation.products["bc"].calls == []


@pytest.fixture
def loaded(installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance) -> Installation:
    """Six customers, everything in step."""
    put_customers(installation.products["bc"], range(1, 7))
    assert defs.resolve_job_def("customers_to_clients").execute_in_process(instance=instance).success
    installation.products["bc"].calls.clear()
    return installation


def let_polls_be_due(installation: Installation) -> None:
    installation.sql("UPDATE entity_state SET poll_due_at = now() - interval '1 s'")


def work_lives(installation: Installation, lane: str) -> None:
    installation.sql(
        f"INSERT INTO workers (worker, role, lane, host, pid) VALUES ('w-{lane}', 'worker', '{lane}', 'here', 1)"
    )


def test_where_no_worker_lives_the_tick_itself_polls_and_asks_for_a_run_only_for_changes(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    let_polls_be_due(loaded)
    idle = evaluate(defs, loaded, instance, "poll_bc")
    assert loaded.products["bc"].calls == ["changes"]
    assert not idle.run_requests

    put_customers(loaded.products["bc"], [7])
    let_polls_be_due(loaded)
    result = evaluate(defs, loaded, instance, "poll_bc", idle.cursor)

    (request,) = result.run_requests
    assert own_tags(request) == {TRIGGER_TAG: "poll", PULL_TAG: "no"}
    (event,) = [each for each in result.asset_events if isinstance(each, dg.AssetMaterialization)]
    assert event.asset_key == dg.AssetKey(["bc", "sales_customers"])
    assert event.metadata["changed"].value == 1

    job = defs.resolve_job_def(request.job_name)
    loaded.products["bc"].calls.clear()
    assert job.execute_in_process(instance=instance, tags=request.tags).success
    # The tick read the source, so the run need not.
    assert "changes" not in loaded.products["bc"].calls
    assert [effect.fields["number"] for effect in loaded.products["crm"].ledger].count("7") == 1
    assert not evaluate(defs, loaded, instance, "poll_bc", result.cursor).run_requests


def test_an_idle_entity_is_polled_by_the_tick_only_when_it_is_due(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = evaluate(defs, loaded, instance, "poll_bc")

    assert loaded.products["bc"].calls == []
    assert "bc/salesCustomers: " in result.skip_message
    assert "next in 1" in result.skip_message


def test_where_a_worker_polls_the_tick_shows_the_intervals_and_reads_nothing(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    let_polls_be_due(loaded)
    evaluate(defs, loaded, instance, "poll_bc")
    loaded.products["bc"].calls.clear()
    put_customers(loaded.products["bc"], [7])
    let_polls_be_due(loaded)
    for lane in ("realtime", "polling", "batch"):
        work_lives(loaded, lane)

    result = evaluate(defs, loaded, instance, "poll_bc")

    assert loaded.products["bc"].calls == []
    assert not result.run_requests
    assert result.skip_message == "the live worker polls; bc/salesCustomers: idle: every 22 s, due now"


def test_a_worker_without_a_fresh_sign_of_life_is_none(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    work_lives(loaded, "polling")
    loaded.sql("UPDATE workers SET beat_at = now() - interval '1 minute'")
    let_polls_be_due(loaded)

    evaluate(defs, loaded, instance, "poll_bc")

    assert loaded.products["bc"].calls == ["changes"]


def test_only_lanes_that_no_worker_serves_are_worked_off_by_runs(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    work_lives(loaded, "polling")
    loaded.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids) "
        "VALUES ('customers_to_clients', 'client', '', 'c1', 'crm', 'accounts', 1, '{t}')"
    )
    assert not evaluate(defs, loaded, instance, "poll_bc").run_requests

    loaded.sql("UPDATE work_items SET lane = 2")
    assert len(evaluate(defs, loaded, instance, "poll_bc").run_requests) == 1

    work_lives(loaded, "batch")
    assert not evaluate(defs, loaded, instance, "poll_bc").run_requests


def test_a_flow_of_the_mode_run_is_drained_by_runs_although_workers_live(
    installation: Installation, instance: dg.DagsterInstance
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS.replace("group: customers", "group: customers\nmode: run"))
    defs = installation.definitions()
    for lane in ("realtime", "polling", "batch"):
        work_lives(installation, lane)
    assert not evaluate(defs, installation, instance, "poll_bc").run_requests

    put_customers(installation.products["bc"], [1])

    async def live_worker() -> None:
        async with installation.engine() as engine:
            (due,) = [each for each in await due_polls(engine) if each.wanted.system == "bc"]
            await poll(engine, due)

    run_async(live_worker())
    (request,) = evaluate(defs, installation, instance, "poll_bc").run_requests

    assert own_tags(request) == {TRIGGER_TAG: "poll", PULL_TAG: "no"}


def test_a_full_read_that_somebody_asked_for_becomes_a_full_run(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    loaded.sql("UPDATE entity_state SET poll_due_at = now(), poll_full = true")

    (request,) = evaluate(defs, loaded, instance, "poll_bc").run_requests

    assert loaded.products["bc"].calls == []
    assert request.run_config == {"ops": {"flow__customers_to_clients__sync": {"config": {"mode": "full"}}}}
    job = defs.resolve_job_def(request.job_name)
    assert job.execute_in_process(instance=instance, tags=request.tags, run_config=request.run_config).success
    assert loaded.sql("SELECT poll_full FROM entity_state") == [(False,)]


def test_a_source_that_fails_is_asked_less_often_and_seen_in_the_catalogue_once(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    loaded.products["bc"].faults = Faults(busy=1.0)
    let_polls_be_due(loaded)
    first = evaluate(defs, loaded, instance, "poll_bc")
    let_polls_be_due(loaded)
    second = evaluate(defs, loaded, instance, "poll_bc", first.cursor)

    (seen,) = [each for each in first.asset_events if isinstance(each, dg.AssetObservation)]
    assert seen.asset_key == dg.AssetKey(["bc", "sales_customers"])
    assert "cannot serve" in seen.description
    assert not second.asset_events
    assert "failed 2 times: every 60 s, next in 60 s" in second.skip_message


def test_work_for_a_target_that_is_left_alone_or_held_asks_for_no_run(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    loaded.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids) "
        "VALUES ('customers_to_clients', 'client', '', 'c1', 'crm', 'accounts', 1, '{t}')"
    )
    loaded.sql(
        "INSERT INTO breakers (system, failures, opened_at, open_until) "
        "VALUES ('crm', 5, now(), now() + interval '200 s')"
    )
    assert not evaluate(defs, loaded, instance, "poll_bc").run_requests

    loaded.sql("DELETE FROM breakers")
    loaded.pause("crm")
    held = evaluate(defs, loaded, instance, "poll_bc")
    assert not held.run_requests
    assert "customers_to_clients: held until `ipaas systems resume crm`" in held.skip_message

    loaded.sql("UPDATE systems SET paused = false")
    assert len(evaluate(defs, loaded, instance, "poll_bc").run_requests) == 1


def test_items_that_wait_for_another_record_do_not_start_a_run_every_few_seconds(
    loaded: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    loaded.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, state, trace_ids) "
        "VALUES ('customers_to_clients', 'client', '', 'c1', 'crm', 'accounts', 1, 'parked', '{t}')"
    )
    asked = json.dumps({"customers_to_clients": time.time() - 30})
    assert "next in" in evaluate(defs, loaded, instance, "poll_bc", asked).skip_message

    loaded.sql("UPDATE work_items SET state = 'due'")
    assert len(evaluate(defs, loaded, instance, "poll_bc", asked).run_requests) == 1


def test_a_database_that_is_down_makes_the_sensor_skip_with_the_reason(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance, fresh_database
) -> None:
    from dataclasses import replace

    installation.__dict__["urls"] = replace(fresh_database, app=nowhere())

    result = evaluate(defs, installation, instance, "poll_bc", cursor='{"customers_to_clients": 1.0}')

    assert not result.run_requests
    assert "PostgreSQL server does not answer" in result.skip_message
    assert result.cursor == '{"customers_to_clients": 1.0}'


# --- watching -------------------------------------------------------------------------------------------------------


def told(result: SensorExecutionData) -> dict[str, bool]:
    return {
        f"{event.asset_key.to_user_string()}:{event.check_name}": event.passed
        for event in result.asset_events or []
    }


def report(instance: dg.DagsterInstance, result: SensorExecutionData) -> None:
    """What the daemon does with the events of a tick."""
    for event in result.asset_events or []:
        instance.report_runless_asset_event(event)


def test_watching_reports_every_check_first_and_then_only_what_changed(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    put_customers(installation.products["bc"], range(1, 4))
    materialize(defs, instance, "crm/accounts/customers_to_clients__client")

    first = evaluate(defs, installation, instance, "watch")
    report(instance, first)
    assert told(first)["registry:flows_built"] is True
    # That one was reported by the run a moment ago.
    assert "crm/accounts/customers_to_clients__client:freshness" not in told(first)
    # Never read: its source is the accounts.
    assert told(first)["bc/sales_customers/clients_to_customers__customer:dead_letters"] is True

    assert told(evaluate(defs, installation, instance, "watch")) == {}

    installation.sql("UPDATE entity_state SET last_pull_at = now() - interval '5 hours'")
    third = evaluate(defs, installation, instance, "watch")
    assert told(third) == {
        "crm/accounts/customers_to_clients__client:freshness": False,
        "lab/clients/customers_to_clients__copy:freshness": False,
    }
    report(instance, third)
    assert told(evaluate(defs, installation, instance, "watch")) == {}


def test_watching_says_it_again_after_an_hour(
    installation: Installation, instance: dg.DagsterInstance
) -> None:
    graph = installation.graph()
    watch = watch_sensor(graph)
    with dg.build_sensor_context(
        instance=instance, resources={RESOURCE: platform_resource(installation)}
    ) as context:
        report(instance, watch.evaluate_tick(context))
        assert told(watch.evaluate_tick(context)) == {}
    later = watch_sensor(graph, clock=lambda: time.time() + 3700)
    with dg.build_sensor_context(
        instance=instance, resources={RESOURCE: platform_resource(installation)}
    ) as context:
        assert len(told(later.evaluate_tick(context))) == 3


def test_a_flow_that_cannot_be_built_is_a_failed_check(
    installation: Installation, instance: dg.DagsterInstance
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BROKEN)

    result = evaluate(installation.definitions(), installation, instance, "watch")

    assert told(result)["registry:flows_built"] is False
    (check,) = [event for event in result.asset_events if event.check_name == "flows_built"]
    assert "broken: " in check.description
    assert check.metadata["left_out"].value == ["broken"]


def test_versions_that_are_newer_than_those_shown_are_a_failed_check(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.apply(CUSTOMERS + "# changed\n")

    result = evaluate(defs, installation, instance, "watch")

    assert told(result)["registry:up_to_date"] is False


def test_definitions_from_the_copy_are_a_failed_check_until_they_are_loaded_again(
    installation: Installation, instance: dg.DagsterInstance
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    installation.registered()
    state_dir = installation.settings.state_dir

    class Down(Installation):
        def registered(self):
            return read_registered(nowhere, state_dir)

    down = Down(installation.urls, state_dir, **installation.products)
    result = evaluate(down.definitions(), installation, instance, "watch")

    assert told(result)["registry:read_from_database"] is False
    (check,) = [event for event in result.asset_events if event.check_name == "read_from_database"]
    assert "last good copy" in check.description
