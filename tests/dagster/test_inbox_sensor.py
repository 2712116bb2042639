"""Webhooks by Dagster alone: where no live worker drains the inbox, the sensor and its runs do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import dagster as dg
import httpx
import pytest
from dagster._core.definitions.sensor_definition import SensorExecutionData

from console.dagster_home import REPOSITORY
from ipaas_assets.steps import PULL_TAG, TRIGGER_TAG
from ipaas_resources.connectors.calibration.fake_webhook import delivery
from ipaas_resources.core.clock import SystemClock
from tests.dagster.rig import BACK, Installation
from tests.dagster.test_sensors import evaluate, own_tags, work_lives

CLIENTS = """
flow: clients_to_accounts
source: {system: lab, entity: clients}
trigger: {webhook: true}
targets:
  account:
    system: crm
    entity: accounts
    key: {number: number}
    fields:
      name: name
"""
SECRET = "a-secret-of-the-lab"


@pytest.fixture
def defs(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    installation.connect("bc", "crm", "lab", connectors={"lab": "calibration"})
    installation.apply(CLIENTS, BACK)
    installation.sql(
        "INSERT INTO subscriptions (subscription, system, proof, secret) "
        "VALUES ('lab-1', 'lab', 'signature', 'env:HOOK_SECRET')"
    )
    return installation.definitions()


class Sender:
    """The calibration system, as the ingress knows it."""

    def __init__(self, port: str) -> None:
        self._url = f"http://127.0.0.1:{port}/hooks/lab-1"
        self._sent = 0

    def tell(self, record: int) -> None:
        self._sent += 1
        headers, body = delivery(
            SECRET, "client.updated", {"CompanyId": record}, number=self._sent, now=SystemClock().now()
        )
        assert httpx.post(self._url, content=body, headers=headers, timeout=30).status_code == 202


@pytest.fixture
def sender(defs: dg.Definitions, installation: Installation) -> Iterator[Sender]:
    """An ingress in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.ingress.serving", installation.urls.app],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env=dict(os.environ),
    )
    try:
        assert process.stdout is not None
        yield Sender(process.stdout.readline().strip())
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def deliver(installation: Installation, *records: int) -> None:
    """What the ingress stores."""
    for record in records:
        _, body = delivery(
            SECRET, "client.updated", {"CompanyId": record}, number=record, now=SystemClock().now()
        )
        installation.sql(
            "INSERT INTO inbox (subscription, body, headers, trace_id) "
            f"VALUES ('lab-1', '\\x{body.hex()}', '{{}}', 'trace-{record}')"
        )


def put_clients(installation: Installation, *numbers: int) -> None:
    for number in numbers:
        installation.products["lab"].put(
            str(number), number=f"{number}", name=f"Client {number}", balance=1, email="", parent=""
        )


def look(
    defs: dg.Definitions, installation: Installation, instance: dg.DagsterInstance, cursor: str | None = None
) -> SensorExecutionData:
    return evaluate(defs, installation, instance, "inbox", cursor)


def execute(
    defs: dg.Definitions, instance: dg.DagsterInstance, request: dg.RunRequest
) -> dg.ExecuteInProcessResult:
    """What the daemon does with a request."""
    return defs.resolve_job_def(request.job_name).execute_in_process(
        instance=instance, tags=request.tags, run_config=request.run_config
    )


def test_a_webhook_reaches_the_target_by_dagster_alone(
    installation: Installation, defs: dg.Definitions, sender: Sender, instance: dg.DagsterInstance
) -> None:
    put_clients(installation, 7, 8)
    sender.tell(7)
    sender.tell(7)

    (request,) = look(defs, installation, instance).run_requests
    result = execute(defs, instance, request)

    assert result.success
    assert [effect.fields["name"] for effect in installation.products["crm"].ledger] == ["Client 7"]
    # Told twice, read once; and nothing but what was told.
    assert installation.products["lab"].calls == ["read"]
    assert installation.sql("SELECT state, count(*) FROM inbox GROUP BY 1") == [("done", 2)]
    assert installation.sql("SELECT count(*) FROM hints") == [(0,)]
    assert {event.asset_key.to_user_string() for event in _materialized(result)} == {
        "lab/clients",
        "crm/accounts/clients_to_accounts__account",
    }
    (sent,) = installation.sql("SELECT trace_ids FROM sync_events")
    received = installation.sql("SELECT array_agg(trace_id ORDER BY delivery) FROM inbox")
    assert sent == received[0]


def _materialized(result: dg.ExecuteInProcessResult) -> list[dg.AssetMaterialization]:
    return [event.materialization for event in result.get_asset_materialization_events()]


