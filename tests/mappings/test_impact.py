"""Who is concerned by a rule and by a draft: conflicts, co-dependents, links, lookups, and what others lose."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from mappings.compiler import CompiledFlow, compile_flow
from mappings.impact.catalog import Catalog, Place
from mappings.impact.rule_impact import Conflict, Impact, draft_impact, impact_of, rule_names
from mappings.load import load_flow, load_folder

PATTERNS = Path(__file__).resolve().parents[2] / "mappings" / "patterns"

CUSTOMERS = """
flow: customers
source: {system: bc, entity: customers}
when: blocked == ""
targets:
  account:
    system: crm
    entity: accounts
    scope: uk
    key: {accountnumber: number}
    when: balance >= 0
    fields:
      name: displayName
      terms: {lookup: payment_terms, of: termsCode, missing: flag}
      onhold: {if: balance > creditLimit, then: true, else: false}
"""
VENDORS = """
flow: vendors
source: {system: bc, entity: vendors}
targets:
  account:
    system: crm
    entity: accounts
    scope: uk
    key: {accountnumber: number}
    fields:
      name: displayName
      fax: faxNumber
"""
ORDERS = """
flow: orders
source: {system: cal, entity: orders}
targets:
  order:
    system: bc
    entity: salesOrders
    scope: {ref: customers.account, of: clientId, by: accountnumber}
    key: {number: number}
    fields:
      customerId: {ref: customers.account, of: clientId, by: accountnumber}
      itemId: {ref: nowhere.item, of: itemId}
    lines:
      salesOrderLines:
        each: items
        key: {sequence: position}
        when: quantity > limit
        fields: {quantity: quantity, unit: {lookup: units, of: unit, missing: null}, currency: $parent.currency}
"""
LINES = """
flow: quotes
source: {system: crm, entity: quotes}
targets:
  order:
    system: bc
    entity: salesOrders
    key: {externalNumber: number}
    lines:
      salesOrderLines: {each: products, key: {sequence: row}, fields: {quantity: amount}}
"""
BACK = """
flow: accounts_back
source: {system: crm, entity: accounts}
reverse_of: customers.account
targets:
  customer:
    system: bc
    entity: customers
    key: {number: accountnumber}
    fields: {displayName: name}
