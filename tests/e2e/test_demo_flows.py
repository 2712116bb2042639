"""The three demo flows on real processes: into step, still in step, and only what changed is written.

The tests of this file share one world and stand in the order of its story; each leaves it in step.
"""

from collections import Counter
from decimal import Decimal

import pytest

from simulator.verify import verify
from tests.e2e.world import (
    CUSTOMERS,
    FLOWS,
    ITEMS,
    ORDERS,
    PATTERNS,
    changed,
    demo_world,
    left,
    target_records,
    writes_since,
)

NOTHING = {"bc": 0, "crm": 0, "cal": 0}


@pytest.fixture(scope="module")
def world(databases, _template, tmp_path_factory):
    with demo_world(databases, _template, tmp_path_factory.mktemp("demo")) as made:
        yield made


@pytest.fixture(scope="module")
def first(world):
    """The results of the first run of each flow."""
    return world.run_all()


@pytest.fixture
def synced(world, first):
    """The client of a world that was brought into step."""
    return world.client


def test_the_first_runs_bring_thousands_of_records_of_many_companies_into_step(world, first):
    client = world.client
    numbers = {
        scope: {one["number"] for one in client.records("bc", "customers", scope)}
        for scope in client.ready.scopes
    }
    shared = set.intersection(*numbers.values())
    assert len(numbers) >= 3
    assert shared, "the companies must share customer numbers, or scopes are not put to the test"
    assert sum(result["counts"]["received"] for result in first.values()) >= 2000
    assert left(first) == {}
    assert verify(client) == []


def test_what_the_runs_say_adds_up_and_is_what_the_systems_saw(world, first):
    for result in first.values():
        for outcomes in result["counts"]["per_target"].values():
            assert sum(outcomes.values()) == result["counts"]["received"]
    made = Counter()
    for result in first.values():
        made.update(result["counts"]["outcomes"])
    seen = Counter()
    for system in ("bc", "crm", "cal"):
        seen.update(world.client.counts(system))
    assert seen["effect:create"] == made["created"]
    # Clients that the lab knew before are adopted, and written only where they differ.
    assert seen["effect:update"] <= made["adopted"]
    assert seen["effect:delete"] == 0
    assert seen["effect:file"] == first[ORDERS]["counts"]["per_target"]["certificate"]["created"]


def test_applying_the_same_flows_again_changes_nothing(world, first):
    said = world.platform.must("apply", str(PATTERNS)).splitlines()
    assert sorted(said) == [f"{flow}: version 1, unchanged" for flow in sorted(FLOWS)]
    assert world.sql("SELECT count(*) FROM work_items") == [(0,)]


def test_a_process_that_has_ended_holds_no_place_in_any_budget(world, first):
    """Else the next one waits for places that nobody uses, for most of a minute."""
    assert world.sql("SELECT system, holder, permits FROM concurrency_permits") == []


def test_seven_changed_items_are_exactly_seven_writes(world, synced):
    written, before = synced.writes(), target_records(synced)
    items = synced.change_items(7)
    result = world.platform.run(ITEMS)
    assert result["counts"]["changed"] == 7
    assert result["counts"]["outcomes"] == {"updated": 7}
    assert writes_since(synced, written) == {**NOTHING, "crm": 7}
    touched = changed(before, target_records(synced))
    products = {before[where]["productnumber"] for where in touched}
    assert products == {f"{scope}-{number}" for scope, number in items}
    assert verify(synced) == []


