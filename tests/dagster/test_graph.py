from __future__ import annotations

import dagster as dg
import pytest

from ipaas_assets.graph import RESERVED, key_part
from tests.dagster.rig import BACK, BROKEN, CUSTOMERS, Installation, keys


def test_an_empty_registry_loads_with_its_own_asset_alone(installation: Installation) -> None:
    defs = installation.definitions()

    assert keys(defs) == {"registry"}
    assert {sensor.name for sensor in defs.sensors or []} == {"watch"}


def test_every_entity_and_every_flow_target_is_an_asset(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)

    assert keys(installation.definitions()) == {
        "registry",
        "bc/sales_customers",
        "crm/accounts",
        "crm/accounts/customers_to_clients__client",
        "lab/clients",
        "lab/clients/customers_to_clients__copy",
    }


def test_a_flow_target_depends_on_its_source_entity_and_entities_on_nothing(
    installation: Installation,
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BACK)

    graph = installation.definitions().resolve_asset_graph()
    parents = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert parents["crm/accounts/customers_to_clients__client"] == {"bc/sales_customers"}
    # Both ways between the same entities, and each refers to the other: no cycle.
    assert parents["bc/sales_customers/clients_to_customers__customer"] == {"crm/accounts"}
    assert not any(parents[key] for key in ("bc/sales_customers", "crm/accounts", "lab/clients", "registry"))


def test_an_asset_says_what_it_does_and_who_owns_it(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)

    graph = installation.definitions().resolve_asset_graph()
    target = graph.get(dg.AssetKey(["crm", "accounts", "customers_to_clients__client"]))

    assert target.group_name == "customers"
    assert target.kinds == {"python", "crm_product"}
    assert set(target.owners) == {"sales@example.com", "team:Integration-team"}
    assert "Customers become clients" in target.description
    assert "- name is " in target.description
    assert target.tags["ipaas/flow"] == "customers_to_clients"
    assert target.metadata["flow_version"] == 1
    assert graph.get(dg.AssetKey(["crm", "accounts"])).description.endswith(
        "Written by customers_to_clients.client."
    )


def test_a_broken_flow_is_left_out_and_the_others_stay(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS, BROKEN)

    graph = installation.graph()

    assert set(graph.left_out) == {"broken"}
    assert "entity" in graph.left_out["broken"]
    assert "crm/accounts/customers_to_clients__client" in keys(installation.definitions())


def test_a_flow_of_an_unknown_system_is_left_out_with_the_systems_there_are(
    installation: Installation,
) -> None:
    installation.connect("bc", "crm")
    installation.apply(CUSTOMERS, BACK)

    graph = installation.graph()

    assert "no system 'lab' (systems: bc, crm)" in graph.left_out["customers_to_clients"]
    assert [flow.name for flow in graph.flows] == ["clients_to_customers"]
    assert {entity.name for entity in graph.entities} == {"bc/salesCustomers", "crm/accounts"}


def test_two_entities_that_would_share_a_key_do_not_both_enter_the_graph(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    other = BACK.replace("clients_to_customers", "other").replace("salesCustomers", "sales_customers")
    installation.apply(CUSTOMERS, other)

    graph = installation.graph()

    assert "would both have the key bc/sales_customers" in graph.left_out["other"]
    assert [flow.name for flow in graph.flows] == ["customers_to_clients"]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("customers", "customers"),
        ("salesOrders", "sales_orders"),
        ("new_Thing__x", "new_thing_x"),
        ("Größe (alt)", "gr_e_alt"),
    ],
)
def test_an_entity_name_becomes_a_key_part(name: str, part: str) -> None:
    assert key_part(name) == part


def test_a_disabled_flow_stays_in_the_graph_and_says_so(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    installation.enable("customers_to_clients", enabled=False)

    graph = installation.definitions().resolve_asset_graph()
    target = graph.get(dg.AssetKey(["crm", "accounts", "customers_to_clients__client"]))

    assert "disabled" in target.description
    assert "ipaas/disabled" in target.tags


def test_steps_of_the_same_entity_share_a_pool_and_run_in_one_process(installation: Installation) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    defs = installation.definitions()

    job = defs.resolve_job_def("customers_to_clients")
    assets = {
        assets.op.name: assets.op.pool
        for assets in defs.resolve_asset_graph().assets_defs
        if assets.is_executable
    }

    assert assets["bc__sales_customers"] == assets["flow__customers_to_clients__sync"] == "bc/sales_customers"
    assert job.executor_def is dg.in_process_executor
    assert defs.resolve_implicit_global_asset_job_def().executor_def is dg.in_process_executor
    assert [node.name for node in job.nodes] == ["flow__customers_to_clients__sync"]


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_a_flow_with_a_name_of_the_platform_is_left_out_and_the_location_still_loads(
    installation: Installation, name: str
) -> None:
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS.replace("customers_to_clients", name), BACK)

    assert "another one" in installation.graph().left_out[name]
    assert "bc/sales_customers/clients_to_customers__customer" in keys(installation.definitions())


def test_an_asset_shows_its_columns_where_the_last_event_brings_none(installation: Installation) -> None:
    """Events of the live lane come every minute, so they carry no columns; Dagster falls back on the definition."""
    installation.connect("bc", "crm", "lab")
    installation.apply(CUSTOMERS)
    installation.look("bc", "salesCustomers")
    installation.look("crm", "accounts")

    graph = installation.definitions().resolve_asset_graph()

    def columns(*key: str) -> set[str]:
        return {
            column.name for column in graph.get(dg.AssetKey(key)).metadata["dagster/column_schema"].columns
        }

    assert {"id", "number", "name", "balance"} <= columns("bc", "sales_customers")
    assert columns("crm", "accounts", "customers_to_clients__client") == {"number", "name", "email"}
    assert "dagster/column_schema" not in graph.get(dg.AssetKey(["lab", "clients"])).metadata
