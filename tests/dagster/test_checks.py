from __future__ import annotations

import dagster as dg
import msgspec
import pytest

from ipaas_resources.core.schema import FieldSchema
from tests.dagster.rig import CUSTOMERS, Installation, checks_of, materialize, put_customers

SOURCE = "bc/sales_customers"
CLIENT = "crm/accounts/customers_to_clients__client"
COPY = "lab/clients/customers_to_clients__copy"
ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def defs(installation: Installation) -> dg.Definitions:
    """Applied and run once: snapshots are there, and older than the version that the next test looks at."""
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    put_customers(installation.products["bc"], range(1, 4))
    return installation.definitions()


def change_schema(installation: Installation, system: str, *, add: str = "", drop: str = "") -> None:
    live = installation.products[system].live_schema
    fields = [field for field in live.fields if field.name != drop]
    if add:
        fields.append(FieldSchema(name=add, type="text"))
    installation.products[system].live_schema = msgspec.structs.replace(live, fields=tuple(fields))


def shown(instance: dg.DagsterInstance, asset: str, check: str) -> dg.AssetCheckEvaluation:
    """What Dagster shows of a check, from whatever run or report."""
    key = dg.AssetCheckKey(dg.AssetKey(asset.split("/")), check)
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    return record.event.dagster_event.asset_check_evaluation_data