def test_a_deleted_customer_is_handled_by_each_targets_policy_and_nothing_else_is_touched(world, synced):
    ordered = {order["ClientLegacyId"] for order in synced.records("cal", "work_orders")}
    scope, number = next(
        (scope, one["number"])
        for scope in synced.ready.scopes
        for one in synced.records("bc", "customers", scope)
        if one["email"] and f"{scope}:{one['number']}" not in ordered
    )
    written, before = synced.writes(), target_records(synced)
    synced.delete_customer(scope, number)
    result = world.platform.run(CUSTOMERS, "--full")
    assert result["counts"]["per_target"] == {
        "account": {"deactivated": 1},
        "contact": {"deactivated": 1},
        "client": {"review": 1},
    }
    after = target_records(synced)
    key = f"{scope}-{number}"
    account = synced.record("crm", "accounts", "accountnumber", key)
    contact = synced.record("crm", "contacts", "externaluseridentifier", key)
    assert (account["statecode"], contact["statecode"]) == (1, 1)
    assert changed(before, after) == {
        ("crm", "accounts", account["accountid"]),
        ("crm", "contacts", contact["contactid"]),
    }
    assert writes_since(synced, written) == {**NOTHING, "crm": 2}
    # The client waits for a person; the same customer number in other companies is somebody else.
    assert world.sql(
        f"SELECT target, scope, error_code FROM work_items WHERE state = 'review' AND flow = '{CUSTOMERS}'"
    ) == [("client", scope, "source_gone")]
    again = world.platform.run(CUSTOMERS, "--full")
    assert (again["counts"]["writes"], again["review"]) == (0, 1)
    assert verify(synced) == []


def test_what_people_type_into_fields_that_no_flow_owns_stays(world, synced):
    legacy = next(order["ClientLegacyId"] for order in synced.records("cal", "work_orders"))
    scope, _, number = legacy.partition(":")
    key = f"{scope}-{number}"
    customer = synced.record("bc", "customers", "number", number, scope)
    item = synced.records("bc", "items", scope)[0]
    account = synced.record("crm", "accounts", "accountnumber", key)
    contact = synced.record("crm", "contacts", "externaluseridentifier", key)
    product = synced.record("crm", "products", "productnumber", f"{scope}-{item['number']}")
    lab = synced.record("cal", "clients", "LegacyId", legacy)
    by_hand = {
        ("crm", "accounts", account["accountid"]): {"fax": "+44 20 7946 0001"},
        ("crm", "contacts", contact["contactid"]): {"mobilephone": "+44 7700 900001"},
        ("crm", "products", product["productid"]): {"size": "as on the drawing"},
        ("cal", "clients", str(lab["CompanyId"])): {"CompanyDescription": "Asks for a call before pick-up"},
    }
    for (system, entity, identifier), fields in by_hand.items():
        synced.change(system, entity, identifier, fields)
    written = synced.writes()
    synced.change("bc", "customers", customer["id"], {"displayName": "Renamed Ltd.", "city": "Hull"}, scope)
    synced.change("bc", "items", item["id"], {"displayName": "Renamed item"}, scope)
    results = world.run_all()
    assert {flow: result["counts"]["changed"] for flow, result in results.items()} == {
        CUSTOMERS: 1,
        ITEMS: 1,
        ORDERS: 0,
    }
    assert writes_since(synced, written) == {"bc": 0, "crm": 3, "cal": 1}
    now = target_records(synced)
    for where, fields in by_hand.items():
        assert {name: now[where][name] for name in fields} == fields
    assert now["crm", "accounts", account["accountid"]]["name"] == "Renamed Ltd."
    assert now["crm", "products", product["productid"]]["name"] == "Renamed item"
    assert verify(synced) == []


def order_of(client, work_order):
    """The sales order that a work order has become."""
    scope = work_order["ClientLegacyId"].partition(":")[0]
    number = work_order["CustomOrderNumber"]
    return scope, client.record("bc", "salesOrders", "externalDocumentNumber", number, scope)


def attachments_of(client, work_order):
    """What is attached to the sales order of a work order."""
    scope, order = order_of(client, work_order)
    return [
        one for one in client.records("bc", "documentAttachments", scope) if one["parentId"] == order["id"]
    ]


def work_orders_with_certificate(client):
    """Completed work orders of three instruments or more, and their certificates by order."""
    certificates = {one["ServiceOrderId"]: one for one in client.records("cal", "certificates")}
    return [
        order
        for order in client.records("cal", "work_orders")
        if order["ServiceOrderId"] in certificates and len(order["WorkItems"]) >= 3
    ]


