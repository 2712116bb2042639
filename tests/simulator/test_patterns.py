"""The shipped flows and lookup tables against the live schemas of the simulated systems."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ipaas_resources.connectors import registry
from ipaas_resources.connectors.base import Environment, SystemDocument
from ipaas_resources.core.clock import SystemClock, SystemIds
from ipaas_resources.core.limits import Unlimited
from mappings.checking.validate import validate
from mappings.compiler import compile_flow
from mappings.examples import run_examples
from mappings.load import load_folder
from mappings.lookup_tables import load_lookups
from simulator.crm_world import UNIT_GROUPS, build_crm_world, unit_group_id, unit_id
from simulator.expected import _CRM_TERMS, _SERVICE_ITEMS
from simulator.made_ids import made_guid
from simulator.world import build_world

from .conftest import REPOSITORY, Running

FLOWS = load_folder(REPOSITORY / "mappings" / "patterns")
TABLES = load_lookups(REPOSITORY / "mappings" / "lookups")
#: The flows that the simulated systems can judge; patterns for other systems are checked elsewhere.
DEMO = ("customers_to_accounts", "items_to_products", "work_orders_to_sales_orders")


def open_systems(running: Running) -> dict[str, object]:
    """The real connectors, connected as the system documents say."""
    opened = {}
    for path in sorted(Path(running.ready.systems).glob("*.yaml")):
        document = SystemDocument.model_validate(YAML(typ="safe").load(path))
        opened[document.system] = registry.create(
            document,
            Environment(
                system=document.system,
                clock=SystemClock(),
                ids=SystemIds(),
                limits=Unlimited(),
                secret=lambda name, secrets=document.secrets: Path(
                    secrets[name].removeprefix("file:")
                ).read_text(),
                ca_file=document.ca_file,
                policy=document.limits.policy() if document.limits else None,
            ),
        )
    return opened


@pytest.mark.parametrize("loaded", FLOWS, ids=lambda loaded: loaded.flow.flow)
def test_the_examples_of_a_shipped_flow_hold(loaded):
    assert loaded.flow.examples
    assert [str(failure) for failure in run_examples(loaded.flow, TABLES)] == []


@pytest.mark.parametrize("loaded", FLOWS, ids=lambda loaded: loaded.flow.flow)
def test_a_shipped_flow_says_what_it_is_for(loaded):
    flow = loaded.flow
    assert flow.title
    assert flow.description
    assert flow.sla
    assert flow.trigger.schedule


async def test_the_demo_flows_fit_the_live_schemas_of_their_systems(running):
    systems = open_systems(running)
    known = {loaded.flow.flow: list(loaded.flow.targets) for loaded in FLOWS}
    try:
        for connector in systems.values():
            await connector.check()
        for name in DEMO:
            flow = next(loaded.flow for loaded in FLOWS if loaded.flow.flow == name)
            source = await systems[flow.source.system].schema(flow.source.entity)
            targets = {
                target: await systems[spec.system].schema(spec.entity)
                for target, spec in flow.targets.items()
            }
            faults = validate(compile_flow(flow), source, targets, lookups=TABLES, flows=known)
            assert [str(fault) for fault in faults] == []
    finally:
        for connector in systems.values():
            await connector.close()


def test_the_payment_terms_of_every_company_are_in_the_lookup_table():
    world = build_world()
    known = {made_guid("paymentTerms", code): choice for code, choice in _CRM_TERMS.items()}
    assert TABLES["payment_terms"] == known, "the second opinion agrees with the table"
    cash = made_guid("paymentTerms", "COD")
    used = {customer["paymentTermsId"] for _, customer in world.erp.all("customers")}
    assert used - set(known) <= {cash}, "only cash on delivery is no choice of Dataverse"


def test_units_and_groups_are_those_of_the_crm():
    rows = build_crm_world().records
    assert TABLES["units"] == {code: unit_id(code) for code in UNIT_GROUPS}
    assert TABLES["unit_groups"] == {code: unit_group_id(group) for code, group in UNIT_GROUPS.items()}
    assert set(TABLES["units"].values()) == {row["uomid"] for row in rows["uoms"]}
    assert set(TABLES["unit_groups"].values()) == {row["uomscheduleid"] for row in rows["uomschedules"]}


def test_every_company_has_the_items_that_services_are_charged_by():
    world = build_world()
    assert TABLES["service_items"] == _SERVICE_ITEMS
    for company in world.erp.companies:
        numbers = {item["number"] for item in world.erp.records[company.scope]["items"]}
        assert set(_SERVICE_ITEMS.values()) <= numbers