def test_each_asset_has_its_few_checks(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    found = {f"{key.asset_key.to_user_string()}:{key.name}" for key in graph.asset_check_keys}

    assert found == {
        f"{SOURCE}:schema_drift",
        f"{SOURCE}:contract_violations",
        "crm/accounts:schema_drift",
        "lab/clients:schema_drift",
        f"{CLIENT}:dead_letters",
        f"{CLIENT}:freshness",
        f"{COPY}:dead_letters",
        f"{COPY}:freshness",
        "registry:flows_built",
        "registry:read_from_database",
        "registry:up_to_date",
    }


def test_all_checks_of_a_healthy_flow_pass(defs: dg.Definitions, instance: dg.DagsterInstance) -> None:
    result = materialize(defs, instance, SOURCE, CLIENT, COPY, "crm/accounts", "registry")

    assert result.success
    assert {name for name, check in checks_of(result).items() if not check.passed} == set()
    assert len(checks_of(result)) == 10


def test_a_new_field_is_a_warning(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    change_schema(installation, "bc", add="fax")

    check = checks_of(materialize(defs, instance, SOURCE))[f"{SOURCE}:schema_drift"]

    assert (check.passed, check.severity) == (False, WARN)
    assert check.metadata["added"].value == ["fax"]


def test_a_new_field_is_no_news_after_a_week(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    change_schema(installation, "bc", add="fax")
    materialize(defs, instance, SOURCE)
    installation.sql(
        "UPDATE schema_snapshots SET taken_at = now() - interval '8 days' WHERE version = 2",
        "UPDATE schema_snapshots SET taken_at = now() - interval '20 days' WHERE version = 1",
        "UPDATE flow_versions SET created_at = now() - interval '10 days'",
    )

    check = checks_of(materialize(defs, instance, SOURCE))[f"{SOURCE}:schema_drift"]

    assert check.passed
    assert "fax" in check.description


def test_a_removed_field_that_a_rule_reads_is_an_error(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    change_schema(installation, "bc", drop="email")

    check = checks_of(materialize(defs, instance, SOURCE))[f"{SOURCE}:schema_drift"]

    assert (check.passed, check.severity) == (False, ERROR)
    assert "email (customers_to_clients)" in check.description


def test_a_removed_field_that_no_rule_uses_is_a_warning(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    change_schema(installation, "bc", drop="parent")

    check = checks_of(materialize(defs, instance, SOURCE))[f"{SOURCE}:schema_drift"]

    assert (check.passed, check.severity) == (False, WARN)


def test_a_flow_run_tells_of_drift_in_its_target_system(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    assert shown(instance, "crm/accounts", "schema_drift").passed
    change_schema(installation, "crm", drop="email")
    put_customers(installation.products["bc"], range(4, 5))

    result = materialize(defs, instance, CLIENT)

    drift = shown(instance, "crm/accounts", "schema_drift")
    assert (drift.passed, drift.severity) == (False, ERROR)
    # The plan enforces it: the record waits for a person.
    letters = checks_of(result)[f"{CLIENT}:dead_letters"]
    assert (letters.passed, letters.severity) == (False, WARN)
    assert letters.metadata["review"].value == 1


def test_applying_the_flow_again_takes_the_new_schema_as_known(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    change_schema(installation, "bc", drop="parent")
    materialize(defs, instance, SOURCE)
    installation.apply(CUSTOMERS.replace("The name, and", "The name and"))

    result = materialize(installation.definitions(), instance, SOURCE)

    assert checks_of(result)[f"{SOURCE}:schema_drift"].passed


def test_a_state_is_reported_once_however_often_a_flow_runs(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    key = dg.AssetCheckKey(dg.AssetKey(SOURCE.split("/")), "schema_drift")
    for _ in range(3):
        materialize(defs, instance, CLIENT)

    assert len(instance.event_log_storage.get_asset_check_execution_history(key, limit=10)) == 1


def test_a_record_that_breaks_its_schema_is_shown_at_the_entity(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    installation.products["bc"].put("c9", number="9", name="x" * 41, balance=1, email="", parent="")

    result = materialize(defs, instance, CLIENT, COPY)

    broken = shown(instance, SOURCE, "contract_violations")
    assert (broken.passed, broken.severity) == (False, WARN)
    assert broken.metadata["records"].value == 1  # one record, although two targets wait for it
    letters = checks_of(result)[f"{CLIENT}:dead_letters"]
    assert (letters.passed, letters.severity) == (False, ERROR)
    assert "contract: 1" in letters.description


def test_freshness_fails_when_a_change_waits_for_longer_than_the_sla(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    materialize(defs, instance, CLIENT)
    installation.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids, raised_at,"
        " due_at) VALUES ('customers_to_clients', 'client', '', 'gone', 'crm', 'accounts', 2, '{}',"
        " now() - interval '5 hours', now() + interval '1 hour')"
    )
    stale = checks_of(materialize(defs, instance, CLIENT))[f"{CLIENT}:freshness"]
    assert (stale.passed, stale.severity) == (False, ERROR)
    assert "the oldest change that waits is from 5 h ago; the limit is 4 h" in stale.description


def test_work_that_its_window_holds_is_not_late(
    installation: Installation, defs: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    # Open for the two hours around now, so that a change that waits for a day waits for two hours at most.
    ((hour,),) = installation.sql("SELECT extract(hour FROM now() AT TIME ZONE 'UTC')::int")
    window = f'window: {{from: "{hour:02}:00", to: "{(hour + 2) % 24:02}:00"}}'
    installation.apply(CUSTOMERS + window + "\n")
    defs = installation.definitions()
    materialize(defs, instance, CLIENT)
    installation.sql(
        "INSERT INTO work_items (flow, target, scope, record, target_system, target_entity, lane, trace_ids, raised_at,"
        " due_at) VALUES ('customers_to_clients', 'client', '', 'gone', 'crm', 'accounts', 2, '{}',"
        " now() - interval '20 hours', now() + interval '1 hour')"
    )
    fresh = checks_of(materialize(defs, instance, CLIENT))[f"{CLIENT}:freshness"]
    assert fresh.passed
    assert fresh.metadata["oldest_waiting_s"].value <= 2 * 3600


def test_a_flow_without_an_sla_has_no_freshness_check(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS.replace("sla: {max_age: 4h}\n", ""))

    checks = installation.definitions().resolve_asset_graph().asset_check_keys

    assert not [key for key in checks if key.name == "freshness"]