"""


@functools.cache
def compiled(text: str) -> CompiledFlow:
    return compile_flow(load_flow(text, name="flow.yaml"))


def catalog(*texts: str, disabled: tuple[str, ...] = ()) -> Catalog:
    flows = [compiled(text) for text in texts or (CUSTOMERS, VENDORS, ORDERS, LINES, BACK)]
    return Catalog({flow.flow.flow: flow for flow in flows}, disabled)


def names(places: tuple[Place, ...] | list[Place]) -> list[str]:
    return [str(place) for place in places]


def pairs(conflicts: list[Conflict]) -> list[tuple[str, str, str]]:
    return [(conflict.field, str(conflict.place), str(conflict.other)) for conflict in conflicts]


# --- conflicts ----------------------------------------------------------------------------------------------------


def test_two_rules_that_write_one_field_are_a_conflict():
    impact = impact_of(catalog(), "customers")
    assert pairs(impact.conflicts) == [
        ("accountnumber", "customers.account.accountnumber", "vendors.account.accountnumber"),
        ("name", "customers.account.name", "vendors.account.name"),
    ]


def test_a_field_that_one_flow_alone_writes_is_none():
    assert impact_of(catalog(), "customers", "account", "terms").conflicts == []
    assert impact_of(catalog(), "vendors", "account", "fax").conflicts == []


def test_the_fields_of_lines_are_in_conflict_too():
    assert pairs(impact_of(catalog(), "orders").conflicts) == [
        (
            "salesOrderLines.quantity",
            "orders.order.salesOrderLines.quantity",
            "quotes.order.salesOrderLines.quantity",
        ),
        (
            "salesOrderLines.sequence",
            "orders.order.salesOrderLines.sequence",
            "quotes.order.salesOrderLines.sequence",
        ),
    ]


def test_targets_that_write_into_different_scopes_are_in_no_conflict():
    other = VENDORS.replace("scope: uk", "scope: fr")
    assert impact_of(catalog(CUSTOMERS, other), "customers").conflicts == []


def test_one_of_a_group_and_a_disabled_flow_are_told_beside_the_conflict():
    grouped = [text + "exclusive_group: people\n" for text in (CUSTOMERS, VENDORS)]
    (note,) = {each.note for each in impact_of(catalog(*grouped), "customers").conflicts}
    assert note == "both are of the exclusive group people: one at a time is active"
    (note,) = {each.note for each in impact_of(catalog(disabled=("vendors",)), "customers").conflicts}
    assert note == "vendors is disabled"


def test_two_targets_of_one_flow_are_in_conflict_like_any_two():
    twice = VENDORS + VENDORS.partition("targets:\n")[2].replace("account:", "second:", 1)
    found = impact_of(catalog(twice), "vendors", "account", "fax").conflicts
    assert pairs(found) == [("fax", "vendors.account.fax", "vendors.second.fax")]
    assert found[0].note == "both make the same value of the same source"


# --- readers ------------------------------------------------------------------------------------------------------


def shared(impact: Impact) -> dict[str, list[str]]:
    return {each.field: names(each.others) for each in impact.shared}


def test_other_rules_keys_conditions_and_scopes_that_read_the_same_field_are_found():
    impact = impact_of(catalog(), "customers", "account", "onhold")
    assert shared(impact) == {"balance": ["customers.account.when"]}
    more = CUSTOMERS.replace("name: displayName", "name: number").replace(
        "scope: uk", "scope: {direct: number}"
    )
    number = impact_of(catalog(more), "customers", "account", "name")
    assert shared(number) == {"number": ["customers.account.$scope", "customers.account.accountnumber"]}


def test_the_conditions_of_the_flow_count_as_its_own():
    impact = impact_of(catalog(), "customers")
    assert "customers.when" in names(impact.rules)
    assert shared(impact) == {}


def test_another_flow_of_the_same_source_reads_along():
    second = CUSTOMERS.replace("flow: customers", "flow: second").replace("crm", "cal")
    impact = impact_of(catalog(CUSTOMERS, second), "customers", "account", "name")
    assert shared(impact) == {"displayName": ["second.account.name"]}


def test_rules_of_lines_read_the_fields_of_lines_and_of_the_document():
    reads = catalog().sources
    order = {str(place): fields for place, fields in reads.items() if place.flow == "orders"}
    assert order["orders.order.salesOrderLines.quantity"] == ("items.quantity",)
    assert order["orders.order.salesOrderLines.currency"] == ("currency",)
    assert order["orders.order.salesOrderLines.when"] == ("items.quantity", "items.limit")
    assert order["orders.order.salesOrderLines.each"] == ("items",)
    quantity = impact_of(catalog(), "orders", "order", "salesOrderLines.quantity")
    assert shared(quantity) == {"items.quantity": ["orders.order.salesOrderLines.when"]}


def test_a_flow_that_reads_what_another_writes_is_told():
    impact = impact_of(catalog(), "customers", "account", "name")
    assert [(each.field, names(each.others)) for each in impact.readers] == [
        ("name", ["accounts_back.customer.displayName"])
    ]


def test_a_reference_by_a_field_reads_that_field_of_the_other_record():
    impact = impact_of(catalog(), "customers", "account", "accountnumber")
    (reader,) = impact.readers
    assert "orders.order.customerId" in names(reader.others)
    assert "orders.order.$scope" in names(reader.others)


# --- links and lookups --------------------------------------------------------------------------------------------


def test_the_links_and_lookups_a_rule_rests_on_are_named_with_what_is_wrong_with_them():
    impact = impact_of(catalog(), "orders", tables=["payment_terms"])
    rests = {(each.kind, each.name): (names(each.places), each.trouble) for each in impact.rests_on}
    assert rests == {
        ("links", "customers.account"): (["orders.order.$scope", "orders.order.customerId"], ""),
        ("links", "nowhere.item"): (["orders.order.itemId"], "there is no active flow nowhere"),
        ("lookup", "units"): (["orders.order.salesOrderLines.unit"], "there is no lookup table units"),
    }


@pytest.mark.parametrize(
    ("texts", "disabled", "trouble"),
    [
        ((ORDERS, CUSTOMERS), (), ""),
        ((ORDERS, CUSTOMERS), ("customers",), "customers is disabled"),
        ((ORDERS, CUSTOMERS.replace("account:", "client:")), (), "customers has no target account"),
    ],
)
def test_a_link_rests_on_an_enabled_flow_that_has_the_target(texts, disabled, trouble):
    impact = impact_of(catalog(*texts, disabled=disabled), "orders", "order", "customerId")
    assert [each.trouble for each in impact.rests_on] == [trouble]


def test_other_flows_that_follow_the_links_of_a_target_are_named():
    impact = impact_of(catalog(), "customers", "account")
    assert [(each.links, names(each.places)) for each in impact.dependents] == [
        ("customers.account", ["orders.order.$scope", "orders.order.customerId", "accounts_back.reverse_of"])
    ]


def test_of_single_rules_only_those_of_the_key_have_a_part_in_links():
    assert impact_of(catalog(), "customers", "account", "accountnumber").dependents != []
    assert impact_of(catalog(), "customers", "account", "name").dependents == []


def test_every_part_of_a_target_can_be_asked_for_by_its_name():
    known = catalog()
    assert rule_names(known, "orders", "order") == [
        "$scope",
        "number",
        "customerId",
        "itemId",
        "salesOrderLines",
        "salesOrderLines.when",
        "salesOrderLines.sequence",
        "salesOrderLines.quantity",
        "salesOrderLines.unit",
        "salesOrderLines.currency",
    ]
    for name in rule_names(known, "orders", "order"):
        assert impact_of(known, "orders", "order", name).rules, name


def test_the_tables_of_all_places_are_those_that_the_compiled_flow_looks_up_in():
    units = VENDORS.replace("fax: faxNumber", "fax: {unit: faxNumber, missing: null, variants: spellings}")
    known = catalog(CUSTOMERS, units, ORDERS)
    assert set(known.lookups) == {
        table for flow in known.flows.values() for target in flow.targets.values() for table in target.lookups
    }


def test_the_fields_of_a_rollup_are_read_by_the_lines():
    rolled = LINES.replace(
        "each: products,", "each: products, rollup: {by: product, sum: amount, first: row},"
    )
    impact = impact_of(catalog(rolled), "quotes", "order", "salesOrderLines")
    assert {field for each in impact.rules for field in catalog(rolled).sources[each]} == {
        "products",
        "products.product",
        "products.amount",
        "products.row",
    }
    assert shared(impact)["products.amount"] == ["quotes.order.salesOrderLines.quantity"]


# --- shipped flows ------------------------------------------------------------------------------------------------


def test_the_shipped_flows_are_in_no_conflict_and_rest_on_each_other():
    flows = {each.flow.flow: compile_flow(each.flow) for each in load_folder(PATTERNS)}
    known = Catalog(flows)
    unmeant = [
        conflict for flow in flows for conflict in impact_of(known, flow).conflicts if not conflict.note
    ]
    assert unmeant == [], "\n".join(f"{each.place} and {each.other}" for each in unmeant)
    impact = impact_of(known, "customers_to_accounts", "client")
    followers = {str(place) for each in impact.dependents for place in each.places}
    assert "work_orders_to_sales_orders.order.customerId" in followers
    assert "work_orders_to_sales_orders.order.$scope" in followers
    assert {(use.place.target, use.place.part) for use in known.readers("bc", "customers", "email")} == {
        ("account", "field"),
        ("contact", "field"),
        ("contact", "when"),
    }


# --- drafts -------------------------------------------------------------------------------------------------------


def test_a_draft_names_the_rules_that_it_adds_changes_and_removes():
    draft = CUSTOMERS.replace("name: displayName", "name: searchName").replace(
        "      onhold: {if: balance > creditLimit, then: true, else: false}\n", "      city: city\n"
    ).replace("when: balance >= 0", "when: balance > 0")  # fmt: skip
    found = draft_impact(catalog(), compiled(draft))
    assert [(change.kind, str(change.place), change.before, change.after) for change in found.changes] == [
        ("changed", "customers.account.when", "balance >= 0", "balance > 0"),
        ("changed", "customers.account.name", "displayName", "searchName"),
        ("removed", "customers.account.onhold", "true if balance > creditLimit, else false", ""),
        ("added", "customers.account.city", "", "city"),
    ]
    assert sorted(map(str, found.impact.rules)) == [
        "customers.account.city",
        "customers.account.name",
        "customers.account.when",
    ]


def test_a_draft_that_changes_nothing_has_no_impact():
    found = draft_impact(catalog(), compiled(CUSTOMERS + "# a comment\n"))
    assert (found.changes, found.consequences, found.new_conflicts, found.ended_conflicts) == ([], [], [], [])


def test_a_draft_tells_the_conflicts_that_it_starts_and_ends():
    draft = CUSTOMERS.replace("name: displayName", "fax: displayName")
    found = draft_impact(catalog(), compiled(draft))
    assert pairs(found.new_conflicts) == [("fax", "customers.account.fax", "vendors.account.fax")]
    assert pairs(found.ended_conflicts) == [("name", "customers.account.name", "vendors.account.name")]


@pytest.mark.parametrize(
    ("change", "breaks", "concerned", "why"),
    [
        (("account:", "client:"), True, "orders.order.customerId", "is gone"),
        (("account:", "client:"), True, "accounts_back.reverse_of", "is gone"),
        (
            ("entity: accounts", "entity: clients"),
            True,
            "orders.order.$scope",
            "leads to crm/clients instead of",
        ),
        (("entity: customers", "entity: debtors"), True, "orders.order.customerId", "reads another source"),
        (
            ("accountnumber: number", "accountnumber: code"),
            False,
            "orders.order.customerId",
            "by another key",
        ),
        (
            ("      name: displayName\n", ""),
            False,
            "accounts_back.customer.displayName",
            "no flow writes any more",
        ),
    ],
)
def test_what_a_draft_takes_away_from_others_is_told(change, breaks, concerned, why):
    known = catalog(CUSTOMERS, ORDERS, BACK)
    found = draft_impact(known, compiled(CUSTOMERS.replace(*change)))
    told = [each for each in found.consequences if str(each.place) == concerned and why in each.why]
    assert [each.breaks for each in told] == [breaks], found.consequences


def test_a_field_that_another_flow_still_writes_is_not_lost():
    found = draft_impact(catalog(), compiled(CUSTOMERS.replace("      name: displayName\n", "")))
    assert found.consequences == []


def test_a_draft_of_a_new_flow_adds_rules_and_its_conflicts():
    found = draft_impact(catalog(CUSTOMERS), compiled(VENDORS))
    assert {change.kind for change in found.changes} == {"added"}
    assert [conflict.field for conflict in found.new_conflicts] == ["accountnumber", "name"]
    assert found.consequences == []