def test_there_is_an_inbox_sensor_only_where_a_flow_is_started_by_webhooks(
    installation: Installation, defs: dg.Definitions
) -> None:
    sensors = {sensor.name: sensor for sensor in defs.sensors or []}
    assert set(sensors) == {"inbox", "poll_crm", "poll_lab", "watch"}
    assert sensors["inbox"].minimum_interval_seconds == 5
    assert sensors["inbox"].default_status is dg.DefaultSensorStatus.RUNNING

    installation.apply(CLIENTS.replace("webhook: true", "webhook: false"))
    without = {sensor.name for sensor in installation.definitions().sensors or []}
    assert without == {"poll_crm", "watch"}


def test_realtime_runs_are_asked_for_with_their_lane_and_without_a_pull(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    deliver(installation, 1)

    (request,) = look(defs, installation, instance).run_requests

    assert request.job_name == "clients_to_accounts"
    assert own_tags(request) == {TRIGGER_TAG: "webhook", PULL_TAG: "no"}
    put_clients(installation, 1)
    installation.products["crm"].faults.busy = 1.0
    execute(defs, instance, request)
    assert installation.sql("SELECT DISTINCT lane FROM work_items") == [(0,)]


def test_an_empty_inbox_asks_for_nothing(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    assert look(defs, installation, instance).skip_message == "nothing waits"


def test_where_a_worker_drains_the_inbox_the_sensor_leaves_it_alone(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    deliver(installation, 1)
    work_lives(installation, "realtime")

    result = look(defs, installation, instance)

    assert not result.run_requests
    assert result.skip_message == "the live worker drains the inbox"
    assert installation.sql("SELECT state FROM inbox") == [("due",)]

    installation.sql("UPDATE workers SET beat_at = now() - interval '1 minute'")
    assert len(look(defs, installation, instance).run_requests) == 1


def test_a_tick_that_died_asks_for_the_same_run_and_a_new_delivery_for_another(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    deliver(installation, 1)
    keys = [look(defs, installation, instance, "{}").run_requests[0].run_key for _ in range(2)]
    assert len(set(keys)) == 1

    deliver(installation, 2)
    assert look(defs, installation, instance, "{}").run_requests[0].run_key not in keys


def test_no_second_run_is_asked_for_while_one_waits_or_works(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    deliver(installation, 1)
    run = instance.create_run_for_job(
        job_def=defs.resolve_job_def("clients_to_accounts"), status=dg.DagsterRunStatus.STARTED
    )

    assert "still going on" in look(defs, installation, instance).skip_message

    instance.delete_run(run.run_id)
    assert len(look(defs, installation, instance).run_requests) == 1


def test_what_a_failed_run_left_is_asked_for_again(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    put_clients(installation, 1)
    deliver(installation, 1)
    first = look(defs, installation, instance)
    installation.products["lab"].faults.busy = 1.0
    execute(defs, instance, first.run_requests[0])
    installation.products["lab"].faults.busy = 0.0
    installation.sql("UPDATE hints SET due_at = now()")

    soon = look(defs, installation, instance, first.cursor)
    assert "next in" in soon.skip_message
    (again,) = look(defs, installation, instance, '{"clients_to_accounts": 1000.0}').run_requests

    assert again.run_key != first.run_requests[0].run_key
    assert execute(defs, instance, again).success
    assert len(installation.products["crm"].ledger) == 1


def test_realtime_items_that_a_run_left_are_asked_for(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids) "
        "VALUES ('clients_to_accounts', 'account', '', '1', 'crm', 'accounts', 0, '{t}')"
    )
    assert len(look(defs, installation, instance).run_requests) == 1
    # One of them asks, not both.
    assert not evaluate(defs, installation, instance, "poll_lab").run_requests

    installation.sql("UPDATE work_items SET due_at = now() + interval '1 minute'")
    assert not look(defs, installation, instance).run_requests


def test_a_notification_without_records_is_read_by_the_polling_sensor_of_its_system(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    put_clients(installation, 1)
    assert execute(defs, instance, dg.RunRequest(job_name="clients_to_accounts")).success
    installation.products["lab"].calls.clear()
    assert not evaluate(defs, installation, instance, "poll_lab").run_requests
    put_clients(installation, 2)
    installation.sql("UPDATE entity_state SET poll_due_at = now() WHERE entity = 'clients'")

    (request,) = evaluate(defs, installation, instance, "poll_lab").run_requests

    assert installation.products["lab"].calls == ["changes"]
    assert execute(defs, instance, request).success
    assert len(installation.products["crm"].ledger) == 2


def test_a_disabled_flow_and_a_database_that_is_down_are_told(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    from dataclasses import replace

    from tests.dagster.test_registered import nowhere

    deliver(installation, 1)
    installation.enable("clients_to_accounts", enabled=False)
    assert "clients_to_accounts: it is disabled" in look(defs, installation, instance).skip_message

    installation.__dict__["urls"] = replace(installation.urls, app=nowhere())
    assert "PostgreSQL server does not answer" in look(defs, installation, instance).skip_message
