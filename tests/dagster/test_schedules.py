from __future__ import annotations

import datetime as dt

import dagster as dg
import pytest
from dagster._core.definitions.schedule_definition import ScheduleExecutionData

from ipaas_assets.failures import MAX_RETRIES_TAG, RETRY_TAG
from ipaas_assets.resources import RESOURCE, platform_resource
from ipaas_assets.steps import TRIGGER_TAG
from tests.dagster.rig import BACK, CUSTOMERS, Installation


@pytest.fixture
def defs(installation: Installation) -> dg.Definitions:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BACK)
    return installation.definitions()


def evaluate(defs: dg.Definitions, installation: Installation, name: str) -> ScheduleExecutionData:
    schedule = defs.resolve_schedule_def(name)
    with dg.build_schedule_context(
        scheduled_execution_time=dt.datetime(2026, 3, 1, 2, tzinfo=dt.UTC),
        resources={RESOURCE: platform_resource(installation)},
    ) as context:
        return schedule.evaluate_tick(context)


def test_a_flow_with_a_schedule_is_compared_in_full_in_its_own_time_zone(
    installation: Installation, defs: dg.Definitions
) -> None:
    schedules = {schedule.name: schedule for schedule in defs.schedules or []}
    assert set(schedules) == {"reconcile_customers_to_clients", "retention"}
    weekly = schedules["reconcile_customers_to_clients"]
    assert (weekly.cron_schedule, weekly.execution_timezone) == ("0 2 * * 0", "Europe/London")
    assert {each.default_status for each in schedules.values()} == {dg.DefaultScheduleStatus.RUNNING}

    (request,) = evaluate(defs, installation, "reconcile_customers_to_clients").run_requests

    assert request.run_config == {"ops": {"flow__customers_to_clients__sync": {"config": {"mode": "full"}}}}
    assert request.tags[TRIGGER_TAG] == "schedule"
    assert (request.tags[RETRY_TAG], request.tags[MAX_RETRIES_TAG]) == ("true", "2")


def test_the_run_config_of_a_schedule_fits_its_job(defs: dg.Definitions, installation: Installation) -> None:
    (request,) = evaluate(defs, installation, "reconcile_customers_to_clients").run_requests

    assert dg.validate_run_config(defs.resolve_job_def("customers_to_clients"), request.run_config)


def test_a_schedule_skips_a_disabled_flow(installation: Installation, defs: dg.Definitions) -> None:
    installation.enable("customers_to_clients", enabled=False)

    assert "it is disabled" in evaluate(defs, installation, "reconcile_customers_to_clients").skip_message
