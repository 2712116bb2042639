"""Spot checks of the second opinion: values worked out by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.crm_world import unit_group_id, unit_id
from simulator.expected import Reference, from_customers, from_items, from_work_orders

CUSTOMER = {
    "id": "c-1",
    "number": "10000",
    "displayName": "A name of more than fifty characters, as long as they come in Wales",
    "addressLine1": "Station Road, 21",
    "addressLine2": "",
    "city": "Cambridge",
    "state": "",
    "country": "GB",
    "postalCode": "CB1 2FB",
    "phoneNumber": "+44 1223",
    "email": "a@b.example",
    "website": "",
    "balanceDue": Decimal("100.01"),
    "creditLimit": Decimal(100),
    "paymentTermsId": "t-1",
    "blocked": "_x0020_",
}
ORDER = {
    "ServiceOrderId": 9,
    "CustomOrderNumber": "WO-2025-0009",
    "ClientLegacyId": "de:10000",
    "OrderStatus": "Completed",
    "CreatedOn": "2025-07-11T00:30:00",
    "DesiredDate": "2025-07-20T00:00:00",
    "WorkItems": [
        {
            "OrderItemNumber": number,
            "ServiceType": service,
            "EquipmentId": f"EQ-{number}",
            "SerialNumber": "007",
            "ServiceCharge": Decimal("48.00"),
            "RepairsCharge": Decimal(repairs),
            "PartsCharge": Decimal(0),
        }
        for number, service, repairs in ((2, "Repair", "12.505"), (1, "Calibration", "0"))
    ],
}


def test_a_customer_makes_an_account_a_contact_and_a_client():
    account, contact, client = from_customers([("de", CUSTOMER)], {"de": {"t-1": "1M(8D)"}})
    assert account.key == ("accountnumber", "de-10000")
    assert account.fields["paymenttermscode"] == 2
    assert account.fields["creditonhold"] is True
    assert account.fields["description"] == "Customer 10000 of company de"
    assert contact.fields["lastname"] == "A name of more than fifty characters, as long as t"
    assert contact.references == {
        "_parentcustomerid_value": Reference(entity="accounts", field="accountnumber", value="de-10000")
    }
    assert client.key == ("LegacyId", "de:10000")
    assert client.fields["AccountNumberText"] == "DE-10000"


def test_a_customer_without_an_address_makes_no_contact():
    made = from_customers([("w1", {**CUSTOMER, "email": ""})], {})
    assert [one.entity for one in made] == ["accounts", "clients"]
    assert made[0].fields["paymenttermscode"] is None


@pytest.mark.parametrize(
    ("kind", "unit", "choice", "decimals"),
    [("Inventory", "PCS", 1, 0), ("Service", "HOUR", 3, 2), ("Non_x002D_Inventory", "CAN", 2, 0)],
)
def test_an_item_makes_a_product_in_the_unit_of_its_group(kind, unit, choice, decimals):
    item = {
        "number": "1896-S",
        "displayName": "ATHENS Desk",
        "type": kind,
        "blocked": False,
        "unitPrice": Decimal("649.405"),
        "unitCost": Decimal("506.6"),
        "baseUnitOfMeasureCode": unit,
    }
    (product,) = from_items([("es", item)])
    assert product.key == ("productnumber", "es-1896-S")
    assert product.fields["price"] == Decimal("649.41")
    assert product.fields["producttypecode"] == choice
    assert product.fields["quantitydecimal"] == decimals
    assert product.fields["_defaultuomid_value"] == unit_id(unit)
    group = {"PCS": "Pieces", "HOUR": "Time", "CAN": "Packages"}[unit]
    assert product.fields["_defaultuomscheduleid_value"] == unit_group_id(group)
    assert from_items([("es", {**item, "blocked": True})]) == []


def test_a_work_order_makes_a_sales_order_in_the_company_of_its_client():
    (order,) = from_work_orders([ORDER], {("de", "10000"): "c-1"}, {9: "abc"})
    assert (order.scope, order.fields["customerId"]) == ("de", "c-1")
    assert order.fields["orderDate"] == "2025-07-11", "the lab's day, which is another one in UTC"
    assert [(line["sequence"], line["lineObjectNumber"], line["unitPrice"]) for line in order.lines] == [
        (10_000, "SER101", Decimal("48.00")),
        (20_000, "SER102", Decimal("60.51")),
    ]
    assert order.lines[0]["description"] == "Calibration EQ-1, serial 007"
    assert [(file.name, file.sha256) for file in order.files] == [("Certificate WO-2025-0009.pdf", "abc")]


@pytest.mark.parametrize("status", ["New", "Draft", "WaitingForApproval", "Denied", "Cancelled"])
def test_what_nobody_ordered_makes_no_sales_order(status):
    assert from_work_orders([{**ORDER, "OrderStatus": status}], {}, {}) == []
