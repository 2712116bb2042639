"""What each demo flow must have made in the targets: one hand-written function per flow.

Nothing here comes from `mappings/`: these functions are the second opinion that the flows are judged by. They take
source records as the products hold them (wire form) and name target values as the products give them back.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from simulator.crm_world import UNIT_GROUPS, unit_group_id, unit_id
from simulator.erp_world import Record

#: Work orders in these statuses are not, or no longer, an order of the customer.
NOT_AN_ORDER = frozenset({"New", "Draft", "WaitingForApproval", "Denied", "Cancelled"})

#: Payment terms of Business Central -> choice of Dataverse (1 Net 30, 2 2% 10 Net 30, 3 Net 45, 4 Net 60).
_CRM_TERMS = {
    "CM": 1,
    "1M(8D)": 2,
    "2 DAYS": 1,
    "7 DAYS": 1,
    "10 DAYS": 1,
    "14 DAYS": 1,
    "15 DAYS": 1,
    "21 DAYS": 1,
    "30 DAYS": 1,
    "60 DAYS": 4,
    "1X30 DAYS": 1,
    "2X45 DAYS": 4,
    "3X30 DAYS": 4,
    "30X2": 4,
    "30X3FM": 4,
}
_PRODUCT_TYPES = {"Inventory": 1, "Service": 3, "Non_x002D_Inventory": 2}
_SERVICE_ITEMS = {"Calibration": "SER101", "Repair": "SER102", "Adjustment": "SER203"}
_CENT = Decimal("0.01")


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The id of the one record of this target entity whose field has this value."""

    entity: str
    field: str
    value: str


class ExpectedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file attached to the record."""

    name: str
    sha256: str


class Expected(msgspec.Struct, frozen=True, kw_only=True):
    """One target record: what finds it, and every value that its flow owns."""

    flow: str
    system: str
    entity: str
    scope: str = ""
    key: tuple[str, str]  # field, value
    fields: Mapping[str, Any]
    references: Mapping[str, Reference] = {}
    lines: list[dict[str, Any]] | None = None  # of a sales order, in the order of their sequence
    files: list[ExpectedFile] = []


def from_customers(
    customers: Iterable[tuple[str, Record]], payment_terms: Mapping[str, Mapping[str, str]]
) -> list[Expected]:
    """Flow `customers_to_accounts`: an account each, a contact where there is an address to write to, a client.

    `customers` come with their scope; `payment_terms` is scope -> id -> code.
    """
    made: list[Expected] = []
    for scope, customer in customers:
        number, name = customer["number"], customer["displayName"]
        code = payment_terms.get(scope, {}).get(customer["paymentTermsId"], "")
        address = {
            "address1_line1": customer["addressLine1"],
            "address1_line2": customer["addressLine2"],
            "address1_city": customer["city"],
            "address1_stateorprovince": customer["state"],
            "address1_postalcode": customer["postalCode"],
            "address1_country": customer["country"],
        }
        account_key = ("accountnumber", f"{scope}-{number}")
        made.append(
            Expected(
                flow="customers_to_accounts",
                system="crm",
                entity="accounts",
                key=account_key,
                fields={
                    "accountnumber": account_key[1],
                    "name": name,
                    "telephone1": customer["phoneNumber"],
                    "emailaddress1": customer["email"],
                    "websiteurl": customer["website"],
                    "customertypecode": 3,
                    "paymenttermscode": _CRM_TERMS.get(code),
                    "creditlimit": _cents(customer["creditLimit"]),
                    "creditonhold": customer["balanceDue"] > customer["creditLimit"],
                    "description": f"Customer {number} of company {scope}",
                    **address,
                },
            )
        )
        if customer["email"]:
            made.append(
                Expected(
                    flow="customers_to_accounts",
                    system="crm",
                    entity="contacts",
                    key=("externaluseridentifier", f"{scope}-{number}"),
                    fields={
                        "externaluseridentifier": f"{scope}-{number}",
                        "lastname": name[:50],
                        "jobtitle": "Main contact",
                        "emailaddress1": customer["email"],
                        "telephone1": customer["phoneNumber"],
                        **address,
                    },
                    references={
                        "_parentcustomerid_value": Reference(
                            entity="accounts", field=account_key[0], value=account_key[1]
                        )
                    },
                )
            )
        made.append(
            Expected(
                flow="customers_to_accounts",
                system="cal",
                entity="clients",
                key=("LegacyId", f"{scope}:{number}"),
                fields={
                    "LegacyId": f"{scope}:{number}",
                    "AccountNumberText": f"{scope.upper()}-{number}",
                    "CompanyName": name,
                    "ClientStatus": "NotApproved" if customer["blocked"] == "All" else "Approved",
                },
            )
        )
    return made


def from_items(items: Iterable[tuple[str, Record]]) -> list[Expected]:
    """Flow `items_to_products`: a product for each item that is not blocked."""
    made: list[Expected] = []
    for scope, item in items:
        if item["blocked"]:
            continue
        unit = item["baseUnitOfMeasureCode"]
        key = ("productnumber", f"{scope}-{item['number']}")
        made.append(
            Expected(
                flow="items_to_products",
                system="crm",
                entity="products",
                key=key,
                fields={
                    "productnumber": key[1],
                    "name": item["displayName"],
                    "price": _cents(item["unitPrice"]),
                    "standardcost": _cents(item["unitCost"]),
                    "currentcost": _cents(item["unitCost"]),
                    "producttypecode": _PRODUCT_TYPES[item["type"]],
                    "isstockitem": item["type"] == "Inventory",
                    "quantitydecimal": 2 if unit in {"HOUR", "DAY"} else 0,
                    "_defaultuomid_value": unit_id(unit),
                    "_defaultuomscheduleid_value": unit_group_id(UNIT_GROUPS[unit]),
                    "vendorname": f"Company {scope}",
                },
            )
        )
    return made


def from_work_orders(
    work_orders: Iterable[Record],
    customer_ids: Mapping[tuple[str, str], str],
    certificates: Mapping[int, str],
) -> list[Expected]:
    """Flow `work_orders_to_sales_orders`: a sales order in the company of the client, its lines and certificate.

    `customer_ids` is (scope, number) -> id in Business Central; `certificates` is ServiceOrderId -> SHA-256 (hex) of
    the certificate's bytes.
    """
    made: list[Expected] = []
    for order in work_orders:
        if order["OrderStatus"] in NOT_AN_ORDER:
            continue
        scope, _, number = order["ClientLegacyId"].partition(":")
        digest = certificates.get(order["ServiceOrderId"])
        name = f"Certificate {order['CustomOrderNumber']}.pdf"
        made.append(
            Expected(
                flow="work_orders_to_sales_orders",
                system="bc",
                entity="salesOrders",
                scope=scope,
                key=("externalDocumentNumber", order["CustomOrderNumber"]),
                fields={
                    "externalDocumentNumber": order["CustomOrderNumber"],
                    "customerId": customer_ids[scope, number],
                    # The lab's times are its own local time, and so is the date of the order.
                    "orderDate": dt.datetime.fromisoformat(order["CreatedOn"]).date().isoformat(),
                    "requestedDeliveryDate": order["DesiredDate"][:10],
                },
                lines=[
                    {
                        "sequence": item["OrderItemNumber"] * 10_000,
                        "lineType": "Item",
                        "lineObjectNumber": _SERVICE_ITEMS[item["ServiceType"]],
                        "description": f"{item['ServiceType']} {item['EquipmentId']}, serial {item['SerialNumber']}",
                        "quantity": 1,
                        "unitPrice": _cents(
                            item["ServiceCharge"] + item["RepairsCharge"] + item["PartsCharge"]
                        ),
                    }
                    for item in sorted(order["WorkItems"], key=_item_number)
                ],
                files=[ExpectedFile(name=name, sha256=digest)] if digest else [],
            )
        )
    return made


def _item_number(item: Record) -> int:
    number: int = item["OrderItemNumber"]
    return number


def _cents(amount: Decimal | int) -> Decimal:
    return Decimal(amount).quantize(_CENT, ROUND_HALF_UP)