def test_the_lines_of_an_order_follow_those_of_its_work_order(world, synced):
    work_order = work_orders_with_certificate(synced)[0]
    changed_item, removed_item, *_ = work_order["WorkItems"]
    _, order = order_of(synced, work_order)
    before = target_records(synced)
    lines = {line["sequence"]: line for line in order["salesOrderLines"]}
    synced.change("cal", "work_items", str(changed_item["WorkItemId"]), {"ServiceCharge": Decimal("123.45")})
    synced.remove("cal", "work_items", str(removed_item["WorkItemId"]))
    copied = {
        name: changed_item[name]
        for name in ("ServiceOrderId", "ServiceType", "AssetId", "EquipmentId", "SerialNumber")
    }
    charges = {"ServiceCharge": Decimal("77.70"), "RepairsCharge": 0, "PartsCharge": 0}
    synced.add("cal", "work_items", {**copied, **charges, "OrderItemNumber": 99})
    result = world.platform.run(ORDERS)
    assert (result["counts"]["changed"], result["counts"]["per_target"]["order"]) == (1, {"updated": 1})
    _, now = order_of(synced, work_order)
    by_sequence = {line["sequence"]: line for line in now["salesOrderLines"]}
    edited, removed = changed_item["OrderItemNumber"] * 10_000, removed_item["OrderItemNumber"] * 10_000
    assert by_sequence.keys() == (lines.keys() - {removed}) | {990_000}
    others = Decimal(changed_item["RepairsCharge"] or 0) + Decimal(changed_item["PartsCharge"] or 0)
    assert by_sequence[edited]["unitPrice"] == Decimal("123.45") + others
    assert by_sequence[edited]["id"] == lines[edited]["id"]
    assert by_sequence[990_000]["unitPrice"] == Decimal("77.70")
    untouched = lines.keys() - {edited, removed}
    assert {one: by_sequence[one] for one in untouched} == {one: lines[one] for one in untouched}
    assert changed(before, target_records(synced)) == {("bc", "salesOrders", order["id"])}
    assert verify(synced) == []


def test_a_revised_certificate_replaces_the_content_of_the_one_attachment(world, synced):
    work_order = work_orders_with_certificate(synced)[1]
    (before,) = attachments_of(synced, work_order)
    everything = target_records(synced)
    synced.issue_certificate(work_order["ServiceOrderId"])
    revised = synced.record("cal", "certificates", "ServiceOrderId", work_order["ServiceOrderId"])
    assert revised["@file"]["sha256"] != before["@file"]["sha256"]
    result = world.platform.run(ORDERS)
    assert result["counts"]["per_target"]["certificate"] == {"updated": 1}
    (after,) = attachments_of(synced, work_order)
    assert after["id"] == before["id"]
    assert after["@file"]["sha256"] == revised["@file"]["sha256"]
    assert changed(everything, target_records(synced)) == {("bc", "documentAttachments", before["id"])}
    assert verify(synced) == []


def test_a_first_certificate_is_attached_to_the_order_that_is_there(world, synced):
    issued = {one["ServiceOrderId"] for one in synced.records("cal", "certificates")}
    work_order = next(
        one
        for one in synced.records("cal", "work_orders")
        if one["OrderStatus"] == "Processing" and one["ServiceOrderId"] not in issued
    )
    assert attachments_of(synced, work_order) == []
    synced.issue_certificate(work_order["ServiceOrderId"])
    result = world.platform.run(ORDERS)
    assert result["counts"]["per_target"]["certificate"] == {"created": 1}
    assert len(attachments_of(synced, work_order)) == 1
    assert verify(synced) == []


def test_after_all_of_this_a_full_run_reads_and_compares_every_record_and_writes_nothing(world, synced):
    before, written = target_records(synced), synced.writes()
    again = world.run_all("--full")
    scopes = synced.ready.scopes
    there = {
        CUSTOMERS: sum(len(synced.records("bc", "customers", scope)) for scope in scopes),
        ITEMS: sum(len(synced.records("bc", "items", scope)) for scope in scopes),
        ORDERS: len(synced.records("cal", "work_orders")),
    }
    assert {flow: result["counts"]["received"] for flow, result in again.items()} == there
    for flow in FLOWS:
        assert again[flow]["counts"]["changed"] == 0
        assert again[flow]["counts"]["writes"] == 0
        assert all(pulled["complete"] for pulled in again[flow]["pulled"].values())
    assert left(again) == {CUSTOMERS: {"review": 1}}  # the client of the deleted customer
    assert writes_since(synced, written) == NOTHING
    assert changed(before, target_records(synced)) == set()
    assert verify(synced) == []
