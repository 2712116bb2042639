"""Writes, the product's own ways."""

from __future__ import annotations

import pytest

from ipaas_resources.connectors.calibration.tests import OrdersAndAssetsCase, address
from ipaas_resources.connectors.conformance import Rig
from ipaas_resources.connectors.fakes import Fault
from ipaas_resources.core.records import Operation, OperationKind, Outcome


@pytest.fixture
async def rig():
    rig = Rig(OrdersAndAssetsCase())
    yield rig
    await rig.close()


async def write(rig, entity, **operation):
    (result,) = await rig.connector.write(entity, "", [Operation(**operation)])
    return result


async def test_an_update_leaves_what_it_does_not_name(rig):
    """PUT empties what it is not given, so the connector gives everything."""
    identifier = rig.fake.sim_add(
        "clients",
        "",
        {
            "CompanyName": "Acme",
            "LegacyId": "BC:1",
            "BillingAddress": address(City="Bremen", Address1="Werkstr. 1"),
        },
    )
    fields = {"CustomClientName": "A", "BillingAddress": {"City": "Kiel"}}
    result = await write(rig, "clients", kind=OperationKind.UPDATE, id=identifier, fields=fields)
    assert result.outcome is Outcome.APPLIED
    row = rig.fake.store.tables["clients"].rows[int(identifier)]
    assert (row["CompanyName"], row["LegacyId"], row["CustomClientName"]) == ("Acme", "BC:1", "A")
    assert (row["BillingAddress"]["City"], row["BillingAddress"]["Address1"]) == ("Kiel", "Werkstr. 1")


async def test_vendors_and_employees_are_created_and_changed(rig):
    made = await write(
        rig, "vendors", kind=OperationKind.CREATE, fields={"CompanyName": "Nordic", "CustomName": "N"}
    )
    await write(rig, "vendors", kind=OperationKind.UPDATE, id=made.id, fields={"AccountNumberText": "V1"})
    row = rig.fake.store.tables["vendors"].rows[int(made.id)]
    assert (row["CompanyName"], row["CustomName"], row["AccountNumberText"]) == ("Nordic", "N", "V1")
    person = {"LoginEmail": "i@lab.example", "FirstName": "Ines", "LastName": "Berg"}
    made = await write(rig, "employees", kind=OperationKind.CREATE, fields=person)
    again = await write(rig, "employees", kind=OperationKind.CREATE, fields=person)
    assert again.outcome is Outcome.REFUSED
    assert "LoginEmail" in str(again.error)
    changed = await write(rig, "employees", kind=OperationKind.UPDATE, id=made.id, fields={"Title": "Dr."})
    assert changed.outcome is Outcome.APPLIED
    row = rig.fake.store.tables["employees"].rows[int(made.id)]
    assert (row["FirstName"], row["Title"], row["LoginEmail"]) == ("Ines", "Dr.", "i@lab.example")


async def test_an_order_takes_its_status_and_its_payment_status(rig):
    (first,) = rig.case.seed(rig.fake, "work_orders", 1)
    fields = {
        "OrderStatus": "Completed",
        "PaymentStatus": "Invoiced",
        "InvoicedOn": "2026-01-15T23:30:00.000000Z",
    }
    rig.fake.fail(Fault(status=400, path="payments/status"))
    half = await write(rig, "work_orders", kind=OperationKind.UPDATE, id=first, fields=fields)
    assert (half.outcome, half.progress) == (Outcome.REFUSED, {"status": True})
    rest = await write(
        rig, "work_orders", kind=OperationKind.UPDATE, id=first, fields=fields, progress=half.progress
    )
    assert rest.outcome is Outcome.APPLIED
    row = rig.fake.store.tables["work_orders"].rows[int(first)]
    assert (row["OrderStatus"], row["PaymentStatus"], row["InvoicedOn"]) == (
        "Completed",
        "Invoiced",
        "2026-01-16T00:30:00",
    )
    assert len(rig.fake.ledger.writes("work_orders")) == 2
    gone = await write(
        rig, "work_orders", kind=OperationKind.UPDATE, id="1", fields={"OrderStatus": "Closed"}
    )
    assert gone.outcome is Outcome.MISSING


@pytest.mark.parametrize(
    ("entity", "operation", "word"),
    [
        ("clients", {"kind": OperationKind.DELETE, "id": "1"}, "cannot be deleted"),
        (
            "assets",
            {"kind": OperationKind.UPDATE, "id": "1", "fields": {"AssetName": "x"}},
            "cannot be updated",
        ),
        ("work_orders", {"kind": OperationKind.CREATE, "fields": {"PoNumber": "x"}}, "cannot be created"),
        ("clients", {"kind": OperationKind.CREATE, "fields": {"CompanyName": 5}}, "of type text"),
        ("clients", {"kind": OperationKind.CREATE, "fields": {"CurrencyId": True}}, "of type integer"),
        (
            "clients",
            {"kind": OperationKind.CREATE, "fields": {"BillingAddress": {"Planet": "x"}}},
            "of type object",
        ),
    ],
)
async def test_what_the_product_cannot_do_is_refused_before_it_is_sent(rig, entity, operation, word):
    result = await write(rig, entity, **operation)
    assert result.outcome is Outcome.REFUSED
    assert word in str(result.error)
    assert rig.fake.ledger.entries == []


async def test_a_repeated_create_finds_the_record_of_the_first(rig):
    fields = {"CompanyName": "Acme", "LegacyId": "BC:9"}
    operation = {"kind": OperationKind.CREATE, "fields": fields, "key": {"LegacyId": "BC:9"}}
    made = await write(rig, "clients", **operation)
    rig.clock.advance(rig.manifest.search_lag)
    again = await write(rig, "clients", **operation, repeated=True)
    assert (again.outcome, again.id) == (Outcome.EXISTS, made.id)
    assert len(rig.fake.ledger.writes("clients")) == 1
