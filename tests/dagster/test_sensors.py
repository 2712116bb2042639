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
from ipaas_assets.steps import TRIGGER_TAG
from mappings.spec import Poll
from sensors.polling import Seen, due
from sensors.watch import watch_sensor
from tests.dagster.rig import BACK, BROKEN, CUSTOMERS, Installation, materialize, put_customers
from tests.dagster.test_registered import nowhere

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


def test_there_is_one_polling_sensor_per_system_at_its_shortest_interval(defs: dg.Definitions) -> None:
    sensors = {sensor.name: sensor for sensor in defs.sensors or []}

    assert set(sensors) == {"poll_bc", "poll_crm", "watch"}
    assert sensors["poll_bc"].minimum_interval_seconds == 15
    assert sensors["poll_crm"].minimum_interval_seconds == 120
    assert {sensor.default_status for sensor in sensors.values()} == {dg.DefaultSensorStatus.RUNNING}


def test_a_due_flow_is_asked_for_once_with_its_job_and_tags(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    first = evaluate(defs, installation, instance, "poll_bc")

    assert [request.job_name for request in first.run_requests] == ["customers_to_clients"]
    assert first.run_requests[0].tags[TRIGGER_TAG] == "poll"
    assert first.run_requests[0].run_key == "customers_to_clients@0.000"

    second = evaluate(defs, installation, instance, "poll_bc", first.cursor)
    assert not second.run_requests
    assert "next in" in second.skip_message

    long_ago = json.dumps({"customers_to_clients": time.time() - 60})
    third = evaluate(defs, installation, instance, "poll_bc", long_ago)
    assert len(third.run_requests) == 1
    assert third.run_requests[0].run_key != first.run_requests[0].run_key


def test_a_run_that_is_going_on_makes_the_sensor_skip(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    instance.create_run_for_job(
        job_def=defs.resolve_job_def("customers_to_clients"), status=dg.DagsterRunStatus.STARTED
    )

    result = evaluate(defs, installation, instance, "poll_bc")

    assert not result.run_requests
    assert "still going on" in result.skip_message


def test_paused_systems_and_disabled_flows_are_skipped_without_a_reload(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.enable("clients_to_customers", enabled=False)
    installation.pause("lab")

    crm = evaluate(defs, installation, instance, "poll_crm")
    bc = evaluate(defs, installation, instance, "poll_bc")

    assert "clients_to_customers: it is disabled" in crm.skip_message
    assert "customers_to_clients: lab is paused" in bc.skip_message


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
