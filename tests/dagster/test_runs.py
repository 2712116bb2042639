from __future__ import annotations

import dagster as dg
import msgspec
import pytest
from dagster._core.storage.tags import WILL_RETRY_TAG

from ipaas_assets.failures import RETRIED, RETRY_TAG
from ipaas_assets.steps import FLOW_TAG, TRACE_TAG, TRIGGER_TAG
from ipaas_assets.workers import WORKER_TAG, this_worker
from ipaas_resources.core.errors import CredentialsError
from tests.dagster.rig import (
    CUSTOMERS,
    Installation,
    checks_of,
    materialize,
    metadata_of,
    put_customers,
)
from tests.sync.product import Faults

SOURCE = "bc/sales_customers"
CLIENT = "crm/accounts/customers_to_clients__client"
COPY = "lab/clients/customers_to_clients__copy"


@pytest.fixture
def defs(installation: Installation) -> dg.Definitions:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    put_customers(installation.products["bc"], range(1, 7))
    return installation.definitions()


def test_a_flow_target_alone_does_the_whole_work(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = materialize(defs, instance, CLIENT)

    assert result.success
    assert len(installation.products["crm"].ledger) == 6
    assert not installation.products["lab"].ledger
    told = metadata_of(result, CLIENT)
    assert (told["created"], told["updated"], told["dead"], told["items"]) == (6, 0, 0, 6)
    assert told["received"] == 6
    assert told["duration_s"] > 0
    assert told["flow_version"] == 1
    assert told["records"].endswith("/flows/customers_to_clients/records?target=client")
    assert {"upstream_reads", "upstream_writes"} <= told.keys()
    # The other target has its work waiting, for it was raised by the same pull.
    assert installation.sql("SELECT count(*) FROM work_items WHERE target = 'copy'") == [(6,)]


def test_a_materialisation_shows_columns_and_where_they_come_from(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    told = metadata_of(materialize(defs, instance, CLIENT), CLIENT)

    columns = {column.name: column for column in told["dagster/column_schema"].columns}
    assert set(columns) == {"number", "name", "email"}
    assert columns["number"].type == "text(20)"
    assert columns["number"].constraints.unique
    assert columns["email"].tags == {"sensitivity": "personal"}
    lineage = told["dagster/column_lineage"].deps_by_column
    assert {dep.column_name for dep in lineage["name"]} == {"name", "number"}
    assert {dep.asset_key.to_user_string() for dep in lineage["name"]} == {SOURCE}


def test_all_targets_of_a_flow_are_one_step_from_one_pull(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    job = defs.resolve_job_def("customers_to_clients")
    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert result.success
    assert installation.products["bc"].calls.count("changes") == 1
    assert metadata_of(result, CLIENT)["created"] == 6
    copied = metadata_of(result, COPY)
    assert (copied["created"], copied["filtered"]) == (4, 2)
    # The pull was the step's, so it tells of the source entity, too.
    assert metadata_of(result, SOURCE)["received"] == 6


def test_an_entity_in_the_same_run_pulls_for_its_flow(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = materialize(defs, instance, SOURCE, CLIENT, COPY)

    assert result.success
    assert installation.products["bc"].calls.count("changes") == 1
    assert metadata_of(result, SOURCE)["received"] == 6
    assert metadata_of(result, CLIENT)["received"] == 0
    assert metadata_of(result, CLIENT)["created"] == 6


def test_a_flow_that_asks_for_more_than_its_entity_read_pulls_again(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, SOURCE, CLIENT, COPY)
    del installation.products["bc"].records["", "c1"]
    materialize(defs, instance, SOURCE, CLIENT, COPY)
    assert installation.sql("SELECT count(*) FROM mirror WHERE deleted") == [(0,)]

    result = materialize(
        defs, instance, SOURCE, CLIENT, COPY, config={"flow__customers_to_clients__sync": "full"}
    )

    assert result.success
    assert installation.sql("SELECT record FROM mirror WHERE deleted") == [("c1",)]


def test_a_full_run_of_an_entity_finds_what_was_deleted(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, SOURCE)
    installation.products["bc"].drop("c1")

    told = metadata_of(materialize(defs, instance, SOURCE, config={"bc__sales_customers": "full"}), SOURCE)

    assert (told["deleted"], told["complete"], told["mode"]) == (1, True, "full")


def test_replan_sends_every_known_record_through_again(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)

    again = metadata_of(
        materialize(defs, instance, CLIENT, config={"flow__customers_to_clients__sync": "replan"}), CLIENT
    )
    assert (again["items"], again["no_change"]) == (6, 6)

    assert materialize(defs, instance, SOURCE, config={"bc__sales_customers": "replan"}).success
    assert installation.sql("SELECT count(*) FROM work_items WHERE target = 'client'") == [(6,)]


def test_a_poll_that_finds_nothing_materialises_nothing(
    defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    job = defs.resolve_job_def("customers_to_clients")
    job.execute_in_process(instance=instance)

    idle = job.execute_in_process(instance=instance, tags={TRIGGER_TAG: "poll"})
    by_hand = job.execute_in_process(instance=instance)

    assert idle.success
    assert not idle.get_asset_materialization_events()
    assert checks_of(idle)[f"{CLIENT}:dead_letters"].passed
    assert metadata_of(by_hand, CLIENT)["items"] == 0


def test_an_idle_poll_materialises_what_was_never_materialised(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    job = defs.resolve_job_def("customers_to_clients")
    with dg.DagsterInstance.ephemeral() as elsewhere:
        job.execute_in_process(instance=elsewhere)  # the work is done, and this instance has not seen it

    idle = job.execute_in_process(instance=instance, tags={TRIGGER_TAG: "poll"})

    assert metadata_of(idle, CLIENT)["items"] == 0
    assert metadata_of(idle, SOURCE)["changed"] == 0
    assert "dagster/column_lineage" in metadata_of(idle, COPY)


def test_a_run_carries_its_flow_its_trace_and_its_process(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    result = defs.resolve_job_def("customers_to_clients").execute_in_process(instance=instance)

    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[FLOW_TAG] == "customers_to_clients"
    assert run.tags[WORKER_TAG] == this_worker()
    assert installation.sql("SELECT trace_id FROM runs") == [(run.tags[TRACE_TAG],)]


def test_items_of_a_poll_go_before_those_of_other_runs(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT, tags={TRIGGER_TAG: "poll"})
    put_customers(installation.products["bc"], range(7, 8))
    materialize(defs, instance, CLIENT)

    lanes = installation.sql("SELECT record, lane FROM work_items WHERE target = 'copy' ORDER BY record")
    assert lanes == [*((f"c{number}", 1) for number in range(1, 7)), ("c7", 2)]


# --- failures -------------------------------------------------------------------------------------------------------


def refuse(self: object, *_: object, **__: object) -> None:
    raise CredentialsError("crm refused the credentials. Correct the secret and run again.")


@pytest.mark.parametrize("tags", [{}, RETRIED])
def test_wrong_credentials_fail_with_their_sentence_and_are_never_tried_again(
    installation: Installation,
    defs: dg.Definitions,
    stored: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tags: dict[str, str],
) -> None:
    monkeypatch.setattr(installation.products["crm"], "write", refuse)
    job = defs.resolve_job_def("customers_to_clients")

    result = job.execute_in_process(instance=stored, tags=dict(tags), raise_on_error=False)

    assert not result.success
    failure = result.failure_data_for_node("flow__customers_to_clients__sync")
    assert "crm refused the credentials" in failure.user_failure_data.description
    run = stored.get_run_by_id(result.run_id)
    assert run.tags[RETRY_TAG] == "false"
    assert run.tags[WILL_RETRY_TAG] == "false"


@pytest.mark.parametrize(("tags", "again"), [({}, "false"), (RETRIED, "true")])
def test_a_system_that_is_busy_is_tried_again_where_the_run_asks_for_that(
    installation: Installation,
    defs: dg.Definitions,
    stored: dg.DagsterInstance,
    tags: dict[str, str],
    again: str,
) -> None:
    installation.products["bc"].faults = Faults(busy=1.0)
    job = defs.resolve_job_def("customers_to_clients")

    result = job.execute_in_process(instance=stored, tags=dict(tags), raise_on_error=False)

    assert not result.success
    assert stored.get_run_by_id(result.run_id).tags[WILL_RETRY_TAG] == again


def test_what_was_done_before_a_failure_is_reported(
    installation: Installation,
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(installation.products["lab"], "write", refuse)
    job = defs.resolve_job_def("customers_to_clients")

    result = job.execute_in_process(instance=instance, raise_on_error=False)

    assert not result.success
    assert not result.get_asset_materialization_events()
    observed = {
        event.asset_observation_data.asset_observation.asset_key.to_user_string(): event.asset_observation_data.asset_observation
        for event in result.get_asset_observation_events()
    }
    assert observed[CLIENT].metadata["created"].value == 6
    assert observed[COPY].metadata["created"].value == 0
    assert checks_of(result)[f"{CLIENT}:dead_letters"].passed


def test_an_unexpected_error_leaves_without_its_text(
    installation: Installation,
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def burst(*_: object, **__: object) -> None:
        raise ValueError("canary-7f3a@example.com")

    monkeypatch.setattr(installation.products["bc"], "changes", burst)
    result = materialize(defs, instance, CLIENT)

    assert not result.success
    text = "\n".join(
        msgspec.json.encode([event.message, repr(event.event_specific_data)]).decode()
        for event in result.all_events
    )
    assert "Flow customers_to_clients met a ValueError at " in text
    assert "canary" not in text
    assert "canary" not in "".join(capfd.readouterr())


def test_a_disabled_flow_fails_with_the_way_to_enable_it(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.enable("customers_to_clients", enabled=False)

    result = materialize(defs, instance, CLIENT)

    failure = result.failure_data_for_node("flow__customers_to_clients__sync")
    assert "ipaas flows enable customers_to_clients" in failure.user_failure_data.description
